//! The last records of all alerts, for any number of readers at any pace. Written by the thread `evidence`, read by the HTTP
//! service's tasks; the lock is held for a copy of one pointer. Must never wait for a reader.

use std::{collections::VecDeque, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::watch;

use super::index::{AlertFilter, Facts};

/// One record.
#[derive(Debug, PartialEq, Eq)]
pub struct NewsItem {
    /// Id of the record: where a reader that comes back goes on.
    pub id: String,
    /// As on the wire.
    pub json: String,
    pub(super) facts: Facts,
}

/// What a reader gets.
#[derive(Debug, PartialEq, Eq)]
pub enum NextNews {
    /// A record.
    Item(Arc<NewsItem>),
    /// Records that were pushed out before this reader came to them; none when nobody can know how many.
    Lost(Option<u64>),
    /// Nothing comes any more.
    Closed,
}

#[derive(Debug, Default)]
struct Reel {
    items: VecDeque<Arc<NewsItem>>,
    /// Number of the next one.
    end: u64,
    closed: bool,
}

/// The last records. Bounded: a new one pushes the oldest out.
#[derive(Debug)]
pub(super) struct News {
    capacity: usize,
    reel: Mutex<Reel>,
    told: watch::Sender<()>,
}

impl News {
    pub(super) fn new(capacity: usize) -> Arc<Self> {
        Arc::new(Self { capacity, reel: Mutex::default(), told: watch::Sender::new(()) })
    }

    pub(super) fn put(&self, item: NewsItem) {
        let mut reel = self.reel.lock();
        if reel.items.len() >= self.capacity {
            reel.items.pop_front();
        }
        reel.items.push_back(Arc::new(item));
        reel.end += 1;
        drop(reel);
        self.told.send_replace(());
    }

    pub(super) fn close(&self) {
        self.reel.lock().closed = true;
        self.told.send_replace(());
    }

    /// Reads what fits from now on; or what came after the record of this id: if that is not there any more, a
    /// [`NextNews::Lost`] and then all that is there.
    pub(super) fn read(self: &Arc<Self>, filter: AlertFilter, after: Option<&str>) -> NewsReader {
        let told = self.told.subscribe();
        let reel = self.reel.lock();
        let n = reel.items.len();
        let place = after.map(|id| reel.items.iter().rposition(|item| item.id == id).map(|place| place + 1));
        let (index, unknown) = match place {
            None => (n, false),
            Some(Some(place)) => (place, false),
            Some(None) => (0, true),
        };
        let at = reel.end - n as u64 + index as u64;
        drop(reel);
        NewsReader { news: Arc::clone(self), told, filter, at, unknown }
    }
}

/// A position in the news.
#[derive(Debug)]
pub struct NewsReader {
    news: Arc<News>,
    told: watch::Receiver<()>,
    filter: AlertFilter,
    at: u64,
    unknown: bool,
}

impl NewsReader {
    /// What is there to be read now; none when the reader has to wait.
    pub fn try_next(&mut self) -> Option<NextNews> {
        if std::mem::take(&mut self.unknown) {
            return Some(NextNews::Lost(None));
        }
        let reel = self.news.reel.lock();
        let begin = reel.end - reel.items.len() as u64;
        if self.at < begin {
            let n_lost = begin - self.at;
            self.at = begin;
            return Some(NextNews::Lost(Some(n_lost)));
        }
        while let Some(item) = reel.items.get((self.at - begin) as usize) {
            self.at += 1;
            if self.filter.fits(&item.facts) {
                return Some(NextNews::Item(Arc::clone(item)));
            }
        }
        reel.closed.then_some(NextNews::Closed)
    }

    /// Waits for the next. Loses nothing when dropped while waiting.
    pub async fn next(&mut self) -> NextNews {
        loop {
            if let Some(next) = self.try_next() {
                return next;
            }
            // The sender lives as long as the news, which this reader holds.
            if self.told.changed().await.is_err() {
                return NextNews::Closed;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(news: &News, range: std::ops::Range<u32>) {
        for n in range {
            let word = |w: &str| w.to_owned();
            let facts =
                Facts { stream: format!("s{}", n % 2), rule: word("r"), severity: word("info"), state: word("opened") };
            news.put(NewsItem { id: n.to_string(), json: String::new(), facts });
        }
    }

    fn all(reader: &mut NewsReader) -> Vec<String> {
        let text = |next| match next {
            NextNews::Item(item) => item.id.clone(),
            NextNews::Lost(n) => format!("lost {n:?}"),
            NextNews::Closed => "closed".into(),
        };
        let mut got = Vec::new();
        while let Some(next) = reader.try_next() {
            got.push(text(next));
            if got.last().is_some_and(|last| last == "closed") {
                break;
            }
        }
        got
    }

    #[test]
    fn readers() {
        let news = News::new(4);
        put(&news, 0..3);
        let mut now = news.read(AlertFilter::default(), None);
        let mut after = news.read(AlertFilter::default(), Some("1"));
        let mut unknown = news.read(AlertFilter::default(), Some("x"));
        let mut odd = news.read(AlertFilter { streams: vec!["s1".into()], ..AlertFilter::default() }, Some("0"));
        assert_eq!(all(&mut now), Vec::<String>::new());
        assert_eq!(all(&mut after), ["2"]);
        assert_eq!(all(&mut unknown), ["lost None", "0", "1", "2"]);
        assert_eq!(all(&mut odd), ["1"]);
        put(&news, 3..9);
        assert_eq!(all(&mut now), ["lost Some(2)", "5", "6", "7", "8"]);
        news.close();
        assert_eq!(all(&mut after), ["lost Some(2)", "5", "6", "7", "8", "closed"]);
        assert_eq!(all(&mut odd), ["lost Some(2)", "5", "7", "closed"]);
    }
}
