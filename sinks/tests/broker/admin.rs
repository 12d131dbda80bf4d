//! The few requests of Kafka's protocol that tests need and kcat does not know: topics made, deleted and described.
//!
//! Written out by hand in their oldest versions that Kafka 4 takes (<https://kafka.apache.org/protocol>), because one
//! start of Kafka's own tools takes seconds. On the test's thread.

use std::{
    collections::BTreeMap,
    io::{self, Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

const METADATA: (i16, i16) = (3, 4);
const CREATE_TOPICS: (i16, i16) = (19, 2);
const DELETE_TOPICS: (i16, i16) = (20, 1);
const DESCRIBE_CONFIGS: (i16, i16) = (32, 1);
const CREATE_PARTITIONS: (i16, i16) = (37, 0);
const TOPIC_RESOURCE: i8 = 2;
const ANSWER_PATIENCE: Duration = Duration::from_secs(20);

/// One partition of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Partition {
    pub(crate) index: i32,
    /// Node id; -1 while nobody leads it.
    pub(crate) leader: i32,
    /// Node ids of those that have all of it.
    pub(crate) in_sync: Vec<i32>,
}

/// Number of brokers that the one at `address` knows of.
pub(crate) fn brokers(address: &str) -> io::Result<usize> {
    Ok(metadata(address, None)?.0)
}

/// The partitions of a topic, in order; none when there is no such topic.
pub(crate) fn partitions(address: &str, topic: &str) -> io::Result<Option<Vec<Partition>>> {
    Ok(metadata(address, Some(topic))?.1)
}

fn metadata(address: &str, topic: Option<&str>) -> io::Result<(usize, Option<Vec<Partition>>)> {
    let mut request = Request::new(METADATA);
    request.i32(topic.iter().count());
    topic.iter().for_each(|topic| request.text(topic));
    // Asking must not make it.
    request.i8(0);
    let mut answer = request.ask(address)?;
    answer.i32();
    let n_brokers = answer.list(|answer| {
        answer.i32();
        answer.text();
        answer.i32();
        answer.text();
    });
    answer.text();
    answer.i32();
    let topics = answer.list(|answer| {
        let error = answer.i16();
        answer.text();
        answer.i8();
        let mut partitions = answer.list(|answer| {
            answer.i16();
            let (index, leader) = (answer.i32(), answer.i32());
            answer.list(Answer::i32);
            Partition { index, leader, in_sync: answer.list(Answer::i32) }
        });
        partitions.sort_by_key(|partition| partition.index);
        (error == 0).then_some(partitions)
    });
    Ok((n_brokers.len(), topics.into_iter().next().flatten()))
}

/// Makes a topic.
pub(crate) fn create(
    address: &str,
    topic: &str,
    n_partitions: i32,
    n_replicas: i16,
    configs: &[(&str, &str)],
) -> io::Result<()> {
    let mut request = Request::new(CREATE_TOPICS);
    request.i32(1);
    request.text(topic);
    request.bytes.extend(n_partitions.to_be_bytes());
    request.i16(n_replicas);
    request.i32(0);
    request.i32(configs.len());
    for (key, value) in configs {
        request.text(key);
        request.text(value);
    }
    request.patience();
    request.i8(0);
    let mut answer = request.ask(address)?;
    answer.i32();
    let errors = answer.list(|answer| (answer.text(), answer.i16(), answer.text()));
    refused("create", errors.into_iter().map(|(topic, code, why)| (topic, code, why.unwrap_or_default())))
}

/// Gives a topic more partitions: so many in all.
pub(crate) fn add_partitions(address: &str, topic: &str, n_partitions: i32) -> io::Result<()> {
    let mut request = Request::new(CREATE_PARTITIONS);
    request.i32(1);
    request.text(topic);
    request.bytes.extend(n_partitions.to_be_bytes());
    // Whoever they are given to.
    request.bytes.extend((-1_i32).to_be_bytes());
    request.patience();
    request.i8(0);
    let mut answer = request.ask(address)?;
    answer.i32();
    let errors = answer.list(|answer| (answer.text(), answer.i16(), answer.text()));
    refused("grow", errors.into_iter().map(|(topic, code, why)| (topic, code, why.unwrap_or_default())))
}

/// Deletes a topic.
pub(crate) fn delete(address: &str, topic: &str) -> io::Result<()> {
    let mut request = Request::new(DELETE_TOPICS);
    request.i32(1);
    request.text(topic);
    request.patience();
    let mut answer = request.ask(address)?;
    answer.i32();
    let errors = answer.list(|answer| (answer.text(), answer.i16()));
    refused("delete", errors.into_iter().map(|(topic, code)| (topic, code, String::new())))
}

fn refused(what: &str, mut results: impl Iterator<Item = (Option<String>, i16, String)>) -> io::Result<()> {
    match results.find(|(_, code, _)| *code != 0) {
        Some((topic, code, why)) => {
            Err(io::Error::other(format!("{what} {}: error {code} {why}", topic.unwrap_or_default())))
        }
        None => Ok(()),
    }
}

/// The settings of a topic, defaults included.
pub(crate) fn configs(address: &str, topic: &str) -> io::Result<BTreeMap<String, String>> {
    let mut request = Request::new(DESCRIBE_CONFIGS);
    request.i32(1);
    request.bytes.extend(TOPIC_RESOURCE.to_be_bytes());
    request.text(topic);
    // No list of keys: all of them. No synonyms.
    request.bytes.extend((-1_i32).to_be_bytes());
    request.i8(0);
    let mut answer = request.ask(address)?;
    answer.i32();
    let mut all = BTreeMap::new();
    let errors = answer.list(|answer| {
        let (code, why) = (answer.i16(), answer.text());
        answer.i8();
        let name = answer.text();
        for (key, value) in answer.list(|answer| {
            let pair = (answer.text(), answer.text());
            answer.i8();
            answer.i8();
            answer.i8();
            answer.list(|answer| (answer.text(), answer.text(), answer.i8()));
            pair
        }) {
            all.insert(key.unwrap_or_default(), value.unwrap_or_default());
        }
        (name, code, why.unwrap_or_default())
    });
    refused("describe", errors.into_iter())?;
    Ok(all)
}

struct Request {
    bytes: Vec<u8>,
}

impl Request {
    fn new((api, version): (i16, i16)) -> Self {
        let mut request = Self { bytes: Vec::new() };
        request.i16(api);
        request.i16(version);
        request.i32(1);
        request.text("eyewitness-tests");
        request
    }

    fn i8(&mut self, value: u8) {
        self.bytes.push(value);
    }

    fn i16(&mut self, value: i16) {
        self.bytes.extend(value.to_be_bytes());
    }

    fn i32(&mut self, value: usize) {
        self.bytes.extend(i32::try_from(value).expect("small").to_be_bytes());
    }

    fn text(&mut self, text: &str) {
        self.i16(i16::try_from(text.len()).expect("short"));
        self.bytes.extend(text.as_bytes());
    }

    /// The broker's own time limit for what it was asked.
    fn patience(&mut self) {
        self.i32(usize::try_from(ANSWER_PATIENCE.as_millis()).expect("small"));
    }

    fn ask(self, address: &str) -> io::Result<Answer> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(ANSWER_PATIENCE + Duration::from_secs(5)))?;
        let length = u32::try_from(self.bytes.len()).expect("small").to_be_bytes();
        stream.write_all(&[&length[..], &self.bytes].concat())?;
        let mut length = [0; 4];
        stream.read_exact(&mut length)?;
        let mut bytes = vec![0; u32::from_be_bytes(length) as usize];
        stream.read_exact(&mut bytes)?;
        let mut answer = Answer { bytes, at: 0 };
        // The number of the request.
        answer.i32();
        Ok(answer)
    }
}

/// What a broker says; it is trusted to keep to its protocol.
struct Answer {
    bytes: Vec<u8>,
    at: usize,
}

impl Answer {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let bytes = self.bytes[self.at..self.at + N].try_into().expect("as many");
        self.at += N;
        bytes
    }

    fn i8(&mut self) -> i8 {
        i8::from_be_bytes(self.take())
    }

    fn i16(&mut self) -> i16 {
        i16::from_be_bytes(self.take())
    }

    fn i32(&mut self) -> i32 {
        i32::from_be_bytes(self.take())
    }

    fn text(&mut self) -> Option<String> {
        let length = usize::try_from(self.i16()).ok()?;
        let text = String::from_utf8_lossy(&self.bytes[self.at..self.at + length]).into_owned();
        self.at += length;
        Some(text)
    }

    fn list<T>(&mut self, mut one: impl FnMut(&mut Self) -> T) -> Vec<T> {
        let n = usize::try_from(self.i32()).unwrap_or(0);
        (0..n).map(|_| one(self)).collect()
    }
}
