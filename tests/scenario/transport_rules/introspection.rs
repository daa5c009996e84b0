//! N2 and N4: what can be read of the transport from outside, under Envoy's names?

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::bootstrap::{self, AdsVariant};
use harness::client::PATIENCE;
use harness::control_plane::{CLUSTER, ControlPlane, ROUTE};
use harness::process::{Options, Port, Proxy, ProxyProcess};
use harness::scripted::Variant;
use harness::upstream::Upstream;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::in_both_variants;
use crate::scene::{Scene, bad_cluster, eds_cluster, endpoints, rds_listener, routes};

in_both_variants! {
    n2_the_config_dump_says_where_each_resource_stands => tells_where_each_stands;
}

async fn dump<V: Variant>(scene: &Scene<V>) -> Result<Value> {
    let text = scene.process.admin_text("/config_dump?include_eds").await?;
    serde_json::from_str(&text).with_context(|| text)
}

/// The entries of a list in the section of the dump with this type.
fn entries<'a>(dump: &'a Value, section: &str, list: &str) -> Vec<&'a Value> {
    let sections = dump["configs"].as_array().into_iter().flatten();
    let of_type = sections.filter(|one| one["@type"].as_str().is_some_and(|it| it.ends_with(section)));
    of_type.filter_map(|one| one[list].as_array()).flatten().collect()
}

fn named<'a>(entries: &[&'a Value], part: &str, name: &str) -> Result<&'a Value> {
    let found = entries.iter().find(|entry| {
        entry[part]["name"] == name || entry[part]["cluster_name"] == name || entry["name"] == name
    });
    found
        .copied()
        .with_context(|| format!("no {name} in {entries:#?}"))
}

/// N2: version, time and state of what serves, of what warms and of what was refused.
async fn tells_where_each_stands<V: Variant>(mut scene: Scene<V>) -> Result<()> {
    let blue = Upstream::start("blue").await?;
    scene.serve(&[&blue]).await?;
    let update = [eds_cluster("blue"), eds_cluster("warms"), bad_cluster("bad")];
    scene.ads.send(CLUSTER, "2", &update)?;
    let nack = scene.ads.expect(CLUSTER).await?;
    let reason = V::error(&nack).context("not refused")?.message.clone();
    let deadline = Instant::now() + PATIENCE;
    let dump = loop {
        let dump = dump(&scene).await?;
        if !entries(&dump, "ClustersConfigDump", "dynamic_warming_clusters").is_empty() {
            break dump;
        }
        ensure!(Instant::now() < deadline, "nothing warms: {dump:#}");
        sleep(Duration::from_millis(10)).await;
    };
    let active = entries(&dump, "ClustersConfigDump", "dynamic_active_clusters");
    let active = named(&active, "cluster", "blue")?;
    ensure!(
        active["last_updated"]
            .as_str()
            .is_some_and(|time| time.ends_with('Z')),
        "{active:#}"
    );
    ensure!(active["error_state"].is_null(), "{active:#}");
    let warming = entries(&dump, "ClustersConfigDump", "dynamic_warming_clusters");
    ensure!(
        named(&warming, "cluster", "warms")?["version_info"] == "2",
        "{warming:#?}"
    );
    let text = dump.to_string();
    ensure!(
        text.contains("error_state"),
        "what was refused is not told: {dump:#}"
    );
    let said = reason.split_once("bad: ").context("the refusal names nobody")?.1;
    let said = said.lines().next().unwrap_or(said).get(..20).unwrap_or(said);
    ensure!(
        text.contains(&serde_json::to_string(said)?.trim_matches('"').to_owned()),
        "{said} is not in {dump:#}"
    );
    let listeners = entries(&dump, "ListenersConfigDump", "dynamic_listeners");
    let listener = named(&listeners, "active_state", "ingress")?;
    ensure!(listener["active_state"]["version_info"] == "1", "{listener:#}");
    let tables = entries(&dump, "RoutesConfigDump", "dynamic_route_configs");
    ensure!(
        named(&tables, "route_config", "routes")?["version_info"] == "1",
        "{tables:#?}"
    );
    let assignments = entries(&dump, "EndpointsConfigDump", "dynamic_endpoint_configs");
    named(&assignments, "endpoint_config", "blue")?;
    Ok(())
}

