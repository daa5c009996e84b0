//! `url_map/affinity_test` and `affinity_test`: a ring by a header over three servers.
//!
//! Where gRPC's tests ask its channels which of them are connected, the servers are asked here.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{RPCS, empty, unary};
use crate::caller::Rpc;
use crate::mesh::{self, Mesh};
use crate::service::TestServer;

const KEY: &str = "xds_md";
const OF_EMPTY: &str = "empty_ytpme";

struct Affinity {
    mesh: Mesh,
    servers: Vec<TestServer>,
}

impl Affinity {
    async fn start() -> Result<Self> {
        let servers = TestServer::several("affinity", 3).await?;
        let by_header = json!({"hash_policy": [{"header": {"header_name": KEY}}]});
        let mesh = Mesh::start(vec![
            mesh::service("affinity", &json!({"lb_policy": "RING_HASH"})),
            mesh::servers("affinity", &servers),
            mesh::routes(&[mesh::rule(&json!({"prefix": ""}), "affinity", &by_header)]),
        ])
        .await?;
        Ok(Self { mesh, servers })
    }

    /// The servers that these calls reach.
    async fn peers(&self, rpcs: &[Rpc], count: usize) -> Result<BTreeSet<String>> {
        let tally = self.mesh.caller().send(rpcs, count).await;
        tally.all_ok()?;
        Ok(tally.by_host(None).into_keys().collect())
    }

    /// The one server that calls with this key reach.
    async fn peer(&self, key: &str, count: usize) -> Result<String> {
        let peers = self.peers(&[empty().with(KEY, key)], count).await?;
        ensure!(peers.len() == 1, "{key} goes to {peers:?}");
        peers.into_iter().next().context("nobody answered")
    }

    /// How many servers anybody connected to.
    fn connected(&self) -> usize {
        let connected = self.servers.iter().filter(|server| server.seen().connections > 0);
        connected.count()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn test_header_based_affinity() -> Result<()> {
    let affinity = Affinity::start().await?;
    affinity.peer(OF_EMPTY, RPCS).await?;
    ensure!(
        affinity.connected() == 1,
        "{} are connected",
        affinity.connected()
    );
    // Without the header it is left to chance.
    let peers = affinity.peers(&[empty(), unary()], RPCS).await?;
    ensure!(peers.len() == 3, "only {peers:?}");
    ensure!(
        affinity.connected() == 3,
        "{} are connected",
        affinity.connected()
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn test_header_based_affinity_multiple_headers() -> Result<()> {
    let affinity = Affinity::start().await?;
    let first = affinity.peer(OF_EMPTY, RPCS).await?;
    for key in 0..30 {
        if affinity.peer(&key.to_string(), RPCS).await? != first {
            ensure!(
                affinity.connected() == 2,
                "{} are connected",
                affinity.connected()
            );
            ensure!(
                affinity.peer(OF_EMPTY, RPCS).await? == first,
                "the first key moved"
            );
            return Ok(());
        }
    }
    anyhow::bail!("thirty keys all go to {first}")
}

/// The server in use is turned off: its keys move, each to one other server, and most of the others' stay. Not all: a
/// ring of two has more entries of each than a ring of three, in Envoy too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn test_affinity() -> Result<()> {
    let affinity = Affinity::start().await?;
    let first = affinity.peer("123", 100).await?;
    let mut before = BTreeMap::new();
    for key in (0..60).map(|key| format!("k{key}")) {
        before.insert(key.clone(), affinity.peer(&key, 1).await?);
    }
    let endpoints: Vec<Value> = affinity
        .servers
        .iter()
        .map(|server| {
            let health = if server.hostname() == first {
                "UNHEALTHY"
            } else {
                "HEALTHY"
            };
            mesh::endpoint(server.address(), &json!({"health_status": health}))
        })
        .collect();
    affinity
        .mesh
        .plane
        .put([mesh::groups("affinity", &[mesh::group("a", 0, &endpoints)])]);
    let others: Vec<&TestServer> = affinity
        .servers
        .iter()
        .filter(|it| it.hostname() != first)
        .collect();
    affinity.mesh.caller().eventually_go_to(&empty(), others).await?;

    let second = affinity.peer("123", 100).await?;
    ensure!(second != first, "calls still go to {first}");
    let (mut stayed, mut moved) = (0, 0);
    for (key, was) in before {
        let is = affinity.peer(&key, 1).await?;
        ensure!(is != first, "{key} still goes to {first}");
        if was != first {
            *if is == was { &mut stayed } else { &mut moved } += 1;
        }
    }
    ensure!(
        moved * 4 <= stayed,
        "{moved} keys of servers that stay moved, {stayed} did not"
    );
    Ok(())
}
