//! Rows about HTTP filters and what routes say of them.

use harness::bootstrap::type_url;
use serde_json::{Value, json};

use super::config::{host, to};
use super::table::{Row, http2, text};

pub(crate) fn config(kind: &str, fields: Value) -> Value {
    let mut config = json!({"@type": type_url(&format!("extensions.filters.http.{kind}"))});
    harness::bootstrap::merge(&mut config, &fields);
    config
}

/// The filters of the main listener.
pub(crate) fn chain() -> Value {
    let own = json!({"mutations": {
        "request_mutations": [{"append": {"header": {"key": "x-mutated", "value": "own"}}}, {"remove": "x-taken"}],
        "response_mutations": [{"append": {"header": {"key": "x-answered", "value": "own"}}}]}});
    let mut filters = super::bodies::chain();
    filters.extend(super::compression::chain());
    filters.extend(super::cache::chain());
    filters.extend(super::authorization::chain());
    filters.extend(super::state::chain());
    filters.extend(super::services::chain());
    filters.extend(super::policies::chain());
    let others = json!([
        {"name": "envoy.filters.http.fault", "typed_config": config("fault.v3.HTTPFault", json!({}))},
        {"name": "envoy.filters.http.cors", "typed_config": config("cors.v3.Cors", json!({}))},
        {"name": "mutation", "disabled": true, "typed_config": config("header_mutation.v3.HeaderMutation", own)},
        {"name": "limit", "typed_config": config("local_ratelimit.v3.LocalRateLimit", json!({"stat_prefix": "limit"}))},
        {"name": "router", "typed_config": config("router.v3.Router", json!({}))},
    ]);
    filters.extend(others.as_array().cloned().unwrap_or_default());
    filters.into()
}

fn always() -> Value {
    json!({"numerator": 100})
}

/// A route with words to filters.
pub(crate) fn says(path: &str, filters: Value) -> Value {
    let mut route = to("a", path, json!({}));
    route["typed_per_filter_config"] = filters;
    route
}

fn fault(path: &str, fields: Value) -> Value {
    says(
        path,
        json!({"envoy.filters.http.fault": config("fault.v3.HTTPFault", fields)}),
    )
}

fn cors(path: &str, fields: Value) -> Value {
    says(
        path,
        json!({"envoy.filters.http.cors": config("cors.v3.CorsPolicy", fields)}),
    )
}

fn mutation(level: &str) -> Value {
    config(
        "header_mutation.v3.HeaderMutationPerRoute",
        json!({"mutations": {
            "request_mutations": [
                {"append": {"header": {"key": "x-mutated", "value": level}, "append_action": "APPEND_IF_EXISTS_OR_ADD"}},
                {"remove_on_match": {"key_matcher": {"prefix": "x-secret-"}}}],
            "response_mutations": [
                {"append": {"header": {"key": "x-answered", "value": format!("{level} %REQ(x-word)% %RESPONSE_CODE%")}}}]}}),
    )
}

/// The virtual hosts of these rows.
pub(crate) fn hosts() -> Vec<Value> {
    let mut hosts = vec![fault_host(), cors_host(), mutation_host(), super::limits::host()];
    hosts.extend(super::descriptors::hosts());
    hosts
}

fn fault_host() -> Value {
    let abort = |fields: Value| {
        let mut fields = fields;
        fields["percentage"] = always();
        fields
    };
    let faults = vec![
        fault("/http", json!({"abort": abort(json!({"http_status": 409}))})),
        fault("/grpc", json!({"abort": abort(json!({"grpc_status": 8}))})),
        fault(
            "/header",
            json!({"abort": abort(json!({"header_abort": {}})), "delay": abort(json!({"header_delay": {}}))}),
        ),
        fault("/never", json!({"abort": {"http_status": 409}})),
        fault("/delay", json!({"delay": abort(json!({"fixed_delay": "0.02s"}))})),
        fault(
            "/cluster",
            json!({"abort": abort(json!({"http_status": 409})), "upstream_cluster": "a"}),
        ),
        fault(
            "/other-cluster",
            json!({"abort": abort(json!({"http_status": 409})), "upstream_cluster": "b"}),
        ),
        fault(
            "/matching",
            json!({"abort": abort(json!({"http_status": 409})),
            "headers": [{"name": "x-fault", "string_match": {"exact": "yes"}}]}),
        ),
        fault(
            "/nodes",
            json!({"abort": abort(json!({"http_status": 409})), "downstream_nodes": ["n1", "n2"]}),
        ),
        says(
            "/disabled",
            json!({"envoy.filters.http.fault": {
            "@type": type_url("config.route.v3.FilterConfig"), "disabled": true}}),
        ),
    ];
    let mut fault_host = host("faults", &["fault.test"], faults);
    fault_host["typed_per_filter_config"] = json!({"envoy.filters.http.fault":
        config("fault.v3.HTTPFault", json!({"abort": abort(json!({"http_status": 503}))}))});
    fault_host
}

