//! Bootstraps as control planes write them are understood, and wrong ones are refused with everything that is wrong.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking and says aloud what it skips"
)]

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use prost::Message;
use remora_proto::pb::envoy::config::core::v3 as core;
use remora_proto::{Pool, TypeUrl, UnknownFields};
use remora_translate::bootstrap::{AdminAddress, Bootstrap, Input, NodeFlags, load};
use remora_translate::config_source::{BackOff, GrpcTarget, Source, Variant};

fn read(text: &str) -> Bootstrap {
    let input = Input {
        file: Some(("b.yaml", text.as_bytes())),
        ..Input::default()
    };
    load(&Pool::load().unwrap(), &input)
        .unwrap_or_else(|refused| panic!("{text}\n{refused}"))
        .bootstrap
}

fn refused(text: &str) -> Vec<String> {
    let input = Input {
        file: Some(("b.yaml", text.as_bytes())),
        ..Input::default()
    };
    match load(&Pool::load().unwrap(), &input) {
        Ok(_) => panic!("was accepted: {text}"),
        Err(refused) => refused.0,
    }
}

const MESH: &str = "
node:
  id: sidecar~10.0.0.1~a.b~b.svc.cluster.local
  cluster: a.b
  locality: {region: eu, zone: eu-1}
  metadata: {INSTANCE_IPS: 10.0.0.1, DEEP: {LIST: [1, two]}}
admin:
  address: {socket_address: {address: 127.0.0.1, port_value: 15000}}
  access_log:
  - name: envoy.access_loggers.file
    typed_config: {'@type': type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog, path: /dev/null}
  profile_path: /tmp/profile
dynamic_resources:
  ads_config:
    api_type: DELTA_GRPC
    set_node_on_first_message_only: true
    rate_limit_settings: {max_tokens: 5}
    grpc_services:
    - envoy_grpc:
        cluster_name: xds
        authority: istiod
        retry_policy: {retry_back_off: {base_interval: 0.1s}}
      initial_metadata: [{key: Authorization, value: Bearer x}]
      timeout: 3s
  lds_config: {ads: {}, initial_fetch_timeout: 0s, resource_api_version: V3}
  cds_config:
    path_config_source: {path: /etc/cds.yaml, watched_directory: {path: /etc/data}}
static_resources:
  listeners:
  - name: stats
    address: {socket_address: {address: 0.0.0.0, port_value: 15090}}
  clusters:
  - {name: xds, type: STATIC, connect_timeout: 1s}
  - {name: other, type: STATIC, connect_timeout: 1s}
  secrets:
  - {name: key, tls_certificate: {}}
cluster_manager: {local_cluster_name: other, outlier_detection: {event_log_path: /dev/stdout}}
layered_runtime: {layers: [{name: admin, admin_layer: {}}]}
stats_flush_interval: 5s
";

#[test]
fn a_mesh_bootstrap_is_understood() {
    let bootstrap = read(MESH);
    let admin = bootstrap.admin.unwrap();
    assert_eq!(
        admin.address,
        Some(AdminAddress::Socket("127.0.0.1:15000".parse().unwrap()))
    );
    assert_eq!(admin.access_log_paths, ["/dev/null"]);
    let ads = bootstrap.ads.unwrap();
    assert_eq!(
        (ads.variant, ads.node_on_first_message_only),
        (Variant::Delta, true)
    );
    assert_eq!(
        ads.back_off,
        BackOff {
            base: Duration::from_millis(100),
            max: Duration::from_secs(1)
        }
    );
    let service = &ads.services[0];
    assert_eq!(service.target, GrpcTarget::Cluster("xds".into()));
    assert_eq!(
        (service.authority.as_deref(), service.timeout),
        (Some("istiod"), Some(Duration::from_secs(3)))
    );
    let (name, value) = &service.initial_metadata[0];
    assert_eq!(
        (name.as_str(), value.to_str().unwrap()),
        ("authorization", "Bearer x")
    );
    let rate_limit = ads.rate_limit.unwrap();
    assert_eq!(
        (rate_limit.max_tokens, rate_limit.fill_interval),
        (5, Duration::from_millis(100))
    );
    let lds = bootstrap.lds.unwrap();
    assert_eq!((lds.source, lds.initial_fetch_timeout), (Source::Ads, None));
    let cds = bootstrap.cds.unwrap();
    assert_eq!(cds.initial_fetch_timeout, Some(Duration::from_secs(15)));
    let Source::Path(path) = cds.source else {
        panic!("{:?}", cds.source)
    };
    assert_eq!(
        (&*path.path, path.watched_directory.as_deref()),
        ("/etc/cds.yaml", Some("/etc/data"))
    );
    assert_eq!(bootstrap.local_cluster.as_deref(), Some("other"));
    assert_eq!(
        bootstrap.ignored,
        [
            "admin.profile_path",
            "cluster_manager.outlier_detection",
            "layered_runtime",
            "stats_flush_interval",
        ]
    );
}

