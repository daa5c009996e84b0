//! Files that resources were read from: who reads which, and what happens when something moves beside them.
//!
//! Holds: only a rename into a watched directory counts (Envoy's rule: whoever rotates certificates renames, so nobody
//! sees half of them); a directory is watched exactly as long as somebody reads in it; what was received is translated
//! again on the way of any other update, so files of no use leave the last good version in place.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use remora_model::Name;
use remora_translate::WatchedFile;
use remora_xds_client::DirectoryWatch;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::Control;
use super::catalog::Arrived;
use super::held::Kind;
use super::sources::Origin;
use crate::observe::control_metrics::Update;

/// How often a directory that cannot be watched is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// A resource that was read from files.
#[derive(Debug, Clone)]
pub struct Reader {
    /// Its type.
    pub kind: Kind,
    /// Its name.
    pub name: Name,
    /// Where the resource itself comes from.
    pub source: Origin,
    /// The files.
    pub files: Vec<WatchedFile>,
}

/// All resources that were read from files.
#[derive(Debug, Default)]
pub struct Readers {
    readers: HashMap<(Kind, Name), Reader>,
    by_directory: BTreeMap<PathBuf, BTreeSet<(Kind, Name)>>,
    changed: bool,
}

impl Readers {
    /// Enters the files that the newest version of a resource was read from.
    pub fn enter(&mut self, reader: Reader) {
        self.remove(reader.kind, &reader.name);
        let key = (reader.kind, Arc::clone(&reader.name));
        let mut watched = false;
        for directory in reader.directories() {
            let readers = self.by_directory.entry(directory).or_default();
            self.changed |= readers.is_empty();
            readers.insert(key.clone());
            watched = true;
        }
        if watched {
            self.readers.insert(key, reader);
        }
    }

    /// Forgets a resource.
    pub fn remove(&mut self, kind: Kind, name: &Name) {
        let key = (kind, Arc::clone(name));
        let Some(reader) = self.readers.remove(&key) else {
            return;
        };
        for directory in reader.directories() {
            if let Some(readers) = self.by_directory.get_mut(&directory) {
                readers.remove(&key);
                if readers.is_empty() {
                    self.by_directory.remove(&directory);
                    self.changed = true;
                }
            }
        }
    }

    /// Everything that is read when something moves into `directory`.
    pub fn of(&self, directory: &Path) -> Vec<Reader> {
        let keys = self.by_directory.get(directory).into_iter().flatten();
        keys.filter_map(|key| self.readers.get(key).cloned()).collect()
    }

    /// The directories to watch, if others than at the last call.
    pub fn take_changes(&mut self) -> Option<Vec<PathBuf>> {
        std::mem::take(&mut self.changed).then(|| self.by_directory.keys().cloned().collect())
    }
}

impl Reader {
    /// Where a move means that the files may have changed: in `watched_directory`; without one, beside each file of a
    /// secret (as Envoy watches those of SDS), and nowhere for files that other resources name.
    fn directories(&self) -> BTreeSet<PathBuf> {
        let directory = |file: &WatchedFile| match &file.directory {
            Some(directory) => Some(PathBuf::from(&**directory)),
            None if self.kind == Kind::Secret => {
                let beside = Path::new(&*file.path).parent()?;
                let here = beside.as_os_str().is_empty();
                Some(if here {
                    PathBuf::from(".")
                } else {
                    beside.to_owned()
                })
            }
            None => None,
        };
        self.files.iter().filter_map(directory).collect()
    }
}

/// The watches, one task each.
#[derive(Debug)]
pub struct Watches {
    tasks: HashMap<PathBuf, JoinHandle<()>>,
    moved: mpsc::Sender<PathBuf>,
}

impl Watches {
    /// None yet. Directories into which something moved are sent to `moved`.
    pub fn new(moved: mpsc::Sender<PathBuf>) -> Self {
        Self {
            tasks: HashMap::new(),
            moved,
        }
    }

    /// Watches these directories and no others.
    fn follow(&mut self, directories: Vec<PathBuf>) {
        self.tasks.retain(|directory, task| {
            let kept = directories.contains(directory);
            if !kept {
                task.abort();
            }
            kept
        });
        for directory in directories {
            self.tasks.entry(directory).or_insert_with_key(|directory| {
                tokio::task::spawn_local(watch(directory.clone(), self.moved.clone()))
            });
        }
    }
}

/// Watches one directory until nobody listens.
async fn watch(directory: PathBuf, moved: mpsc::Sender<PathBuf>) {
    let mut complained = false;
    loop {
        match DirectoryWatch::new(&directory) {
            Ok(mut watch) => {
                complained = false;
                // What moved before the watch stood was seen by nobody.
                loop {
                    if moved.send(directory.clone()).await.is_err() {
                        return;
                    }
                    if watch.renamed().await.is_err() {
                        break;
                    }
                }
            }
            Err(error) if !complained => {
                tracing::warn!(directory = %directory.display(), %error, "cannot watch, trying again every second");
                complained = true;
            }
            Err(_) => {}
        }
        tokio::time::sleep(RETRY).await;
    }
}

