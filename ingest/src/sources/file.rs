//! Recordings on disk. Also tells what is wrong with a file before GStreamer sees it, and whether a file is shorter than
//! its own container says, which GStreamer passes over in silence.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use base::redact::SourceUrl;
use gstreamer::{self as gst, prelude::*};
use url::Url;

use super::make;
use crate::{
    error::IngestError,
    registry::{EndMeans, Healing, Opening, Pace, SourceKind},
};

pub(crate) const KIND: SourceKind = SourceKind {
    name: "file",
    schemes: &["file"],
    example: "file:///srv/recordings/clip.mp4",
    elements: &["filesrc"],
    end: EndMeans::Ended,
    pace: Pace::ByUs,
    healing: Healing::Never,
    tcp_port: None,
    open,
};

fn open(opening: &Opening<'_>) -> Result<gst::Element, IngestError> {
    let path = path_of(opening.url)
        .ok_or_else(|| opening.bad_url("no path on this machine: write file:///srv/clip.mp4 or the bare path"))?;
    let source = make("filesrc")?;
    source.set_property("location", path.to_string_lossy().as_ref());
    Ok(source)
}

/// The path in a `file` URL.
pub(crate) fn path_of(url: &SourceUrl) -> Option<PathBuf> {
    let url = Url::parse(url.expose()).ok().filter(|u| u.scheme() == "file")?;
    url.to_file_path().ok()
}

/// What keeps a file from being played at all, in words.
pub(crate) fn unreadable(path: &Path) -> Option<String> {
    match File::open(path).and_then(|f| f.metadata()) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Some("there is no such file: check the path".into()),
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
            Some("the file may not be read: check its permissions".into())
        }
        Err(e) => Some(format!("the file cannot be opened: {e}")),
        Ok(meta) if meta.is_dir() => Some("this is a folder: name one file in it".into()),
        Ok(meta) if meta.is_file() && meta.len() == 0 => Some("the file is empty (0 bytes): record it anew".into()),
        Ok(_) => None,
    }
}

/// What a container says of itself.
#[derive(Debug, PartialEq, Eq)]
struct Promise {
    /// Bytes that the file has, at least.
    length: u64,
    /// Whether it cannot be played at all if it is shorter than that.
    index_is_last: bool,
}

/// A file that ends before its own container says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Truncation {
    /// Where it ends and where it should, in words.
    pub cause: String,
    /// Whether what there is can be played.
    pub playable: bool,
}

/// Whether a file ends before its own container says.
pub(crate) fn truncation(path: &Path) -> Option<Truncation> {
    let mut file = File::open(path).ok()?;
    let length = file.metadata().ok().filter(|m| m.is_file())?.len();
    let promise = promise(&mut file, length).ok()??;
    let index = if promise.index_is_last { ", and its index (moov), which comes last, is missing" } else { "" };
    let cause = format!(
        "the file is truncated: its container says at least {} bytes, the file has {length}{index}; copy it anew",
        promise.length
    );
    (promise.length > length).then_some(Truncation { cause, playable: !promise.index_is_last })
}

fn promise(file: &mut File, length: u64) -> io::Result<Option<Promise>> {
    let mut head = [0; 12];
    if length < 12 {
        return Ok(None);
    }
    file.read_exact(&mut head)?;
    let length = match &head {
        [_, _, _, _, b'f', b't', b'y', b'p', ..] => return end_of_boxes(file, length),
        [b'R', b'I', b'F', b'F', a, b, c, d, ..] => match u32::from_le_bytes([*a, *b, *c, *d]) {
            // Written by recorders that never came back to fill it in.
            0 | u32::MAX => None,
            size => Some(8 + u64::from(size)),
        },
        [0x1A, 0x45, 0xDF, 0xA3, ..] => end_of_ebml(file)?,
        [0x47, ..] => whole_packets(file, length)?,
        _ => None,
    };
    Ok(length.map(|length| Promise { length, index_is_last: false }))
}

