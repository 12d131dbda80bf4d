//! Tokens for SASL OAUTHBEARER: read from a file, or printed by a command.
//!
//! Files are read on the thread that polls the client, which takes no time; commands run on a thread of their own,
//! `kafka-token`, ahead of time. Must never show a token, nor hold the sink's thread while a command runs.

use std::{
    io::Read,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use base::time::Clock;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use parking_lot::Mutex;
use serde_json::Value;

use super::reports::Secrets;

/// A command that has not ended after this long is killed.
const COMMAND_PATIENCE: Duration = Duration::from_secs(10);
/// Most bytes of its output that are looked at.
const MAX_OUTPUT: u64 = 64 * 1024;
/// A token that does not say how long it lives is asked for again after this long.
const UNKNOWN_LIFE: Duration = Duration::from_secs(300);
/// After a failure the command runs again this much later.
const RETRY_AFTER: Duration = Duration::from_secs(5);
const TURN: Duration = Duration::from_millis(50);

/// A token and what is known of it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) text: String,
    /// Wall clock, milliseconds since 1970: from then on no broker takes it.
    pub(crate) expires_ms: i64,
    /// Whom it stands for.
    pub(crate) principal: String,
}

/// Where tokens come from.
pub(crate) struct Tokens {
    source: Source,
    /// Of a command: what the thread got last.
    latest: Mutex<Result<Token, String>>,
    secrets: Arc<Secrets>,
    clock: Arc<dyn Clock>,
}

enum Source {
    File(PathBuf),
    Command(Vec<String>),
}

impl Tokens {
    pub(crate) fn of_file(path: &Path, secrets: Arc<Secrets>, clock: Arc<dyn Clock>) -> Self {
        Self::new(Source::File(path.to_owned()), secrets, clock)
    }

    /// From a command; [`Tokens::keep_fresh`] runs it.
    pub(crate) fn of_command(command: &[String], secrets: Arc<Secrets>, clock: Arc<dyn Clock>) -> Self {
        Self::new(Source::Command(command.to_owned()), secrets, clock)
    }

    fn new(source: Source, secrets: Arc<Secrets>, clock: Arc<dyn Clock>) -> Self {
        Self { source, latest: Mutex::new(Err("the token command has not ended yet".into())), secrets, clock }
    }

    /// The token to use now; why there is none, in words that may still hold secrets.
    pub(crate) fn current(&self) -> Result<Token, String> {
        let now_ms = self.clock.wall().as_millisecond();
        let token = match &self.source {
            Source::File(path) => {
                let text = std::fs::read_to_string(path)
                    .map_err(|cause| format!("`oauth_token_file`: cannot read {}: {cause}", path.display()))?;
                let token = parse(&text, now_ms).map_err(|problem| format!("`oauth_token_file`: {problem}"))?;
                self.secrets.add(&token.text);
                token
            }
            Source::Command(_) => self.latest.lock().clone()?,
        };
        if token.expires_ms <= now_ms {
            return Err("the token has expired, and there is no newer one".into());
        }
        Ok(token)
    }

    /// Gets the first token, which may take as long as the command may, and starts the thread that gets the next ones in
    /// time; it ends soon after `stop` is set. Nothing to do for a file.
    pub(crate) fn keep_fresh(self: &Arc<Self>, stop: Arc<AtomicBool>) -> std::io::Result<()> {
        if matches!(self.source, Source::File(_)) {
            return Ok(());
        }
        let mut pause = self.fetch(&stop);
        let tokens = Arc::clone(self);
        let thread = std::thread::Builder::new().name("kafka-token".into());
        thread.spawn(move || {
            loop {
                let end = tokens.clock.monotonic() + pause;
                while tokens.clock.monotonic() < end {
                    if stop.load(Relaxed) {
                        return;
                    }
                    std::thread::sleep(TURN);
                }
                pause = tokens.fetch(&stop);
            }
        })?;
        Ok(())
    }

