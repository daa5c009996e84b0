//! What do the files of a state directory say? Encode and decode, nothing else.
//!
//! ```text
//! file    = header frame*                               little endian; of-x is the checksum of x
//! header  = magic format role fingerprint world node checksum
//! frame   = length:u32 of-length:u32 of-payload:u64 payload    payload = 'R' saved:u64 record*  |  'E' records:u64
//! record  = 'P' type name version origin body  |  'W' type name  |  'D' type name
//! ```
//! `resources` ([`Role::Whole`]) ends with an `E` frame; `changes` ([`Role::Changes`]) is appended to, and a last frame
//! that is cut off is what a kill leaves: everything before it counts. Holds: nothing is believed before its checksum
//! was right; a length is never more than what is there; no bytes make it panic.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::{Buf, Bytes};
use rapidhash::v3::rapidhash_v3;
use remora_model::Name;

use crate::control::held::Kind;

const MAGIC: &[u8; 8] = b"\x89REMORA\n";
/// Goes up with every change of the format.
const FORMAT: u16 = 1;

/// Bytes before the payload of a frame.
const FRAME_HEAD: usize = 16;

/// The most that both files together may hold, bytes.
pub const LIMIT: u64 = 256 << 20;

/// Whose resources these are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// `node.id`.
    pub node: String,
    /// Of the texts and flags that the bootstrap was made of.
    pub fingerprint: u64,
}

/// Which of the two files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Everything, at one moment.
    Whole,
    /// What changed since.
    Changes,
}

/// What a file begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Which file.
    pub role: Role,
    /// Whose.
    pub identity: Identity,
    /// Ties changes to the whole that they change.
    pub world: u64,
}

/// A resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Its type.
    pub kind: Kind,
    /// Its name.
    pub name: Name,
}

/// What is known of a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It was in use.
    Kept(Kept),
    /// It was in use and holds what is not written.
    Withheld,
    /// It does not exist any more.
    Gone,
}

/// A resource that was in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Version.
    pub version: Arc<str>,
    /// Where it came from, in words that do not change between starts.
    pub origin: Arc<str>,
    /// The encoded message.
    pub body: Bytes,
}

/// One line of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Which resource.
    pub key: Key,
    /// What of it.
    pub fate: Fate,
}

/// Why files are of no use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Somebody else's.
    #[error("expected a file of Remora's state directory, found something else")]
    Foreign,
    /// Of a later version of this program.
    #[error("expected format {FORMAT}, found the newer format {0}")]
    Newer(u16),
    /// Of another pod.
    #[error("expected the resources of node '{expected}', found those of node '{found}'")]
    OtherNode {
        /// Ours.
        expected: String,
        /// Theirs.
        found: String,
    },
    /// Of the same node with another bootstrap.
    #[error("expected the resources of this bootstrap, found those of another one")]
    OtherBootstrap,
    /// A file that ends too early.
    #[error("expected more after byte {0}, found the end: the file is truncated")]
    Truncated(u64),
    /// A file that was changed.
    #[error("expected {expected} at byte {at}, found something else: the file is corrupt")]
    Corrupt {
        /// Where.
        at: u64,
        /// What belongs there.
        expected: &'static str,
    },
    /// A file that nobody wrote.
    #[error("expected at most {LIMIT} bytes, found {0}")]
    TooLarge(u64),
}

/// The beginning of a file.
pub fn encode_header(header: &Header) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    out.extend(FORMAT.to_le_bytes());
    out.push(match header.role {
        Role::Whole => 1,
        Role::Changes => 2,
    });
    out.extend(header.identity.fingerprint.to_le_bytes());
    out.extend(header.world.to_le_bytes());
    put_bytes(&mut out, header.identity.node.as_bytes());
    out.extend(rapidhash_v3(&out).to_le_bytes());
    out
}

/// Some records, saved at one moment.
pub fn encode_records<'r>(saved: SystemTime, records: impl IntoIterator<Item = &'r Record>) -> Vec<u8> {
    let mut payload = vec![b'R'];
    let since = saved.duration_since(UNIX_EPOCH).unwrap_or_default();
    payload.extend(u64::try_from(since.as_millis()).unwrap_or(u64::MAX).to_le_bytes());
    for record in records {
        put_record(&mut payload, record);
    }
    frame(&payload)
}

/// The end of a whole of this many records.
pub fn encode_end(records: u64) -> Vec<u8> {
    let mut payload = vec![b'E'];
    payload.extend(records.to_le_bytes());
    frame(&payload)
}

/// How many bytes a record takes.
pub fn size_of(record: &Record) -> u64 {
    let fields = match &record.fate {
        Fate::Kept(kept) => 12 + kept.version.len() + kept.origin.len() + kept.body.len(),
        Fate::Withheld | Fate::Gone => 0,
    };
    (6 + record.key.name.len() + fields) as u64
}

