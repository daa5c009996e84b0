//! When are the files used, and when no more?
//!
//! ```text
//! Watching --the control plane cannot be reached, or says nothing for long--> Reading --read--> Serving
//!    \--ready without them--> Over <--nothing to read, or refused--/                |
//!                              ^--the control plane spoke of everything that is left-/
//! ```
//! Holds: a start that the control plane answers is not delayed; what the control plane said in this process is never
//! replaced from the files, they fill holes; what it does not have any more goes when what replaces it is in use. Secrets
//! with private keys are not in the files: what needs them warms until SDS answers.

use std::collections::HashSet;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use remora_model::Name;
use remora_translate::config_source::{ConfigSource, Source};
use remora_xds_client as xds;

use super::store::{self, Identity, Store};
use super::{StateDir, writer};
use crate::control::Control;
use crate::control::catalog::{Arrived, PATIENCE};
use crate::control::held::Kind;
use crate::control::needs::{Need, User, kind_of};
use crate::control::readiness::Phase;
use crate::control::sources::{ClientKey, Origin};

/// How long a control plane that can be reached may think before it answers, or between two answers.
const ANSWER: Duration = Duration::from_secs(1);
/// No answer for this long: the control plane said everything. A first delta answer may come in several responses.
const QUIET: Duration = Duration::from_millis(500);
/// How long what is no longer there waits for what replaces it.
const REPLACEMENT: Duration = PATIENCE;

/// What was read: a store, none, or why it is of no use.
pub type Found = Result<Option<Store>, String>;

/// Whether the world comes from the files.
#[derive(Debug)]
pub enum Standing {
    /// Start-up, and it is not clear yet whether they are needed.
    Watching {
        /// Then they are.
        until: Instant,
    },
    /// They are being read.
    Reading,
    /// Parts of the world come from them.
    Serving(Serving),
    /// Not, or no more.
    Over,
}

/// The parts of the world that come from the files.
#[derive(Debug)]
pub struct Serving {
    /// What the control plane did not speak of yet.
    open: HashSet<(Kind, Name)>,
    saved: SystemTime,
    /// When the control plane said something last.
    heard: Instant,
    /// When to look next whether it said everything.
    next_look: Instant,
    /// Since when it has answered for clusters and listeners.
    answered: Option<Instant>,
    /// What it does not have any more was removed.
    swept: bool,
}

impl Standing {
    /// Whether the world is the control plane's, so that it may be written.
    pub fn is_writable(&self) -> bool {
        match self {
            Self::Watching { .. } | Self::Reading => false,
            Self::Serving(serving) => serving.swept,
            Self::Over => true,
        }
    }
}

impl Control {
    /// What `/ready` says while parts of the world come from the files.
    pub(in crate::control) fn serving_from_snapshot(&self) -> Option<String> {
        let Standing::Serving(serving) = &self.state.as_ref()?.standing else {
            return None;
        };
        let age = serving.saved.elapsed().unwrap_or_default().as_secs();
        let open = serving.open.len();
        Some(format!(
            "serving_from_snapshot: saved {age} s ago; the control plane has not spoken of {open} resources yet"
        ))
    }

    pub(super) fn restore_due(&self, state: &StateDir) -> Option<Instant> {
        match &state.standing {
            Standing::Watching { until } if self.is_starting() => Some(*until),
            Standing::Watching { .. } => Some(Instant::now()),
            Standing::Serving(serving) => Some(serving.next_look),
            Standing::Reading | Standing::Over => None,
        }
    }

    pub(super) fn restore_time(&mut self, now: Instant) {
        let starting = self.is_starting();
        let Some(state) = &mut self.state else { return };
        match &state.standing {
            Standing::Watching { .. } if !starting => state.standing = Standing::Over,
            Standing::Watching { until } if *until <= now => self.read_state("it does not answer"),
            Standing::Serving(serving) if serving.next_look <= now => self.sweep(now),
            Standing::Watching { .. } | Standing::Reading | Standing::Serving(_) | Standing::Over => {}
        }
    }

