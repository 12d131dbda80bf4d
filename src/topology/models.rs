//! The models of the house: each loaded once, shared by all streams, let go of when nobody has used it for a while.
//! Loading takes a second or more: never do it on a thread that others wait for.

use std::{any::Any, collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::Context as _;
use base::time::Clock;
use inference::{
    engine::{Engine, EngineConfig},
    remote::{EndpointConfig, RemoteEngine},
    speech::{config::SpeechPoolConfig, pool::SpeechPool},
    store::ModelStore,
};

use crate::{config::ProfileConfig, roster::Roster, stream::eyes::Eyes};

/// How models run.
#[derive(Clone, Default)]
pub struct ModelSettings {
    /// Detectors.
    pub engine: EngineConfig,
    /// Transcribers.
    pub speech: SpeechPoolConfig,
}

/// The models of a profile, loaded. They stay so while anybody holds this.
#[derive(Clone)]
pub struct ProfileModels {
    /// Its detector, if it looks.
    pub engine: Option<Eyes>,
    /// Its transcriber, if it listens.
    pub pool: Option<Arc<SpeechPool>>,
}

/// The voice activity model of all profiles.
const VAD: &str = "silero-vad";
/// A model that nobody uses stays for so long: a stream that is changed, or comes back, finds it loaded.
const LINGER: Duration = Duration::from_secs(60);

/// How long a model stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stay {
    /// As long as the house.
    ForGood,
    /// While it is used, and a while longer.
    WhileUsed,
}

/// What is loaded, by the model's name in the profile.
pub(super) struct Models {
    clock: Arc<dyn Clock>,
    store: ModelStore,
    settings: ModelSettings,
    engines: BTreeMap<String, Loaded<Engine>>,
    pools: BTreeMap<String, Loaded<SpeechPool>>,
    /// Of model servers: one for all streams whose profiles say the same of it. They stay as long as the house.
    endpoints: Vec<(EndpointConfig, Arc<RemoteEngine>)>,
    roster: Arc<Roster>,
}

struct Loaded<T> {
    model: Arc<T>,
    stay: Stay,
    /// On the monotonic clock: nobody but us has held it since.
    idle_since: Option<Duration>,
}

impl<T> Loaded<T> {
    fn new(model: T) -> Self {
        Self { model: Arc::new(model), stay: Stay::WhileUsed, idle_since: None }
    }

    fn take(&mut self, stay: Stay) -> Arc<T> {
        if stay == Stay::ForGood {
            self.stay = stay;
        }
        self.idle_since = None;
        Arc::clone(&self.model)
    }

    /// Whether it has been idle for long enough by now.
    fn is_over(&mut self, now: Duration) -> bool {
        if self.stay == Stay::ForGood || Arc::strong_count(&self.model) > 1 {
            self.idle_since = None;
            return false;
        }
        now.saturating_sub(*self.idle_since.get_or_insert(now)) >= LINGER
    }
}

impl Models {
    pub(super) fn new(settings: ModelSettings, roster: Arc<Roster>, clock: Arc<dyn Clock>) -> Self {
        let store = ModelStore::open_default();
        let (engines, pools) = (BTreeMap::new(), BTreeMap::new());
        Self { clock, store, settings, engines, pools, endpoints: Vec::new(), roster }
    }

    /// Whether nothing would have to be loaded for this profile.
    pub(super) fn has(&self, profile: &ProfileConfig) -> bool {
        profile.detector().is_none_or(|model| self.engines.contains_key(model))
            && profile.transcriber().is_none_or(|model| self.pools.contains_key(model))
    }

    /// Loads a profile's models where they are not, and holds the profile against them.
    pub(super) fn prepare(&mut self, profile: &ProfileConfig, stay: Stay) -> anyhow::Result<ProfileModels> {
        let mut models = ProfileModels { engine: None, pool: None };
        if let Some(model) = profile.detector() {
            models.engine = Some(Eyes::Here(self.engine(model, stay).with_context(|| format!("model `{model}`"))?));
        } else if let Some(config) = &profile.endpoint {
            models.engine = Some(Eyes::There(self.endpoint(config).context("endpoint")?));
        }
        if let Some(engine) = &models.engine {
            engine.thresholds(&profile.filter())?;
        }
        if let Some(model) = profile.transcriber() {
            let pool = self.pool(model, stay).with_context(|| format!("model `{model}`"))?;
            pool.check(&profile.speech)?;
            models.pool = Some(pool);
        }
        Ok(models)
    }

