//! H.264 as it comes out of a parser, made into what a transport stream carries: Annex B with an access unit delimiter
//! before each picture and the parameter sets before each keyframe (ISO/IEC 14496-10, annex B; ISO/IEC 13818-1, 2.14).
//! Pure arithmetic on bytes; never reads past what it was given, whatever that is.

use gstreamer as gst;

/// NAL unit types (ISO/IEC 14496-10, table 7-1).
const SLICE: u8 = 1;
const IDR: u8 = 5;
const SPS: u8 = 7;
const PPS: u8 = 8;
const DELIMITER: u8 = 9;

const START: [u8; 4] = [0, 0, 0, 1];
/// Any slice type may follow.
const ANY_PICTURE: [u8; 6] = [0, 0, 0, 1, DELIMITER, 0xf0];

/// How the NAL units of a picture are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    /// Start codes before them.
    AnnexB,
    /// Their length before them, in so many bytes (ISO/IEC 14496-15, 5.3.3).
    Length(usize),
}

/// One track's way of writing H.264, and the parameter sets that came last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct H264 {
    framing: Framing,
    sps: Vec<u8>,
    pps: Vec<Vec<u8>>,
}

impl H264 {
    /// From the caps of a parsed track; the reason in words when it is no H.264 that can be carried.
    pub(crate) fn from_caps(media: &gst::StructureRef) -> Result<Self, &'static str> {
        if media.name() != "video/x-h264" {
            return Err("its pictures are not H.264");
        }
        if media.get::<&str>("alignment").is_ok_and(|a| a != "au") {
            return Err("its pictures come in parts");
        }
        match media.get::<&str>("stream-format") {
            Ok("byte-stream") => Ok(Self { framing: Framing::AnnexB, sps: Vec::new(), pps: Vec::new() }),
            Ok("avc" | "avc3") => {
                let data = media.get::<gst::Buffer>("codec_data").map_err(|_| "its parameter sets are missing")?;
                let map = data.map_readable().map_err(|_| "its parameter sets cannot be read")?;
                Self::from_avcc(&map).ok_or("its parameter sets are damaged")
            }
            _ => Err("its pictures are framed in a way that nobody knows"),
        }
    }

    /// From an `AVCDecoderConfigurationRecord` (ISO/IEC 14496-15, 5.3.3.1).
    fn from_avcc(data: &[u8]) -> Option<Self> {
        let n_bytes = usize::from(data.get(4)? & 3) + 1;
        let mut rest = data.get(5..)?;
        let mut sets = |mask: u8| -> Option<Vec<Vec<u8>>> {
            let (n, mut tail) = rest.split_first()?;
            let mut sets = Vec::new();
            for _ in 0..n & mask {
                let (length, after) = tail.split_first_chunk::<2>()?;
                let (set, after) = after.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
                sets.push(set.to_vec());
                tail = after;
            }
            rest = tail;
            Some(sets)
        };
        // `avc3` may leave both to the pictures.
        let sps = sets(0x1f)?.into_iter().next().unwrap_or_default();
        let pps = sets(0xff)?;
        Some(Self { framing: Framing::Length(n_bytes), sps, pps })
    }

    /// Whether `newer` says nothing that is not known: parameter sets that came with the pictures stay.
    pub(crate) fn covers(&self, newer: &Self) -> bool {
        self == newer || self.framing == newer.framing && newer.sps.is_empty()
    }

    /// One picture in Annex B, and whether the parameter sets before it are other ones than before. None when it is
    /// damaged, or a keyframe whose parameter sets nobody knows.
    pub(super) fn picture(&mut self, unit: &[u8], key: bool) -> Option<(Vec<u8>, bool)> {
        let mut out = Vec::with_capacity(unit.len() + 128);
        out.extend_from_slice(&ANY_PICTURE);
        let (mut sps, mut pps) = (None, Vec::new());
        let mut head = Vec::new();
        // Units before the first slice are looked at, the slices themselves are copied as they are.
        let mut rest = unit;
        let mut slices = false;
        while !slices {
            let Some((nal, after)) = self.next(rest) else { break };
            match nal.first().map(|b| b & 0x1f) {
                Some(SPS) => sps = Some(nal.to_vec()),
                Some(PPS) => pps.push(nal.to_vec()),
                Some(DELIMITER) | None => {}
                Some(kind) => {
                    slices = (SLICE..=IDR).contains(&kind);
                    if !slices {
                        head.push(nal);
                    }
                }
            }
            if !slices {
                rest = after;
            }
        }
        if !slices {
            return None;
        }
        let mut changed = false;
        if let Some(sps) = sps {
            changed = !self.sps.is_empty() && self.sps != sps;
            self.sps = sps;
        }
        if !pps.is_empty() {
            self.pps = pps.clone();
        }
        if key {
            if self.sps.len() < 4 || self.pps.is_empty() {
                return None;
            }
            for set in std::iter::once(&self.sps).chain(&self.pps) {
                out.extend_from_slice(&START);
                out.extend_from_slice(set);
            }
        } else {
            for set in &pps {
                out.extend_from_slice(&START);
                out.extend_from_slice(set);
            }
        }
        for nal in head {
            out.extend_from_slice(&START);
            out.extend_from_slice(nal);
        }
        match self.framing {
            Framing::AnnexB => out.extend_from_slice(rest),
            Framing::Length(_) => {
                while let Some((nal, after)) = self.next(rest) {
                    out.extend_from_slice(&START);
                    out.extend_from_slice(nal);
                    rest = after;
                }
            }
        }
        Some((out, changed))
    }

    /// The first NAL unit of `data` and what comes after it. In Annex B, `rest` begins with a start code or nothing does.
    fn next<'a>(&self, data: &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
        match self.framing {
            Framing::Length(n) => {
                let (length, after) = data.split_at_checked(n)?;
                let length = length.iter().fold(0usize, |sum, b| sum << 8 | usize::from(*b));
                after.split_at_checked(length)
            }
            Framing::AnnexB => {
                let nal = data.get(start_code(data)? + 3..)?;
                // A slice is long and the last thing that is asked for: its end does not matter.
                if nal.first().is_some_and(|b| (SLICE..=IDR).contains(&(b & 0x1f))) {
                    return Some((nal, &[]));
                }
                let end = start_code(nal).unwrap_or(nal.len());
                // A zero byte before the next start code belongs to that.
                let (nal, after) = nal.split_at(end);
                let n = nal.iter().rposition(|b| *b != 0).map_or(0, |at| at + 1);
                Some((&nal[..n], after))
            }
        }
    }

    /// As in RFC 6381, section 3.3: `avc1.` and profile, constraints and level in hexadecimal digits.
    pub(crate) fn codec(&self) -> Option<String> {
        let [_, profile, constraints, level, ..] = self.sps[..] else { return None };
        Some(format!("avc1.{profile:02x}{constraints:02x}{level:02x}"))
    }
}

