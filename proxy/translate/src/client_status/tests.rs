use remora_proto::Pool;
use serde_json::json;

use super::*;
use crate::config_dump::{AcceptedVersion, ResourceKind};

fn view(kind: ResourceKind, name: &str, status: ClientStatus) -> ResourceView {
    // Field 1 is the name in all of these.
    let mut body = vec![0x0a, u8::try_from(name.len()).unwrap()];
    body.extend(name.as_bytes());
    ResourceView {
        kind,
        name: name.into(),
        accepted: Some(AcceptedVersion {
            version: "v1".into(),
            updated: UNIX_EPOCH + std::time::Duration::from_millis(1500),
            body: body.into(),
        }),
        serving: None,
        error: None,
        state: ResourceState::Active,
        status,
    }
}

fn client(resources: Vec<ResourceView>) -> ClientView {
    let metadata = json!({"app": "web", "labels": {"tier": 3}, "ports": ["http", "grpc"], "canary": true});
    let node = json!({"id": "sidecar~web", "metadata": metadata});
    ClientView {
        node: encoded("envoy.config.core.v3.Node", &node).into(),
        resources,
    }
}

fn encoded(message: &str, said: &serde_json::Value) -> Vec<u8> {
    let pool = Pool::load().unwrap();
    let read = pool.read(&said.to_string(), message, remora_proto::ReadOptions::default());
    read.unwrap().bytes
}

fn answered(request: &serde_json::Value, client: &ClientView) -> Result<ClientStatusResponse, String> {
    let request = encoded("envoy.service.status.v3.ClientStatusRequest", request);
    let answer = client_status(&request, client).map_err(|error| error.to_string())?;
    Ok(ClientStatusResponse::decode(answer).unwrap())
}

#[test]
fn each_resource_has_its_state_and_the_reason_of_a_refusal() {
    let mut refused = view(ResourceKind::Cluster, "a", ClientStatus::Nacked);
    refused.error = Some(UpdateFailure {
        details: "too bad".into(),
        version: "v2".into(),
        last_attempt: UNIX_EPOCH,
    });
    let mut missing = view(ResourceKind::Routes, "b", ClientStatus::DoesNotExist);
    missing.accepted = None;
    let client = client(vec![refused, missing]);
    let response = answered(&json!({}), &client).unwrap();
    let [config] = &*response.config else {
        panic!("{response:?}")
    };
    assert_eq!(config.node.as_ref().unwrap().id, "sidecar~web");
    let [a, b] = &*config.generic_xds_configs else {
        panic!("{config:?}")
    };
    assert_eq!(a.type_url, "type.googleapis.com/envoy.config.cluster.v3.Cluster");
    assert_eq!(
        (&*a.name, &*a.version_info, a.client_status()),
        ("a", "v1", ClientResourceStatus::Nacked)
    );
    assert_eq!(a.xds_config.as_ref().unwrap().value, b"\x0a\x01a");
    let updated = a.last_updated.unwrap();
    assert_eq!((updated.seconds, updated.nanos), (1, 500_000_000));
    let error = a.error_state.as_ref().unwrap();
    assert_eq!((&*error.details, &*error.version_info), ("too bad", "v2"));
    assert_eq!(b.client_status(), ClientResourceStatus::DoesNotExist);
    assert_eq!((&b.xds_config, &b.last_updated), (&None, &None));

    let brief = answered(&json!({"exclude_resource_contents": true}), &client).unwrap();
    assert_eq!(brief.config[0].generic_xds_configs[0].xds_config, None);
}

/// A path into metadata.
fn path(keys: &[&str]) -> Vec<serde_json::Value> {
    keys.iter().map(|key| json!({"key": key})).collect()
}

/// A matcher by one value of metadata.
fn by(keys: &[&str], value: serde_json::Value) -> serde_json::Value {
    json!({"node_metadatas": [{"path": path(keys), "value": value}]})
}

/// A matcher with its name, and whether it means the client.
type Case = (&'static str, serde_json::Value, bool);

fn by_id() -> Vec<Case> {
    let both = json!({"node_id": {"prefix": "sidecar~"}, "node_metadatas": [
        {"path": path(&["app"]), "value": {"null_match": {}}}]});
    vec![
        ("id", json!({"node_id": {"prefix": "sidecar~"}}), true),
        ("other id", json!({"node_id": {"exact": "router~web"}}), false),
        ("id and metadata", both, false),
    ]
}

fn by_metadata() -> Vec<Case> {
    let regex = json!({"string_match": {"safe_regex": {"regex": "w.b"}}});
    let range = |start: u32, end: u32| json!({"double_match": {"range": {"start": start, "end": end}}});
    let one_of = json!({"list_match": {"one_of": {"string_match": {"exact": "grpc"}}}});
    let either =
        json!({"or_match": {"value_matchers": [{"null_match": {}}, {"string_match": {"exact": "web"}}]}});
    vec![
        ("text", by(&["app"], regex), true),
        ("number", by(&["labels", "tier"], range(3, 4)), true),
        ("end of a range", by(&["labels", "tier"], range(2, 3)), false),
        ("list", by(&["ports"], one_of), true),
        ("truth", by(&["canary"], json!({"bool_match": true})), true),
        (
            "absent",
            by(&["labels", "none"], json!({"present_match": true})),
            false,
        ),
        ("either", by(&["app"], either), true),
    ]
}

#[test]
fn matchers_choose_by_id_and_metadata() {
    let client = client(Vec::new());
    for (name, matcher, meant) in by_id().into_iter().chain(by_metadata()) {
        let response = answered(&json!({"node_matchers": [matcher]}), &client).unwrap();
        assert_eq!(!response.config.is_empty(), meant, "{name}");
        let with_all = json!({"node_matchers": [matcher, {"node_id": {"contains": "web"}}]});
        assert_eq!(answered(&with_all, &client).unwrap().config.len(), 1, "{name}");
    }
    let wrong = json!({"node_matchers": [{"node_id": {"safe_regex": {"regex": "("}}}]});
    let refused = answered(&wrong, &client).unwrap_err();
    assert!(refused.starts_with("node_matchers[0].node_id: "), "{refused}");
}

#[test]
fn bytes_that_are_no_request_are_refused() {
    let refused = client_status(b"\xff", &client(Vec::new())).unwrap_err();
    assert!(
        refused
            .to_string()
            .starts_with("expected a ClientStatusRequest: ")
    );
}
