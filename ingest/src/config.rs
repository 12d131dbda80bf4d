//! What a user can set about a source and about how much of it is looked at. Plain data, no thread of its own.
//!
//! Must never hold a secret: user and password belong to the URL, which redacts itself.

use std::{sync::Arc, time::Duration};

use base::{
    media::{PictureRequest, SessionId, StreamInfo},
    redact::SourceUrl,
    time::{Clock, Pts},
};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

use crate::{error::IngestError, relay::Relay, timeline::Track};

/// How a source is connected to. The address, user and password are in the stream's URL.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SourceConfig {
    /// How RTSP media is carried: `auto` (TCP first, then UDP), `tcp` or `udp`.
    pub transport: RtspTransport,
    /// Milliseconds that packets of a network source wait for late ones. More is smoother, less is sooner.
    #[schemars(range(max = 60000))]
    pub latency_ms: u32,
    /// Seconds a source may take from the first try to connect to its first picture or sound.
    #[serde(deserialize_with = "seconds")]
    pub connect_timeout_secs: f64,
    /// Seconds without any media after which a source counts as frozen and is connected to anew.
    #[serde(deserialize_with = "seconds")]
    pub stall_timeout_secs: f64,
    /// How the certificate of an encrypted source (`rtsps`, `https`) is checked.
    pub tls_verify: TlsVerify,
    /// How long to wait between tries after an outage.
    pub reconnect: Reconnect,
}

impl Default for SourceConfig {
    fn default() -> Self {
        Self {
            transport: RtspTransport::default(),
            latency_ms: 200,
            connect_timeout_secs: 10.0,
            stall_timeout_secs: 10.0,
            tls_verify: TlsVerify::default(),
            reconnect: Reconnect::default(),
        }
    }
}

impl SourceConfig {
    /// `connect_timeout_secs` as a duration.
    pub fn connect_timeout(&self) -> Duration {
        duration(self.connect_timeout_secs)
    }

    /// `stall_timeout_secs` as a duration.
    pub fn stall_timeout(&self) -> Duration {
        duration(self.stall_timeout_secs)
    }
}

/// How RTSP media is carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RtspTransport {
    /// TCP first; where that fails, UDP at the next try, and so on in turn.
    #[default]
    Auto,
    /// Inside the RTSP connection (RFC 2326, section 10.12): no packet is lost, passes firewalls.
    Tcp,
    /// Datagrams beside the RTSP connection: a slow network loses pictures instead of delaying them.
    Udp,
}

/// How the certificate of an encrypted source is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TlsVerify {
    /// It must be signed by an authority that this machine trusts, for the host in the URL.
    #[default]
    Strict,
    /// Any certificate will do, self-signed ones of cameras too: encrypted, but anyone may pose as the camera.
    AcceptAny,
}

/// Waits between tries: `initial_secs`, doubled after each failure up to `max_secs`, each made up to a fifth shorter or
/// longer by chance so that many streams of one server do not return in the same instant.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Reconnect {
    /// Seconds before the first new try.
    #[serde(deserialize_with = "seconds")]
    pub initial_secs: f64,
    /// Seconds between tries at most.
    #[serde(deserialize_with = "seconds")]
    pub max_secs: f64,
}

impl Default for Reconnect {
    fn default() -> Self {
        Self { initial_secs: 1.0, max_secs: 30.0 }
    }
}

impl Reconnect {
    /// Wait before the try that follows `n_failures` failures in a row (1 or more). `chance` is 0..1.
    pub(crate) fn wait(&self, n_failures: u32, chance: f64) -> Duration {
        let doubled = self.initial_secs * 2f64.powi(n_failures.saturating_sub(1).min(30) as i32);
        duration(doubled.min(self.max_secs) * (0.8 + 0.4 * chance))
    }
}

