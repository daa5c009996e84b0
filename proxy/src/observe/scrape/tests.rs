//! What a scrape shows, and that Prometheus can read it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use remora_model::snapshot::Snapshot;

use super::*;
use crate::observe::control_metrics::{Subscription, Update};
use crate::observe::test_world::{TestWorld, WORLD};

fn facts() -> ServerFacts {
    ServerFacts {
        state: 0,
        uptime: Duration::from_secs(5),
        concurrency: 2,
        healthy: true,
    }
}

fn scrape(observe: &Arc<Observe>, world: &TestWorld) -> Scrape {
    Scrape::new(observe, &world.snapshot, facts())
}

/// Two workers that carried three requests to `up` between them.
fn busy(world: &TestWorld) -> Arc<Observe> {
    let observe = Arc::new(Observe::default());
    for (index, millis) in [(0, 3), (1, 7), (1, 400)] {
        let worker = observe.worker(index);
        let cluster = worker.cluster(&world.cluster("up").config);
        cluster.traffic.upstream_rq_total.one();
        cluster.traffic.upstream_rq_2xx.one();
        cluster
            .traffic
            .upstream_rq_time
            .record(Duration::from_millis(millis));
        cluster.codes.record(200);
        cluster.tls.handshake.one();
        let manager = worker.manager(&"ingress_http".into());
        manager.http.downstream_rq_2xx.one();
        let listener = worker.listener(&"127.0.0.1_19080".into());
        listener.connections.downstream_cx_total.one();
        listener.connections.downstream_cx_active.add(1);
    }
    observe.control.set("listener_manager.workers_started", 1);
    observe
        .control
        .update(Subscription::Clusters, Update::Success { version: "v1" });
    observe.control.update(
        Subscription::Routes {
            manager: "ingress_http",
            name: "rc",
        },
        Update::Rejected,
    );
    observe
}

fn text(observe: &Arc<Observe>, world: &TestWorld, query: StatsQuery) -> String {
    scrape(observe, world).text(query).collect()
}

fn used(filter: &str) -> StatsQuery {
    StatsQuery {
        used_only: true,
        filter: Some(regex::Regex::new(filter).unwrap()),
        kind: Kind::All,
    }
}

/// One sample: family as written, labels, value.
type Sample = (String, Vec<(String, String)>, f64);

/// Reads the text format as the Prometheus documentation defines it and checks its rules.
fn parse(text: &str) -> Vec<Sample> {
    let mut kinds: HashMap<String, String> = HashMap::new();
    let mut seen = HashSet::new();
    let mut samples = Vec::new();
    let mut current = String::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (family, kind) = rest.split_once(' ').unwrap();
            assert!(
                kinds.insert(family.into(), kind.into()).is_none(),
                "two TYPE lines for {family}"
            );
            current = family.into();
            continue;
        }
        let (name, rest) = match line.split_once('{') {
            Some((name, rest)) => (name, rest.to_owned()),
            // As the exporter of the facade writes a series without labels.
            None => {
                let (name, value) = line.split_once(' ').unwrap();
                (name, format!("}} {value}"))
            }
        };
        assert!(
            name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'),
            "{line}"
        );
        assert!(!name.starts_with(|c: char| c.is_ascii_digit()), "{line}");
        let base = if kinds[&current] == "histogram" {
            name.trim_end_matches("_bucket")
                .trim_end_matches("_sum")
                .trim_end_matches("_count")
        } else {
            name
        };
        assert_eq!(base, current, "{line} stands within another family");
        let (labels, value) = rest.rsplit_once("} ").unwrap();
        assert!(seen.insert((name.to_owned(), labels.to_owned())), "{line} twice");
        samples.push((name.to_owned(), labels_of(labels), value.parse().unwrap()));
    }
    samples
}

fn labels_of(mut text: &str) -> Vec<(String, String)> {
    let mut labels = Vec::new();
    while !text.is_empty() {
        let (name, rest) = text.split_once("=\"").unwrap();
        let mut value = String::new();
        let mut chars = rest.char_indices();
        let end = loop {
            match chars.next().unwrap() {
                (_, '\\') => match chars.next().unwrap().1 {
                    'n' => value.push('\n'),
                    c @ ('"' | '\\') => value.push(c),
                    other => panic!("unknown escape {other}"),
                },
                (end, '"') => break end,
                (_, c) => value.push(c),
            }
        };
        labels.push((name.to_owned(), value));
        text = rest[end + 1..].strip_prefix(',').unwrap_or(&rest[end + 1..]);
    }
    labels
}

fn value(samples: &[Sample], name: &str, label: (&str, &str)) -> Option<f64> {
    let wanted = (label.0.to_owned(), label.1.to_owned());
    let mut found = samples
        .iter()
        .filter(|(family, labels, _)| family == name && labels.contains(&wanted));
    let value = found.next().map(|(_, _, value)| *value);
    assert!(found.next().is_none(), "several series of {name}");
    value
}

