//! Listeners, filter chains, connection managers, TCP proxies and access logs.

use std::sync::Arc;
use std::time::Duration;

use remora_model::filter::{HttpFilter, NetworkFilter};
use remora_model::listener::{
    Codec, FilterChain, HttpManager, ListenAddress, Listener, Routes, ServerHeader, TcpProxy, Terminal,
};
use remora_model::log::{Format, LogFilter, LogSink};
use remora_model::route::ClusterChoice;
use remora_model::snapshot::{Edit, Snapshot};
use remora_translate::{SubscriptionKind, TranslatedListener};

use crate::world::{LISTENER, World, bytes, identity, quoted, reason};

const ROUTER: &str = "{name: router, typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}";
const TCP: &str = "{name: tcp, typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, stat_prefix: t, cluster: c}}";

fn translate(world: &mut World, yaml: &str) -> TranslatedListener {
    remora_translate::listener(&bytes(LISTENER, yaml), &mut world.context())
        .unwrap_or_else(|e| panic!("{e}\n{yaml}"))
}

/// A listener on 10.0.0.1:80 with these chains.
fn listener(chains: &str) -> String {
    format!("{{name: l, address: {{socket_address: {{address: 10.0.0.1, port_value: 80}}}}, {chains}}}")
}

fn with_filters(filters: &str) -> String {
    listener(&format!("filter_chains: [{{filters: [{filters}]}}]"))
}

fn manager(fields: &str) -> String {
    with_filters(&format!(
        "{{name: hcm, typed_config: {{'@type': type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager, {fields}}}}}"
    ))
}

/// A manager with inline routes and these HTTP filters before the router.
fn http_filters(filters: &str) -> String {
    manager(&format!(
        "stat_prefix: s, route_config: {{name: r}}, http_filters: [{filters}{ROUTER}]"
    ))
}

fn http(chain: &FilterChain) -> &HttpManager {
    let Terminal::Http(manager) = &chain.terminal else {
        panic!("expected a manager")
    };
    manager
}

fn tcp(chain: &FilterChain) -> &TcpProxy {
    let Terminal::Tcp(proxy) = &chain.terminal else {
        panic!("expected a proxy")
    };
    proxy
}

#[test]
fn a_bare_listener_has_envoys_defaults() {
    let mut world = World::default();
    let made = translate(&mut world, &with_filters(TCP)).listener;
    assert_eq!(
        made.addresses,
        [ListenAddress::Socket("10.0.0.1:80".parse().unwrap())]
    );
    assert_eq!(
        (made.bind_to_port, made.use_original_dst, &*made.stat_prefix),
        (true, false, "10.0.0.1_80")
    );
    assert_eq!(made.inspection.timeout, Some(Duration::from_secs(15)));
    assert!(made.inspection.tls.is_none() && made.inspection.http.is_none());
    let proxy = tcp(&made.chains[0]);
    assert_eq!(
        (proxy.idle_timeout, proxy.connect_attempts),
        (Some(Duration::from_secs(3600)), 1)
    );
    assert!(matches!(proxy.cluster, ClusterChoice::One(id) if world.clusters.known("c") == Some(id)));
}

#[test]
fn a_bare_manager_has_envoys_defaults() {
    let mut world = World::default();
    let made = translate(&mut world, &http_filters("")).listener;
    let manager = http(&made.chains[0]);
    assert_eq!(
        (manager.codec, manager.server_name.to_str().unwrap()),
        (Codec::Auto, "envoy")
    );
    assert_eq!(manager.server_header, ServerHeader::Overwrite);
    assert!(manager.generate_request_id && !manager.use_remote_address && !manager.normalize_path);
    assert_eq!(manager.timeouts.connection_idle, Some(Duration::from_secs(3600)));
    assert_eq!(manager.timeouts.stream_idle, Some(Duration::from_secs(300)));
    assert_eq!(
        (manager.timeouts.request, manager.timeouts.request_headers),
        (None, None)
    );
    assert_eq!(manager.timeouts.delayed_close, Some(Duration::from_secs(1)));
    assert_eq!(
        (manager.limits.max_head_bytes, manager.limits.max_headers),
        (60 * 1024, 100)
    );
    assert!(manager.http1.absolute_url && manager.filters.is_empty());
    assert!(matches!(manager.routes, Routes::Inline(_)));
}

