//! Captions as text: WebVTT (W3C, "WebVTT: The Web Video Text Tracks Format") and SubRip (SRT). Pure functions.
//!
//! Each block ends with a blank line, so that whole blocks one after the other are a valid file at any moment. Times are
//! milliseconds of whatever timeline the caller has; a cue lasts at least 1 ms, because both formats ask for it.

use std::fmt::Write as _;

/// Ticks a millisecond of MPEG-2 transport streams, for `X-TIMESTAMP-MAP`.
const MPEG_TICKS_PER_MS: u64 = 90;
/// MPEG-2 timestamps have 33 bits.
const MPEG_WRAP: u64 = 1 << 33;

/// The begin of a WebVTT file.
pub const fn header() -> &'static str {
    "WEBVTT\n\n"
}

/// The begin of a WebVTT segment of an HLS rendition (RFC 8216, section 3.5): `local_ms` on the timeline of the cues is
/// `media_ms` on the timeline of the media, which are milliseconds that MPEG-2 timestamps count, wrapped at 33 bits.
pub fn header_with_map(local_ms: u64, media_ms: u64) -> String {
    let ticks = media_ms.wrapping_mul(MPEG_TICKS_PER_MS) % MPEG_WRAP;
    format!("WEBVTT\nX-TIMESTAMP-MAP=LOCAL:{},MPEGTS:{ticks}\n\n", time(local_ms))
}

/// One WebVTT cue. Lines without visible text are left out; a cue without any gives nothing. An empty `id` gives none.
pub fn cue(id: &str, start_ms: u64, end_ms: u64, lines: &[impl AsRef<str>]) -> String {
    let text: Vec<String> = lines.iter().filter_map(|line| one_line(line.as_ref())).map(|line| escape(&line)).collect();
    if text.is_empty() {
        return String::new();
    }
    let mut block = String::new();
    // An arrow in an id would make it a timing line.
    if let Some(id) = one_line(&id.replace("-->", "")) {
        block.push_str(&id);
        block.push('\n');
    }
    let end_ms = end_ms.max(start_ms + 1);
    let _never_fails = write!(block, "{} --> {}\n{}\n\n", time(start_ms), time(end_ms), text.join("\n"));
    block
}

/// A comment for people, on one line.
pub fn note(text: &str) -> String {
    one_line(&text.replace("-->", "")).map_or_else(String::new, |text| format!("NOTE {text}\n\n"))
}

/// `00:01:02.345`; hours have two digits or more.
pub fn time(ms: u64) -> String {
    clock(ms, '.')
}

/// `&`, `<` and `>` as WebVTT writes them; with them no text can hold an arrow or a tag.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// One SubRip cue; `number` counts from 1. The format has no escapes: what players would take for a tag, or a parser for
/// a time line, gets a blank put in.
pub fn srt_cue(number: u64, start_ms: u64, end_ms: u64, lines: &[impl AsRef<str>]) -> String {
    let text: Vec<String> = lines.iter().filter_map(|line| one_line(line.as_ref())).map(|line| plain(&line)).collect();
    if text.is_empty() {
        return String::new();
    }
    let end_ms = end_ms.max(start_ms + 1);
    format!("{number}\n{} --> {}\n{}\n\n", srt_time(start_ms), srt_time(end_ms), text.join("\n"))
}

/// `00:01:02,345`; hours have two digits or more.
pub fn srt_time(ms: u64) -> String {
    clock(ms, ',')
}

/// The end of a file's last cue in milliseconds, and the number of its cues; for both formats. Whatever is no cue is
/// passed over.
pub fn last_end_and_count(text: &str) -> (u64, u64) {
    let ends = text.lines().filter_map(|line| {
        let (start, end) = line.split_once(" --> ")?;
        parse_time(start)?;
        parse_time(end.split_whitespace().next()?)
    });
    ends.fold((0, 0), |(last, n), end| (end.max(last), n + 1))
}

fn clock(ms: u64, point: char) -> String {
    let (hours, minutes, secs, ms) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60, ms % 1000);
    format!("{hours:02}:{minutes:02}:{secs:02}{point}{ms:03}")
}

fn parse_time(text: &str) -> Option<u64> {
    let (whole, ms) = text.split_once(['.', ','])?;
    let secs = whole.split(':').try_fold(0_u64, |sum, part| sum.checked_mul(60)?.checked_add(part.parse().ok()?))?;
    (ms.len() == 3).then_some(())?;
    secs.checked_mul(1000)?.checked_add(ms.parse().ok()?)
}

