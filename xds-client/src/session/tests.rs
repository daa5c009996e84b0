//! One test per rule of the protocol: bytes in, bytes out, read back with Envoy's own messages.

use std::time::{Duration, Instant};

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use envoy_types::pb::envoy::config::route::v3::RouteConfiguration;
use envoy_types::pb::envoy::service::discovery::v3 as discovery;
use envoy_types::pb::google::protobuf::Any;
use prost::Message;

use super::*;
use crate::resource_type::{
    CLUSTER, CLUSTER_LOAD_ASSIGNMENT as ENDPOINTS, LISTENER, ROUTE_CONFIGURATION as ROUTES,
};
use crate::status::ResourceState;
use crate::update::{Resource, Update};

mod convergence;
mod delta;
mod explore;
mod sotw;
mod sotw_answers;
mod status;

const NODE: &str = "sidecar~10.0.0.1~web~cluster.local";

/// A session with its clock.
struct Client {
    session: Session,
    now: Instant,
}

impl Client {
    fn new(variant: Variant) -> Self {
        Self::with(Settings::new(
            variant,
            Node {
                id: NODE.into(),
                ..Node::default()
            }
            .encode_to_vec()
            .into(),
        ))
    }

    fn with(settings: Settings) -> Self {
        Self {
            session: Session::new(settings),
            now: Instant::now(),
        }
    }

    fn open(&mut self) {
        self.session.on_stream_open();
    }

    fn reopen(&mut self) {
        self.session.on_stream_end();
        self.open();
    }

    fn want(&mut self, type_url: &str, names: &[&str]) {
        self.session
            .want(type_url, Interest::names(names.iter().copied()));
    }

    fn want_all(&mut self, type_url: &str) {
        self.session.want(type_url, Interest::Wildcard);
    }

    fn messages(&mut self) -> Vec<Bytes> {
        let mut messages = Vec::new();
        while let Some(request) = self.session.poll_request(self.now) {
            messages.push(request.message);
        }
        assert!(
            !self.session.has_request(),
            "a session that has nothing to say must not claim otherwise"
        );
        messages
    }

    fn sotw(&mut self) -> Vec<discovery::DiscoveryRequest> {
        self.messages()
            .into_iter()
            .map(|message| Message::decode(message).unwrap())
            .collect()
    }

    fn delta(&mut self) -> Vec<discovery::DeltaDiscoveryRequest> {
        self.messages()
            .into_iter()
            .map(|message| Message::decode(message).unwrap())
            .collect()
    }

    fn receive(&mut self, response: impl Message) {
        self.session
            .on_message(response.encode_to_vec().into(), self.now)
            .unwrap();
    }

    fn event(&mut self) -> Event {
        self.session.poll_event().expect("an event")
    }

    fn update(&mut self) -> Update {
        match self.event() {
            Event::Update(update) => update,
            other => panic!("expected an update, found {other:?}"),
        }
    }

    fn refusal(&mut self) -> String {
        match self.event() {
            Event::Refused { reason, .. } => reason,
            other => panic!("expected a refusal, found {other:?}"),
        }
    }

    fn judge(&mut self, update: Update, rejections: &[(&str, &str)]) {
        let rejections = rejections
            .iter()
            .map(|(name, reason)| Rejection::new(*name, *reason))
            .collect();
        self.session.verdict(update.response, rejections, self.now);
    }

    fn accept(&mut self) -> Accepted {
        let Update {
            response,
            resources,
            removed,
            unreadable,
            ..
        } = self.update();
        self.session.verdict(response, Vec::new(), self.now);
        Accepted {
            resources,
            removed,
            unreadable,
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.session.on_time(self.now);
    }

    fn assert_no_event(&mut self) {
        assert!(self.session.poll_event().is_none());
    }
}

/// An update that was judged.
struct Accepted {
    resources: Vec<Resource>,
    removed: Vec<Arc<str>>,
    unreadable: Vec<Rejection>,
}

impl Accepted {
    fn names(&self) -> Vec<&str> {
        names(&self.resources)
    }

    fn removed(&self) -> Vec<&str> {
        self.removed.iter().map(|name| &**name).collect()
    }
}

fn names(resources: &[Resource]) -> Vec<&str> {
    resources.iter().map(|resource| &*resource.name).collect()
}

fn any(type_url: &str, message: &impl Message) -> Any {
    Any {
        type_url: type_url.into(),
        value: message.encode_to_vec(),
    }
}

/// A cluster whose bytes change with `content`.
fn cluster(name: &str, content: &str) -> Any {
    any(
        CLUSTER,
        &Cluster {
            name: name.into(),
            alt_stat_name: content.into(),
            ..Cluster::default()
        },
    )
}

fn endpoints(name: &str) -> Any {
    any(
        ENDPOINTS,
        &ClusterLoadAssignment {
            cluster_name: name.into(),
            ..ClusterLoadAssignment::default()
        },
    )
}

fn routes(name: &str) -> Any {
    any(
        ROUTES,
        &RouteConfiguration {
            name: name.into(),
            ..RouteConfiguration::default()
        },
    )
}

fn response(type_url: &str, version: &str, nonce: &str, resources: Vec<Any>) -> discovery::DiscoveryResponse {
    discovery::DiscoveryResponse {
        version_info: version.into(),
        resources,
        type_url: type_url.into(),
        nonce: nonce.into(),
        ..discovery::DiscoveryResponse::default()
    }
}

fn wrapper(name: &str, version: &str, resource: Option<Any>, ttl: Option<u64>) -> discovery::Resource {
    discovery::Resource {
        name: name.into(),
        version: version.into(),
        resource,
        ttl: ttl.map(|seconds| envoy_types::pb::google::protobuf::Duration {
            seconds: seconds.cast_signed(),
            nanos: 0,
        }),
        ..discovery::Resource::default()
    }
}

fn delta_response(
    type_url: &str,
    nonce: &str,
    resources: Vec<discovery::Resource>,
    removed: &[&str],
) -> discovery::DeltaDiscoveryResponse {
    discovery::DeltaDiscoveryResponse {
        system_version_info: format!("system-{nonce}"),
        resources,
        type_url: type_url.into(),
        removed_resources: removed.iter().map(|name| (*name).into()).collect(),
        nonce: nonce.into(),
        ..discovery::DeltaDiscoveryResponse::default()
    }
}