#[test]
fn the_node_says_who_speaks() {
    let node = read(MESH).node;
    let sent = core::Node::decode(node.encoded.as_slice()).unwrap();
    assert_eq!(
        (sent.user_agent_name.as_str(), sent.cluster.as_str()),
        ("remora", "a.b")
    );
    let Some(core::node::UserAgentVersionType::UserAgentBuildVersion(build)) = sent.user_agent_version_type
    else {
        panic!("no build version")
    };
    let version = build.version.unwrap();
    assert_eq!(
        format!(
            "{}.{}.{}",
            version.major_number, version.minor_number, version.patch
        ),
        env!("CARGO_PKG_VERSION")
    );
    assert_eq!(sent.metadata.unwrap().fields.len(), 2);
    assert_eq!(
        (&*node.id, &*node.locality.zone),
        ("sidecar~10.0.0.1~a.b~b.svc.cluster.local", "eu-1")
    );
}

#[test]
fn flags_replace_what_the_file_says_about_the_node() {
    let node = NodeFlags {
        id: Some("x"),
        cluster: Some("y"),
        zone: Some("z"),
    };
    let input = Input {
        file: Some(("b.yaml", MESH.as_bytes())),
        node,
        ..Input::default()
    };
    let node = load(&Pool::load().unwrap(), &input).unwrap().bootstrap.node;
    let sent = core::Node::decode(node.encoded.as_slice()).unwrap();
    assert_eq!((&*node.id, &*node.cluster, &*node.locality.zone), ("x", "y", "z"));
    assert_eq!(
        (
            sent.id.as_str(),
            sent.cluster.as_str(),
            sent.locality.unwrap().region.as_str()
        ),
        ("x", "y", "eu")
    );
}

#[test]
fn static_resources_stay_as_they_were_written() {
    let bootstrap = read(MESH);
    let names: Vec<_> = bootstrap.clusters.iter().map(|cluster| &*cluster.name).collect();
    assert_eq!(names, ["xds", "other"]);
    let listener = &bootstrap.listeners[0];
    assert_eq!((&*listener.name, listener.type_url), ("stats", TypeUrl::LISTENER));
    assert_eq!(listener.place, "b.yaml:30:5: static_resources.listeners[0]");
    assert_eq!(&*bootstrap.secrets[0].name, "key");
    let pool = Pool::load().unwrap();
    let cluster = pool.read(
        "{name: xds, type: STATIC, connect_timeout: 1s}",
        TypeUrl::CLUSTER.as_str(),
        Default::default(),
    );
    assert_eq!(bootstrap.clusters[0].bytes, cluster.unwrap().bytes);
}

