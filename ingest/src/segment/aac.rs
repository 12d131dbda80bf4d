//! AAC as it comes out of a parser, made into ADTS frames (ISO/IEC 14496-3, 1.A.2.2), which a transport stream carries.
//! Pure arithmetic on bytes.

use gstreamer as gst;

/// Samples a second by their index (ISO/IEC 14496-3, table 1.18).
const RATES: [u32; 13] = [96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350];

/// One track's way of writing AAC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Aac {
    /// What each frame still needs before it; none where the frames have their headers already.
    header: Option<Header>,
    /// The `AudioSpecificConfig`; empty where the frames' headers say it.
    config: Vec<u8>,
    /// Audio object type for the codec's name: 2 is AAC-LC.
    object_type: u8,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Header {
    /// Audio object type of what every decoder understands, 1 to 4.
    core: u8,
    rate_index: u8,
    channels: u8,
}

impl Aac {
    /// From the caps of a parsed track; the reason in words when it is no AAC that can be carried.
    pub(crate) fn from_caps(media: &gst::StructureRef) -> Result<Self, &'static str> {
        if media.name() != "audio/mpeg" || !matches!(media.get::<i32>("mpegversion"), Ok(2 | 4)) {
            return Err("its sound is not AAC");
        }
        match media.get::<&str>("stream-format") {
            Ok("adts") => Ok(Self { header: None, config: Vec::new(), object_type: 2 }),
            Ok("raw") => {
                let data = media.get::<gst::Buffer>("codec_data").map_err(|_| "its sound does not tell its format")?;
                let map = data.map_readable().map_err(|_| "the format of its sound cannot be read")?;
                Self::from_config(&map).ok_or("its sound is AAC of a kind that ADTS cannot carry")
            }
            _ => Err("its sound is AAC framed in a way that is not carried"),
        }
    }

    /// From an `AudioSpecificConfig` (ISO/IEC 14496-3, 1.6.2.1).
    fn from_config(data: &[u8]) -> Option<Self> {
        let mut bits = Bits { data, at: 0 };
        let object_type = bits.object_type()?;
        let rate_index = bits.rate_index()?;
        let channels = bits.take(4)? as u8;
        let mut core = object_type;
        // Spectral band replication and parametric stereo told of beforehand: the core's type comes after.
        if matches!(object_type, 5 | 29) {
            bits.rate_index()?;
            core = bits.object_type()?;
        }
        let fits = (1..=4).contains(&core) && (1..=7).contains(&channels);
        let header = Some(Header { core, rate_index, channels });
        fits.then_some(Self { header, config: data.to_vec(), object_type })
    }

    /// One frame with its header; none when it is longer than a header can say.
    pub(super) fn frame(&self, frame: &[u8]) -> Option<Vec<u8>> {
        let Some(Header { core, rate_index, channels }) = &self.header else { return Some(frame.to_vec()) };
        let length = u32::try_from(frame.len() + 7).ok().filter(|n| *n < 1 << 13)?;
        let mut out = Vec::with_capacity(frame.len() + 7);
        // Sync word, MPEG-4, no checksum; buffer fullness "variable", one block.
        out.extend_from_slice(&[
            0xff,
            0xf1,
            (core - 1) << 6 | rate_index << 2 | channels >> 2,
            channels << 6 | (length >> 11) as u8,
            (length >> 3) as u8,
            (length << 5) as u8 | 0x1f,
            0xfc,
        ]);
        out.extend_from_slice(frame);
        Some(out)
    }

    /// As in RFC 6381, section 3.3.
    pub(crate) fn codec(&self) -> String {
        format!("mp4a.40.{}", self.object_type)
    }

    /// Learns from a frame what it says of itself.
    pub(crate) fn learn(&mut self, frame: &[u8]) {
        if self.header.is_none()
            && self.config.is_empty()
            && let [0xff, second, third, fourth, ..] = frame
            && second >> 4 == 0xf
        {
            let (object_type, rate_index) = ((third >> 6) + 1, third >> 2 & 0xf);
            let channels = (third & 1) << 2 | fourth >> 6;
            self.object_type = object_type;
            self.config = vec![object_type << 3 | rate_index >> 1, rate_index << 7 | channels << 3];
        }
    }

    /// The `AudioSpecificConfig` (ISO/IEC 14496-3, 1.6.2.1), which a frame without its header needs; none before one was
    /// learned from.
    pub(crate) fn config(&self) -> Option<&[u8]> {
        (!self.config.is_empty()).then_some(&*self.config)
    }

    /// One frame without its header.
    pub(crate) fn bare<'a>(&self, frame: &'a [u8]) -> &'a [u8] {
        match (&self.header, frame) {
            // Seven bytes, and a checksum where the last bit of the second one is 0.
            (None, [0xff, second, ..]) => frame.get(if second & 1 == 1 { 7 } else { 9 }..).unwrap_or_default(),
            _ => frame,
        }
    }
}

