//! Who did what: a record of every request that would change something, refused ones too, and of every login. The newest are
//! kept in memory; each is logged, and given to whoever keeps them for longer. Never a token, a body, or a query.

use std::{collections::VecDeque, net::IpAddr, time::Duration};

use axum::{
    extract::{RawQuery, State},
    response::Response,
};
use base::time::Timestamp;
use parking_lot::Mutex;
use serde_json::{Value, json};

use sinks::history::Audit;

use super::{
    Shared,
    error::{Refusal, json as answer},
    limits::{Limiter, network},
    params::Params,
    users::Role,
};
use crate::history::History;

/// Records in memory, and in one answer.
const MOST: usize = 1000;
/// Records of an answer where the client says nothing.
const USUAL: usize = 100;
/// Characters of a name that a request holds.
const MOST_NAME: usize = 200;
/// Refusals a minute of one user, or of one address from which nobody knows who asks; and of all the latter together.
const REFUSALS: f64 = 10.0;
const STRANGERS: f64 = 60.0;

/// One request that would have changed something, or one login.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct AuditRecord {
    /// Wall clock when it was answered.
    pub at: Timestamp,
    /// Who asked; none where nobody knows.
    pub user: Option<String>,
    /// Their role.
    pub role: Option<Role>,
    /// Where from: the client's address as far as it is known (`http.trusted_proxies`).
    pub address: IpAddr,
    /// `PUT`, `POST`...
    pub method: String,
    /// The route, as in the table: `/v1/streams/{name}`.
    pub route: String,
    /// Name of what the path is about, as it was asked for; its kind is in the route.
    pub subject: Option<String>,
    /// The answer's status.
    pub status: u16,
}

impl AuditRecord {
    /// What kind of thing the path names: `stream`, `alert`, `silence`.
    fn kind(&self) -> Option<&'static str> {
        let kind = KINDS.into_iter().find(|(path, _)| self.route.starts_with(path)).map(|(_, kind)| kind);
        kind.filter(|_| self.subject.is_some())
    }

    /// As the API shows it.
    fn to_json(&self) -> Value {
        json!({
            "at": format!("{:.3}", self.at),
            "user": self.user,
            "role": self.role.map(Role::as_str),
            "address": self.address.to_string(),
            "method": self.method,
            "route": self.route,
            "kind": self.kind(),
            "subject": self.subject,
            "status": self.status,
        })
    }

    /// As the history keeps it.
    fn kept(&self) -> Audit {
        Audit {
            at: self.at,
            user: self.user.clone().unwrap_or_default(),
            role: self.role.map_or("", Role::as_str).to_owned(),
            address: self.address.to_string(),
            method: self.method.clone(),
            route: self.route.clone(),
            subject: self.subject.clone(),
            status: self.status,
        }
    }

    /// From the history; none of what another version may have written.
    fn from_kept(kept: Audit) -> Option<Self> {
        Some(Self {
            at: kept.at,
            user: Some(kept.user).filter(|user| !user.is_empty()),
            role: [Role::Viewer, Role::Operator].into_iter().find(|role| role.as_str() == kept.role),
            address: kept.address.parse().ok()?,
            method: kept.method,
            route: kept.route,
            subject: kept.subject,
            status: kept.status,
        })
    }
}

/// What paths name, by where they begin.
const KINDS: [(&str, &str); 3] = [("/v1/streams/", "stream"), ("/v1/alerts/", "alert"), ("/v1/silences", "silence")];

/// Whose refusals are counted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Refused {
    User(String),
    Address(IpAddr),
}

/// What a request was about that its path does not name; goes with the answer.
#[derive(Debug, Clone)]
pub(super) struct Subject(pub(super) String);

/// The newest records.
pub(super) struct AuditLog {
    newest: Mutex<VecDeque<AuditRecord>>,
    /// Whoever is refused cannot push out what others did, however often they ask.
    refusals: Limiter<Refused>,
    strangers: Limiter<()>,
    history: Option<History>,
}

impl AuditLog {
    /// Goes on with what the history has kept, if there is one. Waits for its disk.
    pub(super) fn new(history: Option<History>) -> Self {
        let earlier = history.as_ref().and_then(|history| {
            let read = history.audits(MOST);
            read.map_err(|error| tracing::warn!(%error, "the audit begins anew: what was kept of it cannot be read"))
                .ok()
        });
        let newest = earlier.into_iter().flatten().rev().filter_map(AuditRecord::from_kept).collect();
        let a_minute = |most| (most / 60.0, most);
        let ((refusals, most_refusals), (strangers, most_strangers)) = (a_minute(REFUSALS), a_minute(STRANGERS));
        Self {
            newest: Mutex::new(newest),
            refusals: Limiter::new(refusals, most_refusals),
            strangers: Limiter::new(strangers, most_strangers),
            history,
        }
    }

