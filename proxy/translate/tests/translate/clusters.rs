//! Clusters and endpoints.

use std::time::Duration;

use remora_model::balance::BalancePolicy;
use remora_model::cluster::{Discovery, DnsFamily, TransportSocket, UpstreamProtocol};
use remora_model::endpoint::{EndpointAddress, Health, LabelValue, Labels};
use remora_model::retry::RetryLimit;
use remora_translate::config_source::Source;
use remora_translate::{SubscriptionKind, TranslatedCluster};

use crate::world::{CLUSTER, ENDPOINTS, World, bytes, reason};

fn cluster(world: &mut World, yaml: &str) -> TranslatedCluster {
    remora_translate::cluster(&bytes(CLUSTER, yaml), &mut world.context())
        .unwrap_or_else(|e| panic!("{e}\n{yaml}"))
}

#[test]
fn a_bare_cluster_has_envoys_defaults() {
    let mut world = World::default();
    let bare = cluster(&mut world, "name: a");
    let config = &bare.config;
    assert_eq!(config.connect_timeout, Duration::from_secs(5));
    assert_eq!(
        (config.balance.clone(), config.panic_threshold),
        (BalancePolicy::RoundRobin, 50)
    );
    assert_eq!(config.http.protocol, UpstreamProtocol::Http1);
    assert_eq!(config.http.idle_timeout, Some(Duration::from_secs(3600)));
    assert!(config.http.http1.absolute_url);
    assert!(matches!(config.transport.fallback, TransportSocket::Plain));
    assert_eq!(config.thresholds[0].retries, RetryLimit::default());
    assert!(matches!(config.discovery, Discovery::Static));
    assert_eq!(bare.assignment.unwrap().localities.len(), 0);
    assert_eq!(world.clusters.known("a"), Some(config.id));
}

/// An automatic mutual TLS cluster, as Istio sends it.
const AUTO_MTLS: &str = r#"
name: outbound|80||a.b
type: EDS
alt_stat_name: outbound|80||a.b;
eds_cluster_config: {service_name: svc, eds_config: {ads: {}, initial_fetch_timeout: 0s, resource_api_version: V3}}
lb_policy: LEAST_REQUEST
outlier_detection: {consecutive_5xx: 5}
circuit_breakers: {thresholds: [{max_connections: 4294967295, max_retries: 7, track_remaining: true}]}
common_lb_config: {healthy_panic_threshold: {value: 0}, locality_weighted_lb_config: {}}
typed_extension_protocol_options:
  envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
    "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
    explicit_http_config: {http2_protocol_options: {max_concurrent_streams: 7}}
    upstream_http_protocol_options: {auto_sni: true}
transport_socket_matches:
- name: tlsMode-istio
  match: {tlsMode: istio}
  transport_socket:
    name: envoy.transport_sockets.tls
    typed_config:
      "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
      sni: outbound_.80_._.a.b
      common_tls_context:
        alpn_protocols: [istio-peer-exchange, istio]
        tls_certificate_sds_secret_configs:
        - {name: default, sds_config: {api_config_source: {api_type: GRPC, transport_api_version: V3, grpc_services: [{envoy_grpc: {cluster_name: sds-grpc}}]}}}
        combined_validation_context:
          default_validation_context: {match_subject_alt_names: [{exact: "spiffe://cluster.local/ns/a/sa/b"}]}
          validation_context_sds_secret_config: {name: ROOTCA, sds_config: {ads: {}}}
- name: tlsMode-disabled
  match: {}
  transport_socket: {name: envoy.transport_sockets.raw_buffer, typed_config: {"@type": type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer}}
filters:
- {name: istio.metadata_exchange, typed_config: {"@type": type.googleapis.com/udpa.type.v1.TypedStruct, type_url: type.googleapis.com/envoy.tcp.metadataexchange.config.MetadataExchange, value: {protocol: istio-peer-exchange}}}
"#;