fn frame(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(payload.len() + FRAME_HEAD);
    let length = length(payload.len());
    out.extend(length.to_le_bytes());
    out.extend(of_length(length).to_le_bytes());
    out.extend(rapidhash_v3(payload).to_le_bytes());
    out.extend_from_slice(payload);
    out
}

/// Tells a frame that was cut off from one whose length was changed.
fn of_length(length: u32) -> u32 {
    rapidhash_v3(&length.to_le_bytes()) as u32
}

/// Lengths fit: a frame is far below [`LIMIT`], which is below 4 GiB.
fn length(of: usize) -> u32 {
    debug_assert!(of as u64 <= LIMIT + 64);
    u32::try_from(of).unwrap_or(u32::MAX)
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend(length(bytes.len()).to_le_bytes());
    out.extend_from_slice(bytes);
}

fn put_record(out: &mut Vec<u8>, record: &Record) {
    out.push(match record.fate {
        Fate::Kept(_) => b'P',
        Fate::Withheld => b'W',
        Fate::Gone => b'D',
    });
    out.push(code_of(record.key.kind));
    put_bytes(out, record.key.name.as_bytes());
    if let Fate::Kept(kept) = &record.fate {
        put_bytes(out, kept.version.as_bytes());
        put_bytes(out, kept.origin.as_bytes());
        put_bytes(out, &kept.body);
    }
}

/// The types by numbers that never change.
fn code_of(kind: Kind) -> u8 {
    match kind {
        Kind::Cluster => 1,
        Kind::Endpoints => 2,
        Kind::Secret => 3,
        Kind::Listener => 4,
        Kind::RouteConfiguration => 5,
    }
}

fn kind_of(code: u8) -> Option<Kind> {
    Kind::ALL.into_iter().find(|kind| code_of(*kind) == code)
}

/// What one file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// Its beginning.
    pub header: Header,
    /// Its records, in order; bodies are slices of the file.
    pub records: Vec<Record>,
    /// When the newest of them was saved.
    pub saved: SystemTime,
    /// Bytes behind the last frame that is whole ([`Role::Changes`] only).
    pub cut_off: usize,
}

/// Reads one file.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn decode(file: &Bytes) -> Result<Content, Refused> {
    if file.len() as u64 > LIMIT {
        return Err(Refused::TooLarge(file.len() as u64));
    }
    let mut reader = Reader {
        file,
        rest: file.clone(),
    };
    let header = reader.header()?;
    let mut content = Content {
        header,
        records: Vec::new(),
        saved: UNIX_EPOCH,
        cut_off: 0,
    };
    match content.header.role {
        Role::Whole => reader.whole(&mut content)?,
        Role::Changes => reader.changes(&mut content)?,
    }
    Ok(content)
}

struct Reader<'f> {
    file: &'f Bytes,
    rest: Bytes,
}

impl<'f> Reader<'f> {
    fn at(&self) -> u64 {
        // What is left is a slice of the file, or of one frame in it.
        let at = (self.rest.as_ptr() as usize).wrapping_sub(self.file.as_ptr() as usize);
        at.min(self.file.len()) as u64
    }

    fn corrupt(&self, expected: &'static str) -> Refused {
        Refused::Corrupt {
            at: self.at(),
            expected,
        }
    }

    fn take(&mut self, length: usize) -> Result<Bytes, Refused> {
        if self.rest.len() < length {
            return Err(Refused::Truncated(self.at()));
        }
        Ok(self.rest.split_to(length))
    }

    fn number(&mut self) -> Result<u64, Refused> {
        Ok(self.take(8)?.get_u64_le())
    }

    fn bytes(&mut self) -> Result<Bytes, Refused> {
        let length = self.take(4)?.get_u32_le();
        self.take(length as usize)
    }

    fn text(&mut self) -> Result<Arc<str>, Refused> {
        let bytes = self.bytes()?;
        let text = std::str::from_utf8(&bytes).map_err(|_| self.corrupt("UTF-8"))?;
        Ok(Arc::from(text))
    }

    fn header(&mut self) -> Result<Header, Refused> {
        let magic = self.take(MAGIC.len()).map_err(|_| Refused::Foreign)?;
        if magic != MAGIC.as_slice() {
            return Err(Refused::Foreign);
        }
        let format = self.take(2)?.get_u16_le();
        if format > FORMAT {
            return Err(Refused::Newer(format));
        }
        let role = match self.take(1)?.get_u8() {
            1 => Role::Whole,
            2 => Role::Changes,
            _ => return Err(self.corrupt("the kind of file")),
        };
        let fingerprint = self.number()?;
        let world = self.number()?;
        let node = self.text()?.to_string();
        let end = self.file.len() - self.rest.len();
        if self.number()? != rapidhash_v3(&self.file[..end]) || format != FORMAT {
            return Err(self.corrupt("the checksum of the header"));
        }
        Ok(Header {
            role,
            identity: Identity { node, fingerprint },
            world,
        })
    }

