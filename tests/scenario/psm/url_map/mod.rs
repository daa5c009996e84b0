//! `url_map/*`: two services with a server each, `default` and `alternative`, and what routes say.

mod affinity;
mod fault_injection;
mod header_matching;
mod metadata_filter;
mod path_matching;
mod retry;
mod timeout;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::caller::Rpc;
use super::mesh::{self, Mesh};
use super::service::{Method, TestServer};

/// Calls of each method that a test makes.
pub const RPCS: usize = 150;

/// The service that takes what no rule takes.
pub const DEFAULT: &str = "default";
/// The service that rules name.
pub const ALTERNATIVE: &str = "alternative";

/// The two services behind a Remora.
#[derive(Debug)]
pub struct UrlMap {
    /// Who follows whom.
    pub mesh: Mesh,
    /// The server of `default`.
    pub default: TestServer,
    /// The server of `alternative`.
    pub alternative: TestServer,
}

impl UrlMap {
    /// Starts with these rules before the route to `default`.
    pub async fn start(rules: &[Value]) -> Result<Self> {
        let default = TestServer::start(DEFAULT).await?;
        let alternative = TestServer::start(ALTERNATIVE).await?;
        let mut resources = services(&default, &alternative);
        resources.push(mesh::routes(rules));
        Ok(Self {
            mesh: Mesh::start(resources).await?,
            default,
            alternative,
        })
    }

    /// Makes these calls and fails unless all of each land where it says.
    pub async fn lands(&self, expected: &[(Rpc, &str)]) -> Result<()> {
        lands(&self.mesh, expected).await
    }
}

/// The clusters and endpoints of the two.
pub fn services(default: &TestServer, alternative: &TestServer) -> Vec<harness::control_plane::Resource> {
    vec![
        // Nobody bounds retries in gRPC.
        mesh::service(
            DEFAULT,
            &json!({"circuit_breakers": {"thresholds": [{"max_retries": 1000}]}}),
        ),
        mesh::service(ALTERNATIVE, &json!({})),
        mesh::servers(DEFAULT, [default]),
        mesh::servers(ALTERNATIVE, [alternative]),
    ]
}

/// Makes these calls and fails unless all of each land where it says.
pub async fn lands(mesh: &Mesh, expected: &[(Rpc, &str)]) -> Result<()> {
    let caller = mesh.caller();
    for (rpc, host) in expected {
        let tally = caller.send(std::slice::from_ref(rpc), RPCS).await;
        tally.all_ok().with_context(|| format!("{rpc:?}"))?;
        let hosts = tally.by_host(None);
        ensure!(
            hosts.len() == 1 && hosts.get(*host) == Some(&RPCS),
            "{rpc:?} landed at {hosts:?}, not at {host}"
        );
    }
    Ok(())
}

/// A rule that sends what matches to `alternative`.
pub fn alternative(matching: &Value) -> Value {
    mesh::rule(matching, ALTERNATIVE, &json!({}))
}

/// `EmptyCall`.
pub fn empty() -> Rpc {
    Rpc::new(Method::EmptyCall)
}

/// `UnaryCall`.
pub fn unary() -> Rpc {
    Rpc::new(Method::UnaryCall)
}