#[test]
fn an_istio_cluster_keeps_its_policy_and_subscribes() {
    let mut world = World::default();
    let made = cluster(&mut world, AUTO_MTLS);
    let config = &made.config;
    assert!(matches!(&config.discovery, Discovery::Eds { service } if &**service == "svc"));
    assert!(made.assignment.is_none());
    assert_eq!(
        config.balance,
        BalancePolicy::LeastRequest {
            choices: 2,
            bias: 1.0,
            full_scan: false,
        }
    );
    assert_eq!((config.panic_threshold, config.locality_weighted), (0, true));
    assert_eq!(
        (config.thresholds[0].retries, config.thresholds[1].retries),
        (RetryLimit::Fixed(7), RetryLimit::default())
    );
    assert_eq!(config.http.protocol, UpstreamProtocol::Http2);
    assert_eq!(config.http.http2.max_concurrent_streams, Some(7));
    assert!(config.http.auto_sni);

    let wanted: Vec<_> = made
        .subscriptions
        .iter()
        .map(|s| (s.kind, &*s.name, s.initial_fetch_timeout))
        .collect();
    let seconds = Some(Duration::from_secs(15));
    assert_eq!(
        wanted,
        [
            (SubscriptionKind::ClusterLoadAssignment, "svc", None),
            (SubscriptionKind::Secret, "default", seconds),
            (SubscriptionKind::Secret, "ROOTCA", seconds),
        ]
    );
    assert_eq!(made.subscriptions[2].source, Some(Source::Ads));
    assert!(matches!(&made.subscriptions[1].source, Some(Source::Grpc(_))));
    assert_eq!(
        world.ignored_names(),
        ["envoy.tcp.metadataexchange.config.MetadataExchange",]
    );
}

#[test]
fn an_istio_cluster_chooses_its_socket_per_endpoint() {
    let made = cluster(&mut World::default(), AUTO_MTLS);
    let config = &made.config;
    let istio = Labels::new(vec![("tlsMode".into(), LabelValue::Text("istio".into()))]);
    let TransportSocket::Tls(tls) = config.transport.choose(&istio) else {
        panic!("expected TLS")
    };
    assert_eq!(&*tls.sni, "outbound_.80_._.a.b");
    assert_eq!(
        tls.settings.alpn,
        [Box::from(*b"istio")],
        "the in-band exchange is never offered"
    );
    let inline = tls.settings.validation.inline.as_ref().unwrap();
    let remora_model::identity::SecretKind::Validation(validation) = &inline.kind else {
        panic!("no validation")
    };
    assert_eq!(validation.names.len(), 1);
    assert!(matches!(
        config.transport.choose(&Labels::default()),
        TransportSocket::Plain
    ));
}

#[test]
fn each_kind_of_discovery_is_understood() {
    let mut world = World::default();
    let hosts = "load_assignment: {cluster_name: a, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: a.b, port_value: 80}}}}]}]}";
    let strict = cluster(
        &mut world,
        &format!(
            "{{name: a, type: STRICT_DNS, dns_lookup_family: V4_PREFERRED, respect_dns_ttl: true, {hosts}}}"
        ),
    );
    let Discovery::StrictDns(dns) = &strict.config.discovery else {
        panic!("expected STRICT_DNS")
    };
    assert_eq!(
        (dns.family, dns.respect_ttl, dns.refresh),
        (DnsFamily::V4Preferred, true, Duration::from_secs(5))
    );
    assert_eq!(
        dns.targets.localities[0].endpoints[0].address,
        EndpointAddress::Host("a.b".into(), 80)
    );
    let logical = cluster(&mut world, &format!("{{name: b, type: LOGICAL_DNS, {hosts}}}"));
    assert!(matches!(logical.config.discovery, Discovery::LogicalDns(_)));
    let typed = r#"cluster_type: {name: envoy.clusters.dns, typed_config: {"@type": type.googleapis.com/envoy.extensions.clusters.dns.v3.DnsCluster, dns_refresh_rate: 7s, all_addresses_in_single_endpoint: true}}"#;
    let typed = cluster(&mut world, &format!("{{name: c, {typed}, {hosts}}}"));
    assert!(
        matches!(&typed.config.discovery, Discovery::LogicalDns(dns) if dns.refresh == Duration::from_secs(7))
    );
    let original = "{name: d, type: ORIGINAL_DST, lb_policy: CLUSTER_PROVIDED, original_dst_lb_config: {upstream_port_override: 9}, upstream_bind_config: {source_address: {address: 127.0.0.6, port_value: 0}, extra_source_addresses: [{address: {address: '::6', port_value: 0}}]}}";
    let original = cluster(&mut world, original);
    assert!(
        matches!(&original.config.discovery, Discovery::OriginalDestination(d) if d.port_override == Some(9))
    );
    let bind = original.config.bind.as_ref().unwrap();
    assert_eq!(
        bind.for_family("::1".parse().unwrap()),
        Some("[::6]:0".parse().unwrap())
    );
}