#[test]
fn an_istio_outbound_chain_is_understood() {
    let typed = |name: &str, url: &str, value: &str| {
        format!(
            "{{name: {name}, typed_config: {{'@type': type.googleapis.com/udpa.type.v1.TypedStruct, type_url: type.googleapis.com/{url}, value: {value}}}}}"
        )
    };
    let plain = |name: &str, url: &str| {
        format!("{{name: {name}, typed_config: {{'@type': type.googleapis.com/{url}}}}}")
    };
    let filters = [
        typed("mx", "io.istio.http.peer_metadata.Config", "{}"),
        plain("grpc_stats", "envoy.extensions.filters.http.grpc_stats.v3.FilterConfig, emit_filter_state: true"),
        typed("alpn", "istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig", "{alpnOverride: [{upstreamProtocol: HTTP11, alpnOverride: [istio-http/1.1, istio]}, {alpnOverride: [x]}]}"),
        plain("fault", "envoy.extensions.filters.http.fault.v3.HTTPFault"),
        plain("cors", "envoy.extensions.filters.http.cors.v3.Cors"),
        typed("stats", "stats.PluginConfig", "{disable_host_header_fallback: true}"),
    ]
    .join(", ");
    let yaml = manager(&format!(
        "stat_prefix: s, stream_idle_timeout: 0s, normalize_path: true, forward_client_cert_details: APPEND_FORWARD, set_current_client_cert_details: {{subject: true, uri: true}},
         rds: {{route_config_name: '80', config_source: {{ads: {{}}, initial_fetch_timeout: 0s, resource_api_version: V3}}}},
         upgrade_configs: [{{upgrade_type: websocket}}], http_filters: [{filters}, {ROUTER}]",
    ));
    let mut world = World::default();
    let made = translate(&mut world, &yaml);
    let manager = http(&made.listener.chains[0]);
    assert!(matches!(manager.routes, Routes::Dynamic(id) if world.route_tables.known("80") == Some(id)));
    assert_eq!(
        (manager.timeouts.stream_idle, manager.normalize_path),
        (None, true)
    );
    assert!(manager.client_certificate_details.subject && manager.client_certificate_details.uri);
    assert_eq!(manager.upgrades, [(Box::from("websocket"), true)]);
    let filters: Vec<&HttpFilter> = manager.filters.iter().map(|filter| &filter.filter).collect();
    let [
        HttpFilter::StripPeerMetadata,
        HttpFilter::GrpcStats(_),
        HttpFilter::UpstreamAlpn(alpn),
        HttpFilter::Fault(fault),
        HttpFilter::Cors,
    ] = filters[..]
    else {
        panic!("found {:?}", manager.filters)
    };
    assert_eq!(alpn.http11, [Box::from(*b"istio-http/1.1"), Box::from(*b"istio")]);
    assert!(fault.is_idle());
    assert_eq!((alpn.http10.len(), alpn.http2.len()), (1, 0));
    let rds = &made.subscriptions[0];
    assert_eq!(
        (rds.kind, &*rds.name, rds.initial_fetch_timeout),
        (SubscriptionKind::RouteConfiguration, "80", None)
    );
}

#[test]
fn inspection_follows_filters_ports_and_what_chains_need() {
    let inspector = |rule: &str| {
        format!(
            "{{name: tls, typed_config: {{'@type': type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector}}, filter_disabled: {rule}}}"
        )
    };
    let chains = format!(
        "filter_chains: [{{filters: [{TCP}]}}], listener_filters_timeout: 0s, continue_on_listener_filters_timeout: true, use_original_dst: true, bind_to_port: false"
    );
    let ports = "{or_match: {rules: [{destination_port_range: {start: 80, end: 81}}, {destination_port_range: {start: 81, end: 90}}]}}";
    let made = translate(
        &mut World::default(),
        &listener(&format!("{chains}, listener_filters: [{}]", inspector(ports))),
    )
    .listener;
    assert_eq!(made.inspection.tls.as_ref().unwrap().disabled_ports, [(80, 89)]);
    assert!(
        made.inspection.original_destination && made.inspection.continue_on_timeout && !made.bind_to_port
    );
    assert_eq!(made.inspection.timeout, None);
    let not = format!("{{not_match: {{and_match: {{rules: [{ports}, {{any_match: true}}]}}}}}}");
    let made = translate(
        &mut World::default(),
        &listener(&format!("{chains}, listener_filters: [{}]", inspector(&not))),
    )
    .listener;
    assert_eq!(
        made.inspection.tls.as_ref().unwrap().disabled_ports,
        [(0, 79), (90, 65535)]
    );
    let needs = format!("filter_chains: [{{filter_chain_match: {{server_names: [A.b]}}, filters: [{TCP}]}}]");
    let made = translate(&mut World::default(), &listener(&needs)).listener;
    assert!(
        made.inspection.tls.is_some(),
        "Envoy adds the inspector that server names need"
    );
    assert_eq!(made.chains[0].criteria.server_names, [Box::from("a.b")]);
}

