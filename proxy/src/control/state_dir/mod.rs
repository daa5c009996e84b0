//! Fail-static: the last good resources on disk, so that a start without a control plane serves them.
//!
//! | question | module |
//! | --- | --- |
//! | what do the files say | [`store`] (pure) |
//! | who writes them | [`writer`], a thread |
//! | what is to be written, and when | here |
//! | when are they used, and when no more | [`restore`] |
//!
//! Holds: only a world that was ready once is written, and of each cluster and listener the version in use, not one that
//! still warms; nothing is written while the world itself comes from the files; at most one write per second.

mod restore;
mod store;
mod writer;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use remora_model::Name;
use remora_translate::config_source::{GrpcSource, GrpcTarget, Source, Variant};
use tokio::sync::mpsc;

pub use self::restore::Found;
use self::restore::Standing;
use self::store::{Fate, Identity, Kept, Key, Record};
use self::writer::Writer;
use super::Control;
use super::held::Kind;
use super::needs::{Need, kind_of};
use super::readiness::Phase;
use super::sources::Origin;
use crate::observe::Observe;

/// Between two writes.
const WRITE_INTERVAL: Duration = Duration::from_secs(1);
/// After one that failed.
const WRITE_RETRY: Duration = Duration::from_secs(10);
/// How long the process waits for its last write.
const LAST_WRITE: Duration = Duration::from_secs(1);

/// What the command line says.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where.
    pub directory: PathBuf,
    /// How long the control plane may take to be reached before the files are used.
    pub wait: Duration,
    /// Of the texts and flags that the bootstrap was made of.
    pub fingerprint: u64,
}

/// What changed since the last write.
#[derive(Debug, Default)]
pub struct Journal {
    on: bool,
    changed: HashMap<(Kind, Name), Origin>,
}

impl Journal {
    /// Enters a dynamic resource that was accepted or removed.
    pub fn enter(&mut self, kind: Kind, name: &Name, origin: &Origin) {
        if self.on {
            self.changed.insert((kind, Arc::clone(name)), origin.clone());
        }
    }
}

/// A state directory that is in use.
#[derive(Debug)]
pub struct StateDir {
    options: Options,
    identity: Identity,
    writer: Option<Writer>,
    standing: Standing,
    found: mpsc::Sender<Found>,
    /// Types that the control plane itself answered for.
    answered: Vec<Kind>,
    next_write: Instant,
    origins: Origins,
}

impl StateDir {
    /// Starts the writer. What is read is sent to `found`.
    pub fn new(options: Options, node: String, observe: Arc<Observe>, found: mpsc::Sender<Found>) -> Self {
        let identity = Identity {
            node,
            fingerprint: options.fingerprint,
        };
        let directory = &options.directory;
        let writer = Writer::start(directory, identity.clone(), Arc::clone(&observe))
            .inspect_err(|error| {
                tracing::error!(directory = %directory.display(), %error, "the state directory is of no use");
            })
            .ok();
        observe.control.set("remora.serving_from_snapshot", 0);
        let now = Instant::now();
        Self {
            standing: Standing::Watching {
                until: now + options.wait,
            },
            options,
            identity,
            writer,
            found,
            answered: Vec::new(),
            next_write: now,
            origins: Origins::default(),
        }
    }
}

impl Control {
    /// Notes changes from now on, if there is a state directory.
    pub(super) fn begin_state(&mut self) {
        self.catalog.journal.on = self.state.is_some();
    }

    /// When [`Self::state_time`] has something to do.
    pub(super) fn state_due(&self) -> Option<Instant> {
        let state = self.state.as_ref()?;
        let write = self.is_write_wanted(state).then_some(state.next_write);
        [self.restore_due(state), write].into_iter().flatten().min()
    }

    /// Time passed, or something was taken in: uses the files where the control plane does not answer, and writes them.
    pub(super) fn state_time(&mut self, now: Instant) {
        self.restore_time(now);
        let Some(state) = &self.state else { return };
        if self.is_write_wanted(state) && state.next_write <= now {
            self.keep(now);
        }
    }

    fn is_write_wanted(&self, state: &StateDir) -> bool {
        let complete = matches!(self.phase, Phase::Live | Phase::Draining) && state.standing.is_writable();
        let changed = !self.catalog.journal.changed.is_empty();
        complete
            && state
                .writer
                .as_ref()
                .is_some_and(|writer| changed || writer.wants_whole())
    }

