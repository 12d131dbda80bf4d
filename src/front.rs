//! The front of the house: the HTTP service with its feed and players, opened before the streams and closed after them.

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context as _;
use base::time::Clock;

use crate::{
    config::ProfileConfig,
    dictation::Dictation,
    evidence::{AlertDesk, EvidenceStore},
    feed::{Feed, FeedOptions},
    history::History,
    hls::{self, HlsConfig, HlsStore},
    http::{self, AppState, HttpConfig, HttpServer, SpeechPort, control::Control},
    topology::{House, Onlookers},
    views::Views,
};

/// What the HTTP service will show.
pub struct Front {
    config: HttpConfig,
    onlookers: Onlookers,
    folders: Vec<(String, PathBuf)>,
}

impl Front {
    /// Prepares the feed and the players' windows.
    pub fn new(config: HttpConfig, hls: &HlsConfig, clock: &Arc<dyn Clock>) -> Self {
        let feed = Feed::new(FeedOptions { n_records: config.feed_records, clock: Arc::clone(clock) });
        let players = hls.segments().map(|cut| (HlsStore::new(hls.clone(), Arc::clone(clock)), cut));
        Self {
            config,
            onlookers: Onlookers { feed, players, history: None, views: Views::default() },
            folders: Vec::new(),
        }
    }

    /// The service writes to these folders; with what each is for.
    pub fn watch_folders(&mut self, folders: Vec<(String, PathBuf)>) {
        self.folders = folders;
    }

    /// What is said and how streams fare is kept there.
    pub fn keep_history(&mut self, history: History) {
        self.onlookers.history = Some(history);
    }

    /// The segments that players get, where there are any.
    pub fn players(&self) -> Option<Arc<HlsStore>> {
        self.onlookers.players.as_ref().map(|(store, _)| Arc::clone(store))
    }

    /// For [`House::connect`].
    pub fn onlookers(&self) -> Onlookers {
        self.onlookers.clone()
    }

    /// Listens. Clients that send sound are listened to with the first of these profiles that transcribes.
    ///
    /// # Errors
    /// When the address cannot be listened on, or the model of that profile not be loaded.
    pub fn open<'a>(
        self,
        house: &House,
        mut profiles: impl Iterator<Item = &'a ProfileConfig>,
        control: Control,
        (alerts, desk): (Option<EvidenceStore>, AlertDesk),
        clock: &Arc<dyn Clock>,
    ) -> anyhow::Result<HttpServer> {
        let mut speech: Option<Arc<dyn SpeechPort>> = None;
        if let Some(profile) = profiles.find(|p| p.transcriber().is_some())
            && let Some(pool) = house.prepare(profile)?.pool
        {
            speech = Some(Arc::new(Dictation::new(pool, profile.speech.clone(), Arc::clone(clock))));
        }
        let players = self.onlookers.players.map(|(store, _)| store);
        let app = AppState {
            feed: self.onlookers.feed,
            views: self.onlookers.views,
            house: house.roster(),
            speech,
            alerts,
            history: self.onlookers.history,
            desk,
            folders: self.folders,
            control,
            clock: Arc::clone(clock),
            playlist: players.is_some().then_some(hls::PLAYLIST),
            extra: players.map(hls::router).unwrap_or_default(),
            extra_routes: hls::ROUTES,
        };
        http::serve(&self.config, app).context("the HTTP service cannot start")
    }
}

/// How long readers get to hang up.
pub const GOODBYE: Duration = Duration::from_secs(2);
