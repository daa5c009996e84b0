//! `remora check`: rejections, ignored fields and dangling references, with their places.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::Files;

/// A response with one good cluster, one that is refused, and one with a field that is ignored.
const CLUSTERS: &str = "version_info: '7'
resources:
- '@type': type.googleapis.com/envoy.config.cluster.v3.Cluster
  name: good
  load_assignment:
    cluster_name: good
    endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 10.0.0.1, port_value: 80}}}}]}]
- '@type': type.googleapis.com/envoy.config.cluster.v3.Cluster
  name: bad
  connect_timeout: 0s
  common_lb_config: {healthy_panic_threshold: {value: 200}}
- '@type': type.googleapis.com/envoy.config.cluster.v3.Cluster
  name: quiet
  type: EDS
  eds_cluster_config: {eds_config: {ads: {}}}
  preconnect_policy: {per_upstream_preconnect_ratio: 1.5}
";

const ROUTES: &str = "resources:
- '@type': type.googleapis.com/envoy.config.route.v3.RouteConfiguration
  name: all
  virtual_hosts:
  - name: everyone
    domains: ['*']
    routes:
    - {match: {prefix: /there}, route: {cluster: good}}
    - {name: lost, match: {prefix: /}, route: {cluster: nowhere}}
";

fn listed<'a>(answer: &'a Value, list: &str) -> Result<&'a Vec<Value>> {
    answer[list]
        .as_array()
        .with_context(|| format!("no {list} in {answer}"))
}

#[test]
fn every_rejection_says_where_and_what_was_expected() -> Result<()> {
    let files = Files::new()?;
    files.put("cds.yaml", CLUSTERS)?;
    let said = files.run(&["check", "cds.yaml", "--output", "json"])?;
    ensure!(said.code == 1, "exit code {}: {}", said.code, said.error);
    let answer = said.json()?;
    ensure!(answer["resources"] == json!({"Cluster": 3}), "{answer}");
    let rejections = listed(&answer, "rejections")?;
    let told: Vec<(&Value, &Value, &Value, &Value, &Value)> = rejections
        .iter()
        .map(|one| {
            (
                &one["name"],
                &one["path"],
                &one["expected"],
                &one["found"],
                &one["line"],
            )
        })
        .collect();
    let expected = json!([
        [
            "bad",
            "common_lb_config.healthy_panic_threshold",
            "0 to 100",
            "200",
            11
        ],
        ["bad", "connect_timeout", "a duration above 0", "0s", 10],
    ]);
    ensure!(json!(told) == expected, "{told:?}");
    Ok(())
}

#[test]
fn every_ignored_field_says_its_value_and_why() -> Result<()> {
    let files = Files::new()?;
    files.put("cds.yaml", CLUSTERS)?;
    let answer = files.run(&["check", "cds.yaml", "--output", "json"])?.json()?;
    let ignored = &listed(&answer, "ignored")?[0];
    ensure!(ignored["field"] == "Cluster.preconnect_policy", "{ignored}");
    ensure!(
        ignored["path"] == "preconnect_policy" && ignored["line"] == 16,
        "{ignored}"
    );
    ensure!(
        ignored["value"] == json!({"per_upstream_preconnect_ratio": 1.5}),
        "{ignored}"
    );
    ensure!(
        ignored["reason"].as_str().is_some_and(|reason| reason.len() > 10),
        "{ignored}"
    );
    Ok(())
}

#[test]
fn what_leads_nowhere_is_a_warning_and_no_error() -> Result<()> {
    let files = Files::new()?;
    files.put(
        "cds.yaml",
        CLUSTERS
            .replace("connect_timeout: 0s", "connect_timeout: 1s")
            .replace("200", "20"),
    )?;
    files.put("rds.yaml", ROUTES)?;
    let said = files.run(&["check", "cds.yaml", "rds.yaml"])?;
    ensure!(
        said.code == 0,
        "exit code {}: {}{}",
        said.code,
        said.text,
        said.error
    );
    for sentence in [
        "RouteConfiguration 'all': route 'lost' of virtual host 'everyone' refers to Cluster 'nowhere', which is not there",
        "none of the files holds a ClusterLoadAssignment; one is referred to: quiet",
    ] {
        ensure!(
            said.text.contains(sentence),
            "{sentence} is not in\n{}",
            said.text
        );
    }
    ensure!(!said.text.contains("'good', which"), "{}", said.text);
    Ok(())
}