    /// Hands what changed over to the writer.
    fn keep(&mut self, now: Instant) {
        let Some(mut state) = self.state.take() else {
            return;
        };
        state.next_write = now + WRITE_INTERVAL;
        if let Some(writer) = &state.writer
            && writer.is_idle()
        {
            if writer.take_failed() {
                state.next_write = now + WRITE_RETRY;
            } else if writer.wants_whole() {
                let records = self.whole(&mut state.origins);
                let mut changed = std::mem::take(&mut self.catalog.journal.changed);
                changed.retain(|(kind, name), _| self.catalog.is_warming(*kind, name));
                self.catalog.journal.changed = changed;
                writer.whole(records);
            } else {
                let records = self.changes(&mut state.origins);
                if !records.is_empty() {
                    writer.changes(records);
                }
            }
        }
        self.state = Some(state);
    }

    /// Writes what is not written yet; the process ends.
    pub(super) fn keep_last(&mut self) {
        let wanted = self
            .state
            .as_ref()
            .is_some_and(|state| self.is_write_wanted(state));
        if wanted {
            self.keep(Instant::now());
        }
        if let Some(writer) = self.state.as_mut().and_then(|state| state.writer.as_mut()) {
            writer.finish(LAST_WRITE);
        }
    }

    /// Every dynamic resource in use.
    fn whole(&self, origins: &mut Origins) -> Vec<Record> {
        let mut records = Vec::new();
        for (kind, source) in [
            (Kind::Cluster, &self.bootstrap.cds),
            (Kind::Listener, &self.bootstrap.lds),
        ] {
            let source = source.as_ref().map(|config| config.source.clone());
            let names = self.catalog.held.of(kind).map(|(name, _)| name);
            records.extend(
                names
                    .filter(|name| !self.catalog.is_new(kind, name))
                    .filter_map(|name| self.record(kind, name, &source, origins)),
            );
        }
        let needs = self.catalog.needs.all();
        records
            .extend(needs.filter_map(|Need { kind, source, name }| {
                self.record(kind_of(*kind), name, source, origins)
            }));
        records.retain(|record| record.fate != Fate::Gone);
        records
    }

    /// What the journal has, but for what still warms.
    fn changes(&mut self, origins: &mut Origins) -> Vec<Record> {
        let changed = std::mem::take(&mut self.catalog.journal.changed);
        let mut records = Vec::new();
        for ((kind, name), origin) in changed {
            if self.catalog.is_warming(kind, &name) {
                self.catalog.journal.changed.insert((kind, name), origin);
            } else {
                records.extend(self.record(kind, &name, &origin, origins));
            }
        }
        records
    }

    /// A resource as it is in use. Nothing of what is on the disk anyway: static ones and those from files.
    fn record(&self, kind: Kind, name: &Name, origin: &Origin, origins: &mut Origins) -> Option<Record> {
        let origin = origins.text(origin)?;
        let key = Key {
            kind,
            name: Arc::clone(name),
        };
        let in_use = self.catalog.serving.get(&(kind, Arc::clone(name)));
        let fate = match in_use.or_else(|| self.catalog.held.at(kind, name)) {
            Some(held) if held.is_static => return None,
            Some(held) if !held.body.is_empty() => Fate::Kept(Kept {
                version: Arc::clone(&held.version),
                origin,
                body: held.body.clone(),
            }),
            _ => Fate::Gone,
        };
        Some(Record { key, fate })
    }
}

/// Words for sources, made once for each.
#[derive(Debug, Default)]
struct Origins(Vec<(Source, Arc<str>)>);

impl Origins {
    /// The words; none for what is on the disk anyway.
    fn text(&mut self, origin: &Origin) -> Option<Arc<str>> {
        let source = origin.as_ref()?;
        if let Some((_, text)) = self.0.iter().find(|(known, _)| known == source) {
            return Some(Arc::clone(text));
        }
        let text: Arc<str> = match source {
            Source::Ads => "ads".into(),
            Source::Grpc(grpc) => words_of(grpc).into(),
            Source::Path(_) => return None,
        };
        self.0.push((source.clone(), Arc::clone(&text)));
        Some(text)
    }
}

/// Which servers, spoken to in which way.
fn words_of(grpc: &GrpcSource) -> String {
    let mut words = String::from(match grpc.variant {
        Variant::StateOfTheWorld => "grpc",
        Variant::Delta => "delta_grpc",
    });
    for service in &grpc.services {
        let (kind, name) = match &service.target {
            GrpcTarget::Cluster(name) => ("cluster", name),
            GrpcTarget::Uri(uri) => ("uri", uri),
        };
        let authority = service.authority.as_deref().unwrap_or_default();
        words.push_str(&format!(" {kind}={name:?},{authority:?}"));
    }
    words
}
