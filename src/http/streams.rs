//! `/v1/streams`: which streams there are, who runs them and how they fare.

use std::collections::BTreeMap;

use axum::{
    extract::{Path, RawQuery, State},
    http::{HeaderValue, StatusCode, header},
    response::Response,
};
use base::{event::Status, media::SessionId, redact::SourceUrl};
use serde_json::{Map, Value, json};

use super::{
    Service, Shared,
    error::{Refusal, json as answer},
    health::StreamFact,
    params::{Params, unknown},
    table::RULES,
};
use crate::{
    control::{
        attachment::{Attachment, Origin},
        desk::Listed,
        report::Report,
        selectors::{FILTER_PARAMETERS, Filter, WAITING},
    },
    feed::{Kind, StreamView},
};

/// All streams.
pub(super) async fn list(State(service): State<Shared>, RawQuery(query): RawQuery) -> Result<Response, Refusal> {
    let params = Params::parse_repeated(query.as_deref(), &FILTER_PARAMETERS, &FILTER_PARAMETERS)?;
    let filter = Filter::parse(params.pairs()).map_err(Refusal::bad)?;
    let house = Household::of(&service);
    let streams: Vec<Value> =
        all(&service).values().filter(|seen| house.fits(&filter, seen)).map(|seen| house.describe(seen)).collect();
    Ok(answer(&json!({ "streams": streams })))
}

/// One stream.
pub(super) async fn one(
    State(service): State<Shared>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    Params::parse(query.as_deref(), &[])?;
    Ok(answer_one(&service, &find_seen(&service, &name)?))
}

/// A stream's description and, of an attachment that is stored, its revision as `ETag`.
pub(super) fn answer_one(service: &Service, seen: &Seen) -> Response {
    let mut response = answer(&Household::of(service).describe(seen));
    let revision = seen.listed.as_ref().map_or(0, |listed| listed.revision);
    if revision > 0
        && let Ok(etag) = HeaderValue::from_str(&format!("\"{revision}\""))
    {
        response.headers_mut().insert(header::ETAG, etag);
    }
    response
}

/// The stream of this name, run here.
pub(super) fn find(service: &Service, name: &str) -> Result<StreamView, Refusal> {
    service.feed.stream(name).ok_or_else(|| missing(service, name))
}

/// The stream of this name, whoever runs it.
pub(super) fn find_seen(service: &Service, name: &str) -> Result<Seen, Refusal> {
    let seen =
        Seen { name: name.to_owned(), listed: service.control.board.stream(name), view: service.feed.stream(name) };
    if seen.listed.is_none() && seen.view.is_none() { Err(missing(service, name)) } else { Ok(seen) }
}

fn missing(service: &Service, name: &str) -> Refusal {
    let all = all(service);
    Refusal::new(StatusCode::NOT_FOUND, unknown("stream", name, all.keys().map(String::as_str)))
}

/// A refusal where what is asked for, at a path below a stream, is with another worker, or with none yet.
pub(super) fn elsewhere(service: &Service, route: &str, path: &str) -> Option<Refusal> {
    let name =
        path.strip_prefix("/v1/streams/").filter(|_| route.starts_with("/v1/streams/{name}/") && route != RULES)?;
    let name = name.split('/').next()?;
    let listed = service.control.board.stream(name)?;
    let house = Household::of(service);
    let seen = Seen { name: name.to_owned(), view: service.feed.stream(name), listed: Some(listed) };
    if house.here(&seen).is_some() {
        return None;
    }
    let Some(report) = seen.listed.as_ref().and_then(|listed| listed.report.as_ref()) else {
        return Some(Refusal::new(StatusCode::CONFLICT, format!("no worker has stream `{name}` yet; try again later")));
    };
    if Some(&report.worker) == house.this.as_ref() {
        let why = report.detail.as_deref().map(|detail| format!(": {detail}")).unwrap_or_default();
        return Some(Refusal::new(StatusCode::CONFLICT, format!("stream `{name}` is {}{why}", report.state)));
    }
    Some(house.ask_there(name, report))
}