/// One line of `/stats`.
async fn stat(process: &ProxyProcess, name: &str) -> Result<u64> {
    let text = process
        .admin_text(&format!("/stats?filter={}", name.replace('.', "\\.")))
        .await?;
    let found = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    found
        .with_context(|| format!("no {name} in {text}"))?
        .parse()
        .context("a number")
}

async fn counts(process: &ProxyProcess, prefix: &str) -> Result<[u64; 4]> {
    let mut counts = [0; 4];
    for (word, count) in ["attempt", "success", "failure", "rejected"]
        .iter()
        .zip(&mut counts)
    {
        *count = stat(process, &format!("{prefix}.update_{word}")).await?;
    }
    Ok(counts)
}

/// N4: what pilot-agent waits for, by these names, and what a dashboard shows: one attempt for the subscription and one
/// for each response, whatever becomes of it.
async fn counts_as_envoy_does(proxy: Proxy, variant: AdsVariant) -> Result<()> {
    let (plane, blue) = (ControlPlane::start().await?, Upstream::start("blue").await?);
    let (port, admin) = (Port::reserve()?, Port::reserve()?);
    let listener = rds_listener("ingress", &port);
    plane.put([
        eds_cluster("blue"),
        endpoints(&blue),
        listener,
        routes("routes", "blue"),
    ]);
    let text = bootstrap::ads(admin.address(), plane.address(), variant).to_string();
    let process = ProxyProcess::start(proxy, &text, admin, &Options::default()).await?;
    plane.wait_ack(ROUTE).await?;
    let filter = "/stats?usedonly&filter=^(server\\.state|listener_manager\\.workers_started)";
    let states = process.admin_text(filter).await?;
    let mut lines: Vec<&str> = states.lines().collect();
    lines.sort_unstable();
    ensure!(
        lines == ["listener_manager.workers_started: 1", "server.state: 0"],
        "{states}"
    );
    let (cds, lds) = ("cluster_manager.cds", "listener_manager.lds");
    ensure!(
        counts(&process, cds).await? == [2, 1, 0, 0],
        "{:?}",
        counts(&process, cds).await?
    );
    ensure!(
        counts(&process, lds).await? == [2, 1, 0, 0],
        "{:?}",
        counts(&process, lds).await?
    );
    let rds = "http.ingress.rds.routes";
    ensure!(
        counts(&process, rds).await? == [2, 1, 0, 0],
        "{:?}",
        counts(&process, rds).await?
    );
    ensure!(stat(&process, "control_plane.connected_state").await? == 1);
    ensure!(stat(&process, "cluster_manager.cds.version").await? != 0);

    plane.put([bad_cluster("bad")]);
    plane.wait_nack(CLUSTER).await?;
    plane.remove(CLUSTER, "bad");
    let deadline = Instant::now() + PATIENCE;
    // Envoy counts two attempts for a response that it refuses, by its own account without meaning.
    while counts(&process, cds).await?[1..] != [2, 0, 1] {
        ensure!(Instant::now() < deadline, "{:?}", counts(&process, cds).await?);
        sleep(Duration::from_millis(10)).await;
    }
    ensure!(
        counts(&process, cds).await?[0] >= 4,
        "{:?}",
        counts(&process, cds).await?
    );
    ensure!(
        counts(&process, lds).await? == [2, 1, 0, 0],
        "{:?}",
        counts(&process, lds).await?
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn n4_updates_are_counted_under_envoys_names() -> Result<()> {
    for proxy in Proxy::under_test("n4")? {
        for variant in [AdsVariant::Delta, AdsVariant::Sotw] {
            let counted = counts_as_envoy_does(proxy, variant).await;
            counted.with_context(|| format!("{} {variant:?}", proxy.name()))?;
        }
    }
    Ok(())
}
