//! Dumps against the words and forms of Envoy 1.40.

use prost::Message;
use remora_proto::encode_any;
use remora_proto::pb::envoy::config::cluster::v3::Cluster as ApiCluster;
use remora_proto::pb::envoy::config::core::v3::{DataSource, data_source::Specifier};
use remora_proto::pb::envoy::config::listener::v3::{Filter, FilterChain, Listener, filter::ConfigType};
use remora_proto::pb::envoy::config::route::v3::RouteConfiguration;
use remora_proto::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, http_connection_manager::RouteSpecifier,
};
use remora_proto::pb::envoy::extensions::transport_sockets::tls::v3::{Secret, TlsCertificate, secret};
use serde_json::{Value, json};

use super::*;

fn time(_: SystemTime) -> String {
    "2026-11-20T09:32:26.408Z".into()
}

fn version(text: &str, body: Vec<u8>) -> AcceptedVersion {
    AcceptedVersion {
        version: text.into(),
        updated: SystemTime::UNIX_EPOCH,
        body: body.into(),
    }
}

fn view(kind: ResourceKind, name: &str, state: ResourceState, body: Vec<u8>) -> ResourceView {
    let text = if state == ResourceState::Static { "" } else { "v7" };
    ResourceView {
        kind,
        name: name.into(),
        accepted: Some(version(text, body)),
        serving: None,
        error: None,
        state,
        status: ClientStatus::Acked,
    }
}

fn cluster(name: &str, state: ResourceState) -> ResourceView {
    view(ResourceKind::Cluster, name, state, cluster_body(name))
}

fn cluster_body(name: &str) -> Vec<u8> {
    let message = ApiCluster {
        name: name.into(),
        ..ApiCluster::default()
    };
    message.encode_to_vec()
}

fn listener(name: &str, state: ResourceState) -> ResourceView {
    let manager = HttpConnectionManager {
        route_specifier: Some(RouteSpecifier::RouteConfig(RouteConfiguration {
            name: "inline".into(),
            ..RouteConfiguration::default()
        })),
        ..HttpConnectionManager::default()
    };
    let url = format!("type.googleapis.com/{}", crate::filter::network::HTTP_MANAGER);
    let message = Listener {
        name: name.into(),
        filter_chains: vec![FilterChain {
            filters: vec![Filter {
                name: "http".into(),
                config_type: Some(ConfigType::TypedConfig(encode_any(url, &manager))),
            }],
            ..FilterChain::default()
        }],
        ..Listener::default()
    };
    view(ResourceKind::Listener, name, state, message.encode_to_vec())
}

fn failure() -> UpdateFailure {
    UpdateFailure {
        details: "filter_chains[0]: no filters".into(),
        version: "v8".into(),
        last_attempt: SystemTime::UNIX_EPOCH,
    }
}

fn try_dump(resources: Vec<ResourceView>, options: DumpOptions) -> Result<Value, String> {
    let input = DumpInput {
        bootstrap: Some(BootstrapView {
            body: Bytes::new(),
            last_updated: SystemTime::UNIX_EPOCH,
        }),
        resources,
        clusters_version: "v7".into(),
        ..DumpInput::default()
    };
    let dump = Dump::new(input, options, time).map_err(|error| error.to_string())?;
    let mut text = String::new();
    let _ = dump.write(&mut |piece| {
        text.push_str(&piece);
        ControlFlow::Continue(())
    });
    Ok(serde_json::from_str(&text).unwrap())
}

fn dumped(resources: Vec<ResourceView>) -> Value {
    try_dump(resources, DumpOptions::default()).unwrap()
}

fn query(resource: &str, mask: &str) -> DumpOptions {
    let said = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    DumpOptions {
        resource: said(resource),
        mask: said(mask),
        ..DumpOptions::default()
    }
}