    /// The payload of the next frame.
    fn frame(&mut self) -> Result<Reader<'f>, Refused> {
        let mut head = self.take(FRAME_HEAD)?;
        let length = head.get_u32_le();
        if head.get_u32_le() != of_length(length) {
            return Err(self.corrupt("the checksum of a length before"));
        }
        let payload = self.take(length as usize)?;
        if head.get_u64_le() != rapidhash_v3(&payload) {
            return Err(self.corrupt("the checksum of what stands before"));
        }
        Ok(Reader {
            file: self.file,
            rest: payload,
        })
    }

    fn whole(&mut self, content: &mut Content) -> Result<(), Refused> {
        loop {
            let mut frame = self.frame()?;
            if let Some(records) = frame.payload(content)? {
                if records != content.records.len() as u64 {
                    return Err(self.corrupt("the number of records before"));
                }
                break;
            }
        }
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(self.corrupt("the end of the file"))
        }
    }

    fn changes(&mut self, content: &mut Content) -> Result<(), Refused> {
        while !self.rest.is_empty() {
            let left = self.rest.len();
            match self.frame() {
                Ok(mut frame) => {
                    if frame.payload(content)?.is_some() {
                        return Err(self.corrupt("records"));
                    }
                }
                Err(Refused::Truncated(_)) => {
                    content.cut_off = left;
                    return Ok(());
                }
                Err(refused) => return Err(refused),
            }
        }
        Ok(())
    }

    /// Takes a frame's records in; the number of all of them where it is the last frame.
    fn payload(&mut self, content: &mut Content) -> Result<Option<u64>, Refused> {
        match self.take(1)?.get_u8() {
            b'E' => self.number().map(Some),
            b'R' => {
                let saved = Duration::from_millis(self.number()?);
                content.saved = UNIX_EPOCH.checked_add(saved).unwrap_or(UNIX_EPOCH);
                while !self.rest.is_empty() {
                    let record = self.record()?;
                    content.records.push(record);
                }
                Ok(None)
            }
            _ => Err(self.corrupt("records")),
        }
    }

    fn record(&mut self) -> Result<Record, Refused> {
        let fate = self.take(1)?.get_u8();
        let code = self.take(1)?.get_u8();
        let kind = kind_of(code).ok_or_else(|| self.corrupt("a type"))?;
        let name = self.text()?;
        let fate = match fate {
            b'P' => Fate::Kept(Kept {
                version: self.text()?,
                origin: self.text()?,
                body: self.bytes()?,
            }),
            b'W' => Fate::Withheld,
            b'D' => Fate::Gone,
            _ => return Err(self.corrupt("a record")),
        };
        Ok(Record {
            key: Key { kind, name },
            fate,
        })
    }
}

/// The last good resources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Store {
    /// By type and name.
    pub resources: HashMap<(Kind, Name), Kept>,
    /// In use, but not written.
    pub withheld: Vec<Key>,
    /// When the newest was saved.
    pub saved: SystemTime,
}

impl Store {
    /// Puts both files together. Changes of another whole are an older run's, and are left out.
    ///
    /// # Errors
    /// They are not ours.
    pub fn new(whole: Content, changes: Option<Content>, ours: &Identity) -> Result<Self, Refused> {
        let theirs = &whole.header.identity;
        if theirs.node != ours.node {
            return Err(Refused::OtherNode {
                expected: ours.node.clone(),
                found: theirs.node.clone(),
            });
        }
        if theirs.fingerprint != ours.fingerprint {
            return Err(Refused::OtherBootstrap);
        }
        if whole.header.role != Role::Whole {
            return Err(Refused::Foreign);
        }
        let changes = changes.filter(|changes| {
            changes.header.role == Role::Changes && changes.header.world == whole.header.world
        });
        let saved = whole
            .saved
            .max(changes.as_ref().map_or(UNIX_EPOCH, |changes| changes.saved));
        let mut all: HashMap<(Kind, Name), Option<Kept>> = HashMap::new();
        let records = whole
            .records
            .into_iter()
            .chain(changes.into_iter().flat_map(|content| content.records));
        for Record { key, fate } in records {
            let key = (key.kind, key.name);
            match fate {
                Fate::Kept(kept) => drop(all.insert(key, Some(kept))),
                Fate::Withheld => drop(all.insert(key, None)),
                Fate::Gone => drop(all.remove(&key)),
            }
        }
        let mut store = Self {
            resources: HashMap::new(),
            withheld: Vec::new(),
            saved,
        };
        for ((kind, name), kept) in all {
            match kept {
                Some(kept) => drop(store.resources.insert((kind, name), kept)),
                None => store.withheld.push(Key { kind, name }),
            }
        }
        Ok(store)
    }
}

#[cfg(test)]
mod tests;