#[test]
fn the_inline_text_is_laid_over_the_file() {
    let pool = Pool::load().unwrap();
    let inline = "node: {id: other}\nstatic_resources: {clusters: [{name: more, connect_timeout: 1s}]}";
    let input = Input {
        file: Some(("b.yaml", MESH.as_bytes())),
        inline: Some(inline),
        ..Input::default()
    };
    let bootstrap = load(&pool, &input).unwrap().bootstrap;
    assert_eq!((&*bootstrap.node.id, &*bootstrap.node.cluster), ("other", "a.b"));
    let names: Vec<_> = bootstrap.clusters.iter().map(|cluster| &*cluster.name).collect();
    assert_eq!(names, ["xds", "other", "more"]);
    let encoded = pool
        .read(MESH, "envoy.config.bootstrap.v3.Bootstrap", Default::default())
        .unwrap()
        .bytes;
    let input = Input {
        file: Some(("b.pb", &encoded)),
        ..Input::default()
    };
    assert_eq!(load(&pool, &input).unwrap().bootstrap.node, read(MESH).node);
}

#[test]
fn everything_wrong_in_both_texts_is_said_at_once() {
    let input = Input {
        file: Some(("b.yaml", b"nod: {}\nadmin: 5\n")),
        inline: Some("x: 1"),
        ..Input::default()
    };
    let lines = load(&Pool::load().unwrap(), &input).unwrap_err().0;
    assert_eq!(
        lines,
        [
            "b.yaml:1:1: expected a field of envoy.config.bootstrap.v3.Bootstrap, found \"nod\"; did you mean \"node\"?",
            "b.yaml:2:8: admin: expected an object of envoy.config.bootstrap.v3.Admin, found the number 5",
            "--config-yaml:1:1: expected a field of envoy.config.bootstrap.v3.Bootstrap, found \"x\"",
        ]
    );
    let input = Input {
        unknown_fields: UnknownFields::Warn,
        inline: Some("x: 1"),
        ..Input::default()
    };
    assert_eq!(load(&Pool::load().unwrap(), &input).unwrap().warnings.len(), 1);
}