#[test]
fn static_and_dynamic_clusters_stand_in_envoys_fields() {
    let dump = dumped(vec![
        cluster("a", ResourceState::Static),
        cluster("b", ResourceState::Active),
    ]);
    let clusters = &dump["configs"][1];
    assert_eq!(
        clusters["@type"],
        "type.googleapis.com/envoy.admin.v3.ClustersConfigDump"
    );
    assert_eq!(clusters["version_info"], "v7");
    assert_eq!(
        clusters["static_clusters"],
        json!([{
            "cluster": {"@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster", "name": "a"},
            "last_updated": time(SystemTime::UNIX_EPOCH)
        }])
    );
    assert_eq!(
        clusters["dynamic_active_clusters"],
        json!([{
            "version_info": "v7",
            "cluster": {"@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster", "name": "b"},
            "last_updated": time(SystemTime::UNIX_EPOCH),
            "client_status": "ACKED"
        }])
    );
}

#[test]
fn what_warms_stands_beside_what_serves_meanwhile() {
    let mut a = cluster("a", ResourceState::Warming);
    a.serving = Some(version("v6", cluster_body("a")));
    let mut l = listener("l", ResourceState::Warming);
    l.serving = l.accepted.clone();
    let dump = dumped(vec![a, cluster("b", ResourceState::Warming), l]);
    let clusters = &dump["configs"][1];
    let active = clusters["dynamic_active_clusters"].as_array().unwrap();
    assert_eq!((active.len(), &active[0]["version_info"]), (1, &json!("v6")));
    let warming = clusters["dynamic_warming_clusters"].as_array().unwrap();
    assert_eq!((warming.len(), &warming[0]["version_info"]), (2, &json!("v7")));
    let listener = &dump["configs"][2]["dynamic_listeners"][0];
    assert_eq!(listener["active_state"]["listener"]["name"], "l");
    assert_eq!(listener["warming_state"]["version_info"], "v7");
}

#[test]
fn of_routes_that_wait_for_a_cluster_the_ones_in_use_are_shown() {
    let mut held = view(ResourceKind::Routes, "r", ResourceState::Warming, Vec::new());
    held.accepted = Some(version("v7", Vec::new()));
    held.serving = Some(version("v6", Vec::new()));
    let first = view(ResourceKind::Routes, "s", ResourceState::Warming, Vec::new());
    let dump = dumped(vec![held, first]);
    let shown = dump["configs"][4]["dynamic_route_configs"].as_array().unwrap();
    let versions: Vec<_> = shown.iter().map(|routes| &routes["version_info"]).collect();
    assert_eq!(versions, [&json!("v6"), &json!("v7")]);
}

#[test]
fn a_refusal_stands_beside_the_last_good_version() {
    let mut refused = listener("in", ResourceState::Active);
    (refused.error, refused.status) = (Some(failure()), ClientStatus::Nacked);
    let mut never = cluster("never", ResourceState::Warming);
    (never.error, never.status, never.accepted) = (Some(failure()), ClientStatus::Nacked, None);
    let dump = dumped(vec![refused, never]);
    let listener = &dump["configs"][2]["dynamic_listeners"][0];
    assert_eq!(listener["name"], "in");
    assert_eq!(listener["active_state"]["listener"]["name"], "in");
    assert_eq!(
        listener["error_state"],
        json!({
            "version_info": "v8",
            "details": "filter_chains[0]: no filters",
            "last_update_attempt": time(SystemTime::UNIX_EPOCH)
        })
    );
    assert_eq!(listener["client_status"], "NACKED");
    // Readers expect a cluster in each element.
    let never = &dump["configs"][1]["dynamic_warming_clusters"][0];
    assert_eq!(
        (&never["cluster"]["name"], &never["version_info"]),
        (&json!("never"), &json!("uninitialized"))
    );
}

#[test]
fn a_secret_that_was_only_asked_for_is_uninitialized_and_other_types_are_left_out() {
    let asked_for = |kind| ResourceView {
        accepted: None,
        status: ClientStatus::Requested,
        ..view(kind, "x", ResourceState::Warming, Vec::new())
    };
    let dump = dumped(vec![
        asked_for(ResourceKind::Secret),
        asked_for(ResourceKind::Routes),
    ]);
    assert_eq!(
        dump["configs"][5]["dynamic_warming_secrets"],
        json!([{
            "name": "x",
            "version_info": "uninitialized",
            "secret": {"@type": ResourceKind::Secret.type_url(), "name": "x"},
            "client_status": "REQUESTED"
        }])
    );
    assert_eq!(dump["configs"][4].as_object().unwrap().len(), 1);
}