/// For those who carry the parameter sets beside the pictures (ISO/IEC 14496-15).
impl H264 {
    /// Learns the parameter sets of a keyframe; whether they are other ones than before.
    pub(crate) fn learn(&mut self, unit: &[u8]) -> bool {
        let (mut sps, mut pps) = (None, Vec::new());
        let mut rest = unit;
        while let Some((nal, after)) = self.next(rest) {
            match nal.first().map(|b| b & 0x1f) {
                Some(SPS) => sps = Some(nal.to_vec()),
                // Some send them twice.
                Some(PPS) if !pps.iter().any(|known| known == nal) => pps.push(nal.to_vec()),
                Some(SLICE..=IDR) => break,
                _ => {}
            }
            rest = after;
        }
        let before = (self.sps.clone(), self.pps.clone());
        if let Some(sps) = sps {
            self.sps = sps;
        }
        if !pps.is_empty() {
            self.pps = pps;
        }
        !before.0.is_empty() && before != (self.sps.clone(), self.pps.clone())
    }

    /// One picture with the length of each NAL unit before it, four bytes, and without delimiters; of a keyframe also
    /// without parameter sets, which stand in [`Self::config`].
    pub(crate) fn sample(&self, unit: &[u8], key: bool) -> Vec<u8> {
        let mut out = Vec::with_capacity(unit.len() + 64);
        let mut put = |nal: &[u8]| match nal.first().map(|b| b & 0x1f) {
            None | Some(DELIMITER) => {}
            Some(SPS | PPS) if key => {}
            Some(_) => {
                out.extend_from_slice(&u32::try_from(nal.len()).unwrap_or(u32::MAX).to_be_bytes());
                out.extend_from_slice(nal);
            }
        };
        match self.framing {
            Framing::Length(_) => {
                let mut rest = unit;
                while let Some((nal, after)) = self.next(rest) {
                    put(nal);
                    rest = after;
                }
            }
            Framing::AnnexB => {
                let mut rest = start_code(unit).and_then(|at| unit.get(at + 3..));
                while let Some(nals) = rest {
                    let end = start_code(nals);
                    let nal = &nals[..end.unwrap_or(nals.len())];
                    // Zero bytes at its end belong to the next start code, or are padding.
                    put(&nal[..nal.iter().rposition(|b| *b != 0).map_or(0, |at| at + 1)]);
                    rest = end.and_then(|at| nals.get(at + 3..));
                }
            }
        }
        out
    }