/// Texts, and what is said about each, one line for each entry.
const BAD: &[(&str, &[&str])] = &[
    (
        "dynamic_resources: {lds_config: {ads: {}}}",
        &[
            "dynamic_resources.lds_config.ads: expected dynamic_resources.ads_config beside ads, found none",
            "node.id: expected an id",
        ],
    ),
    (
        "node: {id: a}\ndynamic_resources: {ads_config: {api_type: GRPC, grpc_services: [{envoy_grpc: {cluster_name: x}}]}}\nstatic_resources: {clusters: [{name: z}]}",
        &[
            "b.yaml:2:94: dynamic_resources.ads_config.grpc_services[0].envoy_grpc.cluster_name: expected the name of a cluster in static_resources.clusters, found \"x\" where there are [\"z\"]",
        ],
    ),
    (
        "node: {id: a}\ndynamic_resources: {ads_config: {api_type: GRPC, grpc_services: [{envoy_grpc: {cluster_name: x}}]}}\nstatic_resources: {clusters: [{name: x, type: EDS, eds_cluster_config: {eds_config: {ads: {}}}}]}",
        &["found \"x\", whose type is EDS and would wait for this very stream"],
    ),
    (
        "node: {id: a}\ndynamic_resources: {cds_config: {api_config_source: {api_type: REST, cluster_names: [x]}}}",
        &["cds_config.api_config_source.api_type: expected GRPC or DELTA_GRPC, found REST"],
    ),
    (
        "node: {id: a}\ndynamic_resources: {cds_config: {api_config_source: {api_type: GRPC, transport_api_version: V2, config_validators: [{name: v, typed_config: {}}]}}}",
        &[
            "transport_api_version: expected V3, found V2",
            "grpc_services: expected at least one service",
            "config_validators: expected no validators",
        ],
    ),
    (
        "node: {id: a}\ndynamic_resources: {lds_config: {api_config_source: {api_type: GRPC, grpc_services: [{google_grpc: {target_uri: 'a:1', stat_prefix: a, channel_credentials: {ssl_credentials: {}}, call_credentials: [{access_token: secret}]}}]}}}",
        &[
            "google_grpc.channel_credentials: expected no credentials or local_credentials",
            "google_grpc.call_credentials: expected no call credentials",
        ],
    ),
    (
        "dynamic_resources: {lds_resources_locator: 'xdstp:///a', cds_config: {self: {}}}",
        &[
            "lds_resources_locator: expected lds_config",
            "cds_config.self: expected ads or api_config_source",
        ],
    ),
    (
        "node: {id: a}\ndynamic_resources: {lds_config: {path_config_source: {path: a, poll_interval: 1s, watched_directory: {path: b}}}}",
        &["expected only one of poll_interval and watched_directory, found both"],
    ),
    (
        "node: {id: a}\ndynamic_resources: {lds_config: {path: '', initial_fetch_timeout: -1s}}",
        &[
            "initial_fetch_timeout: expected a duration of at least 0",
            "lds_config.path: expected a file path",
        ],
    ),
    (
        "static_resources: {clusters: [{name: x}, {name: x}], secrets: [{name: s}, {name: s}]}",
        &[
            "clusters[1].name: expected a name of its own, found \"x\", which clusters[0] has too",
            "secrets[1].name: expected a name of its own",
        ],
    ),
    (
        "static_resources: {clusters: [{name: ''}]}",
        &[
            "b.yaml:1:38: static_resources.clusters[0].name: ClusterValidationError.Name: value length must be at least 1 characters",
        ],
    ),
    (
        "admin: {address: {socket_address: {address: localhost, port_value: 1}}, allow_paths: [{exact: /ready}]}",
        &[
            "admin.allow_paths: expected no restriction of paths",
            "admin.address.socket_address.address: expected an IP address, found \"localhost\"",
        ],
    ),
    (
        "header_prefix: x-other\ncluster_manager: {upstream_bind_config: {}}",
        &[
            "header_prefix: expected \"x-envoy\" or none",
            "upstream_bind_config: expected no source address",
        ],
    ),
    (
        "node: {id: a}\nstatic_resources: {clusters: [{name: x}]}\ndynamic_resources: {ads_config: {api_type: GRPC, grpc_services: [{envoy_grpc: {cluster_name: x, retry_policy: {retry_back_off: {base_interval: 2s, max_interval: 1s}}}}]}}",
        &[
            "retry_back_off.max_interval: expected at least the base_interval, found 1s, which is below the base_interval of 2s",
        ],
    ),
    (
        "node: {id: a}\nstatic_resources: {clusters: [{name: x}]}\ndynamic_resources: {ads_config: {api_type: GRPC, grpc_services: [{envoy_grpc: {cluster_name: x}, initial_metadata: [{key: 'a b', value: x}]}]}}",
        &["initial_metadata[0].key: expected a header name, found \"a b\""],
    ),
];

#[test]
fn a_wrong_bootstrap_is_refused_with_every_reason() {
    for (text, expected) in BAD {
        let said = refused(text);
        let found = |words: &&&str| said.iter().any(|line| line.contains(**words));
        let all = said.len() == expected.len() && expected.iter().filter(found).count() == expected.len();
        assert!(all, "{text}\n  said:     {said:#?}\n  expected: {expected:#?}");
    }
}

#[test]
fn neither_file_nor_text_is_a_mistake() {
    let refused = load(&Pool::load().unwrap(), &Input::default()).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "expected --config-path or --config-yaml, found neither"
    );
}

struct Item {
    name: String,
    text: String,
    envoy_accepts: bool,
}

