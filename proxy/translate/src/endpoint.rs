//! `ClusterLoadAssignment` to [`Assignment`]: which endpoints, in which locality and priority, with which weight.
//!
//! Holds: an address is an IP, a Unix-domain socket, or (where the cluster resolves names) a host; weights are at least
//! 1; a priority is at most 128.

use std::net::SocketAddr;
use std::sync::Arc;

use prost::Message;
use remora_model::Name;
use remora_model::endpoint::{
    Assignment, EndpointAddress, EndpointDetails, EndpointSpec, HealthStatus as Status, LabelValue, Labels,
    Locality, LocalityName, LocalitySpec,
};

use crate::context::{Context, Work, undecodable};
use crate::health_check;
use crate::pb::envoy::config::core::v3::{self as core, HealthStatus};
use crate::pb::envoy::config::endpoint::v3::{self as api, lb_endpoint, locality_lb_endpoints};
use crate::pb::google::protobuf::{Struct, Value, value::Kind};
use crate::rejection::Rejection;
use crate::value::{self, Place};

/// Envoy's default `overprovisioning_factor`, percent.
const OVERPROVISIONING: u32 = 140;

/// Whether host names may stand where addresses do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hosts {
    /// The cluster resolves them.
    Resolved,
    /// Only addresses.
    Refused,
}

/// Translates one EDS resource.
///
/// # Errors
/// Everything that is wrong with it.
pub fn endpoints(bytes: &[u8], context: &mut Context<'_>) -> Result<Assignment, Rejection> {
    let said = api::ClusterLoadAssignment::decode(bytes)
        .map_err(|error| undecodable("ClusterLoadAssignment", &error))?;
    let mut work = Work::new(context);
    let assignment = assignment(&mut work, &said, Hosts::Refused);
    work.verdict(&said.cluster_name, assignment)
}

pub(crate) fn assignment(
    work: &mut Work<'_, '_>,
    said: &api::ClusterLoadAssignment,
    hosts: Hosts,
) -> Option<Assignment> {
    work.review(said);
    let name = value::required(work, "cluster_name", &said.cluster_name);
    let localities = work.each("endpoints", &said.endpoints, |work, said| {
        locality(work, said, hosts)
    });
    let factor = said.policy.as_ref().map(|policy| {
        work.at("policy", |work| {
            work.review(policy);
            let said = policy.overprovisioning_factor.as_ref();
            value::number_or(
                work,
                "overprovisioning_factor",
                said,
                OVERPROVISIONING,
                1..=u32::MAX,
            )
        })
    });
    let assignment = Assignment {
        name: work.cluster_name(name?),
        localities,
        overprovisioning: factor.unwrap_or(OVERPROVISIONING),
    };
    if let Err(error) = assignment.check() {
        work.wrong_at("endpoints", error.to_string());
    }
    Some(assignment)
}

fn locality(work: &mut Work<'_, '_>, said: &api::LocalityLbEndpoints, hosts: Hosts) -> Option<LocalitySpec> {
    use locality_lb_endpoints::LbConfig;
    work.review(said);
    let listed = match &said.lb_config {
        None => &said.lb_endpoints,
        Some(LbConfig::LoadBalancerEndpoints(list)) => &list.lb_endpoints,
        Some(LbConfig::LedsClusterLocalityConfig(_)) => {
            work.wrong_at(
                "leds_cluster_locality_config",
                "is not supported: endpoints by LEDS",
            );
            return None;
        }
    };
    // Most endpoints of a locality carry the same name and labels.
    let mut last: Option<Arc<EndpointSpec>> = None;
    let endpoints = work.each("lb_endpoints", listed, |work, said| {
        let mut spec = endpoint(work, said, hosts)?;
        if let Some(same) = last.as_ref().filter(|last| last.details == spec.details) {
            spec.details.clone_from(&same.details);
        }
        let spec = Arc::new(spec);
        last = Some(Arc::clone(&spec));
        Some(spec)
    });
    let weight = said.load_balancing_weight.as_ref();
    let weight = weight.map(|_| value::number_or(work, "load_balancing_weight", weight, 1, 1..=u32::MAX));
    Some(LocalitySpec {
        locality: place(work, said.locality.as_ref()),
        weight,
        priority: said.priority,
        endpoints,
    })
}

fn place(work: &mut Work<'_, '_>, said: Option<&core::Locality>) -> Locality {
    let mut part =
        |text: fn(&core::Locality) -> &str| LocalityName(work.context.repeated.word(said.map_or("", text)));
    Locality {
        region: part(|said| &said.region),
        zone: part(|said| &said.zone),
        sub_zone: part(|said| &said.sub_zone),
    }
}

