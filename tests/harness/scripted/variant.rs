//! How do the two wire variants write the same thing? So that one script plays in both.

use std::fmt::Debug;

use anyhow::{Result, bail};
use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse, Resource as Versioned,
};
use envoy_types::pb::google::rpc::Status;
use prost::Message;

use crate::control_plane::{CLUSTER, ENDPOINT, LISTENER, ROUTE, Resource, SECRET};

/// The aggregated service, where a service is asked for; the others are named by their type URL.
pub const ADS: &str = "ADS";

/// State of the world: `DiscoveryRequest` and `DiscoveryResponse`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sotw;

/// Incremental: `DeltaDiscoveryRequest` and `DeltaDiscoveryResponse`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delta;

/// One of the two.
pub trait Variant: Debug + 'static {
    /// What the client says.
    type Request: Message + Default + Clone + PartialEq + Debug;
    /// What the server says.
    type Response: Message + Default;

    /// `api_type` in an `ApiConfigSource`.
    const API_TYPE: &'static str;
    /// The beginning of the method's name: `StreamClusters`, `DeltaClusters`.
    const METHOD: &'static str;

    /// The type that a request is about.
    fn type_url(request: &Self::Request) -> &str;
    /// The nonce that it answers, or empty.
    fn nonce(request: &Self::Request) -> &str;
    /// `resource_names`, or `resource_names_subscribe`.
    fn names(request: &Self::Request) -> &[String];
    /// Its `error_detail`, if it is a NACK.
    fn error(request: &Self::Request) -> Option<&Status>;
    /// Takes the node out.
    fn take_node(request: &mut Self::Request) -> Option<Node>;

    /// The first request of a type on a first stream, without its node: nothing is held. No names mean all.
    fn first(type_url: &str, names: &[&str]) -> Self::Request;
    /// The ACK of a response while `names` are subscribed to.
    fn ack(type_url: &str, version: &str, nonce: &str, names: &[&str]) -> Self::Request;
    /// A NACK: `version` is the last accepted one.
    fn nack(type_url: &str, version: &str, nonce: &str, names: &[&str], error: &str) -> Self::Request;
    /// A change of what is subscribed to, after a response with `version` and `nonce` was accepted.
    fn change(
        type_url: &str,
        answered: (&str, &str),
        names: &[&str],
        change: (&[&str], &[&str]),
    ) -> Self::Request;
    /// A response with these resources and, in delta, removals.
    fn response(
        type_url: &str,
        version: &str,
        nonce: &str,
        resources: &[Resource],
        removed: &[&str],
    ) -> Self::Response;
}

/// The method of a service ([`ADS`] or a type URL) in the variant `V`.
///
/// # Errors
/// For a type without a service.
pub fn path<V: Variant>(service: &str) -> Result<String> {
    let (package, service, of) = match service {
        ADS => ("discovery", "Aggregated", "AggregatedResources"),
        CLUSTER => ("cluster", "Cluster", "Clusters"),
        ENDPOINT => ("endpoint", "Endpoint", "Endpoints"),
        LISTENER => ("listener", "Listener", "Listeners"),
        ROUTE => ("route", "Route", "Routes"),
        SECRET => ("secret", "Secret", "Secrets"),
        other => bail!("{other} has no service of its own here"),
    };
    Ok(format!(
        "/envoy.service.{package}.v3.{service}DiscoveryService/{}{of}",
        V::METHOD
    ))
}

