//! What is one stream told, and when?
//!
//! Both sessions keep per type what the client asked for and what it was last sent, and send the difference to the
//! world: after every request and after every push. State of the world sends all that is subscribed to of a type in
//! which something changed; delta sends the changed and the removed resources.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse, Resource,
};
use envoy_types::pb::google::protobuf::value;
use tokio::sync::mpsc;
use tonic::{Status, Streaming};

use super::{CLUSTER, ENDPOINT, Kind, LISTENER, ROUTE, Recorded, SECRET, Shared, World};

/// The order in which types are sent when a push changes several: what is named before what names it.
const ORDER: [&str; 5] = [SECRET, CLUSTER, ENDPOINT, LISTENER, ROUTE];

/// Which types a stream carries.
#[derive(Clone, Copy, Debug)]
pub(super) enum Scope {
    /// All: ADS.
    Aggregated,
    /// One; requests may leave out the type URL.
    Only(&'static str),
}

/// What one client knows of one type.
#[derive(Debug, Default)]
struct Subscription {
    wildcard: bool,
    names: BTreeSet<String>,
    /// Name to version of what was sent.
    sent: BTreeMap<String, u64>,
    nonce: String,
    /// False until the first request of the type.
    known: bool,
}

/// A state-of-the-world stream.
#[derive(Debug)]
pub(super) struct SotwSession {
    stream: Stream,
}

/// A delta stream.
#[derive(Debug)]
pub(super) struct DeltaSession {
    stream: Stream,
}

/// What both kinds share.
#[derive(Debug)]
struct Stream {
    shared: Arc<Shared>,
    scope: Scope,
    number: u64,
    nonces: u64,
    types: BTreeMap<String, Subscription>,
    /// The version of the world at the last push.
    looked_at: u64,
}

impl Subscription {
    fn wants(&self, name: &str) -> bool {
        self.wildcard || self.names.contains(name)
    }

    /// The resources of the world that this client is to know, with their versions.
    fn current(&self, world: &World, type_url: &str) -> BTreeMap<String, u64> {
        let of_type = world.of_type(type_url).filter(|(name, _)| self.wants(name));
        of_type
            .map(|(name, resource)| (name.clone(), resource.version))
            .collect()
    }
}

impl Stream {
    fn new(shared: Arc<Shared>, scope: Scope) -> Self {
        let number = shared.next_stream();
        shared.count_open(|open| *open += 1);
        Self {
            shared,
            scope,
            number,
            nonces: 0,
            types: BTreeMap::new(),
            looked_at: 0,
        }
    }

    fn type_url(&self, given: &str) -> String {
        match self.scope {
            Scope::Only(only) if given.is_empty() => only.to_owned(),
            _ => given.to_owned(),
        }
    }

    fn next_nonce(&mut self) -> String {
        self.nonces += 1;
        format!("{}-{}", self.number, self.nonces)
    }

    /// The types of which something changed since the last push that this stream looked at, and what.
    fn changed(&mut self) -> Vec<(String, BTreeSet<String>)> {
        let world = self.shared.world.borrow();
        let before = std::mem::replace(&mut self.looked_at, world.version);
        let of_type = |type_url: String| {
            let names = world.changed_since(&type_url, before);
            (!names.is_empty()).then_some((type_url, names))
        };
        self.known_types().into_iter().filter_map(of_type).collect()
    }

    fn known_types(&self) -> Vec<String> {
        let ordered = ORDER.iter().map(ToString::to_string);
        let others = self
            .types
            .keys()
            .filter(|key| !ORDER.contains(&key.as_str()))
            .cloned();
        ordered
            .chain(others)
            .filter(|key| self.types.contains_key(key))
            .collect()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.shared.count_open(|open| *open -= 1);
    }
}

/// The types of which all resources are sent when no names are asked for.
fn has_wildcard(type_url: &str) -> bool {
    type_url == LISTENER || type_url == CLUSTER
}

/// The text values of a node's metadata.
fn labels(node: Option<&Node>) -> BTreeMap<String, String> {
    let metadata = node.and_then(|node| node.metadata.as_ref());
    let fields = metadata.into_iter().flat_map(|metadata| &metadata.fields);
    let texts = fields.filter_map(|(name, value)| match &value.kind {
        Some(value::Kind::StringValue(text)) => Some((name.clone(), text.clone())),
        _ => None,
    });
    texts.collect()
}

fn kind(nonce: &str, error: Option<&str>) -> Kind {
    match (nonce.is_empty(), error) {
        (true, _) => Kind::Subscribe,
        (false, None) => Kind::Ack,
        (false, Some(_)) => Kind::Nack,
    }
}

/// Drives a session: requests and pushes in, responses out, until either side or the test ends it.
macro_rules! drive {
    ($session:ident, $requests:ident, $responses:ident) => {{
        let mut world = $session.stream.shared.world.subscribe();
        let mut epoch = $session.stream.shared.epoch.subscribe();
        world.mark_unchanged();
        loop {
            let out = tokio::select! {
                request = $requests.message() => match request {
                    Ok(Some(request)) => $session.request(request).into_iter().collect(),
                    Ok(None) | Err(_) => return,
                },
                changed = world.changed() => match changed {
                    Ok(()) => $session.pushed(),
                    Err(_) => return,
                },
                _ = epoch.changed() => {
                    let _ = $responses.send(Err(Status::unavailable("the test ended the stream"))).await;
                    return;
                }
            };
            for response in out {
                if $responses.send(Ok(response)).await.is_err() {
                    return;
                }
            }
        }
    }};
}

impl SotwSession {
    pub(super) fn new(shared: Arc<Shared>, scope: Scope) -> Self {
        Self {
            stream: Stream::new(shared, scope),
        }
    }

