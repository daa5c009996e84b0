//! What a translation may look at and add to, and the notes that it takes on the way.
//!
//! Holds: a [`Context`] belongs to the caller and lives across resources; a [`Work`] lives for one resource and
//! collects its problems, what it subscribes to and which files it read.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::Arc;

use remora_model::Name;
use remora_model::identity::ClientTls;
use remora_model::snapshot::{ClusterId, ClusterMark, Interner, RouteTableMark, SecretMark, Snapshot};

use crate::filter::local_rate_limit::{Known, LimitsBefore};
use crate::fingerprint;
use crate::listener::BUFFER_LIMIT;
use crate::rejection::{Problem, Rejection};
use crate::repeated::Repeated;
use crate::reviewed::Reviewed;
use crate::subscription::Subscription;

/// Problems kept per resource; a hostile resource must not fill the memory with sentences.
const MAX_PROBLEMS: usize = 256;

/// Everything that a translation needs besides the bytes.
pub struct Context<'a> {
    /// Cluster names.
    pub clusters: &'a mut Interner<ClusterMark>,
    /// Names of RDS route configurations.
    pub route_tables: &'a mut Interner<RouteTableMark>,
    /// Names of SDS secrets.
    pub secrets: &'a mut Interner<SecretMark>,
    /// The world before: unchanged virtual hosts, filter chains and clusters are shared with it.
    pub previous: Option<&'a Snapshot>,
    /// Counts what was set and is not honoured.
    pub ignored: &'a mut IgnoredFields,
    /// What earlier resources said in the same words.
    pub repeated: &'a mut Repeated,
    /// Where `filename` and `environment_variable` are read.
    pub files: &'a dyn Files,
}

impl fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("ignored", &self.ignored)
            .finish_non_exhaustive()
    }
}

/// Where a `DataSource` that is not inline comes from; a seam for tests.
pub trait Files {
    /// The bytes of a file.
    ///
    /// # Errors
    /// Those of the file system.
    fn read(&self, path: &str) -> io::Result<Vec<u8>>;

    /// An environment variable, if it is set and is text.
    fn variable(&self, name: &str) -> Option<String>;
}

/// The files and variables of this process.
#[derive(Debug, Clone, Copy, Default)]
pub struct LocalFiles;

impl Files for LocalFiles {
    fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        std::fs::read(path)
    }

    fn variable(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }
}

/// How often each field was set although it is not honoured, by its name (`Cluster.outlier_detection`).
#[derive(Debug, Clone, Default)]
pub struct IgnoredFields {
    counts: BTreeMap<&'static str, u64>,
    /// Where each one stood, if that is to be noted.
    places: Option<Vec<IgnoredAt>>,
}

/// A field that was set and is not honoured, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IgnoredAt {
    /// Its name in the reviewed lists.
    pub field: &'static str,
    /// Path of the message that holds it, inside its resource.
    pub path: String,
}

impl IgnoredFields {
    /// Notes places too; without a bound, so for previews and not for serving.
    pub fn with_places() -> Self {
        Self {
            places: Some(Vec::new()),
            ..Self::default()
        }
    }

    /// The places noted since the last call.
    pub fn take_places(&mut self) -> Vec<IgnoredAt> {
        self.places.as_mut().map(std::mem::take).unwrap_or_default()
    }

    fn note(&mut self, field: &'static str, path: &str) {
        self.count(field);
        if let Some(places) = &mut self.places {
            places.push(IgnoredAt {
                field,
                path: path.to_owned(),
            });
        }
    }

    /// Counts one resource that sets this field.
    pub fn count(&mut self, field: &'static str) {
        debug_assert!(
            crate::ignored::ignored_fields()
                .iter()
                .any(|(name, _)| *name == field),
            "{field} is ignored without a reason"
        );
        *self.counts.entry(field).or_default() += 1;
    }

    /// All fields ever seen, with their counts, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.counts.iter().map(|(field, count)| (*field, *count))
    }
}

/// A file that a resource was read from: the resource is to be translated again when it changes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct WatchedFile {
    /// Path of the file.
    pub path: Name,
    /// `watched_directory`: only moves inside this folder count (atomic symlink swaps).
    pub directory: Option<Name>,
}

