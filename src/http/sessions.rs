//! Sessions of browsers: a random id in a cookie stands for who has logged in. In memory and bounded; gone at a restart.

use std::{collections::HashMap, fmt::Write as _, sync::Arc, time::Duration};

use axum::http::{HeaderMap, HeaderValue, header};
use base::time::{Clock, Timestamp};
use parking_lot::Mutex;
use tokio::sync::watch;

use super::{place::Lease, users::Role};

/// Name of the cookie.
pub(super) const COOKIE: &str = "eyewitness_session";
/// How long one lasts.
pub(super) const LASTS: Duration = Duration::from_secs(12 * 3600);
/// Sessions of one user: one more ends the oldest.
const MOST_PER_USER: usize = 64;
/// Random bytes of an id.
const ID_BYTES: usize = 32;

/// All of them, by id. Ids are 256 random bits: looking one up tells nobody anything about another. Beside each what those
/// look at who came by it: dropped when it is over.
#[derive(Default)]
pub(super) struct Sessions(Mutex<HashMap<String, (Session, watch::Sender<()>)>>);

/// Somebody who has logged in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Session {
    pub(super) user: Arc<str>,
    pub(super) role: Role,
    pub(super) expires_at: Timestamp,
    /// On the monotonic clock.
    until: Duration,
}

impl Sessions {
    /// Begins one; gives its id. None where the machine has no random numbers.
    pub(super) fn open(&self, user: &Arc<str>, role: Role, clock: &dyn Clock) -> Option<(String, Session)> {
        let mut bytes = [0; ID_BYTES];
        getrandom::fill(&mut bytes).ok()?;
        let id = bytes.iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        });
        let now = clock.monotonic();
        let expires_at = clock.wall().checked_add(LASTS).ok()?;
        let session = Session { user: Arc::clone(user), role, expires_at, until: now + LASTS };
        let mut all = self.0.lock();
        all.retain(|_, (session, _)| session.until > now);
        let theirs = || all.iter().filter(|(_, (session, _))| session.user == *user);
        if theirs().count() >= MOST_PER_USER
            && let Some(oldest) = theirs().min_by_key(|(_, (session, _))| session.until).map(|(id, _)| id.clone())
        {
            all.remove(&oldest);
        }
        all.insert(id.clone(), (session.clone(), watch::Sender::default()));
        Some((id, session))
    }

    /// The session of this id, as long as it lasts, and how long that is.
    pub(super) fn find(&self, id: &str, clock: &dyn Clock) -> Option<(Session, Lease)> {
        let now = clock.monotonic();
        let all = self.0.lock();
        let (session, over) = all.get(id).filter(|(session, _)| session.until > now)?;
        Some((session.clone(), Lease { ended: over.subscribe(), lasts: session.until - now }))
    }

    /// Ends it.
    pub(super) fn end(&self, id: &str) {
        self.0.lock().remove(id);
    }
}

/// The id that a browser sends.
pub(super) fn presented(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|c| c.to_str().ok()).flat_map(|c| c.split(';'));
    cookies.filter_map(|c| c.trim().split_once('=')).find(|(name, _)| *name == COOKIE).map(|(_, id)| id)
}

/// The cookie with an id; without one, it is taken away.
pub(super) fn cookie(id: Option<&str>, by_https: bool) -> Option<HeaderValue> {
    let lasts = if id.is_some() { LASTS.as_secs() } else { 0 };
    let secure = if by_https { "; Secure" } else { "" };
    let id = id.unwrap_or_default();
    let text = format!("{COOKIE}={id}; Path=/; Max-Age={lasts}; HttpOnly; SameSite=Strict{secure}");
    let mut value = HeaderValue::from_str(&text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default)]
    struct Hands(Mutex<Duration>);

    impl Clock for Hands {
        fn monotonic(&self) -> Duration {
            *self.0.lock()
        }

        fn wall(&self) -> Timestamp {
            Timestamp::UNIX_EPOCH + *self.0.lock()
        }
    }

    #[test]
    fn they_last_twelve_hours_and_end_when_told() {
        let (sessions, clock) = (Sessions::default(), Hands::default());
        let anna: Arc<str> = "anna".into();
        let (id, session) = sessions.open(&anna, Role::Viewer, &clock).expect("session");
        let (other, _) = sessions.open(&anna, Role::Viewer, &clock).expect("session");
        assert!(id.len() == 2 * ID_BYTES && id != other, "{id} {other}");
        assert_eq!(session.expires_at.as_second(), 12 * 3600);
        let found = |id: &str| sessions.find(id, &clock).map(|(session, _)| session);
        assert_eq!(found(&id), Some(session));
        assert_eq!(found(&id[1..]), None);
        let (_, lease) = sessions.find(&other, &clock).expect("session");
        assert!(lease.lasts == LASTS && lease.ended.has_changed().is_ok());
        sessions.end(&other);
        assert_eq!(found(&other), None);
        assert!(lease.ended.has_changed().is_err());
        *clock.0.lock() = LASTS - Duration::from_secs(1);
        assert!(found(&id).is_some());
        *clock.0.lock() = LASTS;
        assert_eq!(found(&id), None);
    }

    #[test]
    fn whoever_logs_in_often_pushes_out_nobody_else() {
        let (sessions, clock) = (Sessions::default(), Hands::default());
        let (first, _) = sessions.open(&"anna".into(), Role::Operator, &clock).expect("session");
        let mut ids = Vec::new();
        for n in 0..2 * MOST_PER_USER {
            *clock.0.lock() = Duration::from_secs(n as u64);
            ids.extend(sessions.open(&"bert".into(), Role::Viewer, &clock).map(|(id, _)| id));
        }
        assert!(sessions.find(&first, &clock).is_some());
        let n_alive = ids.iter().filter(|id| sessions.find(id, &clock).is_some()).count();
        assert_eq!(n_alive, MOST_PER_USER);
        assert!(sessions.find(ids.last().expect("id"), &clock).is_some());
        assert_eq!(sessions.0.lock().len(), MOST_PER_USER + 1);
    }

    #[test]
    fn cookies() {
        let text = |id, by_https| cookie(id, by_https).expect("cookie").to_str().expect("text").to_owned();
        let plain = text(Some("abc"), false);
        assert_eq!(plain, "eyewitness_session=abc; Path=/; Max-Age=43200; HttpOnly; SameSite=Strict");
        assert!(text(Some("abc"), true).ends_with("; Secure"));
        assert!(text(None, false).starts_with("eyewitness_session=; Path=/; Max-Age=0;"));
        let check = |said: &str, expected: Option<&str>| {
            let headers = HeaderMap::from_iter([(header::COOKIE, said.parse().expect("value"))]);
            assert_eq!(presented(&headers), expected, "{said}");
        };
        check("a=b; eyewitness_session=xyz; c=d", Some("xyz"));
        check("eyewitness_session=", Some(""));
        check("eyewitness_token=xyz", None);
    }
}