/// Reads bits from the left.
struct Bits<'a> {
    data: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    fn take(&mut self, n: usize) -> Option<u32> {
        let mut value = 0;
        for _ in 0..n {
            let byte = self.data.get(self.at / 8)?;
            value = value << 1 | u32::from(byte >> (7 - self.at % 8) & 1);
            self.at += 1;
        }
        Some(value)
    }

    fn object_type(&mut self) -> Option<u8> {
        match self.take(5)? {
            31 => Some(32 + self.take(6)? as u8),
            n => Some(n as u8),
        }
    }

    /// A rate of no index must be one of the table all the same: ADTS knows no other.
    fn rate_index(&mut self) -> Option<u8> {
        match self.take(4)? {
            15 => {
                let rate = self.take(24)?;
                RATES.iter().position(|r| *r == rate).map(|i| i as u8)
            }
            n => (n < RATES.len() as u32).then_some(n as u8),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configurations() {
        let check = |config: &[u8], expected: Option<(&str, [u8; 4])>| {
            let aac = Aac::from_config(config);
            let found = aac.as_ref().and_then(|a| Some((a.codec(), a.frame(&[0; 10])?)));
            let found = found.as_ref().map(|(codec, frame)| (codec.as_str(), [frame[0], frame[1], frame[2], frame[3]]));
            assert_eq!(found, expected, "{config:02x?}");
        };
        // AAC-LC, 48 kHz, mono, and 44.1 kHz, stereo.
        check(&[0x11, 0x88], Some(("mp4a.40.2", [0xff, 0xf1, 0x4c, 0x40])));
        check(&[0x12, 0x10], Some(("mp4a.40.2", [0xff, 0xf1, 0x50, 0x80])));
        // HE-AAC: 24 kHz with spectral band replication to 48 kHz.
        check(&[0x2b, 0x11, 0x88, 0x00], Some(("mp4a.40.5", [0xff, 0xf1, 0x58, 0x80])));
        // Channels told elsewhere, AAC-LD, and nothing.
        check(&[0x11, 0x80], None);
        check(&[0xb9, 0x88], None);
        check(&[0x11], None);
        check(&[], None);
    }

    #[test]
    fn lengths() {
        let aac = Aac::from_config(&[0x11, 0x88]).expect("config");
        let frame = aac.frame(&[7; 1000]).expect("frame");
        let length = u32::from(frame[3] & 3) << 11 | u32::from(frame[4]) << 3 | u32::from(frame[5]) >> 5;
        assert_eq!((length, frame.len(), frame[7]), (1007, 1007, 7));
        assert_eq!(aac.frame(&[0; 1 << 13]), None);
        let adts = Aac { header: None, config: Vec::new(), object_type: 2 };
        assert_eq!(adts.frame(&[1, 2]), Some(vec![1, 2]));
    }

    #[test]
    fn headers_come_off_again() {
        let mut adts = Aac { header: None, config: Vec::new(), object_type: 2 };
        for config in [[0x11, 0x88], [0x12, 0x10], [0x14, 0x08]] {
            let raw = Aac::from_config(&config).expect("config");
            assert_eq!((raw.config(), raw.bare(&[0xff, 0xf1, 9])), (Some(&config[..]), &[0xff, 0xf1, 9][..]));
            let frame = raw.frame(&[7; 10]).expect("frame");
            adts.config.clear();
            adts.learn(&frame);
            assert_eq!((adts.config(), adts.bare(&frame)), (Some(&config[..]), &[7; 10][..]));
        }
        assert_eq!(adts.bare(&[0xff, 0xf0, 0, 0, 0, 0, 0, 0, 0, 5]), [5]);
        assert!(adts.bare(&[0xff, 0xf1]).is_empty());
    }
}
