//! What went over the wire? Packets that `tcpdump` saw, put together to the bytes of each direction of each connection.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;

use anyhow::{Context as _, Result, bail, ensure};

use crate::engine::pods::Inside;

/// A running capture.
pub(crate) struct Capture {
    tcpdump: Child,
    packets: JoinHandle<std::io::Result<Vec<u8>>>,
    words: JoinHandle<String>,
}

/// What a capture saw.
pub(crate) struct Seen {
    /// The whole file, packet heads included.
    pub(crate) file: Vec<u8>,
    /// The bytes of each direction of each TCP connection, by sender and receiver.
    pub(crate) directions: BTreeMap<(SocketAddrV4, SocketAddrV4), Direction>,
}

/// One direction of one connection.
#[derive(Default)]
pub(crate) struct Direction {
    next: Option<u32>,
    /// What was sent, in order.
    pub(crate) bytes: Vec<u8>,
}

/// The TLS records of a direction, counted by content type.
#[derive(Debug, Default)]
pub(crate) struct Records {
    pub(crate) handshake: u64,
    pub(crate) application_data: u64,
}

impl Capture {
    /// Starts to capture on an interface in a namespace, and returns once it does.
    pub(crate) async fn start(inside: &Inside, interface: &'static str, filter: String) -> Result<Self> {
        inside
            .run(async move {
                let mut tcpdump = Command::new("tcpdump")
                    .args([
                        "-n",
                        "-i",
                        interface,
                        "-s",
                        "0",
                        "-B",
                        "16384",
                        "-U",
                        "--immediate-mode",
                    ])
                    .args(["-w", "-"])
                    .arg(filter)
                    .stdin(Stdio::null())
                    .stdout(Stdio::piped())
                    .stderr(Stdio::piped())
                    .spawn()
                    .context("starting tcpdump")?;
                let mut output = tcpdump.stdout.take().context("standard output is piped")?;
                let errors = tcpdump.stderr.take().context("standard error is piped")?;
                let mut errors = BufReader::new(errors);
                let mut line = String::new();
                while !line.contains("listening on") {
                    line.clear();
                    ensure!(
                        errors.read_line(&mut line)? > 0,
                        "tcpdump ended before it listened"
                    );
                }
                let packets = std::thread::spawn(move || {
                    let mut file = Vec::new();
                    output.read_to_end(&mut file).map(|_| file)
                });
                let words = std::thread::spawn(move || {
                    let mut words = String::new();
                    let _ = errors.read_to_string(&mut words);
                    words
                });
                Ok(Capture {
                    tcpdump,
                    packets,
                    words,
                })
            })
            .await
    }

    /// Ends the capture.
    ///
    /// # Errors
    /// When packets were missed, or are not what a capture of Ethernet frames looks like.
    pub(crate) fn end(mut self) -> Result<Seen> {
        let pid =
            rustix::process::Pid::from_raw(i32::try_from(self.tcpdump.id())?).context("no process id")?;
        rustix::process::kill_process(pid, rustix::process::Signal::INT)?;
        self.tcpdump.wait()?;
        let file = self
            .packets
            .join()
            .map_err(|_| anyhow::anyhow!("the reader panicked"))??;
        let words = self.words.join().unwrap_or_default();
        ensure!(
            words.contains("\n0 packets dropped by kernel"),
            "tcpdump missed packets: {words}"
        );
        let directions = directions(&file)?;
        Ok(Seen { file, directions })
    }
}

impl Seen {
    /// Whether `text` is anywhere in what was captured.
    pub(crate) fn contains(&self, text: &str) -> bool {
        let found = |bytes: &[u8]| bytes.windows(text.len()).any(|window| window == text.as_bytes());
        found(&self.file) || self.directions.values().any(|direction| found(&direction.bytes))
    }
}

