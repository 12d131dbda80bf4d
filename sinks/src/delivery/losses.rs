//! What a full spool lets go of, by stream and session, and the `gap` records that say so in the same spool.

use std::{borrow::Cow, collections::BTreeMap};

use super::Entry;
use crate::{
    BuildContext,
    record::Record,
    wire::{self, Envelope, GapRecord, Reason},
};

/// What a backlog adds to each entry, at most.
pub(super) const FRAMING_BYTES: u64 = 16;
/// Room for the notices of one bite.
pub(super) const NOTICE_BYTES: u64 = 16 * 1024;

/// A stretch of one session.
struct Stretch {
    key: String,
    /// The first record of it, whose envelope the notice borrows.
    payload: String,
    first_number: u64,
    from_pts_ms: u64,
    to_pts_ms: u64,
    n_records: u64,
    n_frames: u64,
}

/// What goes, by stream and session.
pub(super) struct Losses<'a> {
    sink: &'a str,
    stretches: BTreeMap<(String, String), Stretch>,
    n_unreadable: u64,
}

impl<'a> Losses<'a> {
    pub(super) fn new(sink: &'a str) -> Self {
        Self { sink, stretches: BTreeMap::new(), n_unreadable: 0 }
    }

    pub(super) fn add(&mut self, entry: &Entry<'_>) {
        let Some(record) = entry.bytes.and_then(|bytes| Record::from_bytes(bytes).ok()) else {
            self.n_unreadable += 1;
            return;
        };
        let stretch =
            self.stretches.entry((record.stream.to_owned(), record.session.to_owned())).or_insert_with(|| Stretch {
                key: record.key.to_owned(),
                payload: record.payload.to_owned(),
                first_number: entry.number,
                from_pts_ms: record.pts_ms,
                to_pts_ms: record.pts_ms,
                n_records: 0,
                n_frames: 0,
            });
        let mut to_pts_ms = record.pts_ms;
        match earlier_notice(&record, self.sink) {
            // An earlier notice goes too: the new one speaks for both.
            Some(notice) => {
                to_pts_ms = notice.to_pts_ms;
                stretch.n_frames += notice.n_frames_dropped.unwrap_or(0);
            }
            None => {
                stretch.n_records += 1;
                stretch.n_frames += u64::from(record.kind == "detections");
            }
        }
        stretch.from_pts_ms = stretch.from_pts_ms.min(record.pts_ms);
        stretch.to_pts_ms = stretch.to_pts_ms.max(to_pts_ms);
    }

    pub(super) fn n_records(&self) -> u64 {
        self.n_unreadable + self.stretches.values().map(|stretch| stretch.n_records).sum::<u64>()
    }

    /// One `gap` record for each stretch, as entries of the same backlog.
    pub(super) fn notices(&self, context: &BuildContext) -> Vec<Vec<u8>> {
        let sink = self.sink;
        let accepted_ms = u64::try_from(context.clock.wall().as_millisecond()).unwrap_or(0);
        let notice = |((stream, session), stretch): (&(String, String), &Stretch)| {
            let first = wire::decode(&stretch.payload).ok()?;
            let id = format!("{session}-gap-{sink}-{}", stretch.first_number);
            let published_at = context.published_at().map(wire::rfc3339);
            let envelope = Envelope {
                id: Cow::from(&id),
                pts_ms: stretch.from_pts_ms,
                published_at: published_at.clone(),
                ..first.envelope().clone()
            };
            let time = envelope.captured_at.clone().or(published_at);
            let detail = format!("pushed out of the full spool of sink {sink}");
            let gap = wire::Record::Gap(GapRecord {
                envelope,
                from_pts_ms: stretch.from_pts_ms,
                to_pts_ms: stretch.to_pts_ms,
                reason: Reason::SpoolFull,
                n_frames_dropped: Some(stretch.n_frames),
                detail: Some(Cow::from(&detail)),
            });
            let payload = serde_json::to_string(&gap).ok()?;
            let record = Record {
                kind: "gap",
                id: &id,
                stream,
                session,
                pts_ms: stretch.from_pts_ms,
                time: time.as_deref(),
                key: &stretch.key,
                accepted_ms,
                payload: &payload,
            };
            Some(record.to_bytes())
        };
        self.stretches.iter().filter_map(notice).collect()
    }
}

/// The notice that this record is, if it is one of this sink's own.
fn earlier_notice<'r>(record: &Record<'r>, sink: &str) -> Option<GapRecord<'r>> {
    let number =
        record.id.strip_prefix(record.session)?.strip_prefix("-gap-")?.strip_prefix(sink)?.strip_prefix('-')?;
    number.parse::<u64>().ok()?;
    match wire::decode(record.payload) {
        Ok(wire::Record::Gap(gap)) => Some(gap),
        _ => None,
    }
}
