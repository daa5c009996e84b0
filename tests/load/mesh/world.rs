//! What does a mesh of ten thousand services look like to one pod?
//!
//! One listener, one route configuration with a virtual host per service, and per service an EDS cluster with its
//! endpoints, all over ADS; sizes and names as a sidecar of a large Kubernetes mesh gets them. Only the last service
//! has a real endpoint (the only one of its cluster), so that one request proves that everything arrived.

use std::net::SocketAddr;

use anyhow::Result;
use envoy_types::pb::envoy::config::cluster::v3 as cluster;
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::endpoint::v3 as endpoint;
use envoy_types::pb::envoy::config::route::v3 as route;
use envoy_types::pb::google::protobuf::{Duration, UInt32Value};
use harness::bootstrap;
use harness::control_plane::{LISTENER, Resource, ResourceReader};
use serde_json::json;

/// How large it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    pub(crate) services: usize,
    pub(crate) endpoints: usize,
}

/// The world of one run.
#[derive(Debug)]
pub(super) struct Mesh {
    size: Size,
    /// Where the listener stands.
    listener: SocketAddr,
    /// The endpoint of the last service.
    backend: SocketAddr,
}

impl Mesh {
    pub(super) fn new(size: Size, listener: SocketAddr, backend: SocketAddr) -> Self {
        Self {
            size,
            listener,
            backend,
        }
    }

    /// The authority that leads to the real endpoint.
    pub(super) fn last_authority(&self) -> String {
        host(self.size.services - 1)
    }

    /// Everything.
    pub(super) fn resources(&self) -> Result<Vec<Resource>> {
        let mut all = vec![self.listener()?, self.routes(None)];
        for service in 0..self.size.services {
            all.push(self.cluster(service, 1));
            all.push(self.assignment(service, 0));
        }
        Ok(all)
    }

    /// The cluster of one service, with a connect timeout of so many seconds.
    pub(super) fn cluster(&self, service: usize, connect_timeout: i64) -> Resource {
        let name = name(service);
        let thresholds = cluster::circuit_breakers::Thresholds {
            max_connections: Some(number(65_535)),
            max_pending_requests: Some(number(65_535)),
            max_requests: Some(number(65_535)),
            max_retries: Some(number(65_535)),
            ..Default::default()
        };
        let ads = core::ConfigSource {
            resource_api_version: core::ApiVersion::V3.into(),
            config_source_specifier: Some(core::config_source::ConfigSourceSpecifier::Ads(
                core::AggregatedConfigSource {},
            )),
            ..Default::default()
        };
        let message = cluster::Cluster {
            name: name.clone(),
            alt_stat_name: format!("outbound|8080||{}", host(service)),
            cluster_discovery_type: Some(cluster::cluster::ClusterDiscoveryType::Type(
                cluster::cluster::DiscoveryType::Eds.into(),
            )),
            eds_cluster_config: Some(cluster::cluster::EdsClusterConfig {
                eds_config: Some(ads),
                service_name: name.clone(),
            }),
            connect_timeout: Some(seconds(connect_timeout)),
            lb_policy: cluster::cluster::LbPolicy::LeastRequest.into(),
            circuit_breakers: Some(cluster::CircuitBreakers {
                thresholds: vec![thresholds],
                ..Default::default()
            }),
            ..Default::default()
        };
        Resource::new(&name, &message)
    }

    /// The endpoints of one service; `change` moves one of them to another address.
    pub(super) fn assignment(&self, service: usize, change: usize) -> Resource {
        let name = name(service);
        let addresses: Vec<(String, u32)> = if service + 1 == self.size.services {
            vec![(self.backend.ip().to_string(), u32::from(self.backend.port()))]
        } else {
            (0..self.size.endpoints)
                .map(|index| {
                    let port = if index == 0 { 8080 + change } else { 8080 };
                    let number = service * self.size.endpoints + index;
                    let [high, middle, low] = [number >> 16 & 0xff, number >> 8 & 0xff, number & 0xff];
                    (format!("10.{high}.{middle}.{low}"), port as u32)
                })
                .collect()
        };
        let endpoints = addresses
            .into_iter()
            .map(|(address, port)| endpoint::LbEndpoint {
                host_identifier: Some(endpoint::lb_endpoint::HostIdentifier::Endpoint(
                    endpoint::Endpoint {
                        address: Some(socket(address, port)),
                        ..Default::default()
                    },
                )),
                load_balancing_weight: Some(number(1)),
                ..Default::default()
            })
            .collect();
        let locality = endpoint::LocalityLbEndpoints {
            locality: Some(core::Locality {
                region: "region-1".to_owned(),
                zone: "zone-a".to_owned(),
                ..Default::default()
            }),
            lb_endpoints: endpoints,
            load_balancing_weight: Some(number(self.size.endpoints as u32)),
            ..Default::default()
        };
        let message = endpoint::ClusterLoadAssignment {
            cluster_name: name.clone(),
            endpoints: vec![locality],
            ..Default::default()
        };
        Resource::new(&name, &message)
    }

