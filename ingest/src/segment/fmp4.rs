//! Boxes of fragmented MP4 (ISO/IEC 14496-12): an initialisation segment, then fragments of samples. Pure arithmetic on
//! bytes; knows nothing of streams.

/// Ticks a second of all tracks.
pub(crate) const TIMESCALE: u32 = 90_000;
/// Numbers of the tracks.
pub(crate) const PICTURES: u32 = 1;
pub(crate) const SOUND: u32 = 2;

/// Depends on no other sample, and may be begun with (8.8.3.1).
const SYNC: u32 = 0x0200_0000;
/// Depends on others.
const DELTA: u32 = 0x0101_0000;
/// No rotation (6.2.2).
const UNITY: [u32; 9] = [0x1_0000, 0, 0, 0, 0x1_0000, 0, 0, 0, 0x4000_0000];

/// What the sound track is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SoundTrack {
    /// `AudioSpecificConfig` (ISO/IEC 14496-3, 1.6.2.1).
    pub config: Vec<u8>,
    /// Samples a second.
    pub rate: u32,
    pub channels: u16,
}

/// One picture or frame of sound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sample {
    pub data: Vec<u8>,
    /// To the decode time of the next sample, ticks.
    pub duration: u32,
    /// From decode time to presentation time, ticks.
    pub offset: i32,
    pub key: bool,
}

/// Samples of one track that follow each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Run {
    pub track: u32,
    /// Decode time of the first, ticks.
    pub decode_time: u64,
    pub samples: Vec<Sample>,
}

/// The initialisation segment: `ftyp` and `moov`. `config`: the `AVCDecoderConfigurationRecord`.
pub(crate) fn init(config: &[u8], size: (u32, u32), sound: Option<&SoundTrack>) -> Vec<u8> {
    let mut out = Vec::with_capacity(1024);
    boxed(&mut out, b"ftyp", |out| {
        out.extend_from_slice(b"iso5\0\0\x02\0iso5iso6avc1mp41");
    });
    boxed(&mut out, b"moov", |out| {
        full(out, b"mvhd", 0, 0, |out| {
            // Creation, modification, timescale, duration unknown; rate, volume, reserved; matrix, reserved; next track.
            words(out, &[0, 0, TIMESCALE, 0, 0x1_0000, 0x0100_0000, 0, 0]);
            words(out, &UNITY);
            words(out, &[0; 6]);
            words(out, &[SOUND + 1]);
        });
        trak(out, PICTURES, size, |out| avc1(out, config, size));
        if let Some(sound) = sound {
            trak(out, SOUND, (0, 0), |out| mp4a(out, sound));
        }
        boxed(out, b"mvex", |out| {
            let tracks = [(PICTURES, DELTA), (SOUND, SYNC)];
            for (track, flags) in tracks.into_iter().take(1 + usize::from(sound.is_some())) {
                // The sample entry, and what fragments say themselves.
                full(out, b"trex", 0, 0, |out| words(out, &[track, 1, 0, 0, flags]));
            }
        });
    });
    out
}

/// One fragment: `moof` and `mdat`. Empty where there is no sample.
pub(crate) fn fragment(sequence: u32, runs: &[Run]) -> Vec<u8> {
    let runs: Vec<&Run> = runs.iter().filter(|run| !run.samples.is_empty()).collect();
    if runs.is_empty() {
        return Vec::new();
    }
    let n_bytes: usize = runs.iter().flat_map(|run| &run.samples).map(|sample| sample.data.len() + 16).sum();
    let mut out = Vec::with_capacity(n_bytes + 200);
    // Where each run's place in `mdat` is to be written.
    let mut places = Vec::new();
    boxed(&mut out, b"moof", |out| {
        full(out, b"mfhd", 0, 0, |out| words(out, &[sequence]));
        for run in &runs {
            boxed(out, b"traf", |out| {
                // Places count from the beginning of `moof`.
                full(out, b"tfhd", 0, 0x02_0000, |out| words(out, &[run.track]));
                full(out, b"tfdt", 1, 0, |out| out.extend_from_slice(&run.decode_time.to_be_bytes()));
                // Place; and of each sample duration, size, flags and, with a sign, offset.
                full(out, b"trun", 1, 0x0f01, |out| {
                    words(out, &[number(run.samples.len())]);
                    places.push(out.len());
                    words(out, &[0]);
                    for sample in &run.samples {
                        let flags = if sample.key { SYNC } else { DELTA };
                        words(out, &[sample.duration, number(sample.data.len()), flags, sample.offset as u32]);
                    }
                });
            });
        }
    });
    let mut at = out.len() + 8;
    for (place, run) in places.into_iter().zip(&runs) {
        out[place..place + 4].copy_from_slice(&number(at).to_be_bytes());
        at += run.samples.iter().map(|sample| sample.data.len()).sum::<usize>();
    }
    boxed(&mut out, b"mdat", |out| {
        runs.iter().flat_map(|run| &run.samples).for_each(|sample| out.extend_from_slice(&sample.data));
    });
    out
}