impl Control {
    /// Watches where resources are read from now.
    pub(super) fn watch_files(&mut self) {
        if let Some(directories) = self.catalog.files.take_changes() {
            self.watches.follow(directories);
        }
    }

    /// Something moved into `directory`: everything that is read there is read again.
    pub(super) fn reread(&mut self, directory: &Path) {
        for reader in self.catalog.files.of(directory) {
            let Some(held) = self.catalog.held.at(reader.kind, &reader.name).cloned() else {
                continue;
            };
            let arrived = Arrived {
                source: &reader.source,
                name: &reader.name,
                version: &held.version,
                body: &held.body,
                is_static: held.is_static,
            };
            let Reader {
                kind, name, files, ..
            } = &reader;
            let files: Vec<&str> = files.iter().map(|file| &*file.path).collect();
            match self.accept(*kind, &arrived) {
                Ok(()) => {
                    tracing::debug!(?kind, %name, ?files, "read again");
                    // A newer version that was refused stays refused, whatever the files say.
                    let newer = held.rejected.filter(|rejected| rejected.version != held.version);
                    self.catalog.held.reject_again(*kind, name, newer);
                }
                Err(reason) => {
                    tracing::warn!(
                        ?kind, %name, ?files, directory = %directory.display(), %reason,
                        "files changed and are of no use; what was read before stays"
                    );
                    if *kind == Kind::Secret {
                        self.count(*kind, name, Update::FilesRefused);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(kind: Kind, name: &str, files: &[(&str, Option<&str>)]) -> Reader {
        let file = |(path, directory): &(&str, Option<&str>)| WatchedFile {
            path: (*path).into(),
            directory: directory.map(Name::from),
        };
        Reader {
            kind,
            name: name.into(),
            source: None,
            files: files.iter().map(file).collect(),
        }
    }

    fn paths(of: &[&str]) -> Option<Vec<PathBuf>> {
        Some(of.iter().map(PathBuf::from).collect())
    }

    #[test]
    fn secrets_are_watched_beside_their_files_and_others_where_they_say() {
        let mut readers = Readers::default();
        readers.enter(reader(
            Kind::Secret,
            "s",
            &[("/a/cert", None), ("/a/key", None), ("here", None)],
        ));
        readers.enter(reader(Kind::Secret, "t", &[("/a/cert", Some("/b"))]));
        readers.enter(reader(Kind::Cluster, "c", &[("/c/ca", None)]));
        readers.enter(reader(Kind::Listener, "l", &[("/c/ca", Some("/b"))]));
        assert_eq!(readers.take_changes(), paths(&["/a", "/b", "."]));
        let names = |directory: &str| -> Vec<Name> {
            let of = readers.of(Path::new(directory));
            of.into_iter().map(|reader| reader.name).collect()
        };
        assert_eq!(names("/a"), ["s".into()]);
        assert_eq!(names("/b"), ["l".into(), "t".into()]);
        assert!(names("/c").is_empty());
    }

    #[test]
    fn a_directory_is_watched_as_long_as_somebody_reads_there() {
        let mut readers = Readers::default();
        readers.enter(reader(Kind::Secret, "s", &[("/a/x", None)]));
        readers.enter(reader(Kind::Secret, "t", &[("/a/y", None)]));
        assert_eq!(readers.take_changes(), paths(&["/a"]));
        readers.enter(reader(Kind::Secret, "s", &[("/b/x", None)]));
        assert_eq!(readers.take_changes(), paths(&["/a", "/b"]));
        readers.remove(Kind::Secret, &"t".into());
        assert_eq!(readers.take_changes(), paths(&["/b"]));
        readers.enter(reader(Kind::Secret, "s", &[]));
        assert_eq!(readers.take_changes(), paths(&[]));
        assert_eq!(readers.take_changes(), None);
    }

    /// A kubelet's swap: files below a directory that a symbolic link names, replaced by one rename.
    #[test]
    fn a_rename_into_a_watched_directory_is_told() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, async {
            let folder = tempfile::tempdir().unwrap();
            let (moved, mut told) = mpsc::channel(4);
            let mut watches = Watches::new(moved);
            watches.follow(vec![folder.path().to_owned()]);
            // Once when the watch stands, and once for the move.
            assert_eq!(told.recv().await.unwrap(), folder.path());
            let link = folder.path().join("staged");
            std::os::unix::fs::symlink("..1", &link).unwrap();
            std::fs::rename(&link, folder.path().join("..data")).unwrap();
            assert_eq!(told.recv().await.unwrap(), folder.path());
            watches.follow(Vec::new());
            drop(watches);
            assert!(told.recv().await.is_none(), "nobody watches any more");
        });
    }
}