/// Which decoded pictures go to the model. In TOML: `"all"`, `"keyframes"`, `{ every_nth = 3 }` or `{ fps = 5.0 }`.
#[derive(Debug, Clone, Copy, PartialEq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Sampling {
    /// Every picture.
    #[default]
    All,
    /// Pictures 0, N, 2N... of a session.
    EveryNth(
        #[serde(deserialize_with = "every_nth")]
        #[schemars(range(min = 1))]
        u32,
    ),
    /// So many a second of stream time, at most as many as there are.
    Fps(#[serde(deserialize_with = "fps")] f64),
    /// Only pictures that stand for themselves; the others are not even decoded, which costs a fraction.
    Keyframes,
}

impl Sampling {
    /// Refuses what cannot be meant; deserialisation has done so already.
    pub fn check(self) -> Result<(), IngestError> {
        let cause = match self {
            Self::EveryNth(0) => BAD_NTH,
            Self::Fps(f) if !(f.is_finite() && f > 0.0) => BAD_FPS,
            _ => return Ok(()),
        };
        Err(IngestError::BadSampling { cause })
    }
}

const BAD_NTH: &str = "every_nth must be 1 or more: 1 is every picture, 2 every second one";
const BAD_FPS: &str = "fps must be a number above 0, such as 5.0 or 0.2 (one picture in five seconds)";

fn every_nth<'de, D: Deserializer<'de>>(de: D) -> Result<u32, D::Error> {
    let n = i64::deserialize(de)?;
    u32::try_from(n).ok().filter(|n| *n > 0).ok_or_else(|| D::Error::custom(BAD_NTH))
}

fn fps<'de, D: Deserializer<'de>>(de: D) -> Result<f64, D::Error> {
    let f = f64::deserialize(de)?;
    if f.is_finite() && f > 0.0 { Ok(f) } else { Err(D::Error::custom(BAD_FPS)) }
}

/// A day: longer waits are typing errors.
const MAX_SECONDS: f64 = 86_400.0;

fn seconds<'de, D: Deserializer<'de>>(de: D) -> Result<f64, D::Error> {
    let s = f64::deserialize(de)?;
    if s > 0.0 && s <= MAX_SECONDS {
        Ok(s)
    } else {
        Err(D::Error::custom("must be a number of seconds above 0 and at most 86400 (a day)"))
    }
}

fn duration(seconds: f64) -> Duration {
    Duration::from_secs_f64(if seconds.is_finite() { seconds.clamp(0.001, MAX_SECONDS) } else { MAX_SECONDS })
}

/// Whether a source is followed as it happens or worked off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// In real time, for ever: the consumer never blocks, an outage is healed by reconnecting, recordings are played at
    /// their own speed, media without a date gets the time of its arrival.
    Live,
    /// As fast as the consumer takes it, once: the consumer may block, an outage is a failure, media without a date has
    /// no capture time, so that the same recording gives the same frames and chunks whenever it is run.
    Batch,
}

/// How the encoded media is cut. Carried are H.264 pictures and AAC sound; other sound is left out, of other pictures there
/// are no segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentOptions {
    /// Length that is aimed at. Cuts are made at keyframes only: a source with few of them gives longer segments.
    pub target: Duration,
}

impl Default for SegmentOptions {
    fn default() -> Self {
        Self { target: Duration::from_secs(2) }
    }
}

/// Where an earlier run left a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StartAt {
    /// The source's own time up to which it was analysed: a PTS of a session that was told to be resumable. The first
    /// picture handed on is the first after it. Compared in whole milliseconds, so that it may have been rounded down.
    pub position: Pts,
}