    fn is_starting(&self) -> bool {
        matches!(self.phase, Phase::Clusters | Phase::Listeners)
    }

    /// Hears what a source's client says of its stream.
    pub(in crate::control) fn state_hears(&mut self, key: &ClientKey, event: &xds::Event) {
        let now = Instant::now();
        let concerns_us = self.is_of_first_rank(key);
        let starting = self.is_starting();
        let Some(state) = &mut self.state else { return };
        match (&mut state.standing, event) {
            (Standing::Watching { until }, xds::Event::Connected { .. } | xds::Event::Update(_)) => {
                *until = (*until).max(now + ANSWER);
            }
            (Standing::Watching { .. }, xds::Event::Disconnected { reason, .. })
                if concerns_us && starting =>
            {
                let reason = reason.clone();
                self.read_state(&reason);
            }
            (Standing::Serving(serving), xds::Event::Update(_)) => {
                serving.heard = now;
            }
            _ => {}
        }
    }

    /// Whether this client is the one for clusters or for listeners.
    fn is_of_first_rank(&self, key: &ClientKey) -> bool {
        self.first_rank().iter().any(|(_, client)| client == key)
    }

    /// The clients for clusters and listeners, where they come from a server.
    fn first_rank(&self) -> Vec<(Kind, ClientKey)> {
        let both = [
            (Kind::Cluster, &self.bootstrap.cds),
            (Kind::Listener, &self.bootstrap.lds),
        ];
        both.into_iter()
            .filter_map(|(kind, config)| {
                let ConfigSource { source, .. } = config.as_ref()?;
                let server = !matches!(source, Source::Path(_));
                server.then(|| (kind, ClientKey::of(source, kind.type_url())))
            })
            .collect()
    }

    fn read_state(&mut self, reason: &str) {
        let Some(state) = &mut self.state else { return };
        tracing::info!(
            directory = %state.options.directory.display(), %reason,
            "no control plane at start: looking for the last good resources"
        );
        let (directory, identity, found) = (
            state.options.directory.clone(),
            state.identity.clone(),
            state.found.clone(),
        );
        let reader = std::thread::Builder::new().name("state-read".into());
        let started = reader.spawn(move || {
            // At shutdown nobody wants it any more.
            let _ = found.blocking_send(read(&directory, &identity));
        });
        state.standing = match started {
            Ok(_) => Standing::Reading,
            Err(error) => {
                tracing::warn!(%error, "no thread to read the state directory");
                Standing::Over
            }
        };
    }

    /// What was read is used, unless the control plane was quicker.
    pub(in crate::control) fn restore(&mut self, found: Found) {
        let starting = self.is_starting();
        let Some(state) = &mut self.state else { return };
        state.standing = Standing::Over;
        let store = match found {
            Ok(Some(store)) if starting => store,
            Ok(Some(_)) => return,
            Ok(None) => {
                tracing::info!("no snapshot of earlier resources; waiting for the control plane");
                return;
            }
            Err(reason) => {
                tracing::warn!(%reason, "the snapshot is refused; starting without it");
                return;
            }
        };
        let saved = store.saved;
        let open = self.take_over(store);
        let count = |kind| open.iter().filter(|(of, _)| *of == kind).count();
        tracing::warn!(
            age = ?saved.elapsed().unwrap_or_default(),
            listeners = count(Kind::Listener), routes = count(Kind::RouteConfiguration),
            clusters = count(Kind::Cluster), endpoints = count(Kind::Endpoints), secrets = count(Kind::Secret),
            "serving_from_snapshot: the control plane is not there, its last good resources are used"
        );
        let metrics = &self.shared.observe.control;
        metrics.set("remora.serving_from_snapshot", 1);
        let seconds = saved
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        metrics.set(
            "remora.snapshot_saved_timestamp_seconds",
            i64::try_from(seconds).unwrap_or(i64::MAX),
        );
        if let Some(state) = &mut self.state {
            state.standing = Standing::Serving(Serving {
                open,
                saved,
                heard: Instant::now(),
                next_look: Instant::now() + QUIET,
                answered: None,
                swept: false,
            });
        }
    }

