//! `circuit_breaking_test`: calls that stay open pile up to `max_requests` and not beyond it; the rest fails at once.
//! The limit is raised by CDS and so is the plateau. There a hundred calls begin each second, here as many as can.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tonic::Code;

use crate::caller::{Caller, Rpc, WITHIN};
use crate::mesh::{self, Mesh, on, rule};
use crate::service::{Method, Seen, TestServer};

const OF_UNARY: usize = 500;
const OF_EMPTY: usize = 1000;
const OF_UNARY_RAISED: usize = 800;
/// Calls beyond the plateau that are seen to fail.
const EXCESS: usize = 100;

fn limit(requests: usize) -> Value {
    json!({"circuit_breakers": {"thresholds": [{"max_requests": requests, "max_connections": 10_000,
        "max_pending_requests": 10_000}]}})
}

/// Calls that stay open, of one method.
struct Pile {
    caller: Arc<Caller>,
    rpc: Rpc,
    open: JoinSet<Code>,
}

impl Pile {
    fn new(mesh: &Mesh, method: Method) -> Self {
        Self {
            caller: Arc::new(Caller::with_connections(mesh.port.address(), 8)),
            rpc: Rpc::new(method).behaving("keep-open"),
            open: JoinSet::new(),
        }
    }

    /// Begins calls until `most` are under way at the server, and sees that all that come then fail at once.
    async fn reaches(&mut self, server: &TestServer, most: usize) -> Result<()> {
        let method = self.rpc.method;
        let is_there = |seen: &Seen| seen.active.get(&method) == Some(&most);
        let deadline = Instant::now() + WITHIN;
        loop {
            for _ in server.active(method)..most {
                let (caller, rpc) = (Arc::clone(&self.caller), self.rpc.clone());
                self.open.spawn(async move { caller.call(&rpc).await.code });
            }
            // A new limit holds a moment after it is pushed; until then the calls beyond the old one fail.
            if server.wait(Duration::from_millis(500), is_there).await.is_ok() {
                break;
            }
            let active = server.active(method);
            ensure!(Instant::now() < deadline, "{method:?}: {active}, not {most}");
        }
        while self.open.try_join_next().is_some() {}
        let excess = self.caller.send(std::slice::from_ref(&self.rpc), EXCESS);
        let tally = tokio::time::timeout(WITHIN, excess)
            .await
            .context("excess calls wait")?;
        tally.share(method, Code::Unavailable, 1.0, 0.0)?;
        let peak = server.seen().peak.get(&method).copied();
        ensure!(peak == Some(most), "{peak:?} calls were under way, not {most}");
        ensure!(self.open.try_join_next().is_none(), "an open call ended");
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn test_circuit_breaking() -> Result<()> {
    let (default, alternative) = (
        TestServer::start("default").await?,
        TestServer::start("alternative").await?,
    );
    let mesh = Mesh::start(vec![
        mesh::service("default", &limit(OF_UNARY)),
        mesh::service("alternative", &limit(OF_EMPTY)),
        mesh::servers("default", [&default]),
        mesh::servers("alternative", [&alternative]),
        mesh::routes(&[rule(&on(Method::EmptyCall), "alternative", &json!({}))]),
    ])
    .await?;
    let mut unary = Pile::new(&mesh, Method::UnaryCall);
    let mut empty = Pile::new(&mesh, Method::EmptyCall);
    unary.reaches(&default, OF_UNARY).await?;
    empty.reaches(&alternative, OF_EMPTY).await?;

    mesh.plane
        .put([mesh::service("default", &limit(OF_UNARY_RAISED))]);
    unary.reaches(&default, OF_UNARY_RAISED).await?;
    ensure!(
        alternative.active(Method::EmptyCall) == OF_EMPTY,
        "the other plateau moved"
    );
    Ok(())
}
