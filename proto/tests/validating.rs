//! Field rules of Envoy's API, with the words that Envoy has for them.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking and says aloud what it skips"
)]

use remora_proto::{Pool, ReadOptions};

const BOOTSTRAP: &str = "envoy.config.bootstrap.v3.Bootstrap";

fn broken(text: &str) -> Vec<String> {
    let pool = Pool::load().unwrap();
    let document = pool
        .read(text, BOOTSTRAP, ReadOptions::default())
        .unwrap_or_else(|problems| panic!("{text}\n{problems}"));
    let problems = pool.validate(&document.bytes, BOOTSTRAP).unwrap();
    problems
        .into_iter()
        .map(|problem| {
            let at = document.locate(&problem.path);
            problem.with_position(at).to_string()
        })
        .collect()
}

/// The inside of `static_resources.clusters[0]`, and the rule that it breaks.
const CLUSTERS: &[(&str, &str)] = &[
    (
        "name: ''",
        "name: ClusterValidationError.Name: value length must be at least 1 characters, found \"\"",
    ),
    (
        "{name: a, connect_timeout: 0s}",
        "connect_timeout: ClusterValidationError.ConnectTimeout: value must be greater than 0s, found 0s",
    ),
    (
        "{name: a, lb_policy: 77}",
        "lb_policy: ClusterValidationError.LbPolicy: value must be one of the defined enum values, found 77",
    ),
    (
        "{name: a, health_checks: [{timeout: 1s, interval: 1s, unhealthy_threshold: 1, healthy_threshold: 1}]}",
        "health_checks[0]: HealthCheckValidationError.HealthChecker: field is required; set one of http_health_check",
    ),
    (
        "{name: a, health_checks: [{tcp_health_check: {}, interval: 1s, unhealthy_threshold: 1, healthy_threshold: 1}]}",
        "health_checks[0].timeout: HealthCheckValidationError.Timeout: value is required",
    ),
    (
        "{name: a, outlier_detection: {max_ejection_percent: 101}}",
        "outlier_detection.max_ejection_percent: OutlierDetectionValidationError.MaxEjectionPercent: value must be less than or equal to 100, found 101",
    ),
    (
        "{name: a, load_assignment: {cluster_name: a, endpoints: [{priority: 200}]}}",
        "LocalityLbEndpointsValidationError.Priority: value must be less than or equal to 128, found 200",
    ),
    (
        "{name: a, load_assignment: {cluster_name: a, endpoints: [{lb_endpoints: [{load_balancing_weight: 0}]}]}}",
        "LbEndpointValidationError.LoadBalancingWeight: value must be greater than or equal to 1, found 0",
    ),
    (
        "{name: a, load_assignment: {cluster_name: a, endpoints: [{lb_endpoints: [{endpoint: {address: {}}}]}]}}",
        "AddressValidationError.Address: field is required; set one of socket_address, pipe",
    ),
    (
        "{name: a, load_assignment: {cluster_name: a, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: h, port_value: 65536}}}}]}]}}",
        "SocketAddressValidationError.PortValue: value must be less than or equal to 65535, found 65536",
    ),
    (
        "{name: a, health_checks: [{timeout: 1s, interval: 1s, unhealthy_threshold: 1, healthy_threshold: 1, http_health_check: {path: '/', request_headers_to_remove: [\"a\\nb\"]}}]}",
        "request_headers_to_remove[0]: HttpHealthCheckValidationError.RequestHeadersToRemove[0]: value does not match regex pattern",
    ),
    (
        "{name: a, typed_extension_protocol_options: {x: {'@type': type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions}}}",
        "typed_extension_protocol_options[\"x\"]: HttpProtocolOptionsValidationError.UpstreamProtocolOptions: field is required",
    ),
    (
        "{name: a, typed_extension_protocol_options: {x: {'@type': type.googleapis.com/envoy.config.core.v3.Http2ProtocolOptions, hpack_table_size: 1, max_concurrent_streams: 0}}}",
        "Http2ProtocolOptionsValidationError.MaxConcurrentStreams: value must be inside range [1, 2147483647], found 0",
    ),
    (
        "{name: a, load_balancing_policy: {policies: [{typed_extension_config: {name: '', typed_config: {}}}]}}",
        "TypedExtensionConfigValidationError.Name: value length must be at least 1 characters",
    ),
];

#[test]
fn a_broken_rule_is_named_as_envoy_names_it() {
    for (cluster, expected) in CLUSTERS {
        let cluster = if cluster.starts_with('{') {
            (*cluster).to_owned()
        } else {
            format!("{{{cluster}}}")
        };
        let said = broken(&format!("static_resources:\n  clusters:\n  - {cluster}\n"));
        assert!(
            said.len() == 1 && said[0].contains(expected),
            "{cluster}\n  said:     {said:?}\n  expected: {expected}"
        );
        assert!(said[0].starts_with("3:"), "{said:?}");
    }
}

#[test]
fn everything_broken_is_found_and_nothing_that_is_right() {
    let text = "
static_resources:
  clusters:
  - {name: '', connect_timeout: -1s}
  - {name: a, connect_timeout: 1s, load_assignment: {cluster_name: a}}
  listeners:
  - {name: l, address: {socket_address: {address: 127.0.0.1, port_value: 0}}}
";
    assert_eq!(broken(text).len(), 2, "{:?}", broken(text));
    assert_eq!(broken("node: {id: a, cluster: b}"), Vec::<String>::new());
}