fn trak(out: &mut Vec<u8>, track: u32, size: (u32, u32), entry: impl FnOnce(&mut Vec<u8>)) {
    let pictures = track == PICTURES;
    boxed(out, b"trak", |out| {
        // Enabled, in the movie.
        full(out, b"tkhd", 0, 3, |out| {
            words(out, &[0, 0, track, 0, 0, 0, 0, 0]);
            // Of sound, the volume.
            words(out, &[if pictures { 0 } else { 0x0100_0000 }]);
            words(out, &UNITY);
            words(out, &[size.0 << 16, size.1 << 16]);
        });
        boxed(out, b"mdia", |out| {
            // Language `und`.
            full(out, b"mdhd", 0, 0, |out| words(out, &[0, 0, TIMESCALE, 0, 0x55c4_0000]));
            full(out, b"hdlr", 0, 0, |out| {
                words(out, &[0]);
                out.extend_from_slice(if pictures { b"vide" } else { b"soun" });
                words(out, &[0, 0, 0]);
                out.push(0);
            });
            boxed(out, b"minf", |out| {
                if pictures {
                    full(out, b"vmhd", 0, 1, |out| words(out, &[0, 0]));
                } else {
                    full(out, b"smhd", 0, 0, |out| words(out, &[0]));
                }
                boxed(out, b"dinf", |out| {
                    full(out, b"dref", 0, 0, |out| {
                        words(out, &[1]);
                        // In this very file.
                        full(out, b"url ", 0, 1, |_| {});
                    });
                });
                boxed(out, b"stbl", |out| {
                    full(out, b"stsd", 0, 0, |out| {
                        words(out, &[1]);
                        entry(out);
                    });
                    // All samples are in fragments.
                    full(out, b"stts", 0, 0, |out| words(out, &[0]));
                    full(out, b"stsc", 0, 0, |out| words(out, &[0]));
                    full(out, b"stsz", 0, 0, |out| words(out, &[0, 0]));
                    full(out, b"stco", 0, 0, |out| words(out, &[0]));
                });
            });
        });
    });
}

/// ISO/IEC 14496-12, 12.1.3, and 14496-15, 5.4.2.1.
fn avc1(out: &mut Vec<u8>, config: &[u8], size: (u32, u32)) {
    boxed(out, b"avc1", |out| {
        // Reserved, index of the data reference; reserved.
        words(out, &[0, 1, 0, 0, 0, 0]);
        let side = |n: u32| u16::try_from(n).unwrap_or(u16::MAX).to_be_bytes();
        out.extend_from_slice(&side(size.0));
        out.extend_from_slice(&side(size.1));
        // 72 dots an inch; reserved; one picture a sample; no name; depth.
        words(out, &[0x48_0000, 0x48_0000, 0]);
        out.extend_from_slice(&[0, 1]);
        out.extend_from_slice(&[0; 32]);
        out.extend_from_slice(&[0, 0x18, 0xff, 0xff]);
        boxed(out, b"avcC", |out| out.extend_from_slice(config));
    });
}

/// ISO/IEC 14496-12, 12.2.3, and 14496-14, 5.6; descriptors as in 14496-1, 7.2.6.
fn mp4a(out: &mut Vec<u8>, sound: &SoundTrack) {
    boxed(out, b"mp4a", |out| {
        words(out, &[0, 1, 0, 0]);
        out.extend_from_slice(&sound.channels.to_be_bytes());
        // Bits of a sample; reserved; 16.16 as far as that goes.
        out.extend_from_slice(&[0, 16, 0, 0, 0, 0]);
        words(out, &[if sound.rate < 1 << 16 { sound.rate << 16 } else { 0 }]);
        full(out, b"esds", 0, 0, |out| {
            let length = |n: usize| u8::try_from(n).unwrap_or(127).min(127);
            let n = sound.config.len();
            // ES_Descriptor, DecoderConfigDescriptor: AAC, an audio stream, no rates; DecoderSpecificInfo; SLConfigDescriptor.
            out.extend_from_slice(&[3, length(23 + n), 0, 0, 0, 4, length(15 + n), 0x40, 0x15]);
            out.extend_from_slice(&[0; 11]);
            out.extend_from_slice(&[5, length(n)]);
            out.extend_from_slice(&sound.config);
            out.extend_from_slice(&[6, 1, 2]);
        });
    });
}

/// A box: size, type, and what it holds.
fn boxed(out: &mut Vec<u8>, kind: &[u8; 4], content: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    words(out, &[0]);
    out.extend_from_slice(kind);
    content(out);
    let size = number(out.len() - at);
    out[at..at + 4].copy_from_slice(&size.to_be_bytes());
}

/// A box with version and flags.
fn full(out: &mut Vec<u8>, kind: &[u8; 4], version: u8, flags: u32, content: impl FnOnce(&mut Vec<u8>)) {
    boxed(out, kind, |out| {
        words(out, &[u32::from(version) << 24 | flags]);
        content(out);
    });
}

fn words(out: &mut Vec<u8>, words: &[u32]) {
    words.iter().for_each(|word| out.extend_from_slice(&word.to_be_bytes()));
}