/// A refusal where a stream is with another worker.
pub(super) fn with_another(service: &Service, seen: &Seen) -> Option<Refusal> {
    let house = Household::of(service);
    let report = seen.listed.as_ref()?.report.as_ref()?;
    let is_ours = house.this.as_ref().is_none_or(|this| *this == report.worker);
    (!is_ours).then(|| house.ask_there(&seen.name, report))
}

/// How every stream is, for [`super::health`].
pub(super) fn facts(service: &Service) -> Vec<StreamFact> {
    let house = Household::of(service);
    let fact = |seen: &Seen| {
        let (state, detail) = house.state(seen);
        let report = seen.listed.as_ref().and_then(|listed| listed.report.as_ref());
        let report = report.filter(|_| house.here(seen).is_none());
        StreamFact {
            name: seen.name.clone(),
            state: state.to_owned(),
            detail: detail.map(str::to_owned),
            report_age_ms: report.map(|report| house.now_ms.saturating_sub(report.at_ms).max(0)),
        }
    };
    all(service).values().map(fact).collect()
}

/// What is known of one stream: by the board, by the feed, or by both.
pub(super) struct Seen {
    name: String,
    listed: Option<Listed>,
    view: Option<StreamView>,
}

fn all(service: &Service) -> BTreeMap<String, Seen> {
    let seen = |name: String, listed| (name.clone(), Seen { name, listed, view: None });
    let mut all: BTreeMap<String, Seen> =
        service.control.board.streams().into_iter().map(|(name, listed)| seen(name, Some(listed))).collect();
    for view in service.feed.streams() {
        let name = view.info.name.to_string();
        all.entry(name.clone()).or_insert_with(|| seen(name, None).1).view = Some(view);
    }
    all
}

/// What a description needs beside the stream itself.
struct Household<'a> {
    service: &'a Service,
    now_ms: i64,
    /// This worker's id; none without a store.
    this: Option<String>,
    addresses: BTreeMap<String, String>,
}

impl<'a> Household<'a> {
    fn of(service: &'a Service) -> Self {
        let workers = service.control.board.workers();
        Self {
            service,
            now_ms: service.clock.wall().as_millisecond(),
            this: workers.iter().find(|(_, worker)| worker.is_this).map(|(id, _)| id.clone()),
            addresses: workers.into_iter().filter_map(|(id, w)| Some((id, w.announcement.address?))).collect(),
        }
    }