/// One step of a field path.
pub(crate) trait Segment {
    fn append_to(&self, path: &mut String);
}

impl Segment for &str {
    fn append_to(&self, path: &mut String) {
        path.push_str(self);
    }
}

impl Segment for &String {
    fn append_to(&self, path: &mut String) {
        path.push_str(self);
    }
}

/// An element of a repeated field.
struct Element<'f>(&'f str, usize);

impl Segment for Element<'_> {
    fn append_to(&self, path: &mut String) {
        path.push_str(self.0);
        // A string takes everything.
        let _ = fmt::Write::write_fmt(path, format_args!("[{}]", self.1));
    }
}

/// The translation of one resource.
pub(crate) struct Work<'c, 'a> {
    pub(crate) context: &'c mut Context<'a>,
    path: String,
    problems: Vec<Problem>,
    pub(crate) subscriptions: Vec<Subscription>,
    pub(crate) files: Vec<WatchedFile>,
    /// The name of the cluster that is being translated.
    pub(crate) own_name: Option<Name>,
    /// TLS contexts of the same cluster in the version before.
    pub(crate) before: Vec<Arc<ClientTls>>,
    /// Rate limits of the same listener or virtual host in the version before, whose buckets stay in use.
    pub(crate) limits_before: LimitsBefore,
    /// `per_connection_buffer_limit_bytes` of the listener that is being translated.
    pub(crate) buffer_limit: u32,
    /// `auto_san_validation` of the cluster that is being translated: its servers must be who the SNI says.
    pub(crate) names_judged: bool,
    /// Hash over the contents of all files read so far.
    pub(crate) file_hash: u64,
    /// Whether the routes that are translated now are to name clusters that are there (`validate_clusters`).
    pub(crate) clusters_must_exist: bool,
    /// The clusters that such routes name.
    pub(crate) expected_clusters: Vec<ExpectedCluster>,
}

/// A cluster that an inline route names and that must be there, as Envoy's `validate_clusters` has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpectedCluster {
    /// Its name.
    pub name: Name,
    /// Where it is named, and Envoy's sentence for when it is not there.
    pub problem: Problem,
}

impl<'c, 'a> Work<'c, 'a> {
    pub(crate) fn new(context: &'c mut Context<'a>) -> Self {
        Self {
            context,
            // Long enough for most fields: it grows and shrinks with every step.
            path: String::with_capacity(96),
            problems: Vec::new(),
            subscriptions: Vec::new(),
            files: Vec::new(),
            own_name: None,
            before: Vec::new(),
            limits_before: Vec::new(),
            buffer_limit: BUFFER_LIMIT,
            names_judged: false,
            file_hash: 0,
            clusters_must_exist: false,
            expected_clusters: Vec::new(),
        }
    }

    /// The id of a cluster that a route names; `kind` is Envoy's word for how (`cluster`, `weighted cluster`).
    pub(crate) fn routed_cluster(&mut self, kind: &str, name: &str) -> ClusterId {
        self.expect_cluster(&format!("route: unknown {kind}"), name);
        self.context.clusters.id(name)
    }

    /// Notes that a cluster is named where it must be there; `sentence` is Envoy's for when it is not.
    pub(crate) fn expect_cluster(&mut self, sentence: &str, name: &str) {
        let known = |expected: &ExpectedCluster| *expected.name == *name;
        if self.clusters_must_exist && !name.is_empty() && !self.expected_clusters.iter().any(known) {
            self.expected_clusters.push(ExpectedCluster {
                name: name.into(),
                problem: Problem {
                    path: self.path.clone(),
                    sentence: format!("{sentence} '{name}'"),
                },
            });
        }
    }

    /// Does `step` inside the field `field`.
    pub(crate) fn at<T>(&mut self, field: impl Segment, step: impl FnOnce(&mut Self) -> T) -> T {
        let before = self.path.len();
        if before > 0 {
            self.path.push('.');
        }
        field.append_to(&mut self.path);
        let result = step(self);
        self.path.truncate(before);
        result
    }

