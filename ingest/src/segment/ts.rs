//! Writes an MPEG transport stream (ISO/IEC 13818-1) of one H.264 and at most one AAC track. Pure arithmetic on bytes.
//!
//! Written out here rather than left to GStreamer's muxer: that waits for whichever track is late, which would hold up the
//! analysis, and it stamps the media by a clock of its own, where captions need the stream's.

const PACKET: usize = 188;
const PAT_PID: u16 = 0;
const PMT_PID: u16 = 0x1000;
const VIDEO_PID: u16 = 0x100;
const AUDIO_PID: u16 = 0x101;
/// Stream types of table 2-34.
const H264: u8 = 0x1b;
const AAC_ADTS: u8 = 0x0f;
/// Times have 33 bits.
const MASK: u64 = (1 << 33) - 1;
/// The clock of the stream runs this far behind the decoding times, in ticks: what a player may buffer.
const CLOCK_DELAY: u64 = 45_000;

/// Writes packets, counting them over all segments of a session as section 2.4.3.3 asks for.
#[derive(Debug, Default)]
pub(super) struct Writer {
    out: Vec<u8>,
    /// PAT, PMT, video, audio.
    counters: [u8; 4],
}

impl Writer {
    /// Begins a segment of about `size` bytes of media with the tables that describe it.
    pub(super) fn begin(&mut self, size: usize, sound: bool) {
        self.out = Vec::with_capacity(size + size / 16 + 8 * PACKET);
        // Program 1 is described in the PMT.
        let pat = [0, 0, 0xb0, 13, 0, 1, 0xc1, 0, 0, 0, 1, 0xe0 | (PMT_PID >> 8) as u8, PMT_PID as u8];
        self.table(PAT_PID, 0, &pat);
        let mut streams = Vec::new();
        for (kind, pid) in [(H264, VIDEO_PID), (AAC_ADTS, AUDIO_PID)].into_iter().take(1 + usize::from(sound)) {
            streams.extend_from_slice(&[kind, 0xe0 | (pid >> 8) as u8, pid as u8, 0xf0, 0]);
        }
        let length = 13 + streams.len() as u8;
        let clock = [0xe0 | (VIDEO_PID >> 8) as u8, VIDEO_PID as u8];
        let mut pmt = vec![0, 2, 0xb0, length, 0, 1, 0xc1, 0, 0, clock[0], clock[1], 0xf0, 0];
        pmt.extend(streams);
        self.table(PMT_PID, 1, &pmt);
    }

    /// One picture. `pts` and `dts` are ticks of 90 kHz, not yet cut to 33 bits.
    pub(super) fn picture(&mut self, unit: &[u8], pts: u64, dts: u64, key: bool) {
        let mut header = vec![0, 0, 1, 0xe0, 0, 0, 0x84, 0x80, 5];
        if pts == dts {
            header.extend(stamp(2, pts));
        } else {
            (header[7], header[8]) = (0xc0, 10);
            header.extend(stamp(3, pts));
            header.extend(stamp(1, dts));
        }
        let base = dts.saturating_sub(CLOCK_DELAY) & MASK;
        let flags = if key { 0x50 } else { 0x10 };
        let pcr = [
            flags,
            (base >> 25) as u8,
            (base >> 17) as u8,
            (base >> 9) as u8,
            (base >> 1) as u8,
            (base << 7) as u8 | 0x7e,
            0,
        ];
        self.pes(VIDEO_PID, 2, &header, unit, &pcr);
    }

    /// One frame of sound.
    pub(super) fn sound(&mut self, frame: &[u8], pts: u64) {
        let length = u16::try_from(frame.len() + 8).unwrap_or(0).to_be_bytes();
        let mut header = vec![0, 0, 1, 0xc0, length[0], length[1], 0x84, 0x80, 5];
        header.extend(stamp(2, pts));
        self.pes(AUDIO_PID, 3, &header, frame, &[0x40]);
    }

    /// The segment.
    pub(super) fn finish(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }

    fn header(&mut self, pid: u16, counter: usize, first: bool, adapted: bool) {
        let n = self.counters[counter];
        self.counters[counter] = (n + 1) & 15;
        let start = if first { 0x40 } else { 0 };
        let control = if adapted { 0x30 } else { 0x10 };
        self.out.extend_from_slice(&[0x47, start | (pid >> 8) as u8, pid as u8, control | n]);
    }

