//! The newest analysed picture of one stream, for whoever asks. Held by reference, and only while somebody has asked lately;
//! made into a JPEG when asked for, once a picture.

use std::{sync::Arc, time::Duration};

use base::{media::Frame, time::Clock};
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::evidence::Picture;

/// Somebody who has asked within this time may ask again.
const LATELY: Duration = Duration::from_secs(10);

/// The picture.
pub struct Preview {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    /// Told of each picture that is held; the value says nothing.
    news: watch::Sender<()>,
}

#[derive(Default)]
struct State {
    /// When somebody asked last; none when that is long ago.
    asked_at: Option<Duration>,
    newest: Option<Frame>,
    /// Of this picture.
    jpeg: Option<(String, Bytes)>,
}

impl Preview {
    /// Without a picture yet.
    pub fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self { clock, state: Mutex::default(), news: watch::Sender::new(()) })
    }

    /// A picture was analysed. Never waits.
    pub fn see(&self, frame: &Frame) {
        let mut state = self.state.lock();
        let Some(asked_at) = state.asked_at else { return };
        // Whoever waits for the first one gets it, however long that takes.
        if state.newest.is_some() && self.clock.monotonic().saturating_sub(asked_at) > LATELY {
            *state = State::default();
            return;
        }
        state.newest = Some(frame.clone());
        drop(state);
        self.news.send_replace(());
    }

    /// The newest picture; none when there is none yet. From now on the next ones are held.
    pub fn ask(&self) -> Option<Frame> {
        let mut state = self.state.lock();
        state.asked_at = Some(self.clock.monotonic());
        state.newest.clone()
    }

    /// Changes with each picture that comes after somebody has asked.
    pub fn news(&self) -> watch::Receiver<()> {
        self.news.subscribe()
    }

    /// What tells a picture from all others.
    pub fn tag(frame: &Frame) -> String {
        format!("\"{}-{}\"", frame.session, frame.index)
    }

    /// The picture in the proportions of its source. Takes its time: not on an I/O thread.
    ///
    /// # Errors
    /// When it is too large for a JPEG.
    pub fn jpeg(&self, frame: &Frame) -> Result<Bytes, String> {
        let tag = Self::tag(frame);
        if let Some((_, jpeg)) = self.state.lock().jpeg.as_ref().filter(|(of, _)| *of == tag) {
            return Ok(jpeg.clone());
        }
        let picture = Picture::copy_of(&frame.image).in_proportion((frame.source_width, frame.source_height));
        let jpeg = Bytes::from(picture.jpeg()?);
        self.state.lock().jpeg = Some((tag, jpeg.clone()));
        Ok(jpeg)
    }
}

#[cfg(test)]
mod tests {
    use base::{
        media::{Image, PixelFormat, SessionId},
        time::{ManualClock, Pts},
    };

    use super::*;

    fn frame(index: u64) -> Frame {
        let image = Image { width: 4, height: 4, stride: 12, format: PixelFormat::Bgr8, data: vec![9; 48].into() };
        let (source_width, source_height) = (1920, 1080);
        let session = SessionId::derived([]);
        let (pts, decoded_at) = (Pts::from_millis(index), Duration::ZERO);
        Frame { session, index, pts, captured: None, decoded_at, source_width, source_height, image }
    }

    #[test]
    fn held_only_while_somebody_asks() {
        let clock = ManualClock::new();
        let preview = Preview::new(clock.clone());
        let news = preview.news();
        preview.see(&frame(0));
        assert!(preview.ask().is_none() && !news.has_changed().expect("sender"), "nobody had asked");
        clock.advance(LATELY * 6);
        // However late: it was asked for.
        preview.see(&frame(1));
        assert!(news.has_changed().expect("sender"));
        assert_eq!(preview.ask().map(|f| f.index), Some(1));
        preview.see(&frame(2));
        assert_eq!(preview.ask().map(|f| f.index), Some(2));
        preview.jpeg(&frame(2)).expect("jpeg");
        clock.advance(LATELY + Duration::from_millis(1));
        preview.see(&frame(3));
        let state = preview.state.lock();
        assert!(state.newest.is_none() && state.jpeg.is_none() && state.asked_at.is_none());
    }

    #[test]
    fn one_jpeg_a_picture_in_the_proportions_of_the_source() {
        let preview = Preview::new(ManualClock::new());
        let first = preview.jpeg(&frame(1)).expect("jpeg");
        assert_eq!(preview.jpeg(&frame(1)).expect("jpeg").as_ptr(), first.as_ptr());
        assert_ne!(preview.jpeg(&frame(2)).expect("jpeg").as_ptr(), first.as_ptr());
        assert_ne!(Preview::tag(&frame(1)), Preview::tag(&frame(2)));
        // Start of frame (ITU-T T.81, B.2.2): height and width follow length and precision.
        let at = first.windows(2).position(|w| w == [0xff, 0xc0]).expect("frame header");
        assert_eq!(first[at + 5..at + 9], [1, 104, 2, 128], "640 x 360");
    }
}