fn cors_host() -> Value {
    let origins = json!([{"exact": "http://good.test"}, {"suffix": ".wild.test"}]);
    let mut cors_host = host(
        "cors",
        &["cors.test"],
        vec![
            cors(
                "/full",
                json!({"allow_origin_string_match": origins, "allow_methods": "GET, PUT",
                "allow_headers": "x-a", "expose_headers": "x-b", "max_age": "60", "allow_credentials": true,
                "allow_private_network_access": true}),
            ),
            cors(
                "/strict",
                json!({"allow_origin_string_match": origins, "forward_not_matching_preflights": false,
                "allow_credentials": true, "allow_methods": "GET", "expose_headers": "x-b", "allow_headers": "x-a", "allow_private_network_access": true}),
            ),
            cors(
                "/off",
                json!({"allow_origin_string_match": origins,
                "filter_enabled": {"default_value": {"numerator": 0}}}),
            ),
            cors("/part", json!({"allow_methods": "DELETE"})),
            to("a", "/", json!({})),
        ],
    );
    cors_host["typed_per_filter_config"] = json!({"envoy.filters.http.cors":
        config("cors.v3.CorsPolicy", json!({"allow_origin_string_match": [{"exact": "http://host.test"}], "max_age": "1"}))});
    cors_host
}

fn mutation_host() -> Value {
    let mut mutation_host = host(
        "mutations",
        &["mutation.test"],
        vec![
            says("/route", json!({"mutation": mutation("route")})),
            says(
                "/on",
                json!({"mutation": {"@type": type_url("config.route.v3.FilterConfig"), "config": {}}}),
            ),
            says(
                "/off",
                json!({"mutation": {"@type": type_url("config.route.v3.FilterConfig"), "disabled": true}}),
            ),
            to("a", "/", json!({})),
        ],
    );
    mutation_host["typed_per_filter_config"] = json!({"mutation": mutation("host")});
    mutation_host
}

