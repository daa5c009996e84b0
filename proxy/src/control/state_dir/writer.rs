//! The thread that writes: what came from the control thread, to disk, one after the other.
//!
//! Holds: the control thread never waits for the disk (a job is handed over only when the one before is done); a whole is
//! written beside the old one, synced and renamed over it, so one of both is always there; what holds a private key
//! is noted as withheld, and its bytes are not written; files are readable by their owner only.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, SystemTime};

use remora_translate::{holds_private_key, is_trust_only};

use super::store::{self, Fate, Header, Identity, Record, Role};
use crate::control::held::Kind;
use crate::observe::Observe;

/// Everything, at one moment.
pub const WHOLE: &str = "resources";
/// What changed since.
pub const CHANGES: &str = "changes";

/// Bytes of records in one frame, about.
const FRAME: u64 = 256 << 10;
/// Changes may take this much before they and the whole are written as one, or as much as the whole.
const CHANGES_AT_LEAST: u64 = 1 << 20;

/// Something to write.
#[derive(Debug)]
enum Job {
    Whole(Vec<Record>),
    Changes(Vec<Record>),
}

/// The control thread's end.
#[derive(Debug)]
pub struct Writer {
    jobs: Option<mpsc::SyncSender<Job>>,
    ended: mpsc::Receiver<()>,
    said: Arc<Said>,
}

/// What the thread lets the control thread know.
#[derive(Debug, Default)]
struct Said {
    busy: AtomicBool,
    wants_whole: AtomicBool,
    failed: AtomicBool,
}

impl Writer {
    /// Starts the thread.
    ///
    /// # Errors
    /// The directory cannot be made, or there is no thread.
    pub fn start(directory: &Path, identity: Identity, observe: Arc<Observe>) -> io::Result<Self> {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)?;
        let (jobs, received) = mpsc::sync_channel(1);
        let (end, ended) = mpsc::channel();
        let said = Arc::new(Said::default());
        said.wants_whole.store(true, Ordering::Relaxed);
        let mut scribe = Scribe {
            directory: directory.to_owned(),
            identity,
            changes: None,
            whole_bytes: 0,
            change_bytes: 0,
            complained: false,
            observe,
            said: Arc::clone(&said),
        };
        std::thread::Builder::new()
            .name("state-dir".into())
            .spawn(move || {
                for job in received {
                    scribe.carry_out(job);
                    scribe.said.busy.store(false, Ordering::Release);
                }
                // Nobody waits when the process does not end in order.
                let _ = end.send(());
            })?;
        Ok(Self {
            jobs: Some(jobs),
            ended,
            said,
        })
    }

    /// Whether the job before is done.
    pub fn is_idle(&self) -> bool {
        !self.said.busy.load(Ordering::Acquire)
    }

    /// Whether changes will not do: at first, when they got long, and after an error.
    pub fn wants_whole(&self) -> bool {
        self.said.wants_whole.load(Ordering::Relaxed)
    }

    /// Whether the job before failed; told once.
    pub fn take_failed(&self) -> bool {
        self.said.failed.swap(false, Ordering::Relaxed)
    }

    /// Writes everything. Only when idle.
    pub fn whole(&self, records: Vec<Record>) {
        self.said.wants_whole.store(false, Ordering::Relaxed);
        self.hand_over(Job::Whole(records));
    }

    /// Writes what changed. Only when idle.
    pub fn changes(&self, records: Vec<Record>) {
        self.hand_over(Job::Changes(records));
    }

    fn hand_over(&self, job: Job) {
        debug_assert!(self.is_idle());
        if let Some(jobs) = &self.jobs {
            self.said.busy.store(true, Ordering::Release);
            // A thread that is gone writes nothing more; it said why.
            let _ = jobs.try_send(job);
        }
    }

    /// Waits for the last job, not longer than `at_most`.
    pub fn finish(&mut self, at_most: Duration) {
        self.jobs = None;
        // Whether it is done or late: the process ends.
        let _ = self.ended.recv_timeout(at_most);
    }
}

/// The thread's own state.
#[derive(Debug)]
struct Scribe {
    directory: PathBuf,
    identity: Identity,
    changes: Option<File>,
    whole_bytes: u64,
    change_bytes: u64,
    complained: bool,
    observe: Arc<Observe>,
    said: Arc<Said>,
}