    /// Runs the command; gives the time until it should run again.
    fn fetch(&self, stop: &AtomicBool) -> Duration {
        let Source::Command(command) = &self.source else { return UNKNOWN_LIFE };
        let got = run(command, stop, &*self.clock);
        // The lifetime counts from when the token was made, which is before the command ended.
        let now_ms = self.clock.wall().as_millisecond();
        let got = got.and_then(|output| parse(&output, now_ms));
        let pause = match &got {
            Ok(token) => {
                self.secrets.add(&token.text);
                // The client asks for the next one after four fifths of its life; then there shall be a newer one.
                let life_ms = u64::try_from(token.expires_ms - now_ms).unwrap_or(0);
                Duration::from_millis((life_ms / 10).saturating_mul(7))
                    .clamp(Duration::from_secs(1), Duration::from_secs(24 * 3600))
            }
            Err(problem) => {
                let problem = self.secrets.scrub(problem);
                tracing::warn!(problem, "`oauth_token_command` gave no token; it runs again");
                RETRY_AFTER
            }
        };
        let mut latest = self.latest.lock();
        // An old token that still lives is better than none.
        if got.is_ok() || !latest.as_ref().is_ok_and(|token| token.expires_ms > now_ms) {
            *latest = got.map_err(|problem| format!("`oauth_token_command`: {problem}"));
        }
        pause
    }
}

/// Runs a command without a shell; its standard output, or what went wrong.
fn run(command: &[String], stop: &AtomicBool, clock: &dyn Clock) -> Result<String, String> {
    let (program, arguments) = command.split_first().ok_or("is empty")?;
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|cause| format!("cannot run {program}: {cause}"))?;
    let output = collect(child.stdout.take());
    let errors = collect(child.stderr.take());
    let status = wait(&mut child, stop, clock)
        .ok_or_else(|| format!("{program} did not end within {} s and was killed", COMMAND_PATIENCE.as_secs()))?;
    if !status.success() {
        let errors = take(&errors, clock);
        return Err(format!("{program} failed ({status}): {}", errors.trim()));
    }
    Ok(take(&output, clock))
}

/// What a pipe gave so far, and whether it is at its end.
type Collected = Arc<Mutex<(Vec<u8>, bool)>>;

/// Reads a pipe to its end on a thread of its own, so that a command that writes much is not held up.
fn collect(pipe: Option<impl Read + Send + 'static>) -> Collected {
    let collected = Collected::default();
    let Some(mut pipe) = pipe else { return collected };
    let into = Arc::clone(&collected);
    let read = move || {
        let mut piece = [0; 4096];
        while let Ok(n @ 1..) = pipe.read(&mut piece) {
            let mut into = into.lock();
            let room = (MAX_OUTPUT as usize).saturating_sub(into.0.len());
            into.0.extend_from_slice(&piece[..n.min(room)]);
        }
        into.lock().1 = true;
    };
    if let Err(error) = std::thread::Builder::new().name("kafka-token-read".into()).spawn(read) {
        tracing::warn!(%error, "no thread to read the token command's output");
    }
    collected
}

/// What was collected. Whoever inherited the pipe and lives on is not waited for.
fn take(collected: &Collected, clock: &dyn Clock) -> String {
    let end = clock.monotonic() + Duration::from_secs(1);
    while !collected.lock().1 && clock.monotonic() < end {
        std::thread::sleep(Duration::from_millis(5));
    }
    String::from_utf8_lossy(&collected.lock().0).into_owned()
}

