//! `remora diff`: what changes between two configurations, in words.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::Files;

fn endpoint(address: &str, weight: u32, health: &str) -> Value {
    json!({"endpoint": {"address": {"socket_address": {"address": address, "port_value": 80}}},
        "load_balancing_weight": weight, "health_status": health})
}

/// A world: one listener with TLS, its routes, two clusters, the endpoints of one.
fn world() -> Value {
    let routes = json!([
        {"match": {"prefix": "/old"}, "route": {"cluster": "a"}},
        {"match": {"prefix": "/"}, "route": {"cluster": "b", "timeout": "3s"}}]);
    let manager = json!({"@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "in", "rds": {"route_config_name": "all", "config_source": {"ads": {}}},
        "http_filters": [{"name": "router", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}]});
    let tls = json!({"@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        "common_tls_context": {"tls_certificate_sds_secret_configs": [{"name": "default", "sds_config": {"ads": {}}}]}});
    json!({
        "listeners": [{"name": "in", "address": {"socket_address": {"address": "0.0.0.0", "port_value": 8080}},
            "filter_chains": [{"name": "web", "transport_socket": {"name": "tls", "typed_config": tls},
                "filters": [{"name": "http", "typed_config": manager}]}]}],
        "routes": [{"name": "all", "virtual_hosts": [{"name": "everyone", "domains": ["*"], "routes": routes}]}],
        "clusters": [
            {"name": "a", "type": "EDS", "eds_cluster_config": {"eds_config": {"ads": {}}}},
            {"name": "b", "type": "EDS", "eds_cluster_config": {"eds_config": {"ads": {}}}}],
        "endpoints": [{"cluster_name": "a", "endpoints": [{"lb_endpoints": [
            endpoint("10.0.0.1", 1, "HEALTHY"), endpoint("10.0.0.2", 1, "HEALTHY")]}]}],
    })
}

/// What the program says of the step from one world to another.
fn step(before: &Value, after: &Value) -> Result<(i32, String)> {
    let files = Files::new()?;
    files.put("a.json", before.to_string())?;
    files.put("b.json", after.to_string())?;
    let said = files.run(&["diff", "a.json", "b.json"])?;
    ensure!(said.error.is_empty(), "{}", said.error);
    Ok((said.code, said.text))
}

fn ensure_said(text: &str, sentences: &[&str]) -> Result<()> {
    for sentence in sentences {
        ensure!(text.contains(sentence), "{sentence:?} is not in\n{text}");
    }
    Ok(())
}

#[test]
fn the_same_world_is_the_same_however_it_is_written() -> Result<()> {
    let before = world();
    let mut after = world();
    // Envoy's default, said aloud; and a field without effect.
    after["clusters"][0]["connect_timeout"] = json!("5s");
    after["clusters"][1]["preconnect_policy"] = json!({"per_upstream_preconnect_ratio": 1.5});
    let (code, text) = step(&before, &after)?;
    ensure!(
        code == 0 && text == "no difference in what is honoured\n",
        "{code}: {text}"
    );
    let files = Files::new()?;
    files.put("a.json", before.to_string())?;
    files.put("b.json", "{}")?;
    ensure!(
        files.run(&["diff", "a.json", "b.json"])?.code == 2,
        "an empty object is no configuration"
    );
    Ok(())
}

#[test]
fn requests_that_move_are_named() -> Result<()> {
    let mut after = world();
    after["routes"][0]["virtual_hosts"][0]["routes"] = json!([
        {"match": {"prefix": "/new", "headers": [{"name": "x-user", "string_match": {"exact": "bob"}}]},
            "route": {"weighted_clusters": {"clusters": [{"name": "a", "weight": 80}, {"name": "b", "weight": 20}]}}},
        {"match": {"prefix": "/"}, "route": {"cluster": "b", "timeout": "9s"}}]);
    let (code, text) = step(&world(), &after)?;
    ensure!(code == 1, "{text}");
    ensure_said(
        &text,
        &[
            "ROUTES\n  ~ changed all / everyone\n",
            "new match: prefix /new, header x-user = bob goes to clusters a (80 of 100), b (20 of 100); it takes precedence over prefix / (cluster b)",
            "gone: prefix /old to cluster a; its requests go to cluster b by prefix /",
            "requests with prefix / still go to cluster b, with timeout 9s instead of 3s",
        ],
    )?;
    let mut after = world();
    after["routes"][0]["virtual_hosts"][0]["routes"][1]["route"]["cluster"] = json!("a");
    ensure_said(
        &step(&world(), &after)?.1,
        &["requests with prefix / move from cluster b to cluster a"],
    )
}

#[test]
fn a_listener_says_whether_its_connections_drain_and_why() -> Result<()> {
    let mut after = world();
    let tls = &mut after["listeners"][0]["filter_chains"][0]["transport_socket"]["typed_config"];
    tls["require_client_certificate"] = json!(true);
    tls["common_tls_context"]["validation_context_sds_secret_config"] =
        json!({"name": "roots", "sds_config": {"ads": {}}});
    let (_, text) = step(&world(), &after)?;
    ensure_said(
        &text,
        &[
            "existing connections of chain 'web' drain: its TLS context changes",
            "IDENTITIES\n  ~ changed listener 'in' chain 'web'\n      requires a client certificate: false -> true",
            "trusts: added secret 'roots'",
        ],
    )?;
    let mut after = world();
    after["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]["stream_idle_timeout"] =
        json!("7s");
    let (_, text) = step(&world(), &after)?;
    ensure_said(
        &text,
        &[
            "existing connections of chain 'web' stay open",
            "filter_chains[\"web\"].filters[\"http\"].typed_config.stream_idle_timeout: not said -> \"7s\"",
        ],
    )?;
    let mut after = world();
    after["listeners"] = json!([]);
    ensure_said(
        &step(&world(), &after)?.1,
        &["- removed in\n      nothing listens on 0.0.0.0:8080 any more; its existing connections drain"],
    )
}

#[test]
fn endpoints_are_told_by_address() -> Result<()> {
    let mut after = world();
    after["endpoints"][0]["endpoints"] = json!([{"priority": 0, "lb_endpoints": [
        endpoint("10.0.0.2", 4, "DEGRADED"), endpoint("10.0.0.3", 1, "HEALTHY")]}]);
    let (_, text) = step(&world(), &after)?;
    ensure_said(
        &text,
        &[
            "ENDPOINTS\n  ~ changed a\n",
            "10.0.0.1:80 removed",
            "10.0.0.2:80: weight 1 -> 4, health Healthy -> Degraded",
            "10.0.0.3:80 added with weight 1, healthy, priority 0",
        ],
    )
}

#[test]
fn what_is_rejected_leaves_the_version_before_in_use() -> Result<()> {
    let mut after = world();
    after["clusters"][0]["common_lb_config"] = json!({"healthy_panic_threshold": {"value": 700}});
    let (code, text) = step(&world(), &after)?;
    ensure!(code == 1 && !text.contains("- removed"), "{text}");
    ensure_said(
        &text,
        &[
            "! rejected a\n      the new Cluster is rejected, the version before stays in use: common_lb_config.healthy_panic_threshold",
        ],
    )
}

#[test]
fn identities_are_compared_and_keys_are_never_shown() -> Result<()> {
    let secret = |name: &str| -> Result<(Value, String)> {
        let made = rcgen::generate_simple_self_signed(vec![name.to_owned()])?;
        let key = made.signing_key.serialize_pem();
        let secret = json!({"secrets": [{"name": "default", "tls_certificate": {
            "certificate_chain": {"inline_string": made.cert.pem()}, "private_key": {"inline_string": key}}}]});
        Ok((secret, key))
    };
    let ((before, key), (after, other_key)) = (secret("a.example")?, secret("b.example")?);
    let (code, text) = step(&before, &after)?;
    ensure!(code == 1, "{text}");
    ensure_said(
        &text,
        &[
            "IDENTITIES\n  ~ changed secret 'default'\n",
            "names in the certificate: DNS a.example -> DNS b.example",
            "private key: changes",
        ],
    )?;
    for key in [key, other_key] {
        let inside = key.lines().nth(1).unwrap_or("PRIVATE KEY");
        ensure!(!text.contains(inside), "a private key is shown");
    }
    let roots = |text: &str| {
        json!({"secrets": [{"name": "roots", "validation_context": {
        "trusted_ca": {"inline_string": text},
        "match_typed_subject_alt_names": [{"san_type": "URI", "matcher": {"exact": "spiffe://td/a"}}]}}]})
    };
    let pem = rcgen::generate_simple_self_signed(vec!["root".to_owned()])?
        .cert
        .pem();
    let mut wider = roots(&pem);
    wider["secrets"][0]["validation_context"]["match_typed_subject_alt_names"] = json!([
        {"san_type": "URI", "matcher": {"exact": "spiffe://td/a"}}, {"san_type": "URI", "matcher": {"prefix": "spiffe://td/b"}}]);
    let (_, text) = step(&roots(&pem), &wider)?;
    ensure_said(&text, &["accepted names: added Uri = spiffe://td/b*"])
}

#[test]
fn programs_get_json() -> Result<()> {
    let mut after = world();
    after["clusters"] = json!([after["clusters"][0], {"name": "c", "type": "STATIC"}]);
    let files = Files::new()?;
    files.put("a.json", world().to_string())?;
    files.put("b.json", after.to_string())?;
    let answer = files
        .run(&["diff", "a.json", "b.json", "--output", "json"])?
        .json()?;
    let told: Vec<Value> = answer["changes"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|change| json!([change["section"], change["kind"], change["name"]]))
        .collect();
    let expected = json!([["clusters", "added", "c"], ["clusters", "removed", "b"]]);
    ensure!(
        json!(told) == expected && answer["same"] == json!(false),
        "{answer}"
    );
    Ok(())
}