#[test]
fn prometheus_reads_the_sums_of_all_workers_under_envoys_names() {
    let world = TestWorld::of(WORLD);
    let text: String = scrape(&busy(&world), &world)
        .prometheus(StatsQuery::default())
        .collect();
    for line in [
        // As Envoy 1.40 writes them.
        "# TYPE envoy_cluster_upstream_rq_total counter\n",
        "envoy_cluster_upstream_rq_total{envoy_cluster_name=\"up\"} 3\n",
        "envoy_cluster_upstream_rq_xx{envoy_response_code_class=\"2\",envoy_cluster_name=\"up\"} 3\n",
        "envoy_cluster_upstream_rq{envoy_response_code=\"200\",envoy_cluster_name=\"up\"} 3\n",
        "envoy_cluster_ssl_handshake{envoy_cluster_name=\"up\"} 3\n",
        "envoy_cluster_membership_total{envoy_cluster_name=\"up\"} 1\n",
        "envoy_cluster_membership_healthy{envoy_cluster_name=\"up\"} 1\n",
        "envoy_http_downstream_rq_xx{envoy_response_code_class=\"2\",envoy_http_conn_manager_prefix=\"ingress_http\"} 3\n",
        "envoy_listener_downstream_cx_total{envoy_listener_address=\"127.0.0.1_19080\"} 3\n",
        "envoy_listener_worker_downstream_cx_total{envoy_worker_id=\"1\",envoy_listener_address=\"127.0.0.1_19080\"} 2\n",
        "envoy_cluster_manager_cds_update_success 1\n",
        "envoy_http_rds_update_rejected{envoy_rds_route_config=\"rc\",envoy_http_conn_manager_prefix=\"ingress_http\"} 1\n",
        "# TYPE envoy_cluster_upstream_rq_time histogram\n",
        "envoy_cluster_upstream_rq_time_bucket{envoy_cluster_name=\"up\",le=\"0.5\"} 0\n",
        "envoy_cluster_upstream_rq_time_bucket{envoy_cluster_name=\"up\",le=\"5\"} 1\n",
        "envoy_cluster_upstream_rq_time_bucket{envoy_cluster_name=\"up\",le=\"300000\"} 3\n",
        "envoy_cluster_upstream_rq_time_bucket{envoy_cluster_name=\"up\",le=\"+Inf\"} 3\n",
        "envoy_cluster_upstream_rq_time_sum{envoy_cluster_name=\"up\"} 410\n",
        "envoy_cluster_upstream_rq_time_count{envoy_cluster_name=\"up\"} 3\n",
        "envoy_server_live 1\n",
        "envoy_server_concurrency 2\n",
    ] {
        assert!(text.contains(line), "no {line}");
    }
    let samples = parse(&text);
    assert!(
        samples
            .iter()
            .any(|(name, _, value)| name == "process_resident_memory_bytes" && *value > 0.0)
    );
    assert!(
        samples
            .iter()
            .any(|(name, _, _)| name == "remora_config_generation")
    );
}

#[test]
fn a_cluster_has_series_from_its_first_use_on() {
    let world = TestWorld::of(WORLD);
    let observe = busy(&world);
    let prometheus = || -> String {
        scrape(&observe, &world)
            .prometheus(StatsQuery::default())
            .collect()
    };
    assert!(!prometheus().contains("envoy_cluster_name=\"dead\""));
    // What people ask for by hand shows everything.
    assert!(text(&observe, &world, StatsQuery::default()).contains("cluster.dead.membership_total: 2\n"));
    observe.worker(0).cluster(&world.cluster("dead").config);
    for line in [
        "envoy_cluster_membership_total{envoy_cluster_name=\"dead\"} 2\n",
        "envoy_cluster_membership_healthy{envoy_cluster_name=\"dead\"} 1\n",
        "envoy_cluster_upstream_rq_total{envoy_cluster_name=\"dead\"} 0\n",
    ] {
        assert!(prometheus().contains(line), "no {line}");
    }
}