#[test]
fn the_first_known_policy_wins() {
    let mut world = World::default();
    let policy = |kind: &str, rest: &str| {
        format!(
            "{{typed_extension_config: {{name: {kind}, typed_config: {{'@type': type.googleapis.com/envoy.extensions.load_balancing_policies.{kind}{rest}}}}}}}"
        )
    };
    let yaml = format!(
        "{{name: a, load_balancing_policy: {{policies: [{}, {}]}}}}",
        policy("load_aware_locality.v3.LoadAwareLocality", ""),
        policy(
            "wrr_locality.v3.WrrLocality",
            &format!(
                ", endpoint_picking_policy: {{policies: [{}]}}",
                policy(
                    "maglev.v3.Maglev",
                    ", table_size: 101, consistent_hashing_lb_config: {hash_balance_factor: 150}"
                )
            )
        ),
    );
    let made = cluster(&mut world, &yaml);
    assert_eq!(
        made.config.balance,
        BalancePolicy::Maglev {
            table_size: 101,
            use_hostname: false,
            balance_factor: Some(150),
        }
    );
    assert!(made.config.locality_weighted);
}

/// A cluster, and why it is refused.
const REFUSED: &[(&str, &str)] = &[
    ("{}", "name: expected a value, found an empty string"),
    (
        "{name: a, type: EDS}",
        "eds_cluster_config: expected eds_config, found none",
    ),
    (
        "{name: a, connect_timeout: 0s}",
        "connect_timeout: expected a duration above 0, found 0s",
    ),
    (
        "{name: a, lb_policy: MAGLEV, maglev_lb_config: {table_size: 100}}",
        "maglev_lb_config.table_size: The table size of maglev must be prime number of at most 5000011, found 100",
    ),
    (
        "{name: a, lb_policy: RING_HASH, common_lb_config: {consistent_hashing_lb_config: {hash_balance_factor: 99}}}",
        "common_lb_config.consistent_hashing_lb_config.hash_balance_factor: expected 100 to 4294967295, found 99",
    ),
    (
        "{name: a, lb_policy: RING_HASH, ring_hash_lb_config: {minimum_ring_size: 100, maximum_ring_size: 10}}",
        "ring_hash_lb_config: ring hash: minimum_ring_size (100) > maximum_ring_size (10)",
    ),
    (
        "{name: a, lb_policy: LOAD_BALANCING_POLICY_CONFIG}",
        "load_balancing_policy: cluster: field load_balancing_policy need to be set",
    ),
    (
        "{name: a, lb_policy: CLUSTER_PROVIDED}",
        "lb_policy: expected a policy that chooses, found CLUSTER_PROVIDED in a cluster that provides none",
    ),
    (
        "{name: a, type: ORIGINAL_DST}",
        "lb_policy: LB policy ROUND_ROBIN is not valid for Cluster type ORIGINAL_DST. Only 'CLUSTER_PROVIDED' is allowed with cluster type 'ORIGINAL_DST'",
    ),
    (
        "{name: a, lb_subset_config: {subset_selectors: [{keys: [v], fallback_policy: KEYS_SUBSET, fallback_keys_subset: [v]}]}}",
        "lb_subset_config.subset_selectors[0].fallback_keys_subset: fallback_keys_subset cannot be equal to keys",
    ),
    (
        "{name: a, cluster_type: {name: envoy.clusters.aggregate}}",
        "cluster_type.typed_config.clusters: value must contain at least 1 item(s)",
    ),
    (
        "{name: a, cluster_type: {name: x, typed_config: {'@type': type.googleapis.com/envoy.extensions.clusters.aggregate.v3.ClusterConfig, clusters: [b]}}}",
        "lb_policy: cluster manager: cluster provided LB not specified but cluster 'a' provided one",
    ),
    (
        "{name: a, load_balancing_policy: {policies: [{typed_extension_config: {name: x, typed_config: {'@type': type.googleapis.com/envoy.extensions.load_balancing_policies.random_subsetting.v3.RandomSubsetting, subset_size: 0, child_policy: {policies: [{typed_extension_config: {name: z, typed_config: {'@type': type.googleapis.com/envoy.extensions.load_balancing_policies.random.v3.Random}}}]}}}}]}}",
        "load_balancing_policy.policies[0].typed_extension_config.typed_config.subset_size: expected a number above 0, found none",
    ),
    (
        "{name: a, load_balancing_policy: {policies: [{typed_extension_config: {name: x, typed_config: {'@type': type.googleapis.com/envoy.extensions.load_balancing_policies.override_host.v3.OverrideHost, override_host_sources: [{}], fallback_policy: {policies: [{typed_extension_config: {name: z, typed_config: {'@type': type.googleapis.com/envoy.extensions.load_balancing_policies.random.v3.Random}}}]}}}}]}}",
        "load_balancing_policy.policies[0].typed_extension_config.typed_config.override_host_sources[0]: Empty override source",
    ),
    (
        "{name: a, cluster_type: {name: envoy.clusters.redis}}",
        "cluster_type: is not supported: clusters of type 'envoy.clusters.redis'",
    ),
    (
        "{name: a, type: LOGICAL_DNS}",
        "load_assignment: LOGICAL_DNS clusters must have a single locality_lb_endpoint and a single lb_endpoint",
    ),
    (
        "{name: a, connection_pool_per_downstream_connection: true}",
        "connection_pool_per_downstream_connection: is not supported: upstream connections that no two clients share",
    ),
    (
        "{name: a, http_protocol_options: {}, http2_protocol_options: {}}",
        "protocol_selection: Both HTTP1 and HTTP2 options may only be configured with non-default 'protocol_selection' values",
    ),
    (
        "{name: a, load_assignment: {cluster_name: a, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: localhost, port_value: 1}}}}]}]}}",
        "load_assignment.endpoints[0].lb_endpoints[0].endpoint.address.socket_address.address: expected an IP address, found 'localhost' (host names need cluster type STRICT_DNS or LOGICAL_DNS)",
    ),
    (
        "{name: a, transport_socket: {name: s, typed_config: {'@type': type.googleapis.com/envoy.extensions.transport_sockets.alts.v3.Alts, handshaker_service: x}}}",
        "transport_socket: is not supported: transport socket 's' of type envoy.extensions.transport_sockets.alts.v3.Alts",
    ),
    (
        "{name: a, load_balancing_policy: {policies: [{typed_extension_config: {name: x, typed_config: {'@type': type.googleapis.com/envoy.extensions.load_balancing_policies.subset.v3.Subset}}}]}}",
        "load_balancing_policy.policies[0].typed_extension_config.typed_config.subset_lb_policy: cluster: didn't find a registered load balancer factory implementation for subset lb with names from []",
    ),
    (
        "{name: a, load_balancing_policy: {policies: [{typed_extension_config: {name: x, typed_config: {'@type': type.googleapis.com/google.protobuf.Empty}}}]}}",
        "load_balancing_policy: didn't find a registered load balancer factory implementation for cluster: 'a' with names from [x]",
    ),
];