#[test]
fn routes_inside_of_listeners_are_static_routes() {
    let dump = dumped(vec![listener("in", ResourceState::Active)]);
    let routes = &dump["configs"][4]["static_route_configs"];
    assert_eq!(routes[0]["route_config"]["name"], "inline");
}

#[test]
fn a_private_key_is_not_shown() {
    let source = |text: &str| DataSource {
        specifier: Some(Specifier::InlineString(text.into())),
        ..DataSource::default()
    };
    let certificate = TlsCertificate {
        certificate_chain: Some(source("CHAIN")),
        private_key: Some(source("TOPSECRET")),
        ..TlsCertificate::default()
    };
    let message = Secret {
        name: "default".into(),
        r#type: Some(secret::Type::TlsCertificate(certificate)),
    };
    let secret = view(
        ResourceKind::Secret,
        "default",
        ResourceState::Active,
        message.encode_to_vec(),
    );
    let text = dumped(vec![secret]).to_string();
    assert!(
        text.contains("CHAIN") && text.contains("dynamic_active_secrets") && !text.contains("TOPSECRET"),
        "{text}"
    );
}

#[test]
fn resource_mask_and_name_narrow_the_dump() {
    let resources = || {
        vec![
            cluster("a", ResourceState::Static),
            cluster("ab", ResourceState::Static),
            cluster("b", ResourceState::Static),
        ]
    };
    let mut options = query("static_clusters", "cluster.name");
    options.name_regex = Some(regex::Regex::new("^(?:a|ab)$").unwrap());
    let masked = |name: &str| {
        json!({
            "@type": "type.googleapis.com/envoy.admin.v3.ClustersConfigDump.StaticCluster",
            "cluster": {"@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster", "name": name}
        })
    };
    assert_eq!(
        try_dump(resources(), options).unwrap(),
        json!({"configs": [masked("a"), masked("ab")]})
    );
    assert_eq!(
        try_dump(resources(), query("", "version_info")).unwrap()["configs"][0]["version_info"],
        "v7"
    );
    let masked = try_dump(resources(), query("", "bootstrap")).unwrap();
    assert_eq!(masked["configs"].as_array().unwrap().len(), 1);
    let none = try_dump(resources(), query("dynamic_active_clusters", "nonsense")).unwrap();
    assert_eq!(none, json!({}));
}

#[test]
fn a_wrong_request_is_refused_in_envoys_words() {
    for (resource, mask, words) in [
        ("nope", "", "nope not found in config dump"),
        (
            "dynamic_endpoint_configs",
            "",
            "dynamic_endpoint_configs not found in config dump",
        ),
        (
            "bootstrap",
            "node.id",
            "bootstrap is not a repeated field. Use ?mask=bootstrap to get only this field",
        ),
        (
            "",
            "bootstrap,version_info",
            "FieldMask bootstrap,version_info could not be successfully applied to any configs.",
        ),
        (
            "static_clusters",
            "cluster",
            "FieldMask paths: \"cluster\"\n could not be successfully used.",
        ),
        (
            "static_clusters",
            "cluster.load_assignment.endpoints.locality",
            "FieldMask paths: \"cluster.load_assignment.endpoints.locality\"\n could not be successfully used.",
        ),
    ] {
        let refused = try_dump(vec![cluster("a", ResourceState::Static)], query(resource, mask));
        assert_eq!(refused.unwrap_err(), words, "{resource} {mask}");
    }
}

#[test]
fn a_reader_that_goes_ends_the_writing() {
    let resources = (0..1000)
        .map(|index| cluster(&format!("cluster-{index}"), ResourceState::Static))
        .collect();
    let input = DumpInput {
        resources,
        ..DumpInput::default()
    };
    let dump = Dump::new(input, DumpOptions::default(), time).unwrap();
    let mut pieces = 0;
    let ended = dump.write(&mut |_| {
        pieces += 1;
        if pieces == 2 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    });
    assert_eq!((ended, pieces), (ControlFlow::Break(()), 2));
}
