//! `url_map/retry_test`: the server fails until the fourth retry, and the route allows three or four.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tonic::Code;

use super::{UrlMap, unary};
use crate::caller::Tally;
use crate::mesh::{on, rule};
use crate::service::{Heard, Method};

const RPCS: usize = 60;
const TOLERANCE: f64 = 0.01;
const AT_ONCE: usize = 3;

async fn retried(map: &UrlMap) -> Tally {
    let rpc = unary().behaving("succeed-on-retry-attempt-4,error-code-14");
    map.mesh.caller().send_at_once(&[rpc], RPCS, AT_ONCE).await
}

fn retries(number: u32, fields: Value) -> Value {
    let mut policy = json!({"retry_on": "unavailable", "num_retries": number});
    harness::bootstrap::merge(&mut policy, &fields);
    rule(
        &on(Method::UnaryCall),
        super::DEFAULT,
        &json!({"retry_policy": policy}),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn test_retry_up_to3_attempts_and_fail() -> Result<()> {
    let map = UrlMap::start(&[retries(3, json!({}))]).await?;
    let tally = retried(&map).await;
    tally.share(Method::UnaryCall, Code::Unavailable, 1.0, TOLERANCE)?;
    let calls = map.default.seen().calls.len();
    ensure!(calls == 4 * RPCS, "{calls} attempts for {RPCS} calls");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn test_retry_up_to4_attempts_and_succeed() -> Result<()> {
    let map = UrlMap::start(&[retries(4, json!({}))]).await?;
    let tally = retried(&map).await;
    tally.share(Method::UnaryCall, Code::Ok, 1.0, TOLERANCE)?;
    let calls = map.default.seen().calls.len();
    ensure!(calls == 5 * RPCS, "{calls} attempts for {RPCS} calls");
    Ok(())
}

/// Retry `n` waits for up to `base * 2^(n - 1)`, by chance: on average half of that, and longer on a busy machine.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn test_retry_waits_longer_each_time() -> Result<()> {
    let back_off = json!({"retry_back_off": {"base_interval": "0.04s", "max_interval": "10s"}});
    let map = UrlMap::start(&[retries(3, back_off)]).await?;
    let rpc = unary().behaving("error-code-14");
    // One at a time, so that each call's attempts stand together.
    let caller = map.mesh.caller();
    let mut waited = [Duration::ZERO; 3];
    const CALLS: u32 = 30;
    for _ in 0..CALLS {
        let before = map.default.seen().calls.len();
        ensure!(caller.call(&rpc).await.code == Code::Unavailable);
        let calls = map.default.seen().calls;
        let attempts: &[Heard] = &calls[before..];
        ensure!(attempts.len() == 4, "{} attempts", attempts.len());
        for (sum, pair) in waited.iter_mut().zip(attempts.windows(2)) {
            *sum += pair[1].at.duration_since(pair[0].at);
        }
    }
    for (sum, most) in waited.iter().zip([40, 80, 160]) {
        let average = *sum / CALLS;
        ensure!(
            average >= Duration::from_millis(most) / 4,
            "waited for {waited:?} in sum over {CALLS} calls"
        );
    }
    Ok(())
}
