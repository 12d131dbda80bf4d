//! Playlists as text (RFC 8216). Pure.

use std::fmt::Write as _;

use super::{HlsConfig, window::Window};

/// Which of a stream's two media playlists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rendition {
    /// Pictures and sound.
    Video,
    /// Subtitles.
    Captions,
}

/// English names of the languages that speech models know best; others go by their code.
const LANGUAGES: &[(&str, &str)] = &[
    ("ar", "Arabic"),
    ("de", "German"),
    ("en", "English"),
    ("es", "Spanish"),
    ("fr", "French"),
    ("hi", "Hindi"),
    ("it", "Italian"),
    ("ja", "Japanese"),
    ("ko", "Korean"),
    ("nl", "Dutch"),
    ("pl", "Polish"),
    ("pt", "Portuguese"),
    ("ru", "Russian"),
    ("tr", "Turkish"),
    ("uk", "Ukrainian"),
    ("zh", "Chinese"),
];

/// `text` as an attribute's quoted string, which has neither quotes nor line breaks (section 4.2).
fn quoted(text: &str) -> String {
    let text: String = text.chars().filter(|c| !c.is_control() && *c != '"').collect();
    format!("\"{text}\"")
}

/// The master playlist; none before the first segment. `query` is put behind each address.
pub(super) fn master(window: &Window, config: &HlsConfig, query: &str) -> Option<String> {
    let newest = &window.shown(config).last()?.segment;
    let mut text = String::from("#EXTM3U\n#EXT-X-VERSION:3\n");
    if let Some(captioned) = &window.captioned {
        let code = captioned.language.as_deref();
        let name = code.map_or("Captions", |code| LANGUAGES.iter().find(|l| l.0 == code).map_or(code, |l| l.1));
        let language = code.map_or_else(String::new, |code| format!(",LANGUAGE={}", quoted(code)));
        let _ = writeln!(
            text,
            "#EXT-X-MEDIA:TYPE=SUBTITLES,GROUP-ID=\"captions\",NAME={}{language},DEFAULT=YES,AUTOSELECT=YES,FORCED=NO,\
             CHARACTERISTICS=\"public.accessibility.transcribes-spoken-dialog,public.accessibility.describes-music-and-sound\",\
             URI=\"captions.m3u8{query}\"",
            quoted(name)
        );
    }
    let (bits, time) = window.total;
    let average = (bits as f64 / time.as_secs_f64().max(0.1)) as u64;
    let _ = write!(
        text,
        "#EXT-X-STREAM-INF:BANDWIDTH={},AVERAGE-BANDWIDTH={average},CODECS={}",
        window.peak_bandwidth,
        quoted(&newest.codecs)
    );
    if let Some((width, height)) = newest.size {
        let _ = write!(text, ",RESOLUTION={width}x{height}");
    }
    if window.captioned.is_some() {
        text.push_str(",SUBTITLES=\"captions\"");
    }
    let _ = write!(text, "\nvideo.m3u8{query}\n");
    Some(text)
}

