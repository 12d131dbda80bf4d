//! What librdkafka tells: what became of each record, trouble with brokers, log lines, the wish for a token.
//!
//! On the thread that polls the client. Must never report a record twice, keep one back, or show a secret.

use std::{
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use base::{redact::REDACTED, time::Clock};
use parking_lot::{Mutex, RwLock};
use rdkafka::{
    ClientContext, Message,
    client::OAuthToken,
    config::RDKafkaLogLevel,
    error::{KafkaError, RDKafkaErrorCode as Code},
    message::DeliveryResult,
    producer::ProducerContext,
};

use super::{oauth::Tokens, topics::N_TOPICS};
use crate::{
    TopicCount,
    delivery::{Fate, Report},
};

/// Values that no text may show.
#[derive(Default)]
pub(crate) struct Secrets(RwLock<Vec<String>>);

impl Secrets {
    /// From now on `secret` is not shown. What is too short to be one is left, or texts would fall to pieces.
    pub(crate) fn add(&self, secret: &str) {
        let mut secrets = self.0.write();
        if secret.len() >= 3 && !secrets.iter().any(|known| known == secret) {
            secrets.push(secret.to_owned());
            // The longest first: one may begin with another.
            secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        }
    }

    pub(crate) fn scrub(&self, text: &str) -> String {
        self.0.read().iter().fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), REDACTED))
    }
}

/// What all clients of one sink share.
pub(super) struct Shared {
    pub(super) name: String,
    pub(super) secrets: Arc<Secrets>,
    pub(super) tokens: Option<Arc<Tokens>>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) account: Mutex<Account>,
}

/// What was heard and not yet acted on.
#[derive(Debug, Default)]
pub(super) struct Account {
    /// Not yet handed on.
    pub(super) reports: Vec<Report>,
    /// Records reported by the present client.
    pub(super) n_reported: u64,
    /// Records acknowledged so far.
    pub(super) n_delivered: u64,
    /// By topic.
    pub(super) counts: [TopicCount; N_TOPICS],
    /// The last trouble with the brokers, until a delivery shows that it is over.
    pub(super) trouble: Option<(Option<Code>, String)>,
    /// What is wrong with a broker's certificate, where that was found out.
    pub(super) certificate: Option<String>,
    /// The client takes nothing more.
    pub(super) fatal: bool,
    /// The oldest record that came back, and why, until it settles.
    pub(super) stuck: Option<Stuck>,
    /// Topics of records that came back because there is no such topic or partition.
    pub(super) missing: [bool; N_TOPICS],
    /// A batch was refused for the sake of a record in it.
    pub(super) batch_refused: bool,
}

/// A record that does not get through.
#[derive(Debug)]
pub(super) struct Stuck {
    pub(super) number: u64,
    pub(super) topic: usize,
    pub(super) cause: String,
}

impl Account {
    /// Notes that `number` goes back for now.
    pub(super) fn comes_back(&mut self, number: u64, topic: usize, cause: String) {
        if self.stuck.as_ref().is_none_or(|stuck| number < stuck.number) {
            self.stuck = Some(Stuck { number, topic, cause: cause.clone() });
        }
        self.reports.push(Report { number, fate: Fate::Again(cause) });
    }

    fn settles(&mut self, number: u64, fate: Fate) {
        if self.stuck.as_ref().is_some_and(|stuck| stuck.number == number) {
            self.stuck = None;
        }
        self.reports.push(Report { number, fate });
    }
}

impl Shared {
    pub(super) fn scrub(&self, text: &str) -> String {
        self.secrets.scrub(text)
    }
}

/// How a client sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Batches,
    /// Every record in a request of its own, one request at a time: to find the one that is refused.
    OneByOne,
}

/// What one client tells.
pub(super) struct Reports {
    pub(super) shared: Arc<Shared>,
    pub(super) mode: Mode,
    /// False once another client is in its place: its troubles are not ours any more.
    pub(super) current: AtomicBool,
}

/// A record's number and its topic, as they travel with it through the client.
pub(super) const fn ticket(number: u64, topic: usize) -> Option<usize> {
    if number > (usize::MAX >> TOPIC_BITS) as u64 { None } else { Some((number as usize) << TOPIC_BITS | topic) }
}

const TOPIC_BITS: u32 = 3;
const _: () = assert!(N_TOPICS <= 1 << TOPIC_BITS);

