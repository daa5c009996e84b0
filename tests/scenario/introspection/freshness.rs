//! Is it up to date, and if not, why? In words, in metrics, and by the generation that each request used.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use harness::control_plane::{CLUSTER, ControlPlane, LISTENER, ROUTE};
use harness::process::{Proxy, ProxyProcess};
use serde_json::{Value, json};

use super::{Scene, WITHIN, page, page_when};

fn problems(page: &Value) -> String {
    page["problems"].to_string()
}

async fn is_up_to_date(process: &ProxyProcess) -> Result<Value> {
    page_when(process, "/xds?format=json", |page| page["up_to_date"] == true).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whether_it_is_up_to_date_is_said_with_each_reason() -> Result<()> {
    for proxy in Proxy::under_test("introspection: up to date")? {
        if proxy != Proxy::Remora {
            continue;
        }
        let scene = Scene::new().await?;
        let process = scene.start(proxy).await?;
        let page = is_up_to_date(&process).await?;
        let stream = &page["sources"][0];
        ensure!(
            stream["name"] == "ADS" && stream["connected_to"] == "control_plane",
            "{page:#}"
        );
        ensure!(
            stream["last_message_age_seconds"]
                .as_f64()
                .is_some_and(|age| age < 60.0),
            "{page:#}"
        );

        let bad = json!({"name": "safe", "type": "STATIC", "connect_timeout": "-1s"});
        scene.control_plane.put([scene.reader.json(CLUSTER, &bad)?]);
        let page = page_when(&process, "/xds?format=json", |page| page["up_to_date"] == false).await?;
        ensure!(
            problems(&page).contains("cds 'safe': version '2' refused")
                && problems(&page).contains("connect_timeout")
                && problems(&page).contains("(version '1' serves)"),
            "{page:#}"
        );
        scene.control_plane.put([
            scene.reader.json(CLUSTER, &scene.safe_cluster())?,
            scene.cluster("late")?,
        ]);
        let late = "cds 'late': version '3' waits for ClusterLoadAssignment 'late'";
        page_when(&process, "/xds?format=json", |page| {
            problems(page).contains(late) && !problems(page).contains("'safe'")
        })
        .await?;
        scene.control_plane.put([scene.endpoints("late")?]);
        is_up_to_date(&process).await?;

        let Scene { control_plane, .. } = scene;
        let address = control_plane.address();
        drop(control_plane);
        page_when(&process, "/xds?format=json", |page| {
            problems(page).contains("ADS: no stream for") && problems(page).contains("'control_plane'")
        })
        .await?;
        let text = process.admin_text("/xds").await?;
        ensure!(text.starts_with("up to date: no\n  ADS: no stream for"), "{text}");
        let _returned = ControlPlane::listen(address).await?;
        page_when(&process, "/xds?format=json", |page| {
            page["sources"][0]["connected"] == true
        })
        .await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_tell_of_types_and_do_not_grow_with_the_mesh() -> Result<()> {
    for proxy in Proxy::under_test("introspection: metrics of freshness")? {
        if proxy != Proxy::Remora {
            continue;
        }
        let scene = Scene::new().await?;
        let process = scene.start(proxy).await?;
        is_up_to_date(&process).await?;
        let lines = |text: &str| {
            text.lines()
                .filter(|line| line.starts_with("remora_xds_"))
                .count()
        };
        let before = process.admin_text("/stats/prometheus").await?;
        for (name, labels, value) in [
            ("remora_xds_resources", "xds_type=\"cds\",state=\"acked\"", 2.0),
            ("remora_xds_resources", "xds_type=\"cds\",state=\"nacked\"", 0.0),
            ("remora_xds_resources", "xds_type=\"rds\",state=\"acked\"", 1.0),
            ("remora_xds_server_connected", "xds_server=\"ADS\"", 1.0),
        ] {
            let found = process.metric(name, labels).await?;
            ensure!(
                found == Some(value),
                "{name}{{{labels}}} is {found:?} in {before}"
            );
        }
        ensure!(
            before.contains("remora_xds_server_last_message_age_seconds{xds_server=\"ADS\"}"),
            "{before}"
        );
        ensure!(
            before.contains("remora_xds_last_update_age_seconds{xds_type=\"eds\"}"),
            "{before}"
        );
        let many = (0..300).flat_map(|index| {
            let name = format!("many-{index}");
            [scene.cluster(&name), scene.endpoints(&name)]
        });
        scene.control_plane.put(many.collect::<Result<Vec<_>>>()?);
        let all = "xds_type=\"cds\",state=\"acked\"";
        process
            .wait_metric("remora_xds_resources", all, 302.0, WITHIN)
            .await?;
        is_up_to_date(&process).await?;
        let after = process.admin_text("/stats/prometheus").await?;
        ensure!(lines(&before) == lines(&after) && lines(&after) < 60, "{after}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_access_log_line_names_the_generation_that_decided() -> Result<()> {
    for proxy in Proxy::under_test("introspection: generation")? {
        if proxy != Proxy::Remora {
            continue;
        }
        let scene = Scene::new().await?;
        let process = scene.start(proxy).await?;
        let mut listener = scene.listener("routes", super::ads());
        let log = &mut listener["filter_chains"][0]["filters"][0]["typed_config"]["access_log"][0];
        log["typed_config"]["log_format"]["text_format_source"]["inline_string"] =
            json!("%REQ(:PATH)% %CONFIG_GENERATION%\n");
        scene.control_plane.put([scene.reader.json(LISTENER, &listener)?]);
        let version = |page: &Value, kind: &str| {
            let types = page["sources"][0]["types"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            let found = types.into_iter().find(|of| of["type_url"] == kind);
            found.map(|of| of["version_info"].clone())
        };
        let shown = page_when(&process, "/xds?format=json", |page| {
            version(page, LISTENER) == Some(json!("2"))
        })
        .await?;
        ensure!(scene.ask("/first").await? == 200);
        scene.control_plane.put([scene.routes("nobody")?]);
        page_when(&process, "/xds?format=json", |page| {
            version(page, ROUTE) == Some(json!("3"))
        })
        .await?;
        ensure!(scene.ask("/second").await? == 503);
        let newest = page(&process, "/xds?format=json").await?;
        let lines = wait_lines(&scene, 2).await?;
        let generation = |page: &Value| page["config_generation"].as_u64().context("no generation");
        let (old, new) = (generation(&shown)?, generation(&newest)?);
        ensure!(old < new, "the change of a route is a new generation");
        ensure!(
            lines == [format!("/first {old}"), format!("/second {new}")],
            "{lines:?} between generations {old} and {new}"
        );
        let metric = process.metric("remora_config_generation", "").await?;
        ensure!(metric == Some(new as f64), "{metric:?}");
    }
    Ok(())
}

async fn wait_lines(scene: &Scene, count: usize) -> Result<Vec<String>> {
    let deadline = Instant::now() + WITHIN;
    loop {
        let text = std::fs::read_to_string(scene.folder.path().join("access")).unwrap_or_default();
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        if lines.len() >= count {
            return Ok(lines);
        }
        ensure!(Instant::now() < deadline, "{count} lines wanted: {text}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}