    /// The `AVCDecoderConfigurationRecord` (ISO/IEC 14496-15, 5.3.3.1); none before both parameter sets are known.
    pub(crate) fn config(&self) -> Option<Vec<u8>> {
        let [_, profile, constraints, level, ..] = self.sps[..] else { return None };
        let n_pps = u8::try_from(self.pps.len()).ok().filter(|n| *n > 0)?;
        // Lengths of four bytes; one sequence parameter set.
        let mut out = vec![1, profile, constraints, level, 0xff, 0xe1];
        let set = |out: &mut Vec<u8>, set: &[u8]| {
            out.extend_from_slice(&u16::try_from(set.len()).unwrap_or(u16::MAX).to_be_bytes());
            out.extend_from_slice(set);
        };
        set(&mut out, &self.sps);
        out.push(n_pps);
        self.pps.iter().for_each(|pps| set(&mut out, pps));
        if matches!(profile, 100 | 110 | 122 | 144) {
            let [chroma, luma_depth, chroma_depth] = colours(&self.sps)?;
            out.extend_from_slice(&[0xfc | chroma, 0xf8 | luma_depth, 0xf8 | chroma_depth, 0]);
        }
        Some(out)
    }
}

/// Chroma format and bit depths less 8 of a sequence parameter set of the high profiles (ISO/IEC 14496-10, 7.3.2.1.1).
fn colours(sps: &[u8]) -> Option<[u8; 3]> {
    let bytes = sps.get(4..)?;
    let mut at = 0;
    let mut bit = || {
        let bit = bytes.get(at / 8)? >> (7 - at % 8) & 1;
        at += 1;
        Some(u32::from(bit))
    };
    // Exp-Golomb (9.1). These are small numbers: no emulation prevention byte comes between them.
    let mut number = |skip: u32| {
        for _ in 0..skip {
            bit()?;
        }
        let mut n_zeros = 0;
        while bit()? == 0 {
            n_zeros += 1;
        }
        let mut value = 1;
        for _ in 0..u32::min(n_zeros, 31) {
            value = value << 1 | bit()?;
        }
        u8::try_from(value - 1).ok()
    };
    number(0)?;
    let chroma = number(0).filter(|n| *n <= 3)?;
    let luma_depth = number(u32::from(chroma == 3)).filter(|n| *n <= 6)?;
    let chroma_depth = number(0).filter(|n| *n <= 6)?;
    Some([chroma, luma_depth, chroma_depth])
}

