//! The way to Kafka: connecting, receiving, and saying what is done.

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use anyhow::{Context as _, bail};
use rdkafka::{
    ClientConfig, ClientContext, Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext},
    error::{KafkaError, RDKafkaErrorCode},
};

use crate::complain;

pub(crate) type Consumer = BaseConsumer<Teller>;

/// One message.
pub(crate) struct Message {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) payload: Option<Vec<u8>>,
}

impl Message {
    /// Where it is, for a person.
    pub(crate) fn place(&self) -> String {
        format!("{} [{}] at {}", self.topic, self.partition, self.offset)
    }
}

/// Says what stands in the client's way.
pub(crate) struct Teller;

impl ClientContext for Teller {
    fn error(&self, _error: KafkaError, reason: &str) {
        complain(&format!("kafka: {reason}"));
    }
}

impl ConsumerContext for Teller {}

/// A consumer that has reached the cluster.
///
/// # Errors
/// When the properties are wrong, or no broker lets us in within 10 seconds.
pub(crate) fn connect(
    brokers: &str,
    group: &str,
    topics: &[String],
    properties: Option<&Path>,
) -> anyhow::Result<Consumer> {
    let mut config = ClientConfig::new();
    config
        .set("auto.offset.reset", "earliest") // a new group reads what the topics still hold
        .set("topic.metadata.refresh.interval.ms", "10000"); // so soon it finds a topic that is made later
    if let Some(path) = properties {
        let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
        for (name, value) in read_properties(&text).with_context(|| path.display().to_string())? {
            config.set(name, value);
        }
    }
    config.set("bootstrap.servers", brokers).set("group.id", group).set("enable.auto.commit", "false"); // we say ourselves what is done
    let consumer: Consumer = config.create_with_context(Teller)?;
    consumer.subscribe(&topics.iter().map(String::as_str).collect::<Vec<_>>())?;
    if let Err(error) = consumer.fetch_metadata(None, Duration::from_secs(10)) {
        for _ in 0..5 {
            consumer.poll(Duration::from_millis(100)); // lets the teller say why
        }
        bail!("no broker at {brokers} lets us in: {error}");
    }
    Ok(consumer)
}

/// `name = value` a line; `#` begins a comment. For TLS and SASL: any property of librdkafka.
fn read_properties(text: &str) -> anyhow::Result<Vec<(&str, &str)>> {
    let mut properties = Vec::new();
    for (number, line) in text.lines().map(str::trim).enumerate() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let Some((name, value)) = line.split_once('=') else {
            bail!("line {}: expected `name = value`", number + 1);
        };
        properties.push((name.trim(), value.trim()));
    }
    Ok(properties)
}

/// What has come, at most `most` messages; waits for the first of them.
///
/// # Errors
/// Where waiting would not help.
pub(crate) fn receive(consumer: &Consumer, most: usize, wait: Duration) -> anyhow::Result<Vec<Message>> {
    let mut messages = Vec::new();
    let mut patience = wait;
    while messages.len() < most {
        match consumer.poll(patience) {
            None => break,
            Some(Ok(message)) => messages.push(Message {
                topic: message.topic().to_owned(),
                partition: message.partition(),
                offset: message.offset(),
                payload: message.payload().map(<[u8]>::to_vec),
            }),
            // Such as a topic that is not there yet. The teller has said it, and the client tries again by itself.
            Some(Err(error)) => end_if_hopeless(consumer, &error)?,
        }
        patience = Duration::ZERO;
    }
    Ok(messages)
}

/// Tells Kafka that everything up to these messages is done.
///
/// # Errors
/// Where waiting would not help.
pub(crate) fn commit(consumer: &Consumer, messages: &[Message]) -> anyhow::Result<()> {
    let done: BTreeMap<_, _> = messages.iter().map(|m| ((&*m.topic, m.partition), m.offset + 1)).collect();
    let mut offsets = TopicPartitionList::new();
    for ((topic, partition), offset) in done {
        offsets.add_partition_offset(topic, partition, Offset::Offset(offset))?;
    }
    match consumer.commit(&offsets, CommitMode::Sync) {
        Ok(()) => Ok(()),
        // The partitions now belong to another member of the group, or the broker is away: the records come again.
        Err(error) => {
            end_if_hopeless(consumer, &error)?;
            complain(&format!("kafka: {error}; these records will come again"));
            Ok(())
        }
    }
}

/// Whether the group has given us something to read.
pub(crate) fn has_partitions(consumer: &Consumer) -> anyhow::Result<bool> {
    Ok(consumer.assignment()?.count() > 0)
}

/// Fails where waiting will not cure it.
fn end_if_hopeless(consumer: &Consumer, error: &KafkaError) -> anyhow::Result<()> {
    use RDKafkaErrorCode::{Authentication, GroupAuthorizationFailed, InvalidGroupId, TopicAuthorizationFailed};
    if let Some((_, reason)) = consumer.client().fatal_error() {
        bail!("kafka: {reason}");
    }
    match error.rdkafka_error_code() {
        Some(Authentication | GroupAuthorizationFailed | InvalidGroupId | TopicAuthorizationFailed) => {
            bail!("kafka: {error}")
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_files() {
        let check = |text: &str, expected: Result<&[(&str, &str)], &str>| match (
            read_properties(text).map_err(|e| e.to_string()),
            expected,
        ) {
            (Ok(got), Ok(expected)) => assert_eq!(got, expected, "{text}"),
            (Err(got), Err(expected)) => assert_eq!(got, expected, "{text}"),
            (got, expected) => panic!("{text}: {got:?}, not {expected:?}"),
        };
        check("", Ok(&[]));
        check("# TLS\n\n security.protocol = SSL \n", Ok(&[("security.protocol", "SSL")]));
        check("sasl.password=a=b#c\n", Ok(&[("sasl.password", "a=b#c")]));
        check("a = 1\nb\n", Err("line 2: expected `name = value`"));
    }
}
