//! `url_map/metadata_filter_test`: rules are meant for clients with some labels, and the control plane leaves out those
//! that are not meant for the node that asks. What it decides by is what the proxy says of itself: its node's metadata.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use harness::process::Port;
use serde_json::{Value, json};

use super::{ALTERNATIVE, DEFAULT, empty, lands, unary};
use crate::caller::{Rpc, WITHIN};
use crate::mesh::{self, Mesh, rule};
use crate::service::TestServer;

const KEY: &str = "xds_md";
const OF_EMPTY: &str = "empty_ytpme";

/// Which labels a client must have for a rule.
enum Filter {
    All(Vec<(&'static str, &'static str)>),
    Any(Vec<(&'static str, &'static str)>),
}

const MATCHING: (&str, &str) = ("TRAFFICDIRECTOR_NETWORK_NAME", "default-vpc");
const OTHER: (&str, &str) = ("fake", "fail");

impl Filter {
    fn takes(&self, labels: &BTreeMap<String, String>) -> bool {
        let has = |(name, value): &(&str, &str)| labels.get(*name).is_some_and(|is| is == value);
        match self {
            Self::All(wanted) => wanted.iter().all(has),
            Self::Any(wanted) => wanted.iter().any(has),
        }
    }
}

/// Serves the rules that are meant for the proxy; so many of them must be.
async fn filtered(rules: Vec<(Filter, Value)>, kept: usize, expected: &[(Rpc, &str)]) -> Result<()> {
    let (default, alternative) = (
        TestServer::start(DEFAULT).await?,
        TestServer::start(ALTERNATIVE).await?,
    );
    let port = Port::reserve()?;
    let mut resources = super::services(&default, &alternative);
    resources.push(mesh::ingress(&port, &json!({}), &json!({})));
    let node = json!({"node": {"id": "test", "cluster": "test", "metadata": {MATCHING.0: MATCHING.1}}});
    let mut mesh = Mesh::spawn(port, resources, &node).await?;
    let first = mesh
        .plane
        .wait_for(WITHIN, |request| request.node.is_some())
        .await?;
    let meant = rules.iter().filter(|(filter, _)| filter.takes(&first.labels));
    let meant: Vec<Value> = meant.map(|(_, rule)| rule.clone()).collect();
    ensure!(
        meant.len() == kept,
        "{} rules are meant for {:?}",
        meant.len(),
        first.labels
    );
    mesh.plane.put([mesh::routes(&meant)]);
    mesh.process.wait_ready(WITHIN).await?;
    lands(&mesh, expected).await
}

fn everything(to: &str) -> Value {
    rule(&json!({"prefix": "/"}), to, &json!({}))
}

fn unary_calls(to: &str) -> Value {
    rule(
        &json!({"prefix": "/grpc.testing.TestService/Unary"}),
        to,
        &json!({}),
    )
}

fn with_header(prefix: &str, to: &str) -> Value {
    let header = json!({"name": KEY, "exact_match": OF_EMPTY});
    rule(&json!({"prefix": prefix, "headers": [header]}), to, &json!({}))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn test_metadata_filter_match_all() -> Result<()> {
    let rules = vec![
        (Filter::All(vec![OTHER]), everything(DEFAULT)),
        (
            Filter::All(vec![MATCHING]),
            with_header("/grpc.testing.TestService/Empty", ALTERNATIVE),
        ),
    ];
    filtered(
        rules,
        1,
        &[(empty().with(KEY, OF_EMPTY), ALTERNATIVE), (empty(), DEFAULT)],
    )
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn test_metadata_filter_match_any() -> Result<()> {
    let rules = vec![
        (Filter::Any(vec![OTHER]), everything(DEFAULT)),
        (Filter::Any(vec![OTHER, MATCHING]), unary_calls(ALTERNATIVE)),
    ];
    filtered(rules, 1, &[(unary(), ALTERNATIVE), (empty(), DEFAULT)]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn test_metadata_filter_match_any_and_all() -> Result<()> {
    let rules = vec![
        (Filter::All(vec![OTHER, MATCHING]), everything(DEFAULT)),
        (Filter::Any(vec![OTHER, MATCHING]), unary_calls(ALTERNATIVE)),
    ];
    filtered(rules, 1, &[(unary(), ALTERNATIVE), (empty(), DEFAULT)]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn test_metadata_filter_match_multiple_rules() -> Result<()> {
    let rules = vec![
        (Filter::Any(vec![MATCHING]), with_header("/", ALTERNATIVE)),
        (Filter::All(vec![MATCHING]), unary_calls(DEFAULT)),
    ];
    filtered(
        rules,
        2,
        &[(empty().with(KEY, OF_EMPTY), ALTERNATIVE), (unary(), DEFAULT)],
    )
    .await
}
