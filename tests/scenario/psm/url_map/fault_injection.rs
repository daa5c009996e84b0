//! `url_map/fault_injection_test`: a delay of 20 seconds under an application's deadline, an abort with 401, by chance.

use std::time::Duration;

use anyhow::Result;
use harness::bootstrap::type_url;
use serde_json::{Value, json};
use tonic::Code;

use super::{RPCS, UrlMap, unary};
use crate::caller::Rpc;
use crate::mesh::{on, rule};
use crate::service::Method;

/// For what does not depend on chance.
const EXACT: f64 = 0.01;
const BY_CHANCE: f64 = 0.2;
const DEADLINE: Duration = Duration::from_secs(1);

/// A rule for `UnaryCall` with these faults, in per cent.
fn faults(matching: &Value, abort: u32, delay: u32) -> Value {
    let share = |percent: u32| json!({"numerator": percent * 10_000, "denominator": "MILLION"});
    let mut rule = rule(matching, super::DEFAULT, &json!({}));
    rule["typed_per_filter_config"] = json!({"envoy.filters.http.fault": {
        "@type": type_url("extensions.filters.http.fault.v3.HTTPFault"),
        "abort": {"http_status": 401, "percentage": share(abort)},
        "delay": {"fixed_delay": "20s", "percentage": share(delay)},
    }});
    rule
}

async fn seen(rule: Value, rpc: Rpc, code: Code, ratio: f64, tolerance: f64) -> Result<()> {
    let map = UrlMap::start(&[rule]).await?;
    let tally = map.mesh.caller().send_at_once(&[rpc], RPCS, RPCS / 2).await;
    tally.share(Method::UnaryCall, code, ratio, tolerance)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn test_zero_percent_fault_injection() -> Result<()> {
    seen(
        faults(&on(Method::UnaryCall), 0, 0),
        unary(),
        Code::Ok,
        1.0,
        EXACT,
    )
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn test_non_matching_fault_injection() -> Result<()> {
    seen(
        faults(&on(Method::EmptyCall), 100, 100),
        unary(),
        Code::Ok,
        1.0,
        EXACT,
    )
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn test_always_delay() -> Result<()> {
    let (rule, rpc) = (faults(&on(Method::UnaryCall), 0, 100), unary().within(DEADLINE));
    seen(rule, rpc, Code::DeadlineExceeded, 1.0, EXACT).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn test_always_abort() -> Result<()> {
    let rule = faults(&on(Method::UnaryCall), 100, 0);
    seen(rule, unary(), Code::Unauthenticated, 1.0, EXACT).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn test_delay_half() -> Result<()> {
    let (rule, rpc) = (faults(&on(Method::UnaryCall), 0, 50), unary().within(DEADLINE));
    seen(rule, rpc, Code::DeadlineExceeded, 0.5, BY_CHANCE).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn test_abort_half() -> Result<()> {
    let rule = faults(&on(Method::UnaryCall), 50, 0);
    seen(rule, unary(), Code::Unauthenticated, 0.5, BY_CHANCE).await
}