pub(crate) const ROWS: &[Row] = &[
    text("fault abort", "GET /http HTTP/1.1\nhost: fault.test\n\n", 409),
    text(
        "fault abort with a grpc status",
        "GET /grpc HTTP/1.1\nhost: fault.test\n\n",
        200,
    ),
    text(
        "fault abort of a grpc request",
        "POST /http HTTP/1.1\nhost: fault.test\ncontent-type: application/grpc\ncontent-length: 0\n\n",
        200,
    ),
    text(
        "fault grpc abort of a grpc request",
        "POST /grpc HTTP/1.1\nhost: fault.test\ncontent-type: application/grpc\ncontent-length: 0\n\n",
        200,
    ),
    text(
        "fault by header, not asked for",
        "GET /header HTTP/1.1\nhost: fault.test\n\n",
        200,
    ),
    text(
        "fault by header",
        "GET /header HTTP/1.1\nhost: fault.test\nx-envoy-fault-abort-request: 404\nx-envoy-fault-delay-request: 5\n\n",
        404,
    ),
    text(
        "fault by header with a share of none",
        "GET /header HTTP/1.1\nhost: fault.test\nx-envoy-fault-abort-request: 404\nx-envoy-fault-abort-request-percentage: 0\n\n",
        200,
    ),
    text(
        "fault by header for grpc",
        "GET /header HTTP/1.1\nhost: fault.test\nx-envoy-fault-abort-grpc-request: 5\n\n",
        200,
    ),
    text(
        "fault by header out of range",
        "GET /header HTTP/1.1\nhost: fault.test\nx-envoy-fault-abort-request: 99\n\n",
        200,
    ),
    text(
        "fault without a share",
        "GET /never HTTP/1.1\nhost: fault.test\n\n",
        200,
    ),
    text("fault delay", "GET /delay HTTP/1.1\nhost: fault.test\n\n", 200),
    text(
        "fault of a cluster",
        "GET /cluster HTTP/1.1\nhost: fault.test\n\n",
        409,
    ),
    text(
        "fault of another cluster",
        "GET /other-cluster HTTP/1.1\nhost: fault.test\n\n",
        200,
    ),
    text(
        "fault by matching header",
        "GET /matching HTTP/1.1\nhost: fault.test\nx-fault: yes\n\n",
        409,
    ),
    text(
        "fault without the header",
        "GET /matching HTTP/1.1\nhost: fault.test\nx-fault: no\n\n",
        200,
    ),
    text(
        "fault of a node",
        "GET /nodes HTTP/1.1\nhost: fault.test\nx-envoy-downstream-service-node: n2\n\n",
        409,
    ),
    text(
        "fault of another node",
        "GET /nodes HTTP/1.1\nhost: fault.test\nx-envoy-downstream-service-node: n3\n\n",
        200,
    ),
    text(
        "fault disabled by the route",
        "GET /disabled HTTP/1.1\nhost: fault.test\n\n",
        200,
    ),
    text(
        "fault of the virtual host, without a route",
        "GET /none HTTP/1.1\nhost: fault.test\n\n",
        404,
    ),
    http2("h2 fault abort", "fault.test", "/http", &[], 409),
    text(
        "cors without origin",
        "GET /full HTTP/1.1\nhost: cors.test\n\n",
        200,
    ),
    text(
        "cors",
        "GET /full HTTP/1.1\nhost: cors.test\norigin: http://good.test\n\n",
        200,
    ),
    text(
        "cors by suffix",
        "GET /full HTTP/1.1\nhost: cors.test\norigin: https://x.wild.test\n\n",
        200,
    ),
    text(
        "cors of a stranger",
        "GET /full HTTP/1.1\nhost: cors.test\norigin: http://evil.test\n\n",
        200,
    ),
    text(
        "cors preflight",
        "OPTIONS /full HTTP/1.1\nhost: cors.test\norigin: http://good.test\naccess-control-request-method: PUT\n\n",
        200,
    ),
    text(
        "cors preflight of a private network",
        "OPTIONS /full HTTP/1.1\nhost: cors.test\norigin: http://good.test\naccess-control-request-method: PUT\naccess-control-request-private-network: true\n\n",
        200,
    ),
    text(
        "cors options without a method",
        "OPTIONS /full HTTP/1.1\nhost: cors.test\norigin: http://good.test\n\n",
        200,
    ),
    text(
        "cors preflight of a stranger",
        "OPTIONS /full HTTP/1.1\nhost: cors.test\norigin: http://evil.test\naccess-control-request-method: PUT\n\n",
        200,
    ),
    text(
        "cors strict preflight of a stranger",
        "OPTIONS /strict HTTP/1.1\nhost: cors.test\norigin: http://evil.test\naccess-control-request-method: PUT\n\n",
        200,
    ),
    text(
        "cors off",
        "GET /off HTTP/1.1\nhost: cors.test\norigin: http://good.test\n\n",
        200,
    ),
    text(
        "cors words of two levels",
        "OPTIONS /part HTTP/1.1\nhost: cors.test\norigin: http://host.test\naccess-control-request-method: PUT\n\n",
        200,
    ),
    text(
        "cors of the virtual host",
        "OPTIONS /x HTTP/1.1\nhost: cors.test\norigin: http://host.test\naccess-control-request-method: PUT\n\n",
        200,
    ),
    http2(
        "h2 cors",
        "cors.test",
        "/full",
        &[("origin", "http://good.test")],
        200,
    ),
    text(
        "mutation of two levels",
        "GET /route HTTP/1.1\nhost: mutation.test\nx-taken: 1\nx-secret-a: 1\nx-word: w\n\n",
        200,
    ),
    text(
        "mutation enabled by name",
        "GET /on HTTP/1.1\nhost: mutation.test\nx-taken: 1\nx-secret-a: 1\n\n",
        200,
    ),
    text(
        "mutation disabled",
        "GET /off HTTP/1.1\nhost: mutation.test\nx-taken: 1\n\n",
        200,
    ),
    text(
        "mutation of the virtual host",
        "GET /x HTTP/1.1\nhost: mutation.test\nx-taken: 1\n\n",
        200,
    ),
    text(
        "mutation of a host without words",
        "GET /x HTTP/1.1\nhost: b.test\nx-taken: 1\n\n",
        200,
    ),
];
