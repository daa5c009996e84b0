//! Active health checks beside Envoy: which endpoints are used, what their flags and counters say, and when that changes.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use harness::process::Port;
use serde_json::{Value, json};

use super::patient::{Answer, PATH, Patient};
use super::stage::{Stage, WITHIN, with_envoy};

/// A check by HTTP every tenth of a second; `over` is merged over it.
pub(crate) fn check(over: &Value) -> Value {
    let mut check = json!({"timeout": "10s", "interval": "0.1s", "no_traffic_interval": "0.1s",
        "unhealthy_threshold": 3, "healthy_threshold": 2, "http_health_check": {"path": PATH}});
    harness::bootstrap::merge(&mut check, over);
    json!({"health_checks": [check]})
}

/// Waits until something holds.
pub(crate) async fn until(what: &str, holds: impl Fn() -> bool) -> Result<()> {
    let deadline = Instant::now() + WITHIN;
    while !holds() {
        ensure!(Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

fn addresses(patients: &[Patient]) -> Vec<SocketAddr> {
    patients.iter().map(Patient::address).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_round_decides_as_with_envoy() -> Result<()> {
    for proxy in with_envoy("checks: the first round")? {
        let answers = [
            (Answer::http(200, "", "ok"), "healthy"),
            (Answer::http(503, "", ""), "/failed_active_hc"),
            (
                Answer::http(200, "x-envoy-degraded: 1", ""),
                "/degraded_active_hc",
            ),
            (Answer::Close, "/failed_active_hc"),
            (
                Answer::http(503, "x-envoy-immediate-health-check-fail: 1", ""),
                "/failed_active_hc/excluded_via_immediate_hc_fail",
            ),
            (Answer::Silence, "/failed_active_hc/active_hc_timeout"),
        ];
        let mut patients = Vec::new();
        for (answer, _) in &answers {
            patients.push(Patient::start(answer.clone()).await?);
        }
        let closed = Port::reserve()?;
        let mut all = addresses(&patients);
        all.push(closed.address());
        let slow = check(&json!({"timeout": "0.5s", "interval": "300s", "no_traffic_interval": "300s"}));
        // Ready means that everybody was asked.
        let stage = Stage::start(proxy, &all, &slow).await?;
        for (patient, (answer, flags)) in patients.iter().zip(&answers) {
            let found = stage.flags(patient.address()).await?;
            ensure!(found == *flags, "{proxy:?}: {answer:?}: {found}");
            ensure!(patient.checks().len() == 1, "{proxy:?}: {:?}", patient.checks());
        }
        ensure!(stage.flags(closed.address()).await? == "/failed_active_hc");
        let expected = [
            "attempt: 7",
            "degraded: 1",
            "failure: 5",
            "healthy: 2",
            "network_failure: 3",
            "success: 2",
        ];
        let stats = stage.stats("health_check").await?;
        ensure!(stats == expected, "{proxy:?}: {stats:?}");
        for (gauge, value) in [("healthy", 1), ("degraded", 1), ("excluded", 1), ("total", 7)] {
            stage.wait_stat(&format!("membership_{gauge}"), value).await?;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_goes_to_an_endpoint_that_fails() -> Result<()> {
    for proxy in with_envoy("checks: requests")? {
        let patients = [
            Patient::well().await?,
            Patient::start(Answer::http(503, "", "")).await?,
        ];
        let stage = Stage::start(proxy, &addresses(&patients), &check(&json!({}))).await?;
        ensure!(stage.statuses(10).await? == [200; 10]);
        ensure!(patients[1].requests() == 0, "{proxy:?}");
        // Nobody is well, and the cluster would rather fail.
        let ill = [Patient::start(Answer::Close).await?];
        let mut never = check(&json!({}));
        never["common_lb_config"] = json!({"healthy_panic_threshold": {"value": 0}});
        let stage = Stage::start(proxy, &addresses(&ill), &never).await?;
        let answer = stage.get().await?;
        ensure!(
            answer.status() == 503 && answer.text() == "no healthy upstream",
            "{proxy:?}: {answer:?}"
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thresholds_are_waited_for_as_with_envoy() -> Result<()> {
    for proxy in with_envoy("checks: thresholds")? {
        let patient = Patient::well().await?;
        let retriable =
            json!({"http_health_check": {"path": PATH, "retriable_statuses": [{"start": 500, "end": 501}]}});
        let stage = Stage::start(proxy, &[patient.address()], &check(&retriable)).await?;
        for (answer, least) in [
            (Answer::Close, 3),
            (Answer::http(500, "", ""), 3),
            (Answer::http(404, "", ""), 1),
        ] {
            patient.answers(answer.clone());
            stage.wait_flags(patient.address(), "/failed_active_hc").await?;
            let failed = patient.checks().len();
            ensure!(failed >= least, "{proxy:?}: {answer:?}: {failed}");
            patient.answers(Answer::http(200, "", ""));
            stage.wait_flags(patient.address(), "healthy").await?;
            let passed = patient.checks().len();
            ensure!(passed >= 2, "{proxy:?}: {answer:?}: {passed}");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_asks_the_same_as_envoy_does() -> Result<()> {
    let checks = [
        json!({}),
        json!({"host": "a.example"}),
        json!({"method": "POST", "send": {"text": "6f6b"}, "path": "/healthz?a=b"}),
        json!({"method": "HEAD"}),
        json!({"request_headers_to_remove": ["user-agent"], "request_headers_to_add": [
            {"header": {"key": "x-static", "value": "1"}},
            {"header": {"key": "x-host", "value": "%PROTOCOL% %REQ(:path)% %DOWNSTREAM_LOCAL_ADDRESS%"}}]}),
    ];
    let mut seen: Vec<Vec<String>> = Vec::new();
    let proxies = with_envoy("checks: what is asked")?;
    for proxy in &proxies {
        let mut heads = Vec::new();
        for asked in &checks {
            let patient = Patient::well().await?;
            let mut http = json!({"path": PATH});
            harness::bootstrap::merge(&mut http, asked);
            let mut over = json!({"http_health_check": http});
            harness::bootstrap::merge(
                &mut over,
                &json!({"interval": "300s", "no_traffic_interval": "300s"}),
            );
            let _stage = Stage::start(*proxy, &[patient.address()], &check(&over)).await?;
            let mut lines: Vec<String> = patient.checks().concat().lines().map(str::to_owned).collect();
            ensure!(lines.len() > 1, "{proxy:?}: {asked}: {lines:?}");
            // The order of different fields is nobody's business.
            lines[1..].sort_unstable();
            heads.push(lines.join("\n"));
        }
        seen.push(heads);
    }
    ensure!(
        seen[0][0].contains("user-agent: Envoy/HC") && seen[0][0].contains("host: watched"),
        "{seen:?}"
    );
    for other in &seen[1..] {
        ensure!(*other == seen[0], "{proxies:?}: {seen:#?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_to_a_request_may_end_the_requests() -> Result<()> {
    for proxy in with_envoy("checks: passive")? {
        let patients = [Patient::well().await?, Patient::well().await?];
        let rare = check(&json!({"interval": "300s", "no_traffic_interval": "300s"}));
        let stage = Stage::start(proxy, &addresses(&patients), &rare).await?;
        patients[0].says("x-envoy-immediate-health-check-fail: true");
        stage.statuses(2).await?;
        let gone = "/failed_active_hc/excluded_via_immediate_hc_fail";
        stage.wait_flags(patients[0].address(), gone).await?;
        stage.wait_stat("health_check.passive_failure", 1).await?;
        // The worker may take a turn to see the new world.
        stage.statuses(2).await?;
        let before = patients[0].requests();
        ensure!(stage.statuses(10).await? == [200; 10]);
        ensure!(patients[0].requests() == before, "{proxy:?}");
    }
    Ok(())
}

/// What a server may do instead of answering.
fn hostile() -> Vec<Answer> {
    let endless = |first: &str, again: &str| Answer::Endless(first.into(), again.repeat(1000).into_bytes());
    vec![
        Answer::Bytes(b"\x00\xff\r\n\r\n garbage".to_vec()),
        Answer::Bytes(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nabc".to_vec()),
        endless("HTTP/1.1 200 OK\r\n", "x-more: 0123456789\r\n"),
        endless(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
            "5\r\n01234\r\n",
        ),
        endless("HTTP/1.1 200 OK\r\n\r\n", "for ever"),
        endless(
            "HTTP/1.1 100 Continue\r\n\r\n",
            "HTTP/1.1 103 Early Hints\r\n\r\n",
        ),
        Answer::Silence,
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_a_server_does_its_check_ends_and_the_others_are_served() -> Result<()> {
    for proxy in with_envoy("checks: hostile")? {
        let mut patients = vec![Patient::well().await?];
        for answer in hostile() {
            patients.push(Patient::start(answer).await?);
        }
        let whole = json!({"timeout": "1s", "http_health_check": {"path": PATH,
            "receive": [{"text": "6f6b"}], "response_buffer_size": 0}});
        let stage = Stage::start(proxy, &addresses(&patients), &check(&whole)).await?;
        for patient in &patients[1..] {
            let flags = stage.flags(patient.address()).await?;
            ensure!(flags.starts_with("/failed_active_hc"), "{proxy:?}: {flags}");
        }
        ensure!(stage.flags(patients[0].address()).await? == "healthy");
        ensure!(stage.statuses(10).await? == [200; 10], "{proxy:?}");
        patients[0].answers(Answer::http(200, "", "ok"));
        until("the one that is well is asked again", || {
            patients[0].checks().len() > 3
        })
        .await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_used_again_unless_they_must_not_be() -> Result<()> {
    for proxy in with_envoy("checks: connections")? {
        for (over, header, again) in [
            (json!({}), "", true),
            (json!({"reuse_connection": false}), "", false),
            (json!({}), "connection: close", false),
        ] {
            let patient = Patient::start(Answer::http(200, header, "ok")).await?;
            let _stage = Stage::start(proxy, &[patient.address()], &check(&over)).await?;
            until("several checks", || patient.checks().len() > 4).await?;
            let connections = patient.connections();
            ensure!(
                (connections == 1) == again,
                "{proxy:?}: {over} {header}: {connections}"
            );
        }
    }
    Ok(())
}
