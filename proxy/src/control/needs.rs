//! Who refers to what: the resources that clusters and listeners need, and so what is subscribed to.
//!
//! Holds: a subscription lasts exactly as long as somebody refers to its resource; a change of what one resource needs
//! costs only that resource's references.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use remora_model::Name;
use remora_translate::{Subscription, SubscriptionKind};

use super::held::Kind;
use super::sources::Origin;

/// A resource that somebody refers to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Need {
    /// Its type.
    pub kind: SubscriptionKind,
    /// Where it comes from.
    pub source: Origin,
    /// Its name.
    pub name: Name,
}

impl From<&Subscription> for Need {
    fn from(subscription: &Subscription) -> Self {
        Self {
            kind: subscription.kind,
            source: subscription.source.clone(),
            name: Arc::clone(&subscription.name),
        }
    }
}

/// Who refers to a resource.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum User {
    /// A cluster.
    Cluster(Name),
    /// A listener.
    Listener(Name),
}

type Topic = (Origin, SubscriptionKind);

/// How long one reference waits for its first answer; `None`: for ever.
type FetchTimeout = Option<Duration>;

/// What is wanted of one type from one source.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// All names.
    pub names: BTreeSet<Name>,
    /// How many references wait how long.
    timeouts: BTreeMap<Duration, usize>,
}

impl Wanted {
    /// How long the whole type waits: as long as the least patient reference, and for ever only if all do.
    pub fn fetch_timeout(&self) -> Option<Duration> {
        self.timeouts.keys().next().copied()
    }

    fn enter(&mut self, timeout: FetchTimeout) {
        if let Some(timeout) = timeout {
            *self.timeouts.entry(timeout).or_default() += 1;
        }
    }

    fn strike(&mut self, timeout: FetchTimeout) {
        let Some(timeout) = timeout else { return };
        if let Some(count) = self.timeouts.get_mut(&timeout) {
            *count -= 1;
            if *count == 0 {
                self.timeouts.remove(&timeout);
            }
        }
    }
}

/// Who refers to one resource. Most have one user; a certificate may have ten thousand.
#[derive(Debug)]
enum Users {
    One(User, FetchTimeout),
    Many(HashMap<User, FetchTimeout, Hashing>),
}

impl Users {
    /// Enters a user; what it waited before, if it was one already.
    fn enter(&mut self, user: &User, timeout: FetchTimeout) -> Option<FetchTimeout> {
        match self {
            Self::One(only, waits) if only == user => Some(std::mem::replace(waits, timeout)),
            Self::One(only, waits) => {
                let both = [(only.clone(), *waits), (user.clone(), timeout)];
                *self = Self::Many(both.into_iter().collect());
                None
            }
            Self::Many(users) => users.insert(user.clone(), timeout),
        }
    }

    /// Takes a user out: what it waited, and whether nobody is left.
    fn strike(&mut self, user: &User) -> Option<(FetchTimeout, bool)> {
        match self {
            Self::One(only, waits) => (only == user).then_some((*waits, true)),
            Self::Many(users) => {
                let timeout = users.remove(user)?;
                Some((timeout, users.is_empty()))
            }
        }
    }

    fn names(&self) -> impl Iterator<Item = &User> {
        let (one, many) = match self {
            Self::One(only, _) => (Some(only), None),
            Self::Many(users) => (None, Some(users.keys())),
        };
        one.into_iter().chain(many.into_iter().flatten())
    }
}

type Hashing = rapidhash::fast::RandomState;

/// All references.
#[derive(Debug, Default)]
pub struct Needs {
    users: HashMap<Need, Users, Hashing>,
    wanted: HashMap<Topic, Wanted>,
    changed: HashSet<Topic>,
}

impl Needs {
    /// Enters the references of `user`.
    pub fn add(&mut self, user: &User, needs: &[Subscription]) {
        for subscription in needs {
            let need = Need::from(subscription);
            let timeout = subscription.initial_fetch_timeout;
            let topic = (need.source.clone(), need.kind);
            let wanted = self.wanted.entry(topic.clone()).or_default();
            let before = wanted.fetch_timeout();
            let mut changed = wanted.names.insert(Arc::clone(&need.name));
            wanted.enter(timeout);
            match self.users.entry(need) {
                Entry::Vacant(none) => {
                    none.insert(Users::One(user.clone(), timeout));
                }
                Entry::Occupied(mut users) => {
                    if let Some(replaced) = users.get_mut().enter(user, timeout) {
                        wanted.strike(replaced);
                    }
                }
            }
            changed |= wanted.fetch_timeout() != before;
            if changed {
                self.changed.insert(topic);
            }
        }
    }