#[test]
fn a_cluster_that_would_send_elsewhere_is_refused_with_its_reason() {
    for (yaml, expected) in REFUSED {
        let name = if *yaml == "{}" { "" } else { "a" };
        assert_eq!(reason(CLUSTER, yaml), format!("{name}: {expected}"), "{yaml}");
    }
}

#[test]
fn endpoints_keep_weights_priorities_health_and_labels() {
    let yaml = r#"
cluster_name: svc
policy: {overprovisioning_factor: 100}
endpoints:
- locality: {region: r, zone: z}
  load_balancing_weight: 3
  lb_endpoints:
  - {health_status: DRAINING, load_balancing_weight: 9, endpoint: {hostname: h, address: {socket_address: {address: 10.0.0.1, port_value: 80}}}}
  - {metadata: {filter_metadata: {envoy.transport_socket_match: {tlsMode: istio}, envoy.lb: {canary: true, n: 2}}}, endpoint: {address: {pipe: {path: /tmp/s}}}}
- priority: 2
  lb_endpoints: []
"#;
    let mut world = World::default();
    let made = remora_translate::endpoints(&bytes(ENDPOINTS, yaml), &mut world.context()).unwrap();
    assert_eq!((&*made.name, made.overprovisioning), ("svc", 100));
    let first = &made.localities[0];
    assert_eq!(
        (&*first.locality.region.0, &*first.locality.zone.0, first.weight),
        ("r", "z", Some(3))
    );
    let (drained, plain) = (&first.endpoints[0], &first.endpoints[1]);
    assert_eq!(
        (
            drained.health(),
            drained.weight,
            drained.details().hostname.as_deref()
        ),
        (Health::Unhealthy, 9, Some("h"))
    );
    assert_eq!(
        drained.address,
        EndpointAddress::Socket("10.0.0.1:80".parse().unwrap())
    );
    assert_eq!(
        (plain.address.clone(), plain.weight),
        (EndpointAddress::Pipe("/tmp/s".into()), 1)
    );
    assert_eq!(
        plain.details().transport_labels.at("tlsMode"),
        Some(&LabelValue::Text("istio".into()))
    );
    assert_eq!(
        plain.details().balance_labels.at("canary"),
        Some(&LabelValue::Bool(true))
    );
    assert_eq!(made.localities[1].priority, 2);
}

