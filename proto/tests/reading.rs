//! What the reader takes, and what it says about what it does not take.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking and says aloud what it skips"
)]

use remora_proto::pb::envoy::config::bootstrap::v3::Bootstrap;
use remora_proto::pb::envoy::config::cluster::v3::Cluster;
use remora_proto::pb::envoy::service::discovery::v3::DiscoveryResponse;
use remora_proto::{Pool, Problem, ReadOptions, UnknownFields};

const BOOTSTRAP: &str = "envoy.config.bootstrap.v3.Bootstrap";
const CLUSTER: &str = "envoy.config.cluster.v3.Cluster";

fn cluster(text: &str) -> Cluster {
    match Pool::load().unwrap().read(text, CLUSTER, ReadOptions::default()) {
        Ok(document) => document.decode().unwrap(),
        Err(problems) => panic!("{text}\n{problems}"),
    }
}

fn problems(message: &str, text: &str) -> Vec<Problem> {
    match Pool::load().unwrap().read(text, message, ReadOptions::default()) {
        Ok(_) => panic!("was read: {text}"),
        Err(problems) => problems.0,
    }
}

#[test]
fn both_name_cases_and_every_notation_give_the_same_message() {
    let snake = "
name: a
connect_timeout: 0.25s
lb_policy: LEAST_REQUEST
per_connection_buffer_limit_bytes: 32768
respect_dns_ttl: true
typed_extension_protocol_options:
  envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
    '@type': type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
    explicit_http_config: {http2_protocol_options: {}}
";
    let camel = r#"{"name": "a", "connectTimeout": {"nanos": 250000000}, "lbPolicy": 1, "perConnectionBufferLimitBytes": "0x8000",
        "respectDnsTtl": "true", "typedExtensionProtocolOptions": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "explicitHttpConfig": {"http2ProtocolOptions": {}},
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions"}}}"#
        .replace("\"0x8000\"", "3.2768e4");
    assert_eq!(cluster(snake), cluster(&camel));
    assert_eq!(
        cluster(snake),
        cluster(
            &snake
                .replace("LEAST_REQUEST", "least_request")
                .replace("true", "yes")
        )
    );
    assert_eq!(
        cluster(snake),
        cluster(&snake.replace("0.25s", "'0.250s'").replace("32768", "\"32768\""))
    );
}

#[test]
fn null_is_unset_and_one_value_is_a_list_of_one() {
    let read = Pool::load().unwrap().read(
        "node: null\nstatic_resources:\n  clusters: {name: a, connect_timeout: ~}\n",
        BOOTSTRAP,
        ReadOptions::default(),
    );
    let bootstrap: Bootstrap = read.unwrap().decode().unwrap();
    assert_eq!(bootstrap.node, None);
    let clusters = bootstrap.static_resources.unwrap().clusters;
    assert_eq!(
        (
            clusters.len(),
            clusters[0].name.as_str(),
            &clusters[0].connect_timeout
        ),
        (1, "a", &None)
    );
}

#[test]
fn a_typed_struct_in_an_any_keeps_its_free_json() {
    let text = "
name: a
typed_extension_protocol_options:
  x:
    '@type': type.googleapis.com/udpa.type.v1.TypedStruct
    type_url: type.googleapis.com/stats.PluginConfig
    value: {debug: no, list: [1, 2.5, null], deep: {text: hello}}
";
    let any = cluster(text)
        .typed_extension_protocol_options
        .remove("x")
        .unwrap();
    let (type_url, value) = remora_proto::extra::unwrap_typed_struct(&any).unwrap();
    assert_eq!(type_url, "type.googleapis.com/stats.PluginConfig");
    let shown =
        Pool::load()
            .unwrap()
            .write_any(&any.type_url, &any.value, remora_proto::WriteOptions::default());
    assert_eq!(
        shown["value"],
        serde_json::json!({"debug": false, "list": [1, 2.5, null], "deep": {"text": "hello"}})
    );
    assert_eq!(value.fields.len(), 3);
}

#[test]
fn a_typed_struct_is_read_as_the_message_that_it_names() {
    let text = "
name: a
typed_extension_protocol_options:
  x:
    '@type': type.googleapis.com/xds.type.v3.TypedStruct
    type_url: type.googleapis.com/envoy.config.cluster.v3.Cluster
    value: {name: inner, connectTimeout: 2s, per_connection_buffer_limit_bytes: 7, lb_policy: RANDOM}
";
    let any = cluster(text)
        .typed_extension_protocol_options
        .remove("x")
        .unwrap();
    let (type_url, value) = remora_proto::extra::unwrap_typed_struct(&any).unwrap();
    let pool = Pool::load().unwrap();
    let inner = pool
        .read_struct(&value, &type_url, "x", ReadOptions::default())
        .unwrap();
    let expected = cluster(
        "{name: inner, connect_timeout: 2s, per_connection_buffer_limit_bytes: 7, lb_policy: RANDOM}",
    );
    assert_eq!(inner.decode::<Cluster>().unwrap(), expected);
    let refused = pool
        .read_struct(&value, "envoy.config.core.v3.Node", "x", ReadOptions::default())
        .unwrap_err();
    assert_eq!(refused.0.len(), 4, "{refused}");
    assert!(
        refused
            .to_string()
            .starts_with("x: expected a field of envoy.config.core.v3.Node"),
        "{refused}"
    );
}