#[test]
fn only_what_decides_about_connections_changes_the_security_of_a_chain() {
    let (certificate, key) = identity("a.b");
    let chain = |port: u16, alpn: &str, cluster: &str| {
        let tls = format!(
            "transport_socket: {{name: tls, typed_config: {{'@type': type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext, common_tls_context: {{alpn_protocols: [{alpn}], tls_certificates: [{{certificate_chain: {{inline_string: {}}}, private_key: {{inline_string: {}}}}}]}}}}}}",
            quoted(&certificate),
            quoted(&key)
        );
        let filters = TCP.replace("cluster: c", &format!("cluster: {cluster}"));
        let made = translate(
            &mut World::default(),
            &listener(&format!(
                "filter_chains: [{{filter_chain_match: {{destination_port: {port}}}, filters: [{filters}], {tls}}}]"
            )),
        );
        (
            made.listener.chains[0].security,
            made.listener.chains[0].fingerprint,
        )
    };
    let base = chain(1, "h2", "c");
    assert_eq!(base, chain(1, "h2", "c"));
    let routed = chain(1, "h2", "d");
    assert!(base.0 == routed.0 && base.1 != routed.1);
    assert_ne!(base.0, chain(2, "h2", "c").0);
    assert_ne!(base.0, chain(1, "http/1.1", "c").0);
}

#[test]
fn access_logs_know_their_sinks_formats_and_filters() {
    let log = |kind: &str, rest: &str| {
        format!(
            "{{name: l, typed_config: {{'@type': type.googleapis.com/envoy.extensions.access_loggers.{kind}}}{rest}}}"
        )
    };
    let logs = [
        log("file.v3.FileAccessLog, path: /dev/null", ""),
        log(
            "stream.v3.StdoutAccessLog, log_format: {json_format: {code: '%RESPONSE_CODE%', deep: {n: 1, list: [x]}}, omit_empty_values: true}",
            ", filter: {and_filter: {filters: [{status_code_filter: {comparison: {op: GE, value: {default_value: 500}}}}, {response_flag_filter: {flags: [NR]}}]}}",
        ),
        log(
            "stream.v3.StderrAccessLog, log_format: {text_format_source: {inline_string: '%PROTOCOL%'}}",
            "",
        ),
        log("file.v3.FileAccessLog, path: /dev/null, format: '%DURATION%'", ""),
        log("open_telemetry.v3.OpenTelemetryAccessLogConfig", ""),
        log("stream.v3.StdoutAccessLog", ", filter: {traceable_filter: {}}"),
    ];
    let filters = TCP.replace(
        "stat_prefix",
        &format!("access_log: [{}], stat_prefix", logs.join(", ")),
    );
    let mut world = World::default();
    let made = translate(&mut world, &with_filters(&filters)).listener;
    let logs = &tcp(&made.chains[0]).access_logs;
    assert_eq!(
        logs.iter().map(|log| log.sink.clone()).collect::<Vec<_>>(),
        [
            LogSink::File("/dev/null".into()),
            LogSink::Stdout,
            LogSink::Stderr,
            LogSink::File("/dev/null".into())
        ]
    );
    assert!(matches!(&*logs[0].format, Format::Text { pieces, omit_empty: false } if pieces.len() > 20));
    assert!(matches!(&*logs[1].format, Format::Json { omit_empty: true, .. }));
    assert!(matches!(logs[1].filter.as_deref(), Some(LogFilter::And(both)) if both.len() == 2));
    assert!(matches!(&*logs[3].format, Format::Text { pieces, .. } if pieces.len() == 1));
    assert_eq!(
        world.ignored_names(),
        ["AccessLog.filter", "AccessLog.typed_config"]
    );
}