/// The collection of bootstraps beside the repository; none, said aloud, where it is not.
fn items(folder: &str) -> Vec<Item> {
    let beside = |dir: &Path| dir.join("shared/corpora").join(folder);
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let Some(folder) = here.ancestors().skip(3).map(beside).find(|dir| dir.is_dir()) else {
        let said = format!(
            "SKIPPED: bootstraps of others: no folder shared/corpora/{folder} beside the repository\n"
        );
        std::io::stderr().write_all(said.as_bytes()).unwrap();
        return Vec::new();
    };
    let read = |path: &Path| {
        let item: serde_json::Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        Item {
            name: path.display().to_string(),
            text: item["bootstrap"].to_string(),
            envoy_accepts: item["envoy"]["accepted"] == true,
        }
    };
    let items: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|file| read(&file.unwrap().path()))
        .collect();
    assert!(!items.is_empty());
    items
}

#[test]
fn every_istio_bootstrap_that_envoy_takes_loads() {
    let pool = Pool::load().unwrap();
    let taken = items("istio-bootstrap")
        .into_iter()
        .filter(|item| item.envoy_accepts);
    for Item { name, text, .. } in taken {
        let input = Input {
            file: Some(("b.json", text.as_bytes())),
            ..Input::default()
        };
        let bootstrap = load(&pool, &input)
            .unwrap_or_else(|refused| panic!("{name}\n{refused}"))
            .bootstrap;
        let ads = bootstrap.ads.unwrap_or_else(|| panic!("{name}: no ads"));
        assert_eq!(
            (ads.variant, &ads.services[0].target),
            (Variant::Delta, &GrpcTarget::Cluster("xds-grpc".into())),
            "{name}"
        );
        let lds = bootstrap.lds.unwrap_or_else(|| panic!("{name}: no lds"));
        assert_eq!(
            (lds.source, lds.initial_fetch_timeout),
            (Source::Ads, None),
            "{name}"
        );
        assert!(
            bootstrap.clusters.len() >= 3 && !bootstrap.listeners.is_empty(),
            "{name}"
        );
        assert!(
            bootstrap.node.id.starts_with("sidecar~"),
            "{name}: {}",
            bootstrap.node.id
        );
    }
}

#[test]
fn every_kuma_bootstrap_that_envoy_takes_loads() {
    let pool = Pool::load().unwrap();
    for Item { name, text, .. } in items("kuma").into_iter().filter(|item| item.envoy_accepts) {
        let input = Input {
            file: Some(("b.json", text.as_bytes())),
            ..Input::default()
        };
        let bootstrap = load(&pool, &input)
            .unwrap_or_else(|refused| panic!("{name}\n{refused}"))
            .bootstrap;
        assert!(
            bootstrap.clusters.len() + bootstrap.listeners.len() + bootstrap.secrets.len() > 0,
            "{name}"
        );
    }
}

#[test]
fn an_extension_that_nobody_has_is_refused_in_envoys_words() {
    let none = "name: x, typed_config: {'@type': type.googleapis.com/google.protobuf.Empty}";
    let sentence = "Didn't find a registered implementation for 'x' with type URL: 'google.protobuf.Empty'";
    for text in [
        format!("stats_sinks: [{{{none}}}]"),
        format!("bootstrap_extensions: [{{{none}}}]"),
        format!("tracing: {{http: {{{none}}}}}"),
        format!("overload_manager: {{resource_monitors: [{{{none}}}]}}"),
    ] {
        let problems = refused(&text);
        assert!(
            problems.len() == 1 && problems[0].ends_with(sentence),
            "{problems:?}"
        );
    }
    let known = read(
        "stats_sinks: [{name: s, typed_config: {'@type': type.googleapis.com/envoy.config.metrics.v3.StatsdSink, tcp_cluster_name: c}}]",
    );
    assert_eq!(known.ignored, ["stats_sinks"]);
    let twice =
        refused("layered_runtime: {layers: [{name: a, admin_layer: {}}, {name: a, static_layer: {}}]}");
    assert!(twice[0].ends_with("Duplicate layer name: a"), "{twice:?}");
    let local = refused("cluster_manager: {local_cluster_name: here}");
    assert!(
        local[0].ends_with("local cluster 'here' must be defined"),
        "{local:?}"
    );
}