/// Without line ends, other control characters, and blanks around it; none when nothing is left.
fn one_line(text: &str) -> Option<String> {
    // U+2028 and U+2029 end a line for some parsers.
    let ends_line = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
    let text = text.replace(ends_line, " ");
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

fn plain(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    for c in line.chars() {
        let opens = plain.ends_with('<') && (c.is_alphabetic() || c == '/') || plain.ends_with('{') && c == '\\';
        let arrow = plain.ends_with("--") && c == '>';
        if opens || arrow {
            plain.push(' ');
        }
        plain.push(c);
    }
    plain
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn times() {
        let check = |ms, vtt: &str| {
            assert_eq!(time(ms), vtt);
            assert_eq!(srt_time(ms), vtt.replace('.', ","));
            assert_eq!(parse_time(vtt), Some(ms));
            assert_eq!(parse_time(&vtt.replace('.', ",")), Some(ms));
        };
        check(0, "00:00:00.000");
        check(3_400, "00:00:03.400");
        check(62_345, "00:01:02.345");
        check(3_599_999, "00:59:59.999");
        check(360_000_000, "100:00:00.000");
        for wrong in ["", "1", "a:b.000", "00:00:01.5", "1:2:3:4:5:6:7:8:9:1:2:3:4:5:6:7.000x"] {
            assert_eq!(parse_time(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn blocks() {
        assert_eq!(
            cue("a-cue-3", 2010, 4800, &["and so my fellow Americans", "ask not"]),
            "a-cue-3\n00:00:02.010 --> 00:00:04.800\nand so my fellow Americans\nask not\n\n"
        );
        assert_eq!(
            srt_cue(7, 2010, 4800, &["and so", "ask not"]),
            "7\n00:00:02,010 --> 00:00:04,800\nand so\nask not\n\n"
        );
        // Nothing to read, nothing written; a line end in a text never ends the cue.
        assert_eq!(cue("x", 0, 1, &["", " \t"]), "");
        assert_eq!(srt_cue(1, 0, 1, &[] as &[&str]), "");
        assert_eq!(cue("", 5, 5, &["a\n\nb"]), "00:00:00.005 --> 00:00:00.006\na  b\n\n");
        assert_eq!(cue("a --> b", 0, 1, &["x"]), "a  b\n00:00:00.000 --> 00:00:00.001\nx\n\n");
        assert_eq!(
            cue("i", 0, 1000, &["<b>AT&T --> 5 < 6</b>"]),
            "i\n00:00:00.000 --> 00:00:01.000\n&lt;b&gt;AT&amp;T --&gt; 5 &lt; 6&lt;/b&gt;\n\n"
        );
        assert_eq!(
            srt_cue(1, 0, 1000, &[r"<b>x --> 5 < 6 {\an8}</b>"]),
            "1\n00:00:00,000 --> 00:00:01,000\n< b>x -- > 5 < 6 { \\an8}< /b>\n\n"
        );
        assert_eq!(note("began --> at\n5"), "NOTE began  at 5\n\n");
        assert_eq!(header_with_map(2000, 10_000), "WEBVTT\nX-TIMESTAMP-MAP=LOCAL:00:00:02.000,MPEGTS:900000\n\n");
        // 33 bits of 90 kHz are 26.5 hours.
        assert!(header_with_map(0, 95_443_718).ends_with("MPEGTS:28\n\n"));
    }

    /// What a parser that follows the specification gets: ids, times and texts. Panics where the file is no WebVTT.
    fn parse(file: &str) -> Vec<(String, u64, u64, String)> {
        let body = file.strip_prefix("WEBVTT\n\n").expect("header");
        let blocks = body.split("\n\n").filter(|block| !block.is_empty() && !block.starts_with("NOTE"));
        blocks
            .map(|block| {
                let lines: Vec<&str> = block.split('\n').collect();
                let at = lines.iter().position(|line| line.contains("-->")).expect("a time line");
                assert!(at <= 1, "{block}");
                let (start, end) = lines[at].split_once(" --> ").expect("an arrow");
                let text = lines[at + 1..].join("\n");
                assert!(!text.contains("-->") && !text.contains('<'), "{block}");
                let text = text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
                let time = |text| parse_time(text).expect("a time");
                (lines[..at].concat(), time(start), time(end), text)
            })
            .collect()
    }

    proptest! {
        /// Whatever is said comes back as it was, whole cues in order, and nothing else.
        #[test]
        fn any_text_comes_back(
            cues in prop::collection::vec(
                (prop::collection::vec(".{0,20}|(-->|<i>|&amp;|\n\n|NOTE|WEBVTT|[a-z ]){0,6}", 0..3), 0..10_000_u64, 0..5000_u64),
                0..8,
            )
        ) {
            let (mut file, mut srt, mut expected, mut at) = (header().to_owned(), String::new(), Vec::new(), 0);
            for (n, (lines, gap, length)) in cues.iter().enumerate() {
                let (start, end) = (at + gap, at + gap + length);
                file.push_str(&cue(&format!("s-cue-{n}"), start, end, lines));
                srt.push_str(&srt_cue(expected.len() as u64 + 1, start, end, lines));
                let lines: Vec<String> = lines.iter().filter_map(|line| one_line(line)).collect();
                if !lines.is_empty() {
                    expected.push((format!("s-cue-{n}"), start, end.max(start + 1), lines.join("\n")));
                }
                at = end + 1;
            }
            prop_assert_eq!(parse(&file), expected.clone());
            let last = expected.last().map_or(0, |cue| cue.2);
            prop_assert_eq!(last_end_and_count(&file), (last, expected.len() as u64));
            prop_assert_eq!(last_end_and_count(&srt), (last, expected.len() as u64));
            let numbers: Vec<&str> = srt.split("\n\n").filter_map(|block| block.split('\n').next()).filter(|n| !n.is_empty()).collect();
            let counted: Vec<String> = (1..=expected.len()).map(|n| n.to_string()).collect();
            prop_assert_eq!(numbers, counted);
        }
    }
}