    /// The route configuration; in one of its virtual hosts the timeout may be another one.
    pub(super) fn routes(&self, change: Option<(usize, i64)>) -> Resource {
        let virtual_hosts = (0..self.size.services)
            .map(|service| {
                let timeout = change
                    .filter(|(changed, _)| *changed == service)
                    .map_or(15, |(_, timeout)| timeout);
                virtual_host(service, timeout)
            })
            .collect();
        let message = route::RouteConfiguration {
            name: "8080".to_owned(),
            virtual_hosts,
            ..Default::default()
        };
        Resource::new("8080", &message)
    }

    fn listener(&self) -> Result<Resource> {
        let source = json!({"ads": {}, "resource_api_version": "V3"});
        let rds = json!({"rds": {"route_config_name": "8080", "config_source": source}});
        let manager = bootstrap::http_connection_manager(&rds);
        let listener = bootstrap::listener("outbound", self.listener, manager);
        ResourceReader::new()?.json(LISTENER, &listener)
    }
}

fn virtual_host(service: usize, timeout: i64) -> route::VirtualHost {
    let retry = route::RetryPolicy {
        retry_on: "connect-failure,refused-stream,unavailable,cancelled".to_owned(),
        num_retries: Some(number(2)),
        ..Default::default()
    };
    let action = route::RouteAction {
        cluster_specifier: Some(route::route_action::ClusterSpecifier::Cluster(name(service))),
        timeout: Some(seconds(timeout)),
        retry_policy: Some(retry),
        ..Default::default()
    };
    let everything = route::RouteMatch {
        path_specifier: Some(route::route_match::PathSpecifier::Prefix("/".to_owned())),
        ..Default::default()
    };
    route::VirtualHost {
        name: format!("{}:8080", host(service)),
        domains: vec![host(service), format!("{}:8080", host(service))],
        routes: vec![route::Route {
            name: "default".to_owned(),
            r#match: Some(everything),
            action: Some(route::route::Action::Route(action)),
            ..Default::default()
        }],
        ..Default::default()
    }
}

fn host(service: usize) -> String {
    format!("service-{service}.ns-{}.svc.cluster.local", service % 100)
}

fn name(service: usize) -> String {
    format!("outbound|8080||{}", host(service))
}

fn socket(address: String, port: u32) -> core::Address {
    core::Address {
        address: Some(core::address::Address::SocketAddress(core::SocketAddress {
            address,
            port_specifier: Some(core::socket_address::PortSpecifier::PortValue(port)),
            ..Default::default()
        })),
    }
}

fn number(value: u32) -> UInt32Value {
    UInt32Value { value }
}

fn seconds(seconds: i64) -> Duration {
    Duration { seconds, nanos: 0 }
}

#[cfg(test)]
mod tests {
    use harness::control_plane::{CLUSTER, ENDPOINT, ROUTE};

    use super::*;

    #[test]
    fn a_change_changes_one_resource() {
        let at = SocketAddr::from(([127, 0, 0, 1], 1));
        let size = Size {
            services: 3,
            endpoints: 2,
        };
        let mesh = Mesh::new(size, at, at);
        let all = mesh.resources().unwrap();
        let of = |type_url: &str| all.iter().filter(|r| r.body.type_url == type_url).count();
        assert_eq!((of(CLUSTER), of(ENDPOINT), of(ROUTE), of(LISTENER)), (3, 3, 1, 1));
        assert!(all.contains(&mesh.cluster(1, 1)) && !all.contains(&mesh.cluster(1, 2)));
        assert!(all.contains(&mesh.assignment(1, 0)) && !all.contains(&mesh.assignment(1, 1)));
        assert!(all.contains(&mesh.routes(Some((1, 15)))) && !all.contains(&mesh.routes(Some((1, 16)))));
    }
}