#[test]
fn every_wrong_endpoint_is_named() {
    let yaml = "{endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 10.0.0.1}}}}, {load_balancing_weight: 0, endpoint: {address: {socket_address: {address: 10.0.0.1, port_value: 70000}}}}, {endpoint_name: x}]}]}";
    assert_eq!(
        reason(ENDPOINTS, yaml),
        ": cluster_name: expected a value, found an empty string; \
         endpoints[0].lb_endpoints[0].endpoint.address.socket_address: expected port_value or named_port, found none; \
         endpoints[0].lb_endpoints[1].endpoint.address.socket_address.port_value: expected a port of at most 65535, found 70000; \
         endpoints[0].lb_endpoints[1].load_balancing_weight: expected 1 to 4294967295, found 0; \
         endpoints[0].lb_endpoints[2].endpoint_name: is not supported: named endpoints"
    );
}

#[test]
fn weights_and_priorities_stay_within_what_can_be_balanced() {
    let heavy = "{load_balancing_weight: 4294967295, endpoint: {address: {socket_address: {address: 10.0.0.1, port_value: 1}}}}";
    let yaml = format!("{{cluster_name: a, endpoints: [{{lb_endpoints: [{heavy}, {heavy}]}}]}}");
    assert_eq!(
        reason(ENDPOINTS, &yaml),
        "a: endpoints: the sum of weights of all endpoints in the locality exceeds 4294967295"
    );
    let far = "{cluster_name: a, endpoints: [{priority: 129}]}";
    assert_eq!(reason(ENDPOINTS, far), "a: endpoints: priority 129 is above 128");
}