#[test]
fn filters_that_cannot_be_left_out_are_refused() {
    let filter = |kind: &str, more: &str| {
        http_filters(&format!(
            "{{name: f, typed_config: {{'@type': type.googleapis.com/{kind}}}{more}}}, "
        ))
    };
    let unknown = |more: &str| {
        http_filters(&format!(
            "{{name: f, typed_config: {{'@type': type.googleapis.com/xds.type.v3.TypedStruct, type_url: type.googleapis.com/no.such.Filter}}{more}}}, "
        ))
    };
    let lua = "envoy.extensions.filters.http.lua.v3.Lua";
    let at = "l: filter_chains[0].filters[0].typed_config.http_filters[0]";
    assert_eq!(
        reason(LISTENER, &filter(lua, "")),
        format!("{at}.typed_config: is not supported: filter 'f' of type {lua}")
    );
    assert_eq!(
        reason(LISTENER, &unknown("")),
        format!(
            "{at}.typed_config: Didn't find a registered implementation for 'f' with type URL: 'no.such.Filter'"
        )
    );
    for more in [", is_optional: true", ", disabled: true"] {
        assert_eq!(reason(LISTENER, &filter(lua, more)), "accepted");
    }
    assert_eq!(reason(LISTENER, &unknown(", is_optional: true")), "accepted");
    assert_ne!(reason(LISTENER, &unknown(", disabled: true")), "accepted");
    let fault = "envoy.extensions.filters.http.fault.v3.HTTPFault, response_rate_limit: {fixed_limit: {limit_kbps: 0}}";
    assert_eq!(
        reason(LISTENER, &filter(fault, "")),
        format!(
            "{at}.typed_config.response_rate_limit.fixed_limit.limit_kbps: expected a number above 0, found 0"
        )
    );
}