/// Takes a capture file apart (the pcap format: a head of 24 bytes, then packets with a head of 16 bytes each).
fn directions(file: &[u8]) -> Result<BTreeMap<(SocketAddrV4, SocketAddrV4), Direction>> {
    let (head, mut rest) = file.split_at_checked(24).context("no capture file")?;
    ensure!(
        head[..4] == 0xa1b2_c3d4_u32.to_le_bytes(),
        "another byte order or precision of time"
    );
    ensure!(head[20] == 1, "not Ethernet: link type {}", head[20]);
    let mut directions: BTreeMap<_, Direction> = BTreeMap::new();
    while !rest.is_empty() {
        let (head, after) = rest.split_at_checked(16).context("half a packet head")?;
        let word = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        ensure!(
            word(8) == word(12),
            "a packet was cut to {} of {} bytes",
            word(8),
            word(12)
        );
        let (frame, after) = after
            .split_at_checked(usize::try_from(word(8))?)
            .context("half a packet")?;
        rest = after;
        if let Some(segment) = Segment::of(frame) {
            let direction = directions.entry((segment.from, segment.to)).or_default();
            direction.take(&segment)?;
        }
    }
    Ok(directions)
}

/// The TCP segment of an Ethernet frame.
struct Segment<'a> {
    from: SocketAddrV4,
    to: SocketAddrV4,
    sequence: u32,
    starts: bool,
    payload: &'a [u8],
}

impl<'a> Segment<'a> {
    /// `None` for anything but TCP over IPv4.
    fn of(frame: &'a [u8]) -> Option<Self> {
        let packet = frame.get(14..).filter(|_| frame[12..14] == [8, 0])?;
        let length = usize::from(u16::from_be_bytes([*packet.get(2)?, *packet.get(3)?]));
        // Short frames are padded; the packet says how long it is.
        let packet = packet.get(..length).filter(|packet| packet.get(9) == Some(&6))?;
        let segment = packet.get(usize::from(packet[0] & 15) * 4..)?;
        let payload = segment.get(usize::from(segment.get(12)? >> 4) * 4..)?;
        let short = |at: usize| u16::from_be_bytes([segment[at], segment[at + 1]]);
        let host = |at: usize| Ipv4Addr::new(packet[at], packet[at + 1], packet[at + 2], packet[at + 3]);
        Some(Segment {
            from: SocketAddrV4::new(host(12), short(0)),
            to: SocketAddrV4::new(host(16), short(2)),
            sequence: u32::from_be_bytes([segment[4], segment[5], segment[6], segment[7]]),
            starts: segment[13] & 2 != 0,
            payload,
        })
    }
}

impl Direction {
    fn take(&mut self, segment: &Segment<'_>) -> Result<()> {
        if segment.starts {
            // A port may be used again.
            *self = Direction {
                next: Some(segment.sequence.wrapping_add(1)),
                bytes: Vec::new(),
            };
        }
        if segment.payload.is_empty() {
            return Ok(());
        }
        let next = self.next.context("a connection from before the capture")?;
        match segment.sequence.wrapping_sub(next) {
            0 => {
                self.bytes.extend_from_slice(segment.payload);
                self.next = Some(next.wrapping_add(u32::try_from(segment.payload.len())?));
                Ok(())
            }
            // Sent again.
            ahead if ahead > u32::MAX / 2 => Ok(()),
            ahead => bail!("{} to {}: {ahead} bytes are missing", segment.from, segment.to),
        }
    }

    /// Reads the bytes as TLS records (RFC 8446 section 5.1): content type, version 3.x, length.
    ///
    /// # Errors
    /// When they are anything else, or do not start with a handshake.
    pub(crate) fn records(&self) -> Result<Records> {
        let mut records = Records::default();
        let mut rest = self.bytes.as_slice();
        while let Some((head, after)) = rest.split_at_checked(5) {
            let length = usize::from(u16::from_be_bytes([head[3], head[4]]));
            let is_record = (20..=23).contains(&head[0]) && head[1] == 3 && head[2] <= 4 && length <= 16_640;
            ensure!(is_record, "{head:02x?} is no head of a TLS record");
            ensure!(
                head[0] == 22 || records.handshake > 0,
                "it starts with content type {}",
                head[0]
            );
            records.handshake += u64::from(head[0] == 22);
            records.application_data += u64::from(head[0] == 23);
            rest = after.get(length..).unwrap_or_default();
        }
        Ok(records)
    }
}