/// A media playlist; none before the first segment, or of captions where there are none.
pub(super) fn media(window: &Window, config: &HlsConfig, rendition: Rendition, query: &str) -> Option<String> {
    if rendition == Rendition::Captions && window.captioned.is_none() {
        return None;
    }
    let first = window.shown(config).next()?;
    let mut text = format!(
        "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:{}\n#EXT-X-MEDIA-SEQUENCE:{}\n#EXT-X-DISCONTINUITY-SEQUENCE:{}\n",
        window.target_secs, first.sequence, first.n_discontinuities
    );
    let ending = match rendition {
        Rendition::Video => "ts",
        Rendition::Captions => "vtt",
    };
    for entry in window.shown(config) {
        let segment = &entry.segment;
        if entry.discontinuity {
            text.push_str("#EXT-X-DISCONTINUITY\n");
        }
        if let Some(captured) = segment.captured {
            let _ = writeln!(text, "#EXT-X-PROGRAM-DATE-TIME:{:.3}", captured.at);
        }
        let (seconds, session, number) = (segment.duration.as_secs_f64(), &segment.session, segment.number);
        let _ = write!(text, "#EXTINF:{seconds:.6},\n{session}-{number}.{ending}{query}\n");
    }
    if window.ended() {
        text.push_str("#EXT-X-ENDLIST\n");
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use base::{
        media::SessionId,
        time::{CaptureTime, ClockQuality, Pts, Timestamp},
    };

    use super::{
        super::window::{Captioned, samples::segment},
        *,
    };

    #[test]
    fn nothing_before_the_first_segment() {
        let (window, config) = (Window::default(), HlsConfig::default());
        assert_eq!(master(&window, &config, ""), None);
        assert_eq!(media(&window, &config, Rendition::Video, ""), None);
    }

    #[test]
    fn texts() {
        let config = HlsConfig::default();
        let mut window = Window::new(Some(Captioned::default()));
        window.settle(&SessionId::derived([b"a".as_slice()]), Pts::from_millis(1_000_000));
        for n in 0..9 {
            let mut segment = segment("a", n);
            segment.discontinuity = n == 2 || n == 4;
            let at = Timestamp::from_second(1_800_000_000 + 2 * n as i64).expect("time");
            segment.captured = (n > 6).then_some(CaptureTime { at, quality: ClockQuality::Ntp });
            if n == 8 {
                segment.duration = Duration::from_millis(2640);
            }
            window.push(segment, Duration::ZERO, &config);
        }
        window.over = true;
        window.settle(&SessionId::derived([b"a".as_slice()]), Pts::from_millis(2_000_000));
        window.advance(Duration::ZERO, &config);
        window.captioned.as_mut().expect("captioned").language = Some("en".into());
        let id = SessionId::derived([b"a".as_slice()]);
        let expected = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:3\n#EXT-X-MEDIA-SEQUENCE:3\n\
             #EXT-X-DISCONTINUITY-SEQUENCE:1\n\
             #EXTINF:2.000000,\nID-3.vtt?t=1\n\
             #EXT-X-DISCONTINUITY\n#EXTINF:2.000000,\nID-4.vtt?t=1\n\
             #EXTINF:2.000000,\nID-5.vtt?t=1\n\
             #EXTINF:2.000000,\nID-6.vtt?t=1\n\
             #EXT-X-PROGRAM-DATE-TIME:2027-01-15T08:00:14.000Z\n#EXTINF:2.000000,\nID-7.vtt?t=1\n\
             #EXT-X-PROGRAM-DATE-TIME:2027-01-15T08:00:16.000Z\n#EXTINF:2.640000,\nID-8.vtt?t=1\n\
             #EXT-X-ENDLIST\n"
            .replace("ID", id.as_str());
        assert_eq!(media(&window, &config, Rendition::Captions, "?t=1").as_deref(), Some(expected.as_str()));
        let video = media(&window, &config, Rendition::Video, "").expect("playlist");
        assert_eq!(video, expected.replace(".vtt?t=1", ".ts"));
        let expected = "#EXTM3U\n#EXT-X-VERSION:3\n\
             #EXT-X-MEDIA:TYPE=SUBTITLES,GROUP-ID=\"captions\",NAME=\"English\",LANGUAGE=\"en\",DEFAULT=YES,AUTOSELECT=YES,\
             FORCED=NO,CHARACTERISTICS=\"public.accessibility.transcribes-spoken-dialog,\
             public.accessibility.describes-music-and-sound\",URI=\"captions.m3u8?t=1\"\n\
             #EXT-X-STREAM-INF:BANDWIDTH=4000,AVERAGE-BANDWIDTH=3862,CODECS=\"avc1.64001f,mp4a.40.2\",RESOLUTION=768x576,\
             SUBTITLES=\"captions\"\nvideo.m3u8?t=1\n";
        assert_eq!(master(&window, &config, "?t=1").as_deref(), Some(expected));
        window.captioned = None;
        let plain = master(&window, &config, "").expect("master");
        assert!(!plain.contains("SUBTITLES") && plain.ends_with("768x576\nvideo.m3u8\n"), "{plain}");
        assert_eq!(media(&window, &config, Rendition::Captions, ""), None);
    }
}