#[test]
fn a_file_of_resources_is_a_discovery_response() {
    let text = "
version_info: '7'
resources:
- '@type': type.googleapis.com/envoy.config.cluster.v3.Cluster
  name: a
";
    let pool = Pool::load().unwrap();
    let read = pool
        .read(
            text,
            "envoy.service.discovery.v3.DiscoveryResponse",
            ReadOptions::default(),
        )
        .unwrap();
    let response: DiscoveryResponse = read.decode().unwrap();
    assert_eq!(response.version_info, "7");
    assert_eq!(
        response.resources[0].type_url,
        remora_proto::TypeUrl::CLUSTER.as_str()
    );
}

#[test]
fn a_text_laid_over_another_merges_as_protobuf_does() {
    let pool = Pool::load().unwrap();
    let read = |text| pool.read(text, BOOTSTRAP, ReadOptions::default()).unwrap();
    let below = read(
        "node: {id: a, cluster: c}\nstatic_resources: {clusters: [{name: one}]}\nadmin: {address: {pipe: {path: /x}}}\n",
    );
    let over = read(
        "node: {id: b}\nstatic_resources: {clusters: [{name: two}]}\nadmin: {address: {socket_address: {address: ::1, port_value: 1}}}\n",
    );
    let merged: Bootstrap = below.merge(over).decode().unwrap();
    let expected = read(
        "node: {id: b, cluster: c}\nstatic_resources: {clusters: [{name: one}, {name: two}]}\nadmin: {address: {socket_address: {address: ::1, port_value: 1}}}\n",
    );
    assert_eq!(merged, expected.decode().unwrap());
}

#[test]
fn unknown_fields_are_warnings_when_asked_for() {
    let options = ReadOptions {
        unknown_fields: UnknownFields::Warn,
        ..ReadOptions::default()
    };
    let read = Pool::load()
        .unwrap()
        .read("name: a\nnew_thing: 1\nlb_policy: NEWEST\n", CLUSTER, options)
        .unwrap();
    assert_eq!(read.decode::<Cluster>().unwrap(), cluster("name: a"));
    let warnings: Vec<_> = read.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert_eq!(
        warnings[0],
        "2:1: expected a field of envoy.config.cluster.v3.Cluster, found \"new_thing\""
    );
}

#[test]
fn every_problem_of_a_text_is_found_with_its_place() {
    let text = "\
node: {id: 5}
static_resources:
  listeners:
  - name: l
    filter_chains:
    - filters:
      - name: hcm
        typed_config:
          '@type': type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stream_idle_timeout: 250ms
          route_config:
            virtual_hosts:
            - routes:
              - route: {retry_policy: {per_try_timeoot: 1s}}
  clusters:
  - lb_policy: ROUND_ROBINN
";
    let lines: Vec<_> = problems(BOOTSTRAP, text)
        .iter()
        .map(|problem| problem.in_file("b.yaml"))
        .collect();
    let config = "static_resources.listeners[0].filter_chains[0].filters[0].typed_config";
    assert_eq!(
        lines,
        [
            "b.yaml:1:12: node.id: expected a string, found the number 5; put it in quotes: \"5\"".to_owned(),
            format!(
                "b.yaml:10:32: {config}.stream_idle_timeout: expected a duration in seconds with an 's' suffix, such as \
                 \"0.250s\", found \"250ms\""
            ),
            format!(
                "b.yaml:14:40: {config}.route_config.virtual_hosts[0].routes[0].route.retry_policy: expected a field of \
                 envoy.config.route.v3.RetryPolicy, found \"per_try_timeoot\"; did you mean \"per_try_timeout\"?"
            ),
            "b.yaml:16:16: static_resources.clusters[0].lb_policy: expected one of ROUND_ROBIN, LEAST_REQUEST, RING_HASH, \
             RANDOM, MAGLEV, CLUSTER_PROVIDED, LOAD_BALANCING_POLICY_CONFIG, found \"ROUND_ROBINN\"; did you mean \
             \"ROUND_ROBIN\"?"
                .to_owned(),
        ]
    );
}