    /// The stream as this process runs it; none where another worker told later that it does.
    fn here<'s>(&self, seen: &'s Seen) -> Option<&'s StreamView> {
        let report = seen.listed.as_ref().and_then(|listed| listed.report.as_ref());
        let is_ours = match (report, &self.this) {
            (Some(report), Some(this)) => report.worker == *this,
            _ => true,
        };
        seen.view.as_ref().filter(|_| is_ours)
    }

    /// A stream is with the worker that reports it.
    fn ask_there(&self, name: &str, report: &Report) -> Refusal {
        let address = self.addresses.get(&report.worker);
        let at = address.map(|address| format!(" at {address}")).unwrap_or_default();
        let message = format!("stream `{name}` is with worker `{}`{at}: ask there", report.worker);
        let refusal = Refusal::new(StatusCode::MISDIRECTED_REQUEST, message).and("worker", report.worker.as_str());
        match address {
            Some(address) => refusal.and("address", address.as_str()),
            None => refusal,
        }
    }

    /// How it is, in a word and in a sentence.
    fn state<'s>(&self, seen: &'s Seen) -> (&'s str, Option<&'s str>) {
        let report = seen.listed.as_ref().and_then(|listed| listed.report.as_ref());
        let told = self.here(seen).map(|view| view.latest.as_ref());
        match (told, report) {
            (Some(Some((_, status))), _) => (status.state.as_str(), status.detail.as_deref()),
            (_, Some(report)) => (&report.state, report.detail.as_deref()),
            (Some(None), None) => ("connecting", None),
            (None, None) => (WAITING, None),
        }
    }

    /// Whether it is to be shown; judged by what is shown.
    fn fits(&self, filter: &Filter, seen: &Seen) -> bool {
        let mut listed = seen.listed.clone().unwrap_or_else(|| Listed {
            attachment: seen.attachment(),
            origin: Origin::Config,
            revision: 0,
            profile: String::new(),
            report: None,
        });
        let state = self.state(seen).0;
        match &mut listed.report {
            Some(report) => report.state = state.to_owned(),
            None if state == WAITING => {}
            none => *none = Some(Report { state: state.to_owned(), ..Report::default() }),
        }
        filter.fits(&seen.name, &listed)
    }

    fn describe(&self, seen: &Seen) -> Value {
        let Seen { name, listed, .. } = seen;
        let here = self.here(seen);
        let report = listed.as_ref().and_then(|listed| listed.report.as_ref());
        let latest: Option<&(SessionId, Status)> = here.and_then(|view| view.latest.as_ref());
        let session = match latest {
            Some((session, _)) => Some(session.as_str()),
            None => report.and_then(|report| report.session.as_deref()),
        };
        let media = latest.and_then(|(_, status)| status.source.as_ref());
        let video = media
            .and_then(|m| m.video.as_ref())
            .map(|v| json!({ "codec": v.codec, "width": v.size.map(|s| s.0), "height": v.size.map(|s| s.1) }));
        let audio = media.and_then(|m| m.audio.as_ref()).map(|a| json!({ "codec": a.codec }));
        let counts = |view: &StreamView| -> Map<String, Value> {
            Kind::ALL.iter().zip(view.tape.counts()).map(|(kind, n)| (kind.plural().to_owned(), n.into())).collect()
        };
        let house = &self.service.house;
        let lag = match here {
            Some(_) => house.speech_lag(name).map(|lag| u64::try_from(lag.as_millis()).unwrap_or(u64::MAX)),
            None => report.and_then(|report| report.figures.speech_lag_ms),
        };
        let figures = here.and_then(|_| house.figures(name)).or_else(|| report.map(|report| report.figures.clone()));
        let (state, detail) = self.state(seen);
        let worker = report.map(|report| &report.worker);
        let attachment = listed.as_ref().map(|listed| &listed.attachment);
        json!({
            "name": name,
            "tags": tags(seen),
            "state": state,
            "detail": detail,
            "session": session,
            "source": media.map(|_| json!({ "video": video, "audio": audio })),
            "speech_lag_ms": lag,
            "records": here.map(counts).unwrap_or_default(),
            "n_readers": here.map_or(0, |view| view.tape.n_readers()),
            "captions": format!("/v1/streams/{name}/captions"),
            "playlist": self.service.playlist.map(|path| path.replace("{name}", name)),
            "url": attachment.map(|attachment| shown(&attachment.url)),
            "credentials": attachment.and_then(|attachment| attachment.credentials.as_deref()),
            "profile": listed.as_ref().map(|listed| &listed.profile),
            "weight": attachment.map(|attachment| attachment.weight),
            "origin": listed.as_ref().map(|listed| listed.origin),
            "revision": listed.as_ref().map(|listed| listed.revision),
            "worker": worker,
            "address": worker.and_then(|worker| self.addresses.get(worker)),
            "epoch": report.map(|report| report.epoch),
            "figures": figures,
            "report_age_ms": report.map(|report: &Report| self.now_ms.saturating_sub(report.at_ms).max(0)),
        })
    }
}

impl Seen {
    /// What is attached; of a stream that only the feed knows, as much of it as that knows.
    pub(super) fn attachment(&self) -> Attachment {
        match &self.listed {
            Some(listed) => listed.attachment.clone(),
            None => Attachment {
                url: String::new(),
                credentials: None,
                profile: None,
                tags: tags(self).clone(),
                weight: 1.0,
                source: Default::default(),
                rules: BTreeMap::new(),
            },
        }
    }
}

fn tags(seen: &Seen) -> &BTreeMap<String, String> {
    static NONE: BTreeMap<String, String> = BTreeMap::new();
    match (&seen.listed, &seen.view) {
        (Some(listed), _) => &listed.attachment.tags,
        (None, Some(view)) => &view.info.tags,
        (None, None) => &NONE,
    }
}

/// A URL without its secrets.
fn shown(url: &str) -> String {
    SourceUrl::parse(url).map_or_else(|_| base::redact::scrub_urls(url), |url| url.to_string())
}