/// Where `00 00 01` stands.
fn start_code(data: &[u8]) -> Option<usize> {
    data.windows(3).position(|w| w == [0, 0, 1])
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPS_BYTES: [u8; 5] = [0x67, 0x64, 0x00, 0x1f, 0xac];
    const PPS_BYTES: [u8; 3] = [0x68, 0xeb, 0xe3];
    const SLICE_BYTES: [u8; 4] = [0x65, 0x88, 0x00, 0x01];

    fn annex_b(nals: &[&[u8]]) -> Vec<u8> {
        nals.iter().flat_map(|n| START.iter().chain(n.iter()).copied()).collect()
    }

    fn lengths(nals: &[&[u8]]) -> Vec<u8> {
        nals.iter().flat_map(|n| [&(n.len() as u32).to_be_bytes()[..], n].concat()).collect()
    }

    fn avcc() -> Vec<u8> {
        [&[1, 0x64, 0, 0x1f, 0xff, 0xe1, 0, 5][..], &SPS_BYTES, &[1, 0, 3], &PPS_BYTES].concat()
    }

    fn byte_stream() -> H264 {
        H264 { framing: Framing::AnnexB, sps: Vec::new(), pps: Vec::new() }
    }

    #[test]
    fn samples_of_mp4() {
        let unit = [&[DELIMITER, 0xf0][..], &SPS_BYTES, &PPS_BYTES, &[6, 1], &SLICE_BYTES, &[0x65, 2, 3]];
        let expected = lengths(&[&[6, 1], &SLICE_BYTES, &[0x65, 2, 3]]);
        let mut h264 = byte_stream();
        assert_eq!(h264.config(), None);
        assert!(!h264.learn(&annex_b(&unit)));
        assert_eq!(h264.sample(&annex_b(&unit), true), expected);
        assert_eq!(H264::from_avcc(&avcc()).expect("avcC").sample(&lengths(&unit), true), expected);
        // What stands before a picture that needs others may be for that one alone.
        assert_eq!(h264.sample(&annex_b(&[&PPS_BYTES, &SLICE_BYTES]), false), lengths(&[&PPS_BYTES, &SLICE_BYTES]));
        assert!(!h264.learn(&annex_b(&[&SLICE_BYTES])));
        assert!(!h264.learn(&annex_b(&[&SPS_BYTES, &PPS_BYTES, &PPS_BYTES, &SLICE_BYTES])), "sent twice");
        assert!(h264.learn(&annex_b(&[&SPS_BYTES, &[0x68, 1, 2], &SLICE_BYTES])));
        assert_eq!(h264.sample(&[], true), Vec::<u8>::new());
        assert_eq!(h264.sample(&[0, 0, 1], true), Vec::<u8>::new());
    }

    #[test]
    fn decoder_configurations() {
        let check = |sps: &[u8], tail: Option<&[u8]>| {
            let h264 = H264 { framing: Framing::AnnexB, sps: sps.to_vec(), pps: vec![PPS_BYTES.to_vec()] };
            let head = [&[1, sps[1], sps[2], sps[3], 0xff, 0xe1, 0, sps.len() as u8][..], sps, &[1, 0, 3], &PPS_BYTES];
            assert_eq!(h264.config(), tail.map(|tail| [&head.concat(), tail].concat()), "{sps:02x?}");
        };
        check(&[0x67, 0x42, 0xc0, 0x1e, 0xd9], Some(&[]));
        // As x264 writes them: 4:2:0 of 8 bits, 4:2:2 of 10 bits, 4:4:4 of 8 bits is another profile.
        check(&[0x67, 0x64, 0x00, 0x1f, 0xac, 0xd9], Some(&[0xfd, 0xf8, 0xf8, 0]));
        check(&[0x67, 0x7a, 0x00, 0x1f, 0b1011_0110, 0b1100_0000], Some(&[0xfe, 0xfa, 0xfa, 0]));
        check(&[0x67, 0x64, 0x00, 0x1f], None);
        check(&[0x67, 0x64, 0x00, 0x1f, 0, 0, 0, 0, 0, 0, 0, 0, 0], None);
        // It reads back as it was written.
        let h264 = H264::from_avcc(&avcc()).expect("avcC");
        let again = H264::from_avcc(&h264.config().expect("config")).expect("avcC");
        assert_eq!((again.sps, again.pps), (h264.sps, h264.pps));
    }

    #[test]
    fn both_framings_come_out_the_same() {
        let whole = annex_b(&[&[DELIMITER, 0xf0], &SPS_BYTES, &PPS_BYTES, &SLICE_BYTES]);
        let mut h264 = H264::from_avcc(&avcc()).expect("avcC");
        assert_eq!(h264.codec().as_deref(), Some("avc1.64001f"));
        assert_eq!(h264.picture(&lengths(&[&SLICE_BYTES]), true), Some((whole.clone(), false)));
        let mut h264 = byte_stream();
        assert_eq!(h264.picture(&annex_b(&[&SLICE_BYTES]), true), None, "no parameter sets yet");
        // The slice keeps the short start code that is left of its long one.
        let at = whole.len() - SLICE_BYTES.len() - 4;
        let short = [&whole[..at], &whole[at + 1..]].concat();
        assert_eq!(h264.picture(&whole, true), Some((short, false)));
        // Later keyframes get them from us.
        assert_eq!(h264.picture(&annex_b(&[&SLICE_BYTES]), true), Some((whole, false)));
        let short = [&[0, 0, 1][..], &[0x41, 0x9a, 0x00, 0x00, 0x02]].concat();
        let out = h264.picture(&short, false).expect("picture").0;
        assert_eq!(out, [&ANY_PICTURE[..], &short].concat());
    }

    #[test]
    fn other_parameter_sets_are_noticed() {
        let mut h264 = byte_stream();
        let picture = |sps: &[u8]| annex_b(&[sps, &PPS_BYTES, &SLICE_BYTES]);
        assert!(!h264.picture(&picture(&SPS_BYTES), true).expect("picture").1);
        assert!(!h264.picture(&picture(&SPS_BYTES), true).expect("picture").1);
        assert!(h264.picture(&picture(&[0x67, 0x42, 0xc0, 0x0d]), true).expect("picture").1);
        assert_eq!(h264.codec().as_deref(), Some("avc1.42c00d"));
    }

    #[test]
    fn damaged_media_is_refused_and_never_read_past_its_end() {
        for cut in 0..avcc().len() {
            assert_eq!(H264::from_avcc(&avcc()[..cut]), None, "{cut}");
        }
        let mut h264 = H264::from_avcc(&avcc()).expect("avcC");
        for unit in [&[][..], &[0xff; 9], &[0, 0, 0, 200, 0x65], &[0, 0, 0, 0]] {
            assert_eq!(h264.picture(unit, true), None, "{unit:?}");
        }
        for unit in [&[][..], &[0xff; 9], &START, &[0, 0, 1], &[0, 0, 1, 9]] {
            assert_eq!(byte_stream().picture(unit, true), None, "{unit:?}");
        }
    }
}