fn endpoint(work: &mut Work<'_, '_>, said: &api::LbEndpoint, hosts: Hosts) -> Option<EndpointSpec> {
    let inner = match &said.host_identifier {
        Some(lb_endpoint::HostIdentifier::Endpoint(endpoint)) => endpoint,
        Some(lb_endpoint::HostIdentifier::EndpointName(_)) => {
            work.wrong_at("endpoint_name", "is not supported: named endpoints");
            return None;
        }
        None => {
            work.wrong("expected endpoint, found none");
            return None;
        }
    };
    let (address, others, check) = work.at("endpoint", |work| {
        work.review(inner);
        let address = work.at("address", |work| {
            endpoint_address(work, inner.address.as_ref(), hosts)
        });
        let check = inner
            .health_check_config
            .as_ref()
            .and_then(|said| work.at("health_check_config", |work| health_check::target(work, said)));
        let others = if inner.additional_addresses.is_empty() {
            Vec::new()
        } else {
            work.each("additional_addresses", &inner.additional_addresses, other)
        };
        (address, others, check)
    });
    let weight = said.load_balancing_weight.as_ref();
    let labels = |namespace: &str| {
        said.metadata
            .as_ref()
            .and_then(|m| m.filter_metadata.get(namespace))
            .map(labels)
            .unwrap_or_default()
    };
    let details = EndpointDetails {
        hostname: (!inner.hostname.is_empty()).then(|| Name::from(inner.hostname.as_str())),
        transport_labels: labels("envoy.transport_socket_match"),
        balance_labels: labels("envoy.lb"),
        others,
        check,
    };
    let status = status(work, "health_status", said.health_status);
    Some(EndpointSpec {
        weight: value::number_or(work, "load_balancing_weight", weight, 1, 1..=u32::MAX),
        status: status?,
        address: address?,
        details: (details != EndpointDetails::default()).then(|| Arc::new(details)),
    })
}

/// Another address of an endpoint.
fn other(work: &mut Work<'_, '_>, said: &api::endpoint::AdditionalAddress) -> Option<SocketAddr> {
    work.at("address", |work| {
        match value::address(work, said.address.as_ref())? {
            Place::Socket(address) => Some(address),
            Place::Pipe(_) | Place::Host(..) => {
                work.wrong("additional_addresses only supports IP addresses.");
                None
            }
        }
    })
}

fn endpoint_address(
    work: &mut Work<'_, '_>,
    said: Option<&core::Address>,
    hosts: Hosts,
) -> Option<EndpointAddress> {
    match value::address(work, said)? {
        Place::Socket(address) => Some(EndpointAddress::Socket(address)),
        Place::Pipe(path) => Some(EndpointAddress::Pipe(path.into())),
        Place::Host(host, port) if hosts == Hosts::Resolved => Some(EndpointAddress::Host(host.into(), port)),
        Place::Host(host, _) => {
            let advice = "host names need cluster type STRICT_DNS or LOGICAL_DNS";
            work.wrong_at(
                "socket_address.address",
                format!("expected an IP address, found '{host}' ({advice})"),
            );
            None
        }
    }
}

/// `core.v3.HealthStatus`.
pub(crate) fn status(work: &mut Work<'_, '_>, field: &'static str, said: i32) -> Option<Status> {
    Some(match value::known(work, field, said)? {
        HealthStatus::Unknown => Status::Unknown,
        HealthStatus::Healthy => Status::Healthy,
        HealthStatus::Unhealthy => Status::Unhealthy,
        HealthStatus::Draining => Status::Draining,
        HealthStatus::Timeout => Status::Timeout,
        HealthStatus::Degraded => Status::Degraded,
    })
}

/// The values of a metadata namespace.
pub(crate) fn labels(said: &Struct) -> Labels {
    Labels::new(
        said.fields
            .iter()
            .map(|(key, value)| (key.as_str().into(), label(value)))
            .collect(),
    )
}

pub(crate) fn label(value: &Value) -> LabelValue {
    match value.kind.as_ref() {
        Some(Kind::StringValue(text)) => LabelValue::Text(text.as_str().into()),
        Some(Kind::NumberValue(number)) => LabelValue::Number(*number),
        Some(Kind::BoolValue(truth)) => LabelValue::Bool(*truth),
        Some(Kind::ListValue(list)) => LabelValue::List(list.values.iter().map(label).collect()),
        Some(Kind::StructValue(fields)) => LabelValue::Fields(Box::new(labels(fields))),
        Some(Kind::NullValue(_)) | None => LabelValue::Null,
    }
}
