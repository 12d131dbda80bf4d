//! Keeping new events in the backlog, and what happens when there is no room for them. On the sink's thread.

use super::{
    super::{BacklogError, Outlet, WhenSpoolFull, losses},
    Courier,
};
use crate::SinkError;

impl<O: Outlet> Courier<O> {
    /// Keeps as many of these entries as there is room for, from the first; makes room where that is the policy.
    pub(super) fn keep(&mut self, entries: &[Vec<u8>]) -> (usize, Result<(), SinkError>) {
        let mut n = entries.len();
        loop {
            match self.backlog.append(&entries[..n]) {
                Ok(()) => {
                    self.append_trouble = None;
                    self.full = n < entries.len();
                    return (n, Ok(()));
                }
                Err(BacklogError::Full { .. }) if n > 1 && self.when_full == WhenSpoolFull::Block => n /= 2,
                Err(BacklogError::Full { max_bytes, .. })
                    if n == 1 && entries[0].len() as u64 + losses::NOTICE_BYTES >= max_bytes =>
                {
                    let problem = format!("an event of {} bytes never fits: raise it", entries[0].len());
                    return (0, Err(SinkError::config("spool.max_bytes", problem)));
                }
                Err(BacklogError::Full { n_bytes, max_bytes }) if self.when_full == WhenSpoolFull::Block => {
                    self.full = true;
                    let cause = self.trouble().unwrap_or_else(|| "the far end is slower than events come".into());
                    return (0, Err(SinkError::SpoolFull { n_bytes, max_bytes, cause }));
                }
                Err(BacklogError::Full { .. }) => match self.drop_oldest(&entries[..n]) {
                    Ok(()) => return (n, Ok(())),
                    // More at once than may be kept at all.
                    Err(BacklogError::Full { .. }) if n > 1 => n /= 2,
                    Err(error) => return (0, Err(error.into())),
                },
                Err(error @ BacklogError::Io(_)) => {
                    self.append_trouble = Some(error.to_string());
                    return (0, Err(error.into()));
                }
            }
        }
    }

    /// Lets the oldest entries go, says behind what is kept what is missing, and keeps the new ones.
    fn drop_oldest(&mut self, entries: &[Vec<u8>]) -> Result<(), BacklogError> {
        let n_bytes: u64 = entries.iter().map(|entry| entry.len() as u64 + losses::FRAMING_BYTES).sum();
        let Self { backlog, flight, context, name, .. } = self;
        let name = name.clone();
        let mut lost = losses::Losses::new(&name);
        backlog.make_room(n_bytes + losses::NOTICE_BYTES, &mut |gone| {
            lost = losses::Losses::new(&name);
            for entry in gone {
                // What has settled is not lost. What is on its way may still arrive; until then it counts as dropped.
                if !flight.is_settled(entry.number) {
                    lost.add(&entry);
                }
            }
            lost.notices(context)
        })?;
        self.flight.gone(self.backlog.reading().first);
        self.account.n_dropped += lost.n_records();
        let (n_now, n_dropped) = (lost.n_records(), self.account.n_dropped);
        if n_now > 0 {
            tracing::error!(sink = self.name, n_now, n_dropped, "the spool is full: the oldest events are dropped");
        }
        self.full = true;
        self.backlog.append(entries)
    }
}