impl Scribe {
    fn carry_out(&mut self, job: Job) {
        let written = match job {
            Job::Whole(records) => self.whole(records),
            Job::Changes(records) => self.append(records),
        };
        let metrics = &self.observe.control;
        match written {
            Ok(()) => {
                metrics.count("remora.state_dir.writes", 1);
                self.complained = false;
            }
            Err(error) => {
                metrics.count("remora.state_dir.write_failures", 1);
                self.said.wants_whole.store(true, Ordering::Relaxed);
                self.said.failed.store(true, Ordering::Relaxed);
                if !std::mem::replace(&mut self.complained, true) {
                    tracing::warn!(directory = %self.directory.display(), %error, "the state directory cannot be written");
                }
            }
        }
    }

    fn whole(&mut self, records: Vec<Record>) -> io::Result<()> {
        let records: Vec<Record> = records.into_iter().filter_map(fit_for_disk).collect();
        let size: u64 = records.iter().map(store::size_of).sum();
        // Changes need room too.
        if size > store::LIMIT / 2 {
            return Err(io::Error::other(format!(
                "expected at most {} bytes of resources, found {size}",
                store::LIMIT / 2
            )));
        }
        let world = fastrand::u64(..);
        self.changes = None;
        self.whole_bytes = self.replace(WHOLE, Role::Whole, world, |file| {
            let saved = SystemTime::now();
            let mut rest = records.as_slice();
            loop {
                let mut bytes = 0;
                let some = rest.iter().take_while(|record| {
                    let fits = bytes < FRAME;
                    bytes += store::size_of(record);
                    fits
                });
                let (now, later) = rest.split_at(some.count());
                file.write_all(&store::encode_records(saved, now))?;
                rest = later;
                if rest.is_empty() {
                    break;
                }
            }
            file.write_all(&store::encode_end(records.len() as u64))
        })?;
        self.replace(CHANGES, Role::Changes, world, |_| Ok(()))?;
        let changes = OpenOptions::new()
            .append(true)
            .open(self.directory.join(CHANGES))?;
        self.changes = Some(changes);
        self.change_bytes = 0;
        Ok(())
    }

    /// Writes a file beside the one with this name, and renames it over that one. How many bytes it has.
    fn replace(
        &self,
        name: &str,
        role: Role,
        world: u64,
        write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
    ) -> io::Result<u64> {
        let beside = self.directory.join(format!("{name}.new"));
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = BufWriter::with_capacity(64 << 10, options.open(&beside)?);
        let header = Header {
            role,
            identity: self.identity.clone(),
            world,
        };
        file.write_all(&store::encode_header(&header))?;
        write(&mut file)?;
        let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        std::fs::rename(&beside, self.directory.join(name))?;
        File::open(&self.directory)?.sync_all()?;
        Ok(file.metadata()?.len())
    }