    /// A table of one packet: pointer, section, checksum, stuffing.
    fn table(&mut self, pid: u16, counter: usize, pointer_and_section: &[u8]) {
        let begin = self.out.len();
        self.header(pid, counter, true, false);
        self.out.extend_from_slice(pointer_and_section);
        self.out.extend_from_slice(&crc(&pointer_and_section[1..]).to_be_bytes());
        self.out.resize(begin + PACKET, 0xff);
    }

    /// A packetised elementary stream packet; `adaptation` (flags and fields) goes with its first packet.
    fn pes(&mut self, pid: u16, counter: usize, header: &[u8], payload: &[u8], adaptation: &[u8]) {
        let (mut header, mut payload, mut adaptation) = (header, payload, adaptation);
        let mut first = true;
        while !(header.is_empty() && payload.is_empty()) {
            let room = PACKET - 4;
            let left = header.len() + payload.len();
            let mut fields = if adaptation.is_empty() { 0 } else { 1 + adaptation.len() };
            let stuffing = (room - fields).saturating_sub(left);
            self.header(pid, counter, first, fields + stuffing > 0);
            if fields + stuffing > 0 {
                fields += stuffing;
                self.out.push(fields as u8 - 1);
                if fields > 1 {
                    if adaptation.is_empty() {
                        self.out.push(0);
                    } else {
                        self.out.extend_from_slice(adaptation);
                    }
                    let written = 1 + adaptation.len().max(1);
                    self.out.resize(self.out.len() + (fields - written), 0xff);
                }
            }
            let n = header.len().min(room - fields);
            self.out.extend_from_slice(&header[..n]);
            header = &header[n..];
            let n = payload.len().min(room - fields - n);
            self.out.extend_from_slice(&payload[..n]);
            payload = &payload[n..];
            (first, adaptation) = (false, &[]);
        }
    }
}

/// Five bytes of time stamp (section 2.4.3.7).
fn stamp(prefix: u8, ticks: u64) -> [u8; 5] {
    let t = ticks & MASK;
    [
        prefix << 4 | ((t >> 30) as u8 & 7) << 1 | 1,
        (t >> 22) as u8,
        (t >> 14) as u8 | 1,
        (t >> 7) as u8,
        (t << 1) as u8 | 1,
    ]
}

/// The checksum of annex A.
fn crc(data: &[u8]) -> u32 {
    data.iter().fold(u32::MAX, |crc, byte| {
        (0..8)
            .fold(crc ^ u32::from(*byte) << 24, |crc, _| if crc >> 31 == 1 { crc << 1 ^ 0x04c1_1db7 } else { crc << 1 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_whole_and_counted() {
        let mut writer = Writer::default();
        for n in 0..400 {
            writer.begin(n, true);
            writer.picture(&vec![0xaa; n], 900_000, 900_000, true);
            writer.picture(&vec![0xbb; n], 903_600, 901_800, false);
            writer.sound(&vec![0xcc; n], 900_100);
            let out = writer.finish();
            assert_eq!(out.len() % PACKET, 0, "{n}");
            let mut found = [Vec::new(), Vec::new()];
            let mut last = [None; 2];
            for packet in out.chunks(PACKET) {
                assert_eq!(packet[0], 0x47, "{n}");
                let pid = u16::from(packet[1] & 0x1f) << 8 | u16::from(packet[2]);
                let Some(track) = [VIDEO_PID, AUDIO_PID].iter().position(|p| *p == pid) else { continue };
                let skip = if packet[3] & 0x20 != 0 { 1 + usize::from(packet[4]) } else { 0 };
                found[track].extend_from_slice(&packet[4 + skip..]);
                assert!(last[track].is_none_or(|l| (l + 1) & 15 == packet[3] & 15), "{n}");
                last[track] = Some(packet[3] & 15);
            }
            let [pictures, sound] = found;
            assert!(sound.len() == 14 + n && sound.ends_with(&vec![0xcc; n]), "{n}");
            assert!(pictures.len() == 14 + n + 19 + n && pictures.ends_with(&vec![0xbb; n]), "{n}");
            assert_eq!(pictures[14..14 + n], vec![0xaa; n]);
        }
    }

    #[test]
    fn known_values() {
        assert_eq!(crc(&[0, 0xb0, 0x0d, 0, 1, 0xc1, 0, 0, 0, 1, 0xf0, 0]), 0x2ab1_04b2);
        assert_eq!(stamp(2, 900_000), [0x21, 0x00, 0x37, 0x77, 0x41]);
        assert_eq!(stamp(2, (1 << 33) + 5), stamp(2, 5));
    }
}