#[test]
fn a_wrong_listener_is_refused_with_its_reason() {
    let at = "filter_chains[0].filters[0]";
    let router_twice = http_filters(&format!("{ROUTER}, "));
    let cors = "{name: cors, typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.http.cors.v3.Cors}}";
    let cases = [
        (listener(""), "no filter chains specified".to_owned()),
        (listener(&format!("filter_chains: [{{filters: [{TCP}]}}, {{name: b, filters: [{TCP}]}}]")), "filter_chains: filter chain 'b' has the same matching rules defined as '#0'".to_owned()),
        (format!("{{name: l, filter_chains: [{{filters: [{TCP}]}}]}}"), "address: expected socket_address or pipe, found none".to_owned()),
        (format!("{{name: l, address: {{socket_address: {{address: localhost, port_value: 1}}}}, filter_chains: [{{filters: [{TCP}]}}]}}"), "address.socket_address.address: expected an IP address, found 'localhost'".to_owned()),
        (with_filters(&format!("{TCP}, {TCP}")), format!("{at}: Error: terminal filter named tcp of type envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy must be the last filter in a network filter chain.")),
        (router_twice, format!("{at}.typed_config.http_filters[0]: Error: terminal filter named router must be the last filter in a http filter chain.")),
        (manager(&format!("stat_prefix: s, route_config: {{}}, http_filters: [{cors}]")), format!("{at}.typed_config.http_filters[0]: Error: non-terminal filter named cors is the last filter in a http filter chain.")),
        (manager(&format!("stat_prefix: s, http_filters: [{ROUTER}]")), format!("{at}.typed_config: expected one of rds, route_config; found none")),
        (manager(&format!("stat_prefix: s, rds: {{route_config_name: r}}, http_filters: [{ROUTER}]")), format!("{at}.typed_config.rds.config_source: expected a configuration source, found none")),
        (manager(&format!("stat_prefix: s, route_config: {{}}, original_ip_detection_extensions: [{{name: x, typed_config: {{'@type': type.googleapis.com/envoy.extensions.http.original_ip_detection.xff.v3.XffConfig}}}}], http_filters: [{ROUTER}]")), format!("{at}.typed_config.original_ip_detection_extensions[0]: is not supported: a source of the client's address, 'x' of type envoy.extensions.http.original_ip_detection.xff.v3.XffConfig")),
        (listener(&format!("filter_chains: [{{filter_chain_match: {{server_names: ['a.*.b'], destination_port: 0}}, filters: [{TCP}]}}]")), "filter_chains[0].filter_chain_match.destination_port: expected 1 to 65535, found 0; filter_chains[0].filter_chain_match.server_names[0]: partial wildcards are not supported in \"server_names\", found 'a.*.b'".to_owned()),
        (listener(&format!("filter_chains: [{{filter_chain_match: {{prefix_ranges: [{{address_prefix: '::1/128', prefix_len: 128}}]}}, filters: [{TCP}]}}]")), "filter_chains[0].filter_chain_match.prefix_ranges[0]: invalid ip/mask combo '::1/128/128' (format is <ip>/<# mask bits>)".to_owned()),
        (format!("{{name: l, address: {{socket_address: {{address: 0.0.0.0, port_value: 1, ipv4_compat: true}}}}, filter_chains: [{{filters: [{TCP}]}}]}}"), "address.socket_address: Only IPv6 address '::' or valid IPv4-mapped IPv6 address can set ipv4_compat: 0.0.0.0:1".to_owned()),
        (listener(&format!("transparent: true, filter_chains: [{{filters: [{TCP}]}}]")), "transparent: is not supported: transparent sockets (TPROXY); use redirection".to_owned()),
        (listener(&format!("filter_chains: [{{use_proxy_proto: true, filters: [{TCP}]}}]")), "filter_chains[0].use_proxy_proto: is not supported: the deprecated switch; use the proxy_protocol listener filter".to_owned()),
        (listener(&format!("filter_chains: [{{filters: [{TCP}]}}], listener_filters: [{{name: t, typed_config: {{'@type': type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector}}}}, {{name: p, typed_config: {{'@type': type.googleapis.com/envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol}}}}]")), "listener_filters[1].typed_config: is not supported: a PROXY protocol filter behind an inspector, which would see its header".to_owned()),
        (listener(&format!("filter_chains: [{{filters: [{TCP}]}}], listener_filters: [{{name: p, typed_config: {{'@type': type.googleapis.com/envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol, disallowed_versions: [V1, V2], rules: [{{tlv_type: 300}}]}}}}]")), "listener_filters[0].typed_config.disallowed_versions: Proxy Protocol filter is misconfigured: all proxy protocol versions are disallowed.; listener_filters[0].typed_config.rules[0].tlv_type: expected at most 255, found 300".to_owned()),
        (listener(&format!("filter_chains: [{{filters: [{TCP}]}}], listener_filters: [{{name: u, typed_config: {{'@type': type.googleapis.com/envoy.extensions.filters.listener.set_filter_state.v3.Config}}}}]")), "listener_filters[0].typed_config: is not supported: filter 'u' of type envoy.extensions.filters.listener.set_filter_state.v3.Config".to_owned()),
        (with_filters(&TCP.replace("stat_prefix: t", "stat_prefix: t, access_log: [{name: x, typed_config: {'@type': type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog, path: x, format: '%NOPE%'}}]")), format!("{at}.typed_config.access_log[0].typed_config.format: Not supported field in StreamInfo: NOPE")),
    ];
    for (yaml, expected) in cases {
        assert_eq!(reason(LISTENER, &yaml), format!("l: {expected}"), "{yaml}");
    }
}

#[test]
fn a_chain_without_filters_closes_its_connections() {
    let translated = translate(&mut World::default(), &with_filters(""));
    assert!(matches!(translated.listener.chains[0].terminal, Terminal::Close));
}

