//! Sound that a client sends in (`/v1/transcribe`): an ear in the speech pool without a stream behind it.
//!
//! Called on the HTTP service's threads, where it never waits; what is heard comes back on the pool's threads.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use base::{
    event::{Body, Event, Gap},
    media::{AudioChunk, SessionId, StreamInfo, StreamName},
    time::{CaptureTime, Clock, ClockQuality, Pts},
};
use inference::speech::{
    Heard,
    config::SpeechConfig,
    pool::{Ear, EarPolicy, SpeechPool},
};

use crate::http::{SpeechInput, SpeechOutput, SpeechPort, SpeechRefused, SpeechRequest};

/// Opens ears for clients.
pub struct Dictation {
    pool: Arc<SpeechPool>,
    speech: SpeechConfig,
    clock: Arc<dyn Clock>,
    n_sessions: AtomicU64,
}

impl Dictation {
    /// Clients are listened to by this pool, with these settings.
    pub fn new(pool: Arc<SpeechPool>, speech: SpeechConfig, clock: Arc<dyn Clock>) -> Self {
        Self { pool, speech, clock, n_sessions: AtomicU64::new(0) }
    }
}

impl SpeechPort for Dictation {
    fn open(&self, request: &SpeechRequest, output: SpeechOutput) -> Result<Box<dyn SpeechInput>, SpeechRefused> {
        let language = request.language.clone().unwrap_or_else(|| self.speech.language.clone());
        let speech = SpeechConfig { language, ..self.speech.clone() };
        let number = self.n_sessions.fetch_add(1, Relaxed);
        let unsupported = |e: &dyn ToString| SpeechRefused::Unsupported(e.to_string());
        let name = StreamName::new(&format!("transcribe-{number}")).map_err(|e| unsupported(&e))?;
        let info = Arc::new(StreamInfo { name: name.clone(), tags: Default::default(), epoch: None });
        let began = self.clock.wall();
        let session = SessionId::live(began);
        let (mut n_transcripts, mut n_gaps) = (0, 0);
        let on_heard = move |heard| {
            let event = match heard {
                Heard::Words { session, pts, captured, transcript } => {
                    n_transcripts += 1;
                    Event::new(&info, &session, n_transcripts - 1, pts, captured, Body::Transcript(transcript))
                }
                Heard::Gap { session, from, to, reason, detail } => {
                    n_gaps += 1;
                    let body = Body::Gap(Gap { from, to, reason, n_frames_dropped: None, detail: Some(detail) });
                    Event::new(&info, &session, n_gaps - 1, from, None, body)
                }
                Heard::Until { .. } => return,
            };
            output.publish(&Arc::new(event));
        };
        let ear = self.pool.ear(name, EarPolicy::Paced, &speech, Box::new(on_heard)).map_err(|e| unsupported(&e))?;
        let captured = CaptureTime { at: began, quality: ClockQuality::Arrival };
        Ok(Box::new(Dictated { ear: Some(ear), session, captured, n_samples: 0 }))
    }
}

/// The sound of one client.
struct Dictated {
    /// Taken at the end only.
    ear: Option<Ear>,
    session: SessionId,
    /// When the session began.
    captured: CaptureTime,
    n_samples: u64,
}

impl SpeechInput for Dictated {
    fn push(&mut self, samples: Arc<[f32]>) -> Result<(), String> {
        let Some(ear) = &self.ear else { return Err("the session is over".into()) };
        let since = Duration::from_nanos(self.n_samples * 1_000_000_000 / u64::from(AudioChunk::SAMPLE_RATE));
        self.n_samples += samples.len() as u64;
        ear.push(AudioChunk {
            session: self.session.clone(),
            pts: Pts::from_nanos(since.as_nanos() as u64),
            captured: Some(CaptureTime { at: self.captured.at + since, ..self.captured }),
            samples,
            discontinuity: false,
        });
        Ok(())
    }

    fn lag(&self) -> Duration {
        self.ear.as_ref().map_or(Duration::ZERO, |ear| ear.reading().waiting)
    }

    fn end(mut self: Box<Self>) {
        if let Some(ear) = self.ear.take() {
            ear.finish();
        }
    }
}

impl Drop for Dictated {
    fn drop(&mut self) {
        if let Some(ear) = self.ear.take() {
            ear.abandon();
        }
    }
}