/// What one stream's ingest is to do.
#[derive(Debug, Clone)]
pub struct StreamOptions {
    /// Name and tags.
    pub info: Arc<StreamInfo>,
    /// Where the media is.
    pub url: SourceUrl,
    /// How to connect.
    pub source: SourceConfig,
    /// Which pictures to hand on.
    pub sampling: Sampling,
    /// The picture the model wants; none to leave pictures alone, which then are not decoded.
    pub video: Option<PictureRequest>,
    /// Whether sound is wanted; if not it is not decoded (of RTSP sources not even transmitted).
    pub audio: bool,
    /// The encoded media as well, in segments that a player can show; none to leave that. Costs no decoding and no
    /// encoding. Sources whose codecs cannot be carried (see [`SegmentOptions`]) give none.
    pub segments: Option<SegmentOptions>,
    /// Takes the encoded media as they come, of the tracks that are fetched anyway; none where nobody can watch.
    pub relay: Option<Arc<Relay>>,
    /// Live or batch.
    pub mode: Mode,
    /// Go on where an earlier run left off; live mode only. What cannot be resumed begins anew, and says so.
    pub start_at: Option<StartAt>,
    /// Id of the one session in batch mode; none for a random one. Live sessions always make their own.
    pub session: Option<SessionId>,
    /// The clocks.
    pub clock: Arc<dyn Clock>,
}

impl StreamOptions {
    /// Whether a track is of use, be it only to be handed on encoded.
    pub(crate) fn wants(&self, track: Track) -> bool {
        self.segments.is_some() || self.decodes(track)
    }

    /// Whether a track is to be decoded.
    pub(crate) fn decodes(&self, track: Track) -> bool {
        match track {
            Track::Video => self.video.is_some(),
            Track::Audio => self.audio,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    struct Wrap {
        sampling: Sampling,
    }

    #[test]
    fn sampling_in_toml() {
        let check = |text: &str, expected: Sampling| {
            let wrap: Wrap = toml::from_str(&format!("sampling = {text}")).expect(text);
            assert_eq!(wrap.sampling, expected);
            assert!(wrap.sampling.check().is_ok());
        };
        check("\"all\"", Sampling::All);
        check("\"keyframes\"", Sampling::Keyframes);
        check("{ every_nth = 3 }", Sampling::EveryNth(3));
        check("{ fps = 0.5 }", Sampling::Fps(0.5));
        let refuse = |text: &str, part: &str| {
            let error = toml::from_str::<Wrap>(&format!("sampling = {text}")).expect_err(text).to_string();
            assert!(error.contains(part), "{error}");
        };
        refuse("{ every_nth = 0 }", "1 or more");
        refuse("{ every_nth = -1 }", "1 or more");
        refuse("{ fps = 0.0 }", "above 0");
        refuse("{ fps = nan }", "above 0");
        refuse("\"some\"", "unknown variant");
        assert!(Sampling::Fps(f64::NAN).check().is_err() && Sampling::EveryNth(0).check().is_err());
    }

    #[test]
    fn source_in_toml() {
        let config: SourceConfig =
            toml::from_str("transport = \"udp\"\ntls_verify = \"accept_any\"\n[reconnect]\nmax_secs = 5.0")
                .expect("toml");
        assert_eq!((config.transport, config.tls_verify), (RtspTransport::Udp, TlsVerify::AcceptAny));
        assert_eq!((config.reconnect.initial_secs, config.reconnect.max_secs), (1.0, 5.0));
        for (text, part) in [
            ("stall_timeout_secs = 0.0", "above 0"),
            ("stall_timeout_secs = inf", "above 0"),
            ("password = \"x\"", "unknown field"),
        ] {
            let error = toml::from_str::<SourceConfig>(text).expect_err(text).to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn schema_speaks_the_same_words() {
        let schema = serde_json::to_string(&schemars::schema_for!(Sampling)).expect("schema");
        for word in ["every_nth", "fps", "keyframes", "all"] {
            assert!(schema.contains(word), "{schema}");
        }
    }

    #[test]
    fn waits_double_up_to_the_most() {
        let reconnect = Reconnect { initial_secs: 1.0, max_secs: 30.0 };
        let check = |n, chance, ms| assert_eq!(reconnect.wait(n, chance).as_millis(), ms, "{n} {chance}");
        check(1, 0.5, 1000);
        check(2, 0.5, 2000);
        check(1, 0.0, 800);
        check(5, 0.5, 16_000);
        check(6, 0.5, 30_000);
        check(u32::MAX, 0.999_999, 35_999);
    }
}