fn strings(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

/// Envoy's code for every refusal: INTERNAL.
fn status(message: &str) -> Status {
    Status {
        code: 13,
        message: message.to_owned(),
        details: Vec::new(),
    }
}

impl Variant for Sotw {
    type Request = DiscoveryRequest;
    type Response = DiscoveryResponse;

    const API_TYPE: &'static str = "GRPC";
    const METHOD: &'static str = "Stream";

    fn type_url(request: &Self::Request) -> &str {
        &request.type_url
    }

    fn nonce(request: &Self::Request) -> &str {
        &request.response_nonce
    }

    fn names(request: &Self::Request) -> &[String] {
        &request.resource_names
    }

    fn error(request: &Self::Request) -> Option<&Status> {
        request.error_detail.as_ref()
    }

    fn take_node(request: &mut Self::Request) -> Option<Node> {
        request.node.take()
    }

    fn first(type_url: &str, names: &[&str]) -> Self::Request {
        Self::ack(type_url, "", "", names)
    }

    fn ack(type_url: &str, version: &str, nonce: &str, names: &[&str]) -> Self::Request {
        DiscoveryRequest {
            version_info: version.to_owned(),
            resource_names: strings(names),
            type_url: type_url.to_owned(),
            response_nonce: nonce.to_owned(),
            ..DiscoveryRequest::default()
        }
    }

    fn nack(type_url: &str, version: &str, nonce: &str, names: &[&str], error: &str) -> Self::Request {
        DiscoveryRequest {
            error_detail: Some(status(error)),
            ..Self::ack(type_url, version, nonce, names)
        }
    }

    fn change(
        type_url: &str,
        (version, nonce): (&str, &str),
        names: &[&str],
        _: (&[&str], &[&str]),
    ) -> Self::Request {
        Self::ack(type_url, version, nonce, names)
    }

    fn response(
        type_url: &str,
        version: &str,
        nonce: &str,
        resources: &[Resource],
        _: &[&str],
    ) -> Self::Response {
        DiscoveryResponse {
            version_info: version.to_owned(),
            resources: resources.iter().map(|resource| resource.body.clone()).collect(),
            type_url: type_url.to_owned(),
            nonce: nonce.to_owned(),
            ..DiscoveryResponse::default()
        }
    }
}

impl Variant for Delta {
    type Request = DeltaDiscoveryRequest;
    type Response = DeltaDiscoveryResponse;

    const API_TYPE: &'static str = "DELTA_GRPC";
    const METHOD: &'static str = "Delta";

    fn type_url(request: &Self::Request) -> &str {
        &request.type_url
    }

    fn nonce(request: &Self::Request) -> &str {
        &request.response_nonce
    }

    fn names(request: &Self::Request) -> &[String] {
        &request.resource_names_subscribe
    }

    fn error(request: &Self::Request) -> Option<&Status> {
        request.error_detail.as_ref()
    }

    fn take_node(request: &mut Self::Request) -> Option<Node> {
        request.node.take()
    }

    fn first(type_url: &str, names: &[&str]) -> Self::Request {
        DeltaDiscoveryRequest {
            type_url: type_url.to_owned(),
            resource_names_subscribe: strings(names),
            ..DeltaDiscoveryRequest::default()
        }
    }

    fn ack(type_url: &str, _: &str, nonce: &str, _: &[&str]) -> Self::Request {
        DeltaDiscoveryRequest {
            type_url: type_url.to_owned(),
            response_nonce: nonce.to_owned(),
            ..DeltaDiscoveryRequest::default()
        }
    }

    fn nack(type_url: &str, version: &str, nonce: &str, names: &[&str], error: &str) -> Self::Request {
        DeltaDiscoveryRequest {
            error_detail: Some(status(error)),
            ..Self::ack(type_url, version, nonce, names)
        }
    }

    fn change(
        type_url: &str,
        _: (&str, &str),
        _: &[&str],
        (added, removed): (&[&str], &[&str]),
    ) -> Self::Request {
        DeltaDiscoveryRequest {
            type_url: type_url.to_owned(),
            resource_names_subscribe: strings(added),
            resource_names_unsubscribe: strings(removed),
            ..DeltaDiscoveryRequest::default()
        }
    }

    fn response(
        type_url: &str,
        version: &str,
        nonce: &str,
        resources: &[Resource],
        removed: &[&str],
    ) -> Self::Response {
        let versioned = resources.iter().map(|resource| Versioned {
            name: resource.name.clone(),
            version: version.to_owned(),
            resource: Some(resource.body.clone()),
            ..Versioned::default()
        });
        DeltaDiscoveryResponse {
            system_version_info: version.to_owned(),
            resources: versioned.collect(),
            removed_resources: strings(removed),
            type_url: type_url.to_owned(),
            nonce: nonce.to_owned(),
            ..DeltaDiscoveryResponse::default()
        }
    }
}