    /// Does `step` inside every element of a repeated field, and keeps what came of it.
    pub(crate) fn each<I, T>(
        &mut self,
        field: &str,
        items: impl IntoIterator<Item = I>,
        mut step: impl FnMut(&mut Self, I) -> Option<T>,
    ) -> Vec<T> {
        let items = items.into_iter();
        // As many as there are, since most of these lists live as long as the configuration.
        let mut kept = Vec::with_capacity(items.size_hint().0);
        for (index, item) in items.enumerate() {
            kept.extend(self.at(Element(field, index), |work| step(work, item)));
        }
        kept
    }

    /// The name of a cluster, or one that is often the same: the very one that is known already, if it is.
    pub(crate) fn cluster_name(&self, name: &str) -> Name {
        if let Some(own) = self.own_name.as_ref().filter(|own| ***own == *name) {
            return Arc::clone(own);
        }
        let clusters = &*self.context.clusters;
        let known = clusters.known(name).and_then(|id| clusters.name(id));
        known.cloned().unwrap_or_else(|| name.into())
    }

    /// Takes a limit of the version before that nobody has claimed yet.
    pub(crate) fn claim_limit<T>(&mut self, mut same: impl FnMut(&Known) -> Option<T>) -> Option<T> {
        let before = self.limits_before.iter().enumerate();
        let (index, found) = { before }.find_map(|(index, known)| Some((index, same(known)?)))?;
        self.limits_before.remove(index);
        Some(found)
    }

    /// Notes a problem with the field where we are.
    pub(crate) fn wrong(&mut self, sentence: impl Into<String>) {
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(Problem {
                path: self.path.clone(),
                sentence: sentence.into(),
            });
        }
    }

    /// Notes a problem with a field below, or with the one where we are if it has no name.
    pub(crate) fn wrong_at(&mut self, field: &str, sentence: impl Into<String>) {
        if field.is_empty() {
            return self.wrong(sentence);
        }
        self.at(field, |work| work.wrong(sentence));
    }

    /// Counts and refuses what the reviewed lists say of a message.
    pub(crate) fn review(&mut self, message: &impl Reviewed) {
        message.review(self);
    }

    pub(crate) fn ignored(&mut self, field: &'static str) {
        self.context.ignored.note(field, &self.path);
    }

    /// Reads a file, notes it and its contents.
    pub(crate) fn read(&mut self, path: &str, directory: Option<&str>) -> io::Result<Vec<u8>> {
        let bytes = self.context.files.read(path)?;
        self.file_hash = fingerprint::of((self.file_hash, path, &bytes));
        let file = WatchedFile {
            path: path.into(),
            directory: directory.map(Name::from),
        };
        if !self.files.contains(&file) {
            self.files.push(file);
        }
        Ok(bytes)
    }

    /// Does `step` and also returns the hash over the contents of the files that it read; 0 where it read none.
    pub(crate) fn with_files<T>(&mut self, step: impl FnOnce(&mut Self) -> T) -> (T, u64) {
        let before = std::mem::take(&mut self.file_hash);
        let result = step(self);
        let read = self.file_hash;
        self.file_hash = if read == 0 {
            before
        } else {
            fingerprint::of((before, read))
        };
        (result, read)
    }

    /// `part` if nothing was wrong, else everything that was.
    pub(crate) fn verdict<T>(&mut self, resource: &str, part: Option<T>) -> Result<T, Rejection> {
        match part {
            Some(part) if self.problems.is_empty() => Ok(part),
            _ => {
                if self.problems.is_empty() {
                    self.wrong("cannot be translated");
                }
                Err(Rejection {
                    resource: resource.into(),
                    problems: std::mem::take(&mut self.problems),
                })
            }
        }
    }
}

/// A resource whose bytes are not its message.
pub(crate) fn undecodable(message: &str, error: &prost::DecodeError) -> Rejection {
    let problem = Problem {
        path: String::new(),
        sentence: format!("cannot be decoded as {message}: {error}"),
    };
    Rejection {
        resource: "".into(),
        problems: vec![problem],
    }
}