    pub(super) async fn run(
        mut self,
        mut requests: Streaming<DiscoveryRequest>,
        responses: mpsc::Sender<Result<DiscoveryResponse, Status>>,
    ) {
        drive!(self, requests, responses);
    }

    fn request(&mut self, request: DiscoveryRequest) -> Option<DiscoveryResponse> {
        let type_url = self.stream.type_url(&request.type_url);
        let error = request.error_detail.map(|status| status.message);
        self.stream.shared.record(Recorded {
            stream: self.stream.number,
            delta: false,
            aggregated: matches!(self.stream.scope, Scope::Aggregated),
            type_url: type_url.clone(),
            kind: kind(&request.response_nonce, error.as_deref()),
            version: request.version_info,
            nonce: request.response_nonce.clone(),
            names: request.resource_names.clone(),
            unsubscribed: Vec::new(),
            initial_versions: BTreeMap::new(),
            error: error.unwrap_or_default(),
            labels: labels(request.node.as_ref()),
            node: request.node.map(|node| node.id),
        });
        let subscription = self.stream.types.entry(type_url.clone()).or_default();
        if subscription.known
            && !request.response_nonce.is_empty()
            && request.response_nonce != subscription.nonce
        {
            return None;
        }
        let names: BTreeSet<String> = request.resource_names.into_iter().collect();
        subscription.wildcard = names.contains("*")
            || (names.is_empty() && has_wildcard(&type_url) && subscription.names.is_empty());
        // A name asked for anew is sent anew.
        subscription
            .sent
            .retain(|name, _| subscription.wildcard || names.contains(name));
        subscription.names = names;
        let first = !std::mem::replace(&mut subscription.known, true);
        self.response(&type_url, first)
    }

    fn pushed(&mut self) -> Vec<DiscoveryResponse> {
        let types = self.stream.changed();
        types
            .iter()
            .filter_map(|(type_url, _)| self.response(type_url, false))
            .collect()
    }

    fn response(&mut self, type_url: &str, first: bool) -> Option<DiscoveryResponse> {
        let nonce = self.stream.next_nonce();
        let world = self.stream.shared.world.borrow();
        let subscription = self.stream.types.get_mut(type_url)?;
        let mut current = subscription.current(&world, type_url);
        if !subscription.wildcard {
            // What is not of a full-state type does not vanish by being absent.
            let gone = subscription
                .sent
                .iter()
                .filter(|(name, _)| !current.contains_key(*name));
            let gone: Vec<(String, u64)> = gone.map(|(name, version)| (name.clone(), *version)).collect();
            current.extend(gone);
        }
        if current == subscription.sent && !(first && subscription.wildcard) {
            return None;
        }
        let before = std::mem::replace(&mut subscription.sent, current);
        subscription.nonce.clone_from(&nonce);
        let sparse = !has_wildcard(type_url) && self.stream.shared.only_changes.load(Ordering::Relaxed);
        let of_type = world.of_type(type_url).filter(|(name, resource)| {
            subscription.wants(name) && !(sparse && before.get(*name) == Some(&resource.version))
        });
        Some(DiscoveryResponse {
            version_info: world.version.to_string(),
            resources: of_type.map(|(_, resource)| resource.body.clone()).collect(),
            type_url: type_url.to_owned(),
            nonce,
            ..DiscoveryResponse::default()
        })
    }
}

impl DeltaSession {
    pub(super) fn new(shared: Arc<Shared>, scope: Scope) -> Self {
        Self {
            stream: Stream::new(shared, scope),
        }
    }