impl Reports {
    /// Why a record did not arrive, and whether it may later.
    fn fate(&self, account: &mut Account, topic: usize, code: Option<Code>, cause: String) -> Fate {
        match code {
            // A record on its own was too large: so it will be the next time.
            Some(Code::MessageSizeTooLarge | Code::InvalidMessageSize | Code::MessageBatchTooLarge) => {
                if self.mode == Mode::OneByOne {
                    return Fate::Refused(format!(
                        "{cause}: lower `max_record_bytes` of the sink to what the topic takes, or raise the topic's \
                         `max.message.bytes`"
                    ));
                }
                account.batch_refused = true;
                Fate::Again(cause)
            }
            // The broker looked at the record itself and does not take it.
            Some(Code::InvalidRecord) if self.mode == Mode::OneByOne => Fate::Refused(cause),
            // In a batch it may be said of records that were refused for another one's sake, or for their time.
            Some(Code::InvalidRecord) => {
                account.batch_refused = true;
                Fate::Again(cause)
            }
            Some(Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition) => {
                account.missing[topic] = true;
                Fate::Again(cause)
            }
            Some(Code::InvalidTimestamp) => Fate::Again(format!(
                "{cause}: set the clock of this machine, or the topic's `message.timestamp.type` to `LogAppendTime`"
            )),
            // Everything else lies in the cluster, in rights, or in this client, and not in the record: lost leaders,
            // topics without rights, purged queues, a client that gave up. All of it may pass.
            _ => Fate::Again(cause),
        }
    }
}

impl ProducerContext for Reports {
    /// See [`ticket`].
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, ticket: usize) {
        let (number, topic) = ((ticket >> TOPIC_BITS) as u64, ticket & ((1 << TOPIC_BITS) - 1));
        let mut account = self.shared.account.lock();
        account.n_reported += 1;
        let (error, message) = match result {
            Ok(_) => {
                account.counts[topic].n_delivered += 1;
                account.n_delivered += 1;
                account.trouble = None;
                return account.settles(number, Fate::Delivered);
            }
            Err((error, message)) => (error, message),
        };
        let code = error.rdkafka_error_code();
        let cause = match (code, &account.trouble) {
            (Some(Code::PurgeQueue | Code::PurgeInflight | Code::Fatal), Some((_, trouble))) => trouble.clone(),
            (Some(code), _) => self.shared.scrub(&format!("topic {}: {code}", message.topic())),
            (None, _) => self.shared.scrub(&format!("topic {}: {error}", message.topic())),
        };
        match self.fate(&mut account, topic, code, cause) {
            Fate::Again(cause) => account.comes_back(number, topic, cause),
            fate => {
                account.counts[topic].n_failed += 1;
                account.settles(number, fate);
            }
        }
    }
}

impl ClientContext for Reports {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(&self.shared.secrets, &self.shared.name, level, facility, message);
    }

    /// Trouble with brokers. Comes twice for each.
    fn error(&self, error: KafkaError, reason: &str) {
        if !self.current.load(Relaxed) {
            return;
        }
        let reason = self.shared.scrub(reason);
        let code = error.rdkafka_error_code();
        let mut account = self.shared.account.lock();
        account.fatal |= code == Some(Code::Fatal);
        // "All brokers down" follows each real cause and says less.
        if code == Some(Code::AllBrokersDown) && account.trouble.is_some() {
            return;
        }
        account.trouble = Some((code, reason));
    }

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        let tokens =
            self.shared.tokens.as_ref().ok_or("neither `oauth_token_file` nor `oauth_token_command` is set")?;
        let token = tokens.current().map_err(|problem| self.shared.scrub(&problem).replace('\0', " "))?;
        Ok(OAuthToken { token: token.text, principal_name: token.principal, lifetime_ms: token.expires_ms })
    }
}

/// librdkafka's log lines, in ours.
pub(crate) fn log(secrets: &Secrets, sink: &str, level: RDKafkaLogLevel, facility: &str, message: &str) {
    let message = secrets.scrub(message);
    match level {
        // Connection failures and fatal errors are told once more, and better, through `error`. And that the guarantee
        // is new is known to whoever chose it.
        _ if matches!(facility, "FAIL" | "ERROR" | "FATAL") || message.contains("gapless") => {
            tracing::debug!(target: "librdkafka", sink, facility, "{message}");
        }
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical | RDKafkaLogLevel::Error => {
            tracing::error!(target: "librdkafka", sink, facility, "{message}")
        }
        RDKafkaLogLevel::Warning => tracing::warn!(target: "librdkafka", sink, facility, "{message}"),
        RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => {
            tracing::info!(target: "librdkafka", sink, facility, "{message}");
        }
        RDKafkaLogLevel::Debug => tracing::debug!(target: "librdkafka", sink, facility, "{message}"),
    }
}