#[test]
fn inline_routes_tell_which_clusters_must_be_there() {
    let routes = |validate: &str| {
        let actions = "{match: {prefix: /a}, route: {cluster: a, request_mirror_policies: [{cluster: m}]}}, \
                       {match: {prefix: /h}, route: {cluster_header: x-to}}, \
                       {match: {prefix: /}, route: {weighted_clusters: {clusters: [{name: w, weight: 1}]}}}";
        manager(&format!(
            "stat_prefix: s, http_filters: [{ROUTER}], \
             route_config: {{{validate} virtual_hosts: [{{name: v, domains: ['*'], routes: [{actions}]}}]}}"
        ))
    };
    let sentences = |yaml: &str| -> Vec<String> {
        let translated = translate(&mut World::default(), yaml);
        let expected = translated.expected_clusters.iter();
        expected
            .map(|expected| expected.problem.sentence.clone())
            .collect()
    };
    assert_eq!(
        sentences(&routes("")),
        [
            "route: unknown cluster 'a'",
            "route: unknown shadow cluster 'm'",
            "route: unknown weighted cluster 'w'"
        ]
    );
    assert!(sentences(&routes("validate_clusters: false,")).is_empty());
    let zipkin = "{name: z, typed_config: {'@type': type.googleapis.com/envoy.config.trace.v3.ZipkinConfig, \
                  collector_cluster: z, collector_endpoint: /}}";
    let traced = manager(&format!(
        "stat_prefix: s, http_filters: [{ROUTER}], route_config: {{}}, tracing: {{provider: {zipkin}}}"
    ));
    assert_eq!(sentences(&traced), ["envoy.tracers.zipkin: unknown cluster 'z'"]);
}

#[test]
fn a_filter_by_ecds_is_left_out_only_where_it_can_be_nothing_else() {
    let filter = |kinds: &str| {
        http_filters(&format!(
            "{{name: e, config_discovery: {{config_source: {{ads: {{}}}}, type_urls: [{kinds}]}}}}, "
        ))
    };
    let of = |kind: &str| format!("type.googleapis.com/envoy.extensions.filters.http.{kind}");
    let compressor = of("compressor.v3.Compressor");
    let mut world = World::default();
    translate(&mut world, &filter(&compressor));
    assert!(world.ignored_names().contains(&"HttpFilter.config_discovery"));
    let both = reason(
        LISTENER,
        &filter(&format!("{compressor}, {}", of("wasm.v3.Wasm"))),
    );
    assert!(
        both.ends_with(
            "is not supported: filter 'e' by ECDS of type envoy.extensions.filters.http.compressor.v3.Compressor, \
             envoy.extensions.filters.http.wasm.v3.Wasm"
        ),
        "{both}"
    );
}

#[test]
fn limits_of_connections_keep_their_counts_while_their_settings_are_the_same() {
    const FAMILY: &str = "type.googleapis.com/envoy.extensions.filters.network";
    let yaml = |max: u32, cluster: &str| {
        let rate = format!(
            "{{name: a, typed_config: {{'@type': {FAMILY}.local_ratelimit.v3.LocalRateLimit, stat_prefix: s, token_bucket: {{max_tokens: 5, fill_interval: 1s}}}}}}"
        );
        let open = format!(
            "{{name: b, typed_config: {{'@type': {FAMILY}.connection_limit.v3.ConnectionLimit, stat_prefix: s, max_connections: {max}}}}}"
        );
        with_filters(&format!("{rate}, {open}, {}", TCP.replace("cluster: c", cluster)))
    };
    let limits = |listener: &Listener| match listener.chains[0].network_filters.as_slice() {
        [
            NetworkFilter::RateLimit(rate),
            NetworkFilter::ConnectionLimit(open),
        ] => (Arc::clone(rate), Arc::clone(open)),
        filters => panic!("expected two limits, found {filters:?}"),
    };
    let mut world = World::default();
    let before = translate(&mut world, &yaml(3, "cluster: c")).listener;
    let mut edit = Edit::new(&Snapshot::default());
    let first = limits(&before);
    edit.set_listener(before);
    world.previous = Some(edit.finish());
    let after = translate(&mut world, &yaml(3, "cluster: other")).listener;
    let other = translate(&mut world, &yaml(4, "cluster: c")).listener;
    let ((rate, open), after, other) = (first, limits(&after), limits(&other));
    assert!(Arc::ptr_eq(&rate, &after.0) && Arc::ptr_eq(&open, &after.1));
    assert!(Arc::ptr_eq(&rate, &other.0) && !Arc::ptr_eq(&open, &other.1));
}