    /// Takes in what the control plane has not answered for. Returns what came from the store.
    fn take_over(&mut self, mut store: Store) -> HashSet<(Kind, Name)> {
        let mut open = HashSet::new();
        let withheld: Vec<Kind> = store.withheld.iter().map(|key| key.kind).collect();
        for (kind, key) in self.first_rank() {
            if self
                .state
                .as_ref()
                .is_some_and(|state| state.answered.contains(&kind))
            {
                continue;
            }
            let names: Vec<Name> = store
                .resources
                .keys()
                .filter(|(of, _)| *of == kind)
                .map(|(_, name)| Arc::clone(name))
                .collect();
            for name in names {
                if self.catalog.held.at(kind, &name).is_none() {
                    self.take_one(kind, &name, &key.origin(), &mut store, &mut open);
                }
            }
            if withheld.contains(&kind) {
                // Something that served is missing: not ready before the control plane sends it.
                tracing::warn!(
                    ?kind,
                    "the snapshot lacks resources that hold private keys; not ready without them"
                );
            } else {
                self.note_heard(kind);
            }
        }
        self.wake_kept(&store);
        for need in self.catalog.open_needs() {
            let kind = kind_of(need.kind);
            let taken = self.take_one(kind, &need.name, &need.source, &mut store, &mut open);
            // Where the world that was kept went without it, so does this one; but never without a secret.
            if !taken && kind != Kind::Secret && self.needed_only_by(&need, &open) {
                self.catalog.give_up(kind, &need.source, &need.name);
            }
        }
        open
    }

    /// Clusters whose endpoints were kept were in use.
    fn wake_kept(&mut self, store: &Store) {
        let kept = |name: &Name| store.resources.contains_key(&(Kind::Endpoints, Arc::clone(name)));
        let asleep = self.catalog.on_demand.asleep();
        let used: Vec<Name> = asleep
            .filter(|(_, need)| kept(&need.name))
            .map(|(name, _)| Arc::clone(name))
            .collect();
        for name in used {
            self.catalog.wake(&name, Instant::now());
        }
    }

    /// Whether everybody who refers to this resource is among `users`.
    fn needed_only_by(&self, need: &Need, users: &HashSet<(Kind, Name)>) -> bool {
        let referring = self.catalog.needs.users(need);
        referring.into_iter().all(|user| match user {
            User::Cluster(name) => users.contains(&(Kind::Cluster, name)),
            User::Listener(name) => users.contains(&(Kind::Listener, name)),
        })
    }

    fn take_one(
        &mut self,
        kind: Kind,
        name: &Name,
        origin: &Origin,
        store: &mut Store,
        open: &mut HashSet<(Kind, Name)>,
    ) -> bool {
        let key = (kind, Arc::clone(name));
        let Some(state) = &mut self.state else {
            return false;
        };
        let same = |kept: &store::Kept, state: &mut StateDir| {
            state.origins.text(origin).is_some_and(|text| text == kept.origin)
        };
        if !store.resources.get(&key).is_some_and(|kept| same(kept, state)) {
            return false;
        }
        let Some(kept) = store.resources.remove(&key) else {
            return false;
        };
        let arrived = Arrived {
            source: origin,
            name,
            version: &kept.version,
            body: &kept.body,
            is_static: false,
        };
        match self.accept(kind, &arrived) {
            Ok(()) => {
                open.insert(key);
                true
            }
            Err(reason) => {
                tracing::warn!(?kind, %name, %reason, "a resource of the snapshot is of no use");
                false
            }
        }
    }