/// Text of a cluster, then what is said about it.
const BAD: &[(&str, &str)] = &[
    (
        "name: yes",
        "name: expected a string, found yes (which YAML reads as true); put it in quotes: \"yes\"",
    ),
    ("name: [a]", "name: expected a string, found a list"),
    (
        "respect_dns_ttl: 1",
        "respect_dns_ttl: expected true or false, found the number 1",
    ),
    (
        "per_connection_buffer_limit_bytes: -1",
        "expected an integer from 0 to 4294967295, found the number -1",
    ),
    (
        "per_connection_buffer_limit_bytes: 4294967296",
        "expected an integer from 0 to 4294967295",
    ),
    (
        "per_connection_buffer_limit_bytes: 5.5",
        "expected an integer from 0 to 4294967295, found the number 5.5",
    ),
    (
        "connect_timeout: 1",
        "expected a duration in seconds with an 's' suffix, such as \"0.250s\", found the number 1",
    ),
    ("connect_timeout: .5s", "found \".5s\""),
    ("connect_timeout: [1s]", "found a list"),
    ("lb_policy: {}", "found an object"),
    (
        "load_assignment: x",
        "expected an object of envoy.config.endpoint.v3.ClusterLoadAssignment, found \"x\"",
    ),
    (
        "health_checks: [null]",
        "health_checks[0]: expected an item of the list, found null",
    ),
    (
        "type: EDS\ncluster_type: {name: x}",
        "expected only one of type, cluster_type (cluster_discovery_type), found \"cluster_type\" beside \"type\"",
    ),
    (
        "connect_timeout: 1s\nconnectTimeout: 2s",
        "2:1: connect_timeout: expected the field once, found it again",
    ),
    (
        "name: a\nname: b",
        "2:1: name: expected the field once, found it again",
    ),
    (
        "hosts: []",
        "\"hosts\"; this field existed and was removed from the API",
    ),
    (
        "transport_socket: {typed_config: {a: b}}",
        "transport_socket.typed_config: expected \"@type\" beside the fields of the message",
    ),
    (
        "transport_socket: {typed_config: {'@type': envoy.config.cluster.v3.Cluster}}",
        "did you mean \"type.googleapis.com/envoy.config.cluster.v3.Cluster\"?",
    ),
    (
        "transport_socket: {typed_config: {'@type': type.googleapis.com/envoy.config.cluster.v3.Clutser}}",
        "expected the type URL of a known message, found \"type.googleapis.com/envoy.config.cluster.v3.Clutser\"; did you mean \"envoy.config.cluster.v3.Cluster\"?",
    ),
    (
        "transport_socket: {typed_config: {'@type': type.googleapis.com/envoy.api.v2.Cluster}}",
        "version 2 of the API is no longer spoken",
    ),
    (
        "transport_socket: {typed_config: {'@type': type.googleapis.com/google.protobuf.Duration, seconds: 1}}",
        "expected only \"@type\" and \"value\" for google.protobuf.Duration",
    ),
    (
        "metadata: {filter_metadata: {a: {b: 1, b: 2}}}",
        "metadata.filter_metadata[\"a\"][\"b\"]: expected the key once, found it again",
    ),
    (
        "typed_extension_protocol_options: {a: {}, a: {}}",
        "typed_extension_protocol_options[\"a\"]: expected the key once, found it again",
    ),
    (
        "<<: {name: a}",
        "expected a field of envoy.config.cluster.v3.Cluster, found \"<<\"",
    ),
    (
        "- name: a",
        "expected an object of envoy.config.cluster.v3.Cluster, found a list",
    ),
    ("name: 'a", "1:"),
    (
        "? [a]\n: b",
        "expected a key, found a list, an object or an alias",
    ),
];

#[test]
fn a_bad_text_is_named_precisely() {
    for (text, expected) in BAD {
        let said: Vec<_> = problems(CLUSTER, text).iter().map(ToString::to_string).collect();
        assert!(
            said.len() == 1 && said[0].contains(expected),
            "{text}\n  said:     {said:?}\n  expected: {expected}"
        );
    }
}

#[test]
fn an_unknown_message_name_is_refused() {
    assert!(
        problems("envoy.Nothing", "{}")[0]
            .to_string()
            .contains("expected the type URL of a known message")
    );
}

#[test]
fn an_unknown_type_is_refused_or_kept_as_it_came() {
    use remora_proto::UnknownTypes;
    use remora_proto::extra::unwrap_typed_struct;
    use remora_proto::pb::google::protobuf::Any;
    let pool = Pool::load().unwrap();
    let read = |text: &str, unknown_types| {
        let options = ReadOptions {
            unknown_types,
            ..ReadOptions::default()
        };
        pool.read(text, "google.protobuf.Any", options)
    };
    let free = r#"{"@type": "type.googleapis.com/example.Mine", "level": 3}"#;
    assert!(read(free, UnknownTypes::Refuse).is_err());
    let kept: Any = read(free, UnknownTypes::Keep).unwrap().decode().unwrap();
    let (type_url, inside) = unwrap_typed_struct(&kept).unwrap();
    assert_eq!(type_url, "type.googleapis.com/example.Mine");
    assert!(inside.fields.contains_key("level"));
    let raw = r#"{"@type": "type.googleapis.com/example.Mine", "value": "AQI="}"#;
    let kept: Any = read(raw, UnknownTypes::Keep).unwrap().decode().unwrap();
    assert_eq!(
        (kept.type_url.as_str(), kept.value.as_slice()),
        ("type.googleapis.com/example.Mine", &[1, 2][..])
    );
}