#[test]
fn a_config_dump_is_read_with_its_secrets_hidden() -> Result<()> {
    let files = Files::new()?;
    let dump = json!({"configs": [
        {"@type": "type.googleapis.com/envoy.admin.v3.ClustersConfigDump", "dynamic_active_clusters": [
            {"version_info": "1", "cluster": {"@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster",
                "name": "a", "type": "STATIC"}}],
         "dynamic_warming_clusters": [{"error_state": {"details": "no such thing"}}]},
        {"@type": "type.googleapis.com/envoy.admin.v3.ListenersConfigDump", "dynamic_listeners": [
            {"name": "in", "active_state": {"listener": {
                "@type": "type.googleapis.com/envoy.config.listener.v3.Listener", "name": "in",
                "address": {"socket_address": {"address": "127.0.0.1", "port_value": 81}},
                "filter_chains": [{"filters": [{"name": "t", "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
                    "stat_prefix": "t", "cluster": "a"}}]}]}}}]},
        {"@type": "type.googleapis.com/envoy.admin.v3.EndpointsConfigDump", "static_endpoint_configs": [{"endpoint_config": {
            "@type": "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment", "cluster_name": "a",
            "endpoints": [{"load_balancing_weight": 0, "lb_endpoints": []}]}}]},
        {"@type": "type.googleapis.com/envoy.admin.v3.SecretsConfigDump", "dynamic_active_secrets": [
            {"name": "keys", "secret": {
                "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret", "name": "keys",
                "tls_certificate": {
                    "certificate_chain": {"inline_string": rcgen::generate_simple_self_signed(vec!["a".into()])?.cert.pem()},
                    "private_key": {"inline_bytes": "W3JlZGFjdGVkXQ=="}}}}]}]});
    files.put("dump.json", dump.to_string())?;
    let said = files.run(&["check", "dump.json"])?;
    ensure!(
        said.code == 0,
        "exit code {}: {}{}",
        said.code,
        said.text,
        said.error
    );
    ensure!(
        said.text
            .starts_with("1 Secret, 1 Cluster, 1 ClusterLoadAssignment, 1 Listener: 0 rejections"),
        "{}",
        said.text
    );
    ensure!(
        said.text.contains("refused its newest Cluster: no such thing"),
        "{}",
        said.text
    );
    ensure!(said.text.contains("private keys are hidden"), "{}", said.text);
    Ok(())
}

#[test]
fn bare_resources_bootstraps_and_lists_are_told_apart() -> Result<()> {
    let files = Files::new()?;
    let cluster = json!({"name": "a", "connectTimeout": "1s"});
    let address = json!({"socket_address": {"address": "127.0.0.1", "port_value": 0}});
    for (name, document) in [
        ("bare", cluster.clone()),
        ("list", json!([cluster])),
        ("kinds", json!({"clusters": [cluster]})),
        (
            "bootstrap",
            json!({"static_resources": {"clusters": [cluster]}, "admin": {"address": address}}),
        ),
        (
            "delta",
            json!({"resources": [{"name": "a", "version": "1", "resource": {
            "@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster", "name": "a"}}]}),
        ),
    ] {
        files.put(name, document.to_string())?;
        let said = files.run(&["check", name])?;
        ensure!(
            said.code == 0 && said.text.starts_with("1 Cluster: 0 rejections"),
            "{name}: {}{}",
            said.text,
            said.error
        );
    }
    Ok(())
}

#[test]
fn a_filter_that_nobody_knows_is_named_with_the_place_of_its_listener() -> Result<()> {
    let files = Files::new()?;
    files.put(
        "lds.yaml",
        "resources:
- '@type': type.googleapis.com/envoy.config.listener.v3.Listener
  name: in
  address: {socket_address: {address: 127.0.0.1, port_value: 81}}
  filter_chains:
  - filters:
    - name: mine
      typed_config: {'@type': type.googleapis.com/example.Mine, level: 3}
",
    )?;
    let said = files.run(&["check", "lds.yaml"])?;
    ensure!(said.code == 1, "exit code {}: {}", said.code, said.text);
    let sentence = "lds.yaml:8:21: filter_chains[0].filters[0].typed_config: Didn't find a registered implementation for 'mine'";
    ensure!(said.text.contains(sentence), "{}", said.text);
    Ok(())
}

#[test]
fn what_is_no_configuration_is_unreadable() -> Result<()> {
    let files = Files::new()?;
    files.put("poem.yaml", "roses: red\n")?;
    for name in ["poem.yaml", "missing.yaml"] {
        let said = files.run(&["check", name])?;
        ensure!(
            said.code == 2 && said.text.is_empty() && said.error.contains(name),
            "{}{}",
            said.code,
            said.error
        );
    }
    Ok(())
}

#[test]
fn a_problem_of_a_bootstrap_has_its_place() -> Result<()> {
    let files = Files::new()?;
    files.put("b.yaml", "admin: {}\nstatic_resorces: {}\n")?;
    let said = files.run(&["check", "b.yaml"])?;
    ensure!(said.code == 1, "exit code {}", said.code);
    ensure!(
        said.text.contains("b.yaml:2:1") && said.text.contains("static_resources"),
        "{}",
        said.text
    );
    Ok(())
}
