//! RTMP from a server on loopback, which is just large enough to be one: it plays an FLV file to whoever asks.

use std::{
    collections::HashMap,
    io::{self, Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    time::Duration,
};

use base::media::Notice;

use crate::harness::*;

/// Message types of RTMP 1.0, section 5.4 and 7.1.
const SET_CHUNK_SIZE: u8 = 1;
const COMMAND: u8 = 20;

/// One message that came.
struct Message {
    kind: u8,
    body: Vec<u8>,
}

/// Takes chunks together into messages (section 5.3).
struct Reader {
    stream: TcpStream,
    chunk_size: usize,
    /// By chunk stream: length and kind of the message, and what came of it.
    partial: HashMap<u8, (usize, u8, Vec<u8>)>,
}

impl Reader {
    fn bytes<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.stream.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn message(&mut self) -> io::Result<Message> {
        loop {
            let [basic] = self.bytes()?;
            let (format, id) = (basic >> 6, basic & 0x3F);
            let mut partial = self.partial.remove(&id).unwrap_or_default();
            if format < 2 {
                let [_, _, _, a, b, c, kind] = self.bytes()?;
                partial = (u32::from_be_bytes([0, a, b, c]) as usize, kind, Vec::new());
            }
            match format {
                0 => drop(self.bytes::<4>()?),
                2 => drop(self.bytes::<3>()?),
                _ => {}
            }
            let (length, kind, mut body) = partial;
            let mut more = vec![0; (length - body.len()).min(self.chunk_size)];
            self.stream.read_exact(&mut more)?;
            body.extend(more);
            if body.len() < length {
                self.partial.insert(id, (length, kind, body));
                continue;
            }
            self.partial.insert(id, (length, kind, Vec::new()));
            if kind == SET_CHUNK_SIZE {
                self.chunk_size = u32::from_be_bytes([body[0], body[1], body[2], body[3]]) as usize;
                continue;
            }
            return Ok(Message { kind, body });
        }
    }
}

/// One chunk, because ours may be as long as they like.
fn send(stream: &mut TcpStream, kind: u8, stream_id: u32, at_ms: u32, body: &[u8]) -> io::Result<()> {
    let mut chunk = vec![4];
    chunk.extend(&at_ms.to_be_bytes()[1..]);
    chunk.extend(&(body.len() as u32).to_be_bytes()[1..]);
    chunk.push(kind);
    chunk.extend(stream_id.to_le_bytes());
    chunk.extend(body);
    stream.write_all(&chunk)
}

fn string(text: &str) -> Vec<u8> {
    [&[2][..], &(text.len() as u16).to_be_bytes(), text.as_bytes()].concat()
}

fn number(n: f64) -> Vec<u8> {
    [&[0][..], &n.to_be_bytes()].concat()
}

const NULL: [u8; 1] = [5];

fn status(code: &str) -> Vec<u8> {
    let field = |name: &str, value: &str| [&string(name)[1..], &string(value)].concat();
    [vec![3], field("level", "status"), field("code", code), vec![0, 0, 9]].concat()
}

fn serve(mut stream: TcpStream, flv: &[u8]) -> io::Result<()> {
    let mut hello = [0; 1537];
    stream.read_exact(&mut hello)?;
    stream.write_all(&[&[3][..], &[0; 1536], &hello[1..]].concat())?;
    stream.read_exact(&mut hello[1..])?;
    send(&mut stream, SET_CHUNK_SIZE, 0, 0, &0x00FF_FFFFu32.to_be_bytes())?;
    let mut reader = Reader { stream: stream.try_clone()?, chunk_size: 128, partial: HashMap::new() };
    loop {
        let message = reader.message()?;
        if message.kind != COMMAND {
            continue;
        }
        let length = usize::from(u16::from_be_bytes([message.body[1], message.body[2]]));
        let name = String::from_utf8_lossy(&message.body[3..3 + length]).into_owned();
        let transaction = &message.body[3 + length..12 + length];
        let result = |more: &[Vec<u8>]| [string("_result"), transaction.to_vec(), more.concat()].concat();
        let answer = match name.as_str() {
            "connect" => result(&[NULL.to_vec(), status("NetConnection.Connect.Success")]),
            "createStream" => result(&[NULL.to_vec(), number(1.0)]),
            "play" => {
                let started = status("NetStream.Play.Start");
                let body = [string("onStatus"), number(0.0), NULL.to_vec(), started].concat();
                send(&mut stream, COMMAND, 1, 0, &body)?;
                return play_flv(&mut stream, flv);
            }
            _ => continue,
        };
        send(&mut stream, COMMAND, 0, 0, &answer)?;
    }
}

/// Sends the tags of an FLV file, each at its time.
fn play_flv(stream: &mut TcpStream, flv: &[u8]) -> io::Result<()> {
    let (mut at, mut now) = (13, 0);
    while at + 11 <= flv.len() {
        let size = u32::from_be_bytes([0, flv[at + 1], flv[at + 2], flv[at + 3]]) as usize;
        let time = u32::from_be_bytes([flv[at + 7], flv[at + 4], flv[at + 5], flv[at + 6]]);
        if time > now {
            std::thread::sleep(Duration::from_millis(u64::from(time - now)));
            now = time;
        }
        send(stream, flv[at], 1, time, &flv[at + 11..at + 11 + size])?;
        at += 11 + size + 4;
    }
    Ok(())
}

#[test]
fn pictures_and_sound_over_rtmp() {
    let folder = tempfile::tempdir().expect("folder");
    let flv = flv(folder.path());
    let listener = TcpListener::bind("127.0.0.1:0").expect("port");
    let url = format!("rtmp://{}/live/camera", listener.local_addr().expect("address"));
    let server = std::thread::Builder::new()
        .spawn(move || {
            let (client, _) = listener.accept().expect("client");
            serve(client, &flv)
        })
        .expect("thread");
    let (recorder, stream) = start(live(&url));
    recorder.wait("pictures and sound", |s| s.frames.len() > 25 && s.chunks.len() > 10);
    // When the file is over the server hangs up, and nobody listens any more.
    recorder.wait("the outage", |s| s.notices.iter().any(|n| matches!(n, Notice::Interrupted { .. })));
    stream.stop();
    stream.join();
    recorder.check_sane();
    let source = recorder.source();
    assert_eq!(source.video.map(|v| v.codec).as_deref(), Some("h264"));
    assert_eq!(source.audio.map(|a| a.codec).as_deref(), Some("aac"));
    server.join().expect("server").expect("served to the end");
}

fn flv(folder: &Path) -> Vec<u8> {
    let encode = "x264enc speed-preset=ultrafast key-int-max=10 bframes=0 ! h264parse";
    std::fs::read(clip(folder, "clip.flv", encode, AAC, "flvmux")).expect("clip")
}