    fn append(&mut self, records: Vec<Record>) -> io::Result<()> {
        let file = self
            .changes
            .as_mut()
            .ok_or_else(|| io::Error::other("nothing to append to"))?;
        let records: Vec<Record> = records.into_iter().filter_map(fit_for_disk).collect();
        let frame = store::encode_records(SystemTime::now(), &records);
        file.write_all(&frame)?;
        file.sync_data()?;
        self.change_bytes += frame.len() as u64;
        if self.change_bytes > self.whole_bytes.max(CHANGES_AT_LEAST) {
            self.said.wants_whole.store(true, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// The record as it may be written: without bytes where they hold a private key. A secret that is not only trust is not
/// even named: whoever needs it waits for it anyway.
fn fit_for_disk(record: Record) -> Option<Record> {
    let Fate::Kept(kept) = &record.fate else {
        return Some(record);
    };
    let fate = match record.key.kind {
        Kind::Secret if !is_trust_only(&kept.body) => Fate::Gone,
        Kind::Secret => return Some(record),
        _ if holds_private_key(&kept.body) => Fate::Withheld,
        _ => return Some(record),
    };
    Some(Record { fate, ..record })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use bytes::Bytes;

    use super::*;
    use crate::control::state_dir::store::{Kept, Key};

    fn identity() -> Identity {
        Identity {
            node: "n".into(),
            fingerprint: 1,
        }
    }

    fn record(kind: Kind, name: &str, body: &[u8]) -> Record {
        Record {
            key: Key {
                kind,
                name: name.into(),
            },
            fate: Fate::Kept(Kept {
                version: "1".into(),
                origin: "ads".into(),
                body: Bytes::copy_from_slice(body),
            }),
        }
    }

    fn read(directory: &Path) -> store::Store {
        let content = |name| store::decode(&std::fs::read(directory.join(name)).unwrap().into()).unwrap();
        store::Store::new(content(WHOLE), Some(content(CHANGES)), &identity()).unwrap()
    }

    fn scribe(directory: &Path) -> Scribe {
        Scribe {
            directory: directory.to_owned(),
            identity: identity(),
            changes: None,
            whole_bytes: 0,
            change_bytes: 0,
            complained: false,
            observe: Arc::new(Observe::default()),
            said: Arc::default(),
        }
    }

    #[test]
    fn a_whole_in_many_frames_and_changes_after_it_are_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let mut scribe = scribe(folder.path());
        let big = vec![7; 100 << 10];
        let names: Vec<String> = (0..9).map(|n| format!("c{n}")).collect();
        let records = names.iter().map(|name| record(Kind::Cluster, name, &big));
        scribe.whole(records.collect()).unwrap();
        scribe
            .append(vec![record(Kind::Cluster, "c3", b"small")])
            .unwrap();
        let store = read(folder.path());
        assert_eq!(store.resources.len(), 9);
        assert_eq!(
            store.resources[&(Kind::Cluster, "c3".into())].body,
            b"small".as_slice()
        );
        for name in [WHOLE, CHANGES] {
            let mode = std::fs::metadata(folder.path().join(name))
                .unwrap()
                .permissions()
                .mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        assert_eq!(
            std::fs::read_dir(folder.path()).unwrap().count(),
            2,
            "nothing is left beside"
        );
    }

    #[test]
    fn long_changes_ask_for_a_whole() {
        let folder = tempfile::tempdir().unwrap();
        let mut scribe = scribe(folder.path());
        scribe.whole(Vec::new()).unwrap();
        let asks = |scribe: &Scribe| scribe.said.wants_whole.load(Ordering::Relaxed);
        let half = vec![0; (CHANGES_AT_LEAST / 2) as usize];
        scribe.append(vec![record(Kind::Cluster, "a", &half)]).unwrap();
        assert!(!asks(&scribe));
        scribe.append(vec![record(Kind::Cluster, "a", &half)]).unwrap();
        assert!(asks(&scribe));
    }

    #[test]
    fn after_an_error_everything_is_written_again() {
        let folder = tempfile::tempdir().unwrap();
        let mut scribe = scribe(&folder.path().join("none"));
        scribe.carry_out(Job::Whole(Vec::new()));
        assert!(scribe.said.wants_whole.load(Ordering::Relaxed));
        assert_eq!(
            scribe.observe.control.value("remora.state_dir.write_failures"),
            Some(1)
        );
    }

    #[test]
    fn keys_are_not_written() {
        let folder = tempfile::tempdir().unwrap();
        let mut scribe = scribe(folder.path());
        // `Secret.name`, then an empty `validation_context` (4) or `tls_certificate` (2).
        let (trust, own) = (b"\x0a\x01s\x22\x00", b"\x0a\x01s\x12\x00");
        let inline = b"...-----BEGIN PRIVATE KEY-----TOPSECRET";
        scribe
            .whole(vec![
                record(Kind::Secret, "trust", trust),
                record(Kind::Secret, "own", own),
                record(Kind::Listener, "inline", inline),
            ])
            .unwrap();
        let store = read(folder.path());
        assert_eq!(
            store.resources.keys().collect::<Vec<_>>(),
            [&(Kind::Secret, "trust".into())]
        );
        assert_eq!(store.withheld.len(), 1);
        let text = std::fs::read(folder.path().join(WHOLE)).unwrap();
        assert!(!text.windows(9).any(|window| window == b"TOPSECRET"));
    }
}