    /// The control plane answered for this type.
    pub(in crate::control) fn state_answered(&mut self, kind: Kind) {
        if let Some(state) = &mut self.state
            && !state.answered.contains(&kind)
        {
            state.answered.push(kind);
        }
    }

    /// The control plane spoke of a resource, whatever it said.
    pub(in crate::control) fn state_confirms(&mut self, kind: Kind, name: &Name) -> bool {
        match self.state.as_mut().map(|state| &mut state.standing) {
            Some(Standing::Serving(serving)) => serving.open.remove(&(kind, Arc::clone(name))),
            _ => false,
        }
    }

    /// Whether the control plane sent the very bytes that are in use from the files; then there is nothing to do.
    pub(in crate::control) fn is_restored(&mut self, kind: Kind, resource: &xds::Resource) -> bool {
        if !self.state_confirms(kind, &resource.name) {
            return false;
        }
        self.catalog
            .held
            .renew(kind, &resource.name, &resource.version, &resource.body)
    }

    /// Removes what the control plane does not have any more, when what replaces it is in use.
    fn sweep(&mut self, now: Instant) {
        let first_rank = self.first_rank();
        let connected = first_rank
            .iter()
            .all(|(_, key)| matches!(self.connected.get(key), Some(Ok(()))));
        let warming = self.catalog.warming_count(Kind::Cluster) + self.catalog.warming_count(Kind::Listener);
        let Some(state) = &mut self.state else { return };
        let all_answered = first_rank.iter().all(|(kind, _)| state.answered.contains(kind));
        let Standing::Serving(serving) = &mut state.standing else {
            return;
        };
        serving.next_look = now + QUIET;
        if all_answered && connected && now >= serving.heard + QUIET {
            let since = *serving.answered.get_or_insert(now);
            let routes_open = serving
                .open
                .iter()
                .any(|(kind, _)| *kind == Kind::RouteConfiguration);
            let patient = now < since + REPLACEMENT;
            if !(patient && (warming > 0 || routes_open)) {
                serving.swept = true;
            }
        }
        if !serving.swept {
            return;
        }
        let gone: Vec<(Kind, Name)> = serving
            .open
            .iter()
            .filter(|(kind, _)| matches!(kind, Kind::Listener | Kind::Cluster))
            .cloned()
            .collect();
        for (kind, name) in &gone {
            tracing::info!(?kind, %name, "the control plane does not have it any more; removed");
            self.catalog.remove(*kind, &None, name);
            serving.open.remove(&(*kind, Arc::clone(name)));
        }
        let held = &self.catalog.held;
        serving.open.retain(|(kind, name)| held.at(*kind, name).is_some());
        if serving.open.is_empty() {
            tracing::info!("the control plane is back; nothing comes from the snapshot any more");
            state.standing = Standing::Over;
            self.shared.observe.control.set("remora.serving_from_snapshot", 0);
        }
    }
}

fn read(directory: &Path, identity: &Identity) -> Found {
    let content = |name: &str| -> Result<Option<store::Content>, String> {
        let path = directory.join(name);
        let in_words = |reason: &dyn std::fmt::Display| format!("{}: {reason}", path.display());
        match std::fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Ok(facts) if facts.len() > store::LIMIT => {
                return Err(in_words(&store::Refused::TooLarge(facts.len())));
            }
            _ => {}
        }
        let bytes = std::fs::read(&path).map_err(|error| in_words(&error))?;
        let content = store::decode(&bytes.into()).map_err(|refused| in_words(&refused))?;
        if content.cut_off > 0 {
            tracing::warn!(file = %path.display(), bytes = content.cut_off, "the last change was cut off and is left out");
        }
        Ok(Some(content))
    };
    let Some(whole) = content(writer::WHOLE)? else {
        return Ok(None);
    };
    let changes = content(writer::CHANGES)?;
    Store::new(whole, changes, identity)
        .map(Some)
        .map_err(|refused| format!("{}: {refused}", directory.display()))
}
