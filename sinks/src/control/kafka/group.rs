//! The place in the consumer group: which leases are ours.
//!
//! On a thread of its own, `plane-group`, which does nothing else, so that it is always in time to answer the group. It
//! reads no record. Must never wait for the keeper.

use std::{
    sync::{
        Arc,
        atomic::Ordering::{Acquire, Relaxed},
    },
    time::Duration,
};

use rdkafka::{
    ClientContext, Offset, TopicPartitionList,
    client::OAuthToken,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer as _, ConsumerContext},
    error::{KafkaError, RDKafkaErrorCode as Code},
    types::RDKafkaRespErr,
    util::Timeout,
};

use super::{
    Topic,
    shared::{Context, Finder, Shared, TURN},
};

const POLL: Duration = Duration::from_millis(100);
const MAKE_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// So many heartbeats in the session's time: how soon a worker hears that another one is gone.
const HEARTBEATS_A_SESSION: u32 = 12;
/// A member that is asked to come back to a group that changes, and does not within this time, is out. All others wait for
/// it, so it is short; this thread always answers at once.
const REJOIN_PATIENCE: Duration = Duration::from_secs(10);

pub(super) fn run(shared: &Arc<Shared>) {
    // Who does not know yet what there is shall not be given anything.
    while shared.n_read.load(Acquire) < Topic::ALL.len() && !shared.stopped() {
        std::thread::sleep(TURN);
    }
    while !shared.stopped() {
        match join(shared) {
            Ok(consumer) => stay(shared, &consumer),
            Err(problem) => {
                shared.trouble(Finder::Group, Some(problem));
                shared.pause(MAKE_AGAIN_AFTER);
            }
        }
    }
}

fn join(shared: &Arc<Shared>) -> Result<BaseConsumer<Member>, String> {
    let mut client = shared.client().map_err(|error| error.to_string())?;
    let session = shared.config.session_timeout();
    client
        .set("group.id", &shared.config.group)
        .set("partition.assignment.strategy", "cooperative-sticky")
        .set("session.timeout.ms", session.as_millis().to_string())
        .set("heartbeat.interval.ms", (session / HEARTBEATS_A_SESSION).as_millis().to_string())
        .set("max.poll.interval.ms", session.max(REJOIN_PATIENCE).as_millis().to_string())
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        // A coordinator that moves to another broker is found soon.
        .set("coordinator.query.interval.ms", "1000");
    let consumer: BaseConsumer<Member> =
        client.create_with_context(Member(shared.context())).map_err(|error| error.to_string())?;
    if !shared.leaving.load(Relaxed) {
        consumer.subscribe(&[&shared.topic(Topic::Attachments)]).map_err(|error| error.to_string())?;
    }
    Ok(consumer)
}

/// Answers the group until the client is to be made anew or the plane ends.
fn stay(shared: &Arc<Shared>, consumer: &BaseConsumer<Member>) {
    let mut has_left = false;
    while !shared.stopped() && consumer.context().0.is_current() {
        if !has_left && shared.leaving.load(Relaxed) {
            has_left = true;
            consumer.unsubscribe();
        }
        let polled = consumer.poll(POLL);
        wake(consumer);
        let Some(Err(error)) = polled else { continue };
        let group = &shared.config.group;
        let problem = match error.rdkafka_error_code() {
            Some(Code::Fatal) => return,
            Some(Code::GroupAuthorizationFailed) => {
                format!("this user may not join group {group}: allow it `Read` of that group")
            }
            Some(Code::InvalidSessionTimeout) => format!(
                "the brokers do not take `session_timeout_ms` = {}: see their `group.min.session.timeout.ms`",
                shared.config.session_timeout_ms
            ),
            Some(code @ (Code::InconsistentGroupProtocol | Code::GroupMaxSizeReached)) => format!(
                "group {group} does not take this worker ({code}): give the cluster a `group` that nobody else uses"
            ),
            // Brokers that are away: told by whoever looks for them. A group that goes on without us: told as revoked.
            _ => continue,
        };
        shared.trouble(Finder::Group, Some(problem));
    }
}

/// The client's own thread sleeps for up to a second when it is asked nothing, and looks only then whether a heartbeat is
/// due, or what else is to be done.
fn wake(consumer: &BaseConsumer<Member>) {
    let _asked = consumer.assignment();
}

/// What the group tells this member.
struct Member(Context);

impl Member {
    fn leases(list: &TopicPartitionList) -> Vec<u32> {
        list.elements().iter().filter_map(|element| u32::try_from(element.partition()).ok()).collect()
    }
}

impl ConsumerContext for Member {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, code: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let shared = &self.0.shared;
        let leases = Self::leases(list);
        if code == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            // Nothing is to be read, so no offset is to be looked up: that would take time.
            let taken = list
                .set_all_offsets(Offset::Offset(0))
                .and_then(|()| consumer.incremental_assign(list))
                .and_then(|()| consumer.pause(list));
            if let Err(error) = taken {
                tracing::warn!(%error, ?leases, "leases cannot be taken as the group gives them");
            }
            shared.trouble(Finder::Group, None);
            let n_leases = shared.n_partitions(Topic::Attachments);
            if leases.iter().any(|&lease| lease as usize >= n_leases) {
                // Somebody gave the topic more partitions.
                shared.look_again.store(true, Relaxed);
            }
            tracing::debug!(?leases, "leases granted");
            shared.inbox.grant(leases);
        } else {
            // Letting go makes it forget whether it was lost.
            let lost = consumer.assignment_lost();
            tracing::debug!(?leases, lost, "leases revoked");
            shared.inbox.revoke(leases, lost);
            if consumer.incremental_unassign(list).is_err()
                && let Err(error) = consumer.unassign()
            {
                tracing::warn!(%error, "leases cannot be given back as the group wants it");
            }
        }
    }

    fn main_queue_min_poll_interval(&self) -> Timeout {
        Timeout::After(POLL)
    }
}

impl ClientContext for Member {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.0.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.0.error(error, reason);
    }

    fn generate_oauth_token(&self, config: Option<&str>) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        self.0.generate_oauth_token(config)
    }
}
