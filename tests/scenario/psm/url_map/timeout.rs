//! `url_map/timeout_test`: the route allows three seconds there and half a second here; waits are shorter in proportion.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tonic::Code;

use super::{UrlMap, empty, unary};
use crate::mesh::{on, rule};
use crate::service::Method;

const RPCS: usize = 25;
const TOLERANCE: f64 = 0.1;
const LIMIT: Duration = Duration::from_millis(500);

fn limited() -> Value {
    let limit = json!({"max_stream_duration": "0.5s", "grpc_timeout_header_max": "0.5s"});
    rule(
        &on(Method::UnaryCall),
        super::DEFAULT,
        &json!({"max_stream_duration": limit}),
    )
}

/// Both calls sleep for longer than the route of the one allows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn test_timeout_in_route_rule() -> Result<()> {
    let map = UrlMap::start(&[limited()]).await?;
    let rpcs = [unary().behaving("sleep-2000"), empty().behaving("sleep-2000")];
    let tally = map.mesh.caller().send_at_once(&rpcs, RPCS, 2 * RPCS).await;
    tally.share(Method::UnaryCall, Code::DeadlineExceeded, 1.0, TOLERANCE)?;
    tally.share(Method::EmptyCall, Code::Ok, 1.0, TOLERANCE)
}

/// The application's deadline comes before the route's. The client leaves it to the proxy to keep it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn test_timeout_in_application() -> Result<()> {
    let map = UrlMap::start(&[rule(
        &on(Method::UnaryCall),
        super::DEFAULT,
        &json!({"max_stream_duration": {"max_stream_duration": "60s", "grpc_timeout_header_max": "60s"}}),
    )])
    .await?;
    let rpc = unary().behaving("keep-open").within(LIMIT / 2).patiently();
    let began = Instant::now();
    let tally = map.mesh.caller().send_at_once(&[rpc], RPCS, RPCS).await;
    ensure!(began.elapsed() >= LIMIT / 2, "the deadline was not waited for");
    tally.share(Method::UnaryCall, Code::DeadlineExceeded, 1.0, TOLERANCE)?;
    // The server is told, and its calls end.
    for call in map.default.seen().calls {
        call.metadata
            .get("grpc-timeout")
            .context("the server knows no deadline")?;
    }
    let ended = |seen: &crate::service::Seen| seen.active.get(&Method::UnaryCall) == Some(&0);
    map.default.wait(crate::caller::WITHIN, ended).await?;

    // A client that keeps its deadline sees the same.
    let rpc = unary().behaving("keep-open").within(LIMIT / 2);
    let tally = map.mesh.caller().send_at_once(&[rpc], RPCS, RPCS).await;
    tally.share(Method::UnaryCall, Code::DeadlineExceeded, 1.0, TOLERANCE)?;
    map.default.wait(crate::caller::WITHIN, ended).await
}

/// Where the application allows more than the route, the route's limit holds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn test_timeout_in_route_rule_before_the_applications() -> Result<()> {
    let map = UrlMap::start(&[limited()]).await?;
    let rpc = unary().behaving("keep-open").within(Duration::from_secs(600));
    let tally = map.mesh.caller().send_at_once(&[rpc], RPCS, RPCS).await;
    tally.share(Method::UnaryCall, Code::DeadlineExceeded, 1.0, TOLERANCE)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn test_timeout_not_exceeded() -> Result<()> {
    let map = UrlMap::start(&[limited()]).await?;
    let tally = map.mesh.caller().send_at_once(&[unary()], RPCS, 2).await;
    tally.share(Method::UnaryCall, Code::Ok, 1.0, TOLERANCE)
}