#[test]
fn a_hostile_name_stays_inside_its_label() {
    let world = TestWorld::of(&WORLD.replace("stat_prefix: ingress_http", r#"stat_prefix: "a\"b\\c""#));
    let observe = Arc::new(Observe::default());
    let text: String = scrape(&observe, &world)
        .prometheus(StatsQuery::default())
        .collect();
    let samples = parse(&text);
    assert_eq!(
        value(
            &samples,
            "envoy_http_downstream_rq_total",
            ("envoy_http_conn_manager_prefix", "a\"b\\c")
        ),
        Some(0.0)
    );
}

#[test]
fn a_ready_probe_finds_its_two_lines() {
    let world = TestWorld::of(WORLD);
    let query = used("^(server\\.state|listener_manager\\.workers_started)");
    assert_eq!(
        text(&busy(&world), &world, query),
        "listener_manager.workers_started: 1\nserver.state: 0\n"
    );
}

#[test]
fn text_is_sorted_and_ends_with_histograms() {
    let world = TestWorld::of(WORLD);
    let text = text(&busy(&world), &world, StatsQuery::default());
    let (numbers, histograms): (Vec<&str>, Vec<&str>) = text
        .lines()
        .partition(|line| !line.contains("No recorded values") && !line.contains(" P0("));
    let by_name = |lines: &[&str]| lines.is_sorted_by_key(|line| line.split_once(':').unwrap().0);
    assert!(by_name(&numbers) && numbers.len() > 100, "numbers are not sorted");
    assert!(by_name(&histograms) && !histograms.is_empty());
    assert!(text.ends_with(&format!("{}\n", histograms.last().unwrap())));
    assert!(text.contains("cluster_manager.cds.version_text: \"v1\"\n"));
    assert!(text.contains("cluster.dead.upstream_rq_time: No recorded values\n"));
    let time = text
        .lines()
        .find(|line| line.starts_with("cluster.up.upstream_rq_time:"))
        .unwrap();
    assert!(
        time.contains(" P0(nan,1) ") && time.contains(" P99.5(nan,") && time.ends_with(" P100(nan,500)"),
        "{time}"
    );
}

#[test]
fn used_only_leaves_out_what_was_never_counted() {
    let world = TestWorld::of(WORLD);
    let observe = busy(&world);
    assert_eq!(
        text(&observe, &world, used("^cluster\\.dead\\.upstream_rq_total")),
        ""
    );
    assert_eq!(
        text(&observe, &world, used("downstream_cx_active$"))
            .lines()
            .count(),
        4
    );
}

#[test]
fn what_left_the_world_leaves_the_scrape() {
    let world = TestWorld::of(WORLD);
    let observe = busy(&world);
    let empty = Arc::new(Snapshot::default());
    let text: String = Scrape::new(&observe, &empty, facts())
        .prometheus(StatsQuery::default())
        .collect();
    assert!(
        !text.contains("envoy_cluster_name") && !text.contains("envoy_listener_address"),
        "{text}"
    );
    assert!(observe.clusters.lock().unwrap().is_empty());
}

#[test]
fn a_connection_that_drains_keeps_its_listeners_series() {
    let world = TestWorld::of(WORLD);
    let observe = busy(&world);
    let held = observe.worker(0).listener(&"127.0.0.1_19080".into());
    let empty = Arc::new(Snapshot::default());
    let text: String = Scrape::new(&observe, &empty, facts())
        .text(used("^listener.*cx_active$"))
        .collect();
    assert!(
        text.contains("listener.127.0.0.1_19080.downstream_cx_active: 3\n"),
        "{text}"
    );
    drop(held);
}

#[test]
fn a_worker_lets_go_of_a_cluster_that_is_gone() {
    let world = TestWorld::of(WORLD);
    let observe = Arc::new(Observe::default());
    let worker = observe.worker(0);
    worker
        .cluster(&world.cluster("up").config)
        .traffic
        .upstream_rq_total
        .one();
    observe.retain(&Snapshot::default());
    assert_eq!(
        observe.clusters.lock().unwrap().len(),
        1,
        "the worker still holds it"
    );
    worker.review(&Snapshot::default());
    observe.retain(&Snapshot::default());
    assert!(observe.clusters.lock().unwrap().is_empty());
}

#[test]
fn json_holds_every_number_once_and_the_histograms_apart() {
    let world = TestWorld::of(WORLD);
    let observe = busy(&world);
    let text: String = scrape(&observe, &world).json(StatsQuery::default()).collect();
    let stats: serde_json::Value = serde_json::from_str(&text).unwrap();
    let stats = stats["stats"].as_array().unwrap();
    let total = stats
        .iter()
        .find(|stat| stat["name"] == "cluster.up.upstream_rq_total")
        .unwrap();
    assert_eq!(total["value"], 3);
    let histograms = &stats.last().unwrap()["histograms"];
    assert_eq!(histograms["supported_quantiles"].as_array().unwrap().len(), 10);
    let times = histograms["computed_quantiles"].as_array().unwrap();
    let time = times
        .iter()
        .find(|stat| stat["name"] == "cluster.up.upstream_rq_time")
        .unwrap();
    assert_eq!(time["values"].as_array().unwrap().len(), 10);
    let text: String = scrape(&observe, &world).json(used("^nothing$")).collect();
    assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok(), "{text}");
}

#[test]
fn counters_can_be_reset_and_gauges_cannot() {
    let world = TestWorld::of(WORLD);
    let observe = busy(&world);
    reset_counters(&observe);
    assert_eq!(
        text(
            &observe,
            &world,
            used("^cluster.up.upstream_rq_(total|2xx|200|time)")
        ),
        ""
    );
    assert!(text(&observe, &world, used("^listener.*9080.downstream_cx_active$")).ends_with(": 3\n"));
}
