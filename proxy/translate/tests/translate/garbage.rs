//! No bytes make a translation panic: neither garbage, nor damaged resources.

use proptest::prelude::*;
use prost::Message;

use crate::world::{CLUSTER, ENDPOINTS, LISTENER, ROUTES, SECRET, World, bytes, identity, quoted};

/// Every translation of the same bytes.
fn translate(bytes: &[u8]) {
    let mut world = World::default();
    let _ = remora_translate::listener(bytes, &mut world.context());
    let _ = remora_translate::route_configuration(bytes, &mut world.context());
    let _ = remora_translate::cluster(bytes, &mut world.context());
    let _ = remora_translate::endpoints(bytes, &mut world.context());
    let _ = remora_translate::secret(bytes, &mut world.context());
}

/// Resources that reach deep: every kind once, with filters, matchers, formats, TLS and policies.
fn seeds() -> Vec<Vec<u8>> {
    let (pem, key) = identity("a.b");
    let tls = format!(
        "common_tls_context: {{alpn_protocols: [h2], tls_certificates: [{{certificate_chain: {{inline_string: {}}}, private_key: {{inline_string: {}}}}}], validation_context: {{trusted_ca: {{inline_string: {}}}, match_typed_subject_alt_names: [{{san_type: URI, matcher: {{safe_regex: {{regex: 'spiffe://.*'}}}}}}]}}}}",
        quoted(&pem),
        quoted(&key),
        quoted(&pem)
    );
    let route = "{name: r, virtual_hosts: [{name: v, domains: ['*'], routes: [{match: {safe_regex: {regex: '/(a|b)+'}, headers: [{name: x, range_match: {start: 1, end: 2}}]}, route: {weighted_clusters: {clusters: [{name: a, weight: 1}]}, regex_rewrite: {pattern: {regex: '(x)'}, substitution: '\\1'}, timeout: 1.5s}, request_headers_to_add: [{header: {key: a, value: '%REQ(x?y):3%'}}]}]}]}";
    let listener = format!(
        "{{name: l, address: {{socket_address: {{address: '::1', port_value: 80}}}}, listener_filters: [{{name: t, filter_disabled: {{not_match: {{destination_port_range: {{start: 1, end: 9}}}}}}, typed_config: {{'@type': type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector}}}}], filter_chains: [{{filter_chain_match: {{prefix_ranges: [{{address_prefix: 10.0.0.0, prefix_len: 8}}], server_names: ['*.a']}}, transport_socket: {{name: tls, typed_config: {{'@type': type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext, {tls}}}}}, filters: [{{name: h, typed_config: {{'@type': type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager, stat_prefix: s, route_config: {route}, access_log: [{{name: a, typed_config: {{'@type': type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog, log_format: {{json_format: {{a: '%START_TIME(%s)%'}}}}}}}}], http_filters: [{{name: router, typed_config: {{'@type': type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}}}]}}}}]}}]}}"
    );
    let assignment = "{cluster_name: a, endpoints: [{priority: 1, load_balancing_weight: 3, lb_endpoints: [{endpoint: {address: {socket_address: {address: 10.0.0.1, port_value: 1}}}, metadata: {filter_metadata: {envoy.lb: {a: 1}}}}]}]}";
    let cluster = format!(
        "{{name: a, lb_policy: RING_HASH, ring_hash_lb_config: {{minimum_ring_size: 7}}, load_assignment: {assignment}, transport_socket: {{name: tls, typed_config: {{'@type': type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext, {tls}}}}}}}"
    );
    let secret = format!(
        "{{name: s, validation_context: {{trusted_ca: {{inline_string: {}}}}}}}",
        quoted(&pem)
    );
    let seeds = [
        (LISTENER, &*listener),
        (ROUTES, route),
        (CLUSTER, &cluster),
        (ENDPOINTS, assignment),
        (SECRET, &secret),
    ];
    seeds.map(|(kind, yaml)| bytes(kind, yaml)).to_vec()
}

#[test]
fn the_seeds_are_good() {
    let mut world = World::default();
    let seeds = seeds();
    assert!(remora_translate::listener(&seeds[0], &mut world.context()).is_ok());
    assert!(remora_translate::route_configuration(&seeds[1], &mut world.context()).is_ok());
    assert!(remora_translate::cluster(&seeds[2], &mut world.context()).is_ok());
    assert!(remora_translate::endpoints(&seeds[3], &mut world.context()).is_ok());
    assert!(remora_translate::secret(&seeds[4], &mut world.context()).is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        translate(&bytes);
    }

    #[test]
    fn damaged_resources_never_panic(
        seed in 0usize..5,
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        thread_local!(static SEEDS: Vec<Vec<u8>> = seeds());
        let mut bytes = SEEDS.with(|seeds| seeds[seed].clone());
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        translate(&bytes);
    }

    #[test]
    fn any_text_may_stand_where_text_stands(text in "\\PC{0,24}") {
        use remora_proto::pb::envoy::config::route::v3 as route;
        use remora_proto::pb::envoy::r#type::matcher::v3::RegexMatcher;
        let regex = RegexMatcher { regex: text.clone(), ..RegexMatcher::default() };
        let criteria = route::RouteMatch {
            path_specifier: Some(route::route_match::PathSpecifier::SafeRegex(regex)),
            headers: vec![route::HeaderMatcher { name: text.clone(), ..route::HeaderMatcher::default() }],
            ..route::RouteMatch::default()
        };
        let host = route::VirtualHost {
            name: text.clone(),
            domains: vec![text.clone()],
            routes: vec![route::Route { r#match: Some(criteria), request_headers_to_remove: vec![text.clone()], ..route::Route::default() }],
            ..route::VirtualHost::default()
        };
        translate(&route::RouteConfiguration { name: text, virtual_hosts: vec![host], ..route::RouteConfiguration::default() }.encode_to_vec());
    }
}
