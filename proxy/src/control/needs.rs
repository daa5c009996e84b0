//! Who refers to what: the resources that clusters and listeners need, and so what is subscribed to.
//!
//! Holds: a subscription lasts exactly as long as somebody refers to its resource; a change of what one resource needs
//! costs only that resource's references.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

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

/// All references.
#[derive(Debug, Default)]
pub struct Needs {
    users: HashMap<Need, HashSet<User>>,
    wanted: HashMap<Topic, BTreeSet<Name>>,
    changed: HashSet<Topic>,
}

impl Needs {
    /// Enters the references of `user`.
    pub fn add(&mut self, user: &User, needs: &[Subscription]) {
        for subscription in needs {
            let need = Need::from(subscription);
            let topic = (need.source.clone(), need.kind);
            if self
                .wanted
                .entry(topic.clone())
                .or_default()
                .insert(Arc::clone(&need.name))
            {
                self.changed.insert(topic);
            }
            self.users.entry(need).or_default().insert(user.clone());
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
            users.remove(user);
            if users.is_empty() {
                self.users.remove(&need);
                let topic = (need.source.clone(), need.kind);
                if let Some(names) = self.wanted.get_mut(&topic) {
                    names.remove(&need.name);
                }
                self.changed.insert(topic);
                unused.push(need);
            }
        }
        unused
    }

    /// Who refers to this resource.
    pub fn users(&self, need: &Need) -> Vec<User> {
        let mut users: Vec<User> = self.users.get(need).into_iter().flatten().cloned().collect();
        users.sort_unstable();
        users
    }

    /// Whether anybody refers to this resource.
    pub fn is_used(&self, need: &Need) -> bool {
        self.users.contains_key(need)
    }

    /// The complete names of every topic that changed since the last call.
    pub fn take_changes(&mut self) -> Vec<(Origin, SubscriptionKind, BTreeSet<Name>)> {
        self.changed
            .drain()
            .map(|topic| {
                let names = self.wanted.get(&topic).cloned().unwrap_or_default();
                (topic.0, topic.1, names)
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
        assert_eq!(changes[0].2, BTreeSet::from([Name::from("y")]));
    }
}