/// Waits for its end; none when it had to be killed.
fn wait(child: &mut Child, stop: &AtomicBool, clock: &dyn Clock) -> Option<std::process::ExitStatus> {
    let end = clock.monotonic() + COMMAND_PATIENCE;
    loop {
        if let Ok(Some(status)) = child.try_wait() {
            return Some(status);
        }
        if clock.monotonic() >= end || stop.load(Relaxed) {
            let _it_may_have_ended_by_itself = child.kill();
            let _reaped = child.wait();
            return None;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A token as it stands in a file or as a command prints it: itself, or JSON with `access_token` and perhaps `expires_in`
/// (seconds; RFC 6749, section 5.1). A JWT's own `exp` and `sub` count before anything else (RFC 7519, section 4.1).
fn parse(text: &str, now_ms: i64) -> Result<Token, String> {
    let text = text.trim();
    let (token, expires_in) = if text.starts_with('{') {
        let json: Value = serde_json::from_str(text).map_err(|_| "neither a token nor JSON".to_owned())?;
        let token = json["access_token"].as_str().ok_or("JSON without `access_token`")?.to_owned();
        let expires_in = &json["expires_in"];
        (token, expires_in.as_i64().or_else(|| expires_in.as_str()?.parse().ok()))
    } else {
        (text.to_owned(), None)
    };
    if token.is_empty() || token.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err("holds no token: one word without spaces was expected".into());
    }
    let claims = claims(&token);
    let claim = |name: &str| claims.as_ref().map_or(&Value::Null, |claims| &claims[name]);
    let life = expires_in.unwrap_or(UNKNOWN_LIFE.as_secs() as i64).saturating_mul(1000);
    #[allow(clippy::cast_possible_truncation, reason = "whole milliseconds are enough")]
    let exp_ms = claim("exp").as_f64().map(|secs| (secs * 1000.0) as i64);
    let principal = claim("sub").as_str().unwrap_or("eyewitness").replace('\0', "");
    Ok(Token { expires_ms: exp_ms.unwrap_or(now_ms.saturating_add(life)), principal, text: token })
}

/// The claims of a JWT; none for any other token.
fn claims(token: &str) -> Option<Value> {
    let payload = token.split('.').nth(1)?;
    let json = URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?;
    serde_json::from_slice(&json).ok()
}

#[cfg(test)]
mod tests {
    use base::time::SystemClock;

    use super::*;

    fn jwt(claims: &str) -> String {
        format!("{}.{}.", URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#), URL_SAFE_NO_PAD.encode(claims))
    }

    #[test]
    fn tokens_are_read() {
        let check = |text: &str, expected: Result<(&str, i64, &str), &str>| {
            let got = parse(text, 1_000_000);
            match (&got, expected) {
                (Ok(got), Ok(expected)) => {
                    assert_eq!((got.text.as_str(), got.expires_ms, got.principal.as_str()), expected, "{text}");
                }
                (Err(got), Err(expected)) => assert!(got.contains(expected), "{text}: {got}"),
                _ => panic!("{text}: {expected:?} was expected, error {:?}", got.err()),
            }
        };
        let token = jwt(r#"{"sub":"camera","exp":1800000000}"#);
        check(&format!(" {token}\n"), Ok((&token, 1_800_000_000_000, "camera")));
        check(&format!(r#"{{"access_token":"{token}","expires_in":60}}"#), Ok((&token, 1_800_000_000_000, "camera")));
        check(r#"{"access_token":"opaque","expires_in":60}"#, Ok(("opaque", 1_060_000, "eyewitness")));
        check(r#"{"access_token":"opaque","expires_in":"60"}"#, Ok(("opaque", 1_060_000, "eyewitness")));
        check("opaque", Ok(("opaque", 1_300_000, "eyewitness")));
        check("a.b.c", Ok(("a.b.c", 1_300_000, "eyewitness")));
        check("", Err("holds no token"));
        check("two words", Err("holds no token"));
        check("{", Err("neither a token nor JSON"));
        check(r#"{"error":"denied"}"#, Err("without `access_token`"));
    }

    #[test]
    fn commands_are_run_and_their_troubles_told() {
        let clock = SystemClock::new();
        let check = |command: &[&str], expected: Result<&str, &str>| {
            let command: Vec<String> = command.iter().map(|part| (*part).to_owned()).collect();
            match (run(&command, &AtomicBool::new(false), &*clock), expected) {
                (Ok(got), Ok(expected)) => assert_eq!(got.trim(), expected, "{command:?}"),
                (Err(got), Err(expected)) => assert!(got.contains(expected), "{command:?}: {got}"),
                (got, expected) => panic!("{command:?}: {got:?}, not {expected:?}"),
            }
        };
        check(&["echo", "a-token"], Ok("a-token"));
        check(&["sh", "-c", "echo no luck >&2; exit 3"], Err("sh failed (exit status: 3): no luck"));
        check(&["/no/such/program"], Err("cannot run /no/such/program"));
        check(&["sh", "-c", "head -c 200000 /dev/zero | tr '\\0' x >&2; echo t"], Ok("t"));
        // Somebody else keeps the pipe open; what was printed counts all the same.
        check(&["sh", "-c", "echo t; sleep 5 &"], Ok("t"));
        let stopped = run(&["sleep".into(), "60".into()], &AtomicBool::new(true), &*clock);
        assert!(stopped.expect_err("killed").contains("was killed"));
    }

    #[test]
    fn a_token_that_has_expired_is_not_given() {
        let file = tempfile::NamedTempFile::new().expect("file");
        let tokens = Tokens::of_file(file.path(), Arc::default(), SystemClock::new());
        std::fs::write(file.path(), jwt(r#"{"exp":1000}"#)).expect("write");
        assert!(tokens.current().err().expect("expired").contains("has expired"));
        std::fs::write(file.path(), jwt(r#"{"exp":99999999999}"#)).expect("write");
        assert!(tokens.current().is_ok_and(|token| token.expires_ms == 99_999_999_999_000));
        assert_eq!(tokens.secrets.scrub(&format!("x {}", jwt(r#"{"exp":99999999999}"#))), "x ***");
    }
}