    /// Takes one. Of what was refused, and of requests by nobody knows whom, a few a minute of each: the others are counted with
    /// the requests of their status. `now` is monotonic.
    pub(super) fn note(&self, record: AuditRecord, now: Duration) {
        let is_refused = matches!(record.status, 401 | 403 | 429);
        let is_too_often = match &record.user {
            Some(user) => is_refused && self.refusals.take(&Refused::User(user.clone()), now).is_err(),
            None => {
                self.refusals.take(&Refused::Address(network(record.address)), now).is_err()
                    || self.strangers.take(&(), now).is_err()
            }
        };
        if is_too_often {
            return;
        }
        let AuditRecord { user, role, address, method, route, subject, status, .. } = &record;
        tracing::info!(
            target: "audit",
            user = user.as_deref().unwrap_or("-"),
            role = role.map_or("-", Role::as_str),
            %address,
            method,
            route,
            subject = subject.as_deref().unwrap_or("-"),
            status,
            "audit"
        );
        if let Some(history) = &self.history {
            history.audit(record.kept());
        }
        let mut newest = self.newest.lock();
        if newest.len() >= MOST {
            newest.pop_front();
        }
        newest.push_back(record);
    }

    /// At most so many, newest first.
    fn read(&self, most: usize) -> Vec<Value> {
        self.newest.lock().iter().rev().take(most).map(AuditRecord::to_json).collect()
    }
}

/// What a path names, without secrets and of bounded length.
pub(super) fn subject(names: &[String]) -> Option<String> {
    let short: String = names.first()?.chars().take(MOST_NAME).collect();
    Some(base::redact::scrub_urls(&short))
}

/// `GET /v1/audit`.
pub(super) async fn list(State(service): State<Shared>, RawQuery(query): RawQuery) -> Result<Response, Refusal> {
    let params = Params::parse(query.as_deref(), &["limit"])?;
    let most = params.number("limit")?.unwrap_or(USUAL);
    if most > MOST {
        return Err(Refusal::bad(format!("`limit={most}` is more than {MOST}")));
    }
    Ok(answer(&json!({ "records": service.audit.read(most) })))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(status: u16) -> AuditRecord {
        AuditRecord {
            at: Timestamp::UNIX_EPOCH,
            user: Some("anna".into()),
            role: Some(Role::Operator),
            address: [192, 0, 2, 7].into(),
            method: "PUT".into(),
            route: "/v1/streams/{name}".into(),
            subject: Some("cam".into()),
            status,
        }
    }

    #[test]
    fn the_newest_are_kept() {
        let log = AuditLog::new(None);
        for n in 0..MOST + 2 {
            log.note(record((n % 7) as u16), Duration::ZERO);
        }
        let read = log.read(MOST + 9);
        assert_eq!((read.len(), &read[0]["status"]), (MOST, &Value::from((MOST + 1) % 7)));
        assert_eq!(log.read(2).len(), 2);
        // Whoever is refused pushes out little, be it one who is known, one address, or many.
        let n_of = |log: &AuditLog, user: Value| log.read(MOST).iter().filter(|record| record["user"] == user).count();
        for n in 0..2 * MOST {
            log.note(AuditRecord { user: None, role: None, ..record(401) }, Duration::ZERO);
            log.note(AuditRecord { user: Some("bert".into()), ..record([403, 429][n % 2]) }, Duration::ZERO);
        }
        assert_eq!((n_of(&log, Value::Null), n_of(&log, "bert".into())), (REFUSALS as usize, REFUSALS as usize));
        for n in 0..2 * MOST {
            let address = IpAddr::from([10, 0, (n / 256) as u8, (n % 256) as u8]);
            log.note(AuditRecord { user: None, role: None, address, ..record(401) }, Duration::ZERO);
        }
        assert_eq!(n_of(&log, Value::Null), STRANGERS as usize);
        let shown = read[0].to_string();
        assert!(shown.starts_with(r#"{"at":"1970-01-01T00:00:00.000Z","user":"anna","role":"operator""#), "{shown}");
    }

    #[test]
    fn what_is_kept_comes_back_as_it_was() {
        for told in [
            record(200),
            AuditRecord { user: None, role: None, subject: None, ..record(401) },
            AuditRecord { subject: Some("a name with spaces".into()), ..record(404) },
        ] {
            assert_eq!(AuditRecord::from_kept(told.kept()), Some(told));
        }
        assert_eq!(AuditRecord::from_kept(Audit { address: "?".into(), ..record(200).kept() }), None);
    }

    #[test]
    fn what_a_path_names() {
        let check = |route: &str, name: Option<&str>, expected: (Option<&str>, Option<&str>)| {
            let names: Vec<String> = name.map(str::to_owned).into_iter().collect();
            let record = AuditRecord { route: route.into(), subject: subject(&names), ..record(200) };
            assert_eq!((record.kind(), record.subject.as_deref()), expected, "{route}");
        };
        check("/v1/streams/{name}", Some("cam"), (Some("stream"), Some("cam")));
        check("/v1/alerts/{id}/acknowledge", Some("x-1"), (Some("alert"), Some("x-1")));
        check("/v1/silences/{id}", Some("ab"), (Some("silence"), Some("ab")));
        check("/v1/silences", None, (None, None));
        check("/v1/probe", None, (None, None));
        assert!(!subject(&["rtsp://u:hunter2@h/1".into()]).expect("name").contains("hunter2"));
        assert_eq!(subject(&["x".repeat(500)]).expect("name").len(), MOST_NAME);
    }
}