fn number(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Types and contents of the boxes in `data`.
    fn boxes(mut data: &[u8]) -> Vec<([u8; 4], &[u8])> {
        let mut found = Vec::new();
        while !data.is_empty() {
            let size = u32::from_be_bytes(data[..4].try_into().expect("size")) as usize;
            found.push((data[4..8].try_into().expect("type"), &data[8..size]));
            data = &data[size..];
        }
        found
    }

    /// The content of the box at a path of types; `#1` is the second of its name.
    fn at<'a>(data: &'a [u8], path: &str) -> &'a [u8] {
        path.split('/').fold(data, |data, step| {
            let (kind, n) = step.split_once('#').unwrap_or((step, "0"));
            let n = n.parse().expect("number");
            let all = boxes(data);
            all.iter().filter(|(k, _)| k == kind.as_bytes()).nth(n).unwrap_or_else(|| panic!("{path} in {all:?}")).1
        })
    }

    fn sample(data: &[u8], duration: u32, offset: i32, key: bool) -> Sample {
        Sample { data: data.to_vec(), duration, offset, key }
    }

    #[test]
    fn an_initialisation_segment_says_what_the_tracks_are() {
        let sound = SoundTrack { config: vec![0x11, 0x88], rate: 48_000, channels: 1 };
        for with in [false, true] {
            let init = init(&[1, 2, 3], (768, 576), with.then_some(&sound));
            let kinds: Vec<_> = boxes(&init).iter().map(|(kind, _)| *kind).collect();
            assert_eq!(kinds, [*b"ftyp", *b"moov"]);
            let n_tracks = boxes(at(&init, "moov")).iter().filter(|(kind, _)| kind == b"trak").count();
            assert_eq!((n_tracks, boxes(at(&init, "moov/mvex")).len()), (1 + usize::from(with), 1 + usize::from(with)));
            let entry = &at(&init, "moov/trak/mdia/minf/stbl/stsd")[8..];
            // 78 bytes of a visual sample entry, then its own boxes.
            assert_eq!(&at(entry, "avc1")[24..28], [3, 0, 2, 64]);
            assert_eq!(at(&at(entry, "avc1")[78..], "avcC"), [1, 2, 3]);
            assert_eq!(at(&init, "moov/trak/mdia/mdhd")[12..16], TIMESCALE.to_be_bytes());
            if with {
                let entry = &at(&init, "moov/trak#1/mdia/minf/stbl/stsd")[8..];
                assert_eq!(at(entry, "mp4a")[16..18], [0, 1]);
                assert_eq!(at(entry, "mp4a")[24..28], (48_000_u32 << 16).to_be_bytes());
                let esds = &at(&at(entry, "mp4a")[28..], "esds")[4..];
                assert_eq!((esds[0], usize::from(esds[1])), (3, esds.len() - 2));
                assert_eq!((esds[5], usize::from(esds[6])), (4, esds.len() - 2 - 5 - 3));
                assert_eq!(esds[20..24], [5, 2, 0x11, 0x88]);
            }
        }
    }

    #[test]
    fn a_fragment_finds_its_samples() {
        let pictures = Run {
            track: PICTURES,
            decode_time: 1 << 33,
            samples: vec![sample(b"key", 3600, 0, true), sample(b"other", 1800, -900, false)],
        };
        let sound = Run { track: SOUND, decode_time: 77, samples: vec![sample(b"sound", 1920, 0, true)] };
        let nothing = Run { track: PICTURES, decode_time: 0, samples: Vec::new() };
        let fragment = fragment(5, &[pictures, nothing.clone(), sound]);
        assert_eq!(at(&fragment, "moof/mfhd")[4..], 5_u32.to_be_bytes());
        assert_eq!(at(&fragment, "mdat"), b"keyothersound");
        let word = |data: &[u8], n: usize| u32::from_be_bytes(data[4 * n..4 * n + 4].try_into().expect("word"));
        for (n, track, time, expected) in [(0, PICTURES, 1_u64 << 33, &b"keyother"[..]), (1, SOUND, 77, b"sound")] {
            let traf = at(&fragment, &format!("moof/traf#{n}"));
            assert_eq!(word(at(traf, "tfhd"), 1), track);
            assert_eq!(at(traf, "tfdt")[4..], time.to_be_bytes());
            let trun = at(traf, "trun");
            let (n_samples, place) = (word(trun, 1) as usize, word(trun, 2) as usize);
            assert_eq!(trun.len(), 12 + 16 * n_samples);
            let size: usize = (0..n_samples).map(|n| word(trun, 3 + 4 * n + 1) as usize).sum();
            assert_eq!(&fragment[place..place + size], expected);
        }
        let trun = at(&fragment, "moof/traf/trun");
        // Version 1: offsets have a sign.
        assert_eq!((trun[0], word(trun, 3), word(trun, 5), word(trun, 6)), (1, 3600, SYNC, 0));
        assert_eq!((word(trun, 7), word(trun, 9), word(trun, 10) as i32), (1800, DELTA, -900));
        assert!(super::fragment(1, &[nothing]).is_empty());
    }
}