    pub(super) async fn run(
        mut self,
        mut requests: Streaming<DeltaDiscoveryRequest>,
        responses: mpsc::Sender<Result<DeltaDiscoveryResponse, Status>>,
    ) {
        drive!(self, requests, responses);
    }

    fn request(&mut self, request: DeltaDiscoveryRequest) -> Option<DeltaDiscoveryResponse> {
        let type_url = self.stream.type_url(&request.type_url);
        self.record(&request, &type_url);
        let subscription = self.stream.types.entry(type_url.clone()).or_default();
        let first = !std::mem::replace(&mut subscription.known, true);
        if first {
            let held = request.initial_resource_versions.into_iter();
            subscription.sent = held
                .map(|(name, version)| (name, version.parse().unwrap_or(0)))
                .collect();
            let named = !request.resource_names_subscribe.is_empty();
            subscription.wildcard = !named && has_wildcard(&type_url);
        }
        let asked_anew = !request.resource_names_subscribe.is_empty();
        if !first && !asked_anew && request.resource_names_unsubscribe.is_empty() {
            return None;
        }
        for name in request.resource_names_subscribe {
            if name == "*" {
                subscription.wildcard = true;
            } else {
                if !first {
                    subscription.sent.remove(&name);
                }
                subscription.names.insert(name);
            }
        }
        for name in request.resource_names_unsubscribe {
            if name == "*" {
                subscription.wildcard = false;
            }
            subscription.names.remove(&name);
        }
        let (wildcard, names) = (subscription.wildcard, subscription.names.clone());
        subscription
            .sent
            .retain(|name, _| wildcard || names.contains(name));
        self.response(&type_url, first && wildcard && !asked_anew)
    }

    fn record(&self, request: &DeltaDiscoveryRequest, type_url: &str) {
        let error = request.error_detail.as_ref().map(|status| status.message.clone());
        self.stream.shared.record(Recorded {
            stream: self.stream.number,
            delta: true,
            aggregated: matches!(self.stream.scope, Scope::Aggregated),
            type_url: type_url.to_owned(),
            kind: kind(&request.response_nonce, error.as_deref()),
            version: String::new(),
            nonce: request.response_nonce.clone(),
            names: request.resource_names_subscribe.clone(),
            unsubscribed: request.resource_names_unsubscribe.clone(),
            initial_versions: request.initial_resource_versions.clone().into_iter().collect(),
            error: error.unwrap_or_default(),
            node: request.node.as_ref().map(|node| node.id.clone()),
            labels: labels(request.node.as_ref()),
        });
    }

    fn pushed(&mut self) -> Vec<DeltaDiscoveryResponse> {
        let types = self.stream.changed();
        types
            .iter()
            .filter_map(|(type_url, names)| self.difference(type_url, names, false))
            .collect()
    }

    /// What changed since the last response; `None` if nothing did and `always` is false.
    fn response(&mut self, type_url: &str, always: bool) -> Option<DeltaDiscoveryResponse> {
        let sent = &self.stream.types.get(type_url)?.sent;
        let world = self.stream.shared.world.borrow();
        let there = world.of_type(type_url).map(|(name, _)| name);
        let names = sent.keys().chain(there).cloned().collect();
        drop(world);
        self.difference(type_url, &names, always)
    }

    /// The same among `names`.
    fn difference(
        &mut self,
        type_url: &str,
        names: &BTreeSet<String>,
        always: bool,
    ) -> Option<DeltaDiscoveryResponse> {
        let nonce = self.stream.next_nonce();
        let world = self.stream.shared.world.borrow();
        let subscription = self.stream.types.get_mut(type_url)?;
        let (mut resources, mut removed_resources) = (Vec::new(), Vec::new());
        for name in names {
            let there = world.get(type_url, name).filter(|_| subscription.wants(name));
            match there {
                None if subscription.sent.remove(name).is_some() => removed_resources.push(name.clone()),
                Some(new) if subscription.sent.get(name) != Some(&new.version) => {
                    subscription.sent.insert(name.clone(), new.version);
                    resources.push(Resource {
                        name: name.clone(),
                        version: new.version.to_string(),
                        resource: Some(new.body.clone()),
                        ..Resource::default()
                    });
                }
                None | Some(_) => {}
            }
        }
        if resources.is_empty() && removed_resources.is_empty() && !always {
            return None;
        }
        subscription.nonce.clone_from(&nonce);
        Some(DeltaDiscoveryResponse {
            system_version_info: world.version.to_string(),
            resources,
            removed_resources,
            type_url: type_url.to_owned(),
            nonce,
            ..DeltaDiscoveryResponse::default()
        })
    }
}