/// End of the last top-level box (ISO/IEC 14496-12, section 4.2), and whether the index came before it.
fn end_of_boxes(file: &mut File, length: u64) -> io::Result<Option<Promise>> {
    let mut at = 0;
    let mut indexed = false;
    while at + 8 <= length {
        file.seek(SeekFrom::Start(at))?;
        let mut head = [0; 16];
        let n = file.read(&mut head)?;
        let [a, b, c, d, kind @ .., _, _, _, _, _, _, _, _] = head;
        indexed |= kind == *b"moov" || kind == *b"moof";
        let size = match (u64::from(u32::from_be_bytes([a, b, c, d])), head.last_chunk()) {
            (0, _) => return Ok(None), // to the end of the file
            (1, Some(large)) if n == 16 => u64::from_be_bytes(*large),
            (1, _) => 16,
            (size, _) => size,
        };
        if size < 8 {
            return Ok(None);
        }
        at = at.saturating_add(size);
    }
    let end = if at < length { at + 8 } else { at };
    Ok(Some(Promise { length: end, index_is_last: !indexed }))
}

/// End of the Matroska segment (RFC 8794, sections 4 and 11), if its size was filled in.
fn end_of_ebml(file: &mut File) -> io::Result<Option<u64>> {
    file.seek(SeekFrom::Start(4))?;
    let Some(header) = variable_size(file)? else { return Ok(None) };
    file.seek(SeekFrom::Current(i64::try_from(header).unwrap_or(i64::MAX)))?;
    let mut id = [0; 4];
    file.read_exact(&mut id)?;
    if id != [0x18, 0x53, 0x80, 0x67] {
        return Ok(None);
    }
    let Some(size) = variable_size(file)? else { return Ok(None) };
    Ok(Some(file.stream_position()?.saturating_add(size)))
}

/// A size of 1 to 8 bytes; none when it says "unknown".
fn variable_size(file: &mut File) -> io::Result<Option<u64>> {
    let mut first = [0];
    file.read_exact(&mut first)?;
    let n_more = first[0].leading_zeros() as usize;
    if n_more > 7 {
        return Ok(None);
    }
    let mut rest = [0; 7];
    file.read_exact(&mut rest[..n_more])?;
    let mask = 0x7Fu8 >> n_more;
    let size = rest[..n_more].iter().fold(u64::from(first[0] & mask), |size, b| size << 8 | u64::from(*b));
    let unknown = (1u64 << (7 * (n_more + 1))) - 1;
    Ok((size != unknown).then_some(size))
}

/// An MPEG transport stream consists of whole packets of 188 bytes (ISO/IEC 13818-1, section 2.4.3).
fn whole_packets(file: &mut File, length: u64) -> io::Result<Option<u64>> {
    const PACKET: u64 = 188;
    let mut sync = [0];
    for n in 1..4 {
        if n * PACKET < length {
            file.seek(SeekFrom::Start(n * PACKET))?;
            file.read_exact(&mut sync)?;
            if sync != [0x47] {
                return Ok(None);
            }
        }
    }
    Ok(Some(length.div_ceil(PACKET) * PACKET))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn promised(bytes: &[u8]) -> Option<u64> {
        let mut file = tempfile::tempfile().expect("file");
        file.write_all(bytes).expect("write");
        file.rewind().expect("rewind");
        promise(&mut file, bytes.len() as u64).expect("read").map(|p| p.length)
    }

    #[test]
    fn containers_tell_their_length() {
        let boxes = |mdat: u32, n: usize| {
            let mut bytes = vec![0, 0, 0, 16];
            bytes.extend(b"ftypisomisom");
            bytes.extend(mdat.to_be_bytes());
            bytes.extend(b"mdat");
            bytes.resize(24 + n, 7);
            bytes
        };
        assert_eq!(promised(&boxes(108, 100)), Some(124));
        assert_eq!(promised(&boxes(108, 50)), Some(124));
        assert_eq!(promised(&boxes(0, 50)), None);
        assert_eq!(promised(b"RIFF\x64\0\0\0WAVE"), Some(108));
        assert_eq!(promised(b"RIFF\xff\xff\xff\xffWAVE"), None);
        let matroska = b"\x1A\x45\xDF\xA3\x84abcd\x18\x53\x80\x67\x40\xC8rest";
        assert_eq!(promised(matroska), Some(15 + 200));
        let endless = b"\x1A\x45\xDF\xA3\x84abcd\x18\x53\x80\x67\x01\xFF\xFF\xFF\xFF\xFF\xFF\xFFrest";
        assert_eq!(promised(endless), None);
        let mut packets = vec![0u8; 188 * 4];
        packets.iter_mut().step_by(188).for_each(|b| *b = 0x47);
        assert_eq!(promised(&packets), Some(752));
        assert_eq!(promised(&packets[..700]), Some(752));
        assert_eq!(promised(b"neither this nor that"), None);
    }
}