    fn engine(&mut self, model: &str, stay: Stay) -> anyhow::Result<Arc<Engine>> {
        if !self.engines.contains_key(model) {
            let engine = Engine::load(&self.store.resolve(model)?, &self.settings.engine)?;
            self.engines.insert(model.to_owned(), Loaded::new(engine));
        }
        self.engines.get_mut(model).map(|loaded| loaded.take(stay)).context("it was just loaded")
    }

    fn endpoint(&mut self, config: &EndpointConfig) -> anyhow::Result<Arc<RemoteEngine>> {
        if let Some((_, endpoint)) = self.endpoints.iter().find(|(known, _)| known == config) {
            return Ok(Arc::clone(endpoint));
        }
        let endpoint = Arc::new(RemoteEngine::start(config, Arc::clone(&self.clock))?);
        self.roster.queue(Arc::new(endpoint.probe()));
        self.endpoints.push((config.clone(), Arc::clone(&endpoint)));
        Ok(endpoint)
    }

    fn pool(&mut self, model: &str, stay: Stay) -> anyhow::Result<Arc<SpeechPool>> {
        if !self.pools.contains_key(model) {
            let (transcriber, vad) = (self.store.resolve(model)?, self.store.resolve(VAD)?);
            let pool = SpeechPool::load(&transcriber, &vad, &self.settings.speech, Arc::clone(&self.clock))?;
            self.pools.insert(model.to_owned(), Loaded::new(pool));
        }
        self.pools.get_mut(model).map(|loaded| loaded.take(stay)).context("it was just loaded")
    }

    /// Takes out what nobody has used for a while. Dropping it stops its threads, which takes a moment.
    pub(super) fn take_idle(&mut self) -> Vec<Box<dyn Any + Send>> {
        let now = self.clock.monotonic();
        let mut idle: Vec<Box<dyn Any + Send>> = Vec::new();
        for (name, loaded) in self.engines.extract_if(.., |_, loaded| loaded.is_over(now)) {
            tracing::info!(model = name, "nobody uses the model any more: let go of");
            idle.push(Box::new(loaded.model));
        }
        for (name, loaded) in self.pools.extract_if(.., |_, loaded| loaded.is_over(now)) {
            tracing::info!(model = name, "nobody uses the speech model any more: let go of");
            idle.push(Box::new(loaded.model));
        }
        idle
    }

    /// Stops all of them.
    pub(super) fn shutdown(&mut self) {
        for loaded in std::mem::take(&mut self.engines).into_values() {
            loaded.model.shutdown();
        }
        for (_, endpoint) in self.endpoints.drain(..) {
            endpoint.shutdown();
        }
        for loaded in std::mem::take(&mut self.pools).into_values() {
            loaded.model.shutdown();
        }
    }
}

#[cfg(test)]
mod tests {
    use base::time::ManualClock;

    use super::*;

    #[test]
    fn a_model_goes_when_nobody_has_used_it_for_a_while() {
        let clock = ManualClock::new();
        let later = |secs| clock.advance(Duration::from_secs(secs));
        let mut loaded = Loaded::new(());
        let used = loaded.take(Stay::WhileUsed);
        later(1000);
        assert!(!loaded.is_over(clock.monotonic()), "used");
        drop(used);
        assert!(!loaded.is_over(clock.monotonic()), "just now");
        later(59);
        let used = loaded.take(Stay::WhileUsed);
        later(2);
        assert!(!loaded.is_over(clock.monotonic()), "used again");
        drop(used);
        assert!(!loaded.is_over(clock.monotonic()));
        later(60);
        assert!(loaded.is_over(clock.monotonic()));
        loaded.take(Stay::ForGood);
        loaded.take(Stay::WhileUsed);
        later(1000);
        assert!(!loaded.is_over(clock.monotonic()), "for good");
    }
}