    /// Takes references of `user` back, but for those among `kept`. Says which resources nobody needs any more.
    pub fn remove(&mut self, user: &User, needs: &[Subscription], kept: &[Subscription]) -> Vec<Need> {
        let kept: HashSet<Need> = kept.iter().map(Need::from).collect();
        let mut unused = Vec::new();
        for need in needs.iter().map(Need::from).filter(|need| !kept.contains(need)) {
            let Some(users) = self.users.get_mut(&need) else {
                continue;
            };
            let Some((timeout, is_last)) = users.strike(user) else {
                continue;
            };
            let topic = (need.source.clone(), need.kind);
            let wanted = self.wanted.entry(topic.clone()).or_default();
            let before = wanted.fetch_timeout();
            wanted.strike(timeout);
            let mut changed = wanted.fetch_timeout() != before;
            if is_last {
                self.users.remove(&need);
                wanted.names.remove(&need.name);
                changed = true;
                unused.push(need);
            }
            if changed {
                self.changed.insert(topic);
            }
        }
        unused
    }

    /// Who refers to this resource.
    pub fn users(&self, need: &Need) -> Vec<User> {
        let mut users: Vec<User> = self
            .users
            .get(need)
            .into_iter()
            .flat_map(Users::names)
            .cloned()
            .collect();
        users.sort_unstable();
        users
    }

    /// Every resource that somebody refers to.
    pub fn all(&self) -> impl Iterator<Item = &Need> {
        self.users.keys()
    }

    /// Whether anybody refers to this resource.
    pub fn is_used(&self, need: &Need) -> bool {
        self.users.contains_key(need)
    }

    /// Every topic that changed since the last call, complete.
    pub fn take_changes(&mut self) -> Vec<(Origin, SubscriptionKind, Wanted)> {
        self.changed
            .drain()
            .map(|topic| {
                let wanted = self.wanted.get(&topic).cloned().unwrap_or_default();
                (topic.0, topic.1, wanted)
            })
            .collect()
    }
}

/// The reference to a resource of this kind.
pub fn need_of(kind: Kind, source: &Origin, name: &Name) -> Need {
    let kind = match kind {
        Kind::RouteConfiguration => SubscriptionKind::RouteConfiguration,
        Kind::Secret => SubscriptionKind::Secret,
        Kind::Endpoints | Kind::Cluster | Kind::Listener => SubscriptionKind::ClusterLoadAssignment,
    };
    Need {
        kind,
        source: source.clone(),
        name: Arc::clone(name),
    }
}

/// The kind of resource that a subscription is for.
pub fn kind_of(kind: SubscriptionKind) -> Kind {
    match kind {
        SubscriptionKind::RouteConfiguration => Kind::RouteConfiguration,
        SubscriptionKind::ClusterLoadAssignment => Kind::Endpoints,
        SubscriptionKind::Secret => Kind::Secret,
    }
}

#[cfg(test)]
mod tests {
    use remora_translate::config_source::Source;

    use super::*;

    fn eds(name: &str) -> Subscription {
        Subscription {
            kind: SubscriptionKind::ClusterLoadAssignment,
            name: name.into(),
            source: Some(Source::Ads),
            initial_fetch_timeout: None,
        }
    }

    #[test]
    fn a_name_is_wanted_as_long_as_one_user_is_left() {
        let (a, b) = (User::Cluster("a".into()), User::Cluster("b".into()));
        let mut needs = Needs::default();
        needs.add(&a, &[eds("x")]);
        needs.add(&b, &[eds("x"), eds("y")]);
        assert_eq!(needs.take_changes().len(), 1);
        assert!(needs.remove(&a, &[eds("x")], &[]).is_empty());
        assert!(needs.take_changes().is_empty());
        assert_eq!(needs.remove(&b, &[eds("x"), eds("y")], &[eds("y")]).len(), 1);
        let changes = needs.take_changes();
        assert_eq!(changes[0].2.names, BTreeSet::from([Name::from("y")]));
    }

    #[test]
    fn a_type_waits_as_long_as_its_least_patient_reference() {
        let of = |timeout: Option<u64>| Subscription {
            initial_fetch_timeout: timeout.map(Duration::from_secs),
            ..eds("x")
        };
        let [a, b, c] = ["a", "b", "c"].map(|name| User::Cluster(name.into()));
        let mut needs = Needs::default();
        let mut timeouts = Vec::new();
        let mut told = |needs: &mut Needs| {
            timeouts.push(
                needs
                    .take_changes()
                    .first()
                    .map(|(_, _, wanted)| wanted.fetch_timeout().map(|timeout| timeout.as_secs())),
            );
        };
        needs.add(&a, &[of(None)]);
        told(&mut needs);
        needs.add(&b, &[of(Some(15))]);
        told(&mut needs);
        needs.add(&c, &[of(Some(3))]);
        told(&mut needs);
        // The same reference again, in a new version of its user.
        needs.add(&c, &[of(Some(20))]);
        told(&mut needs);
        needs.remove(&c, &[of(Some(20))], &[]);
        told(&mut needs);
        needs.remove(&b, &[of(Some(15))], &[]);
        told(&mut needs);
        assert_eq!(
            timeouts,
            [
                Some(None),
                Some(Some(15)),
                Some(Some(3)),
                Some(Some(15)),
                None,
                Some(None)
            ]
        );
    }
}
