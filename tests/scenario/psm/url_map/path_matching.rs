//! `url_map/path_matching_test`.

use anyhow::Result;
use serde_json::json;

use super::{ALTERNATIVE, DEFAULT, UrlMap, alternative, empty, unary};
use crate::mesh::{on, rule};
use crate::service::Method;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn test_full_path_match_empty_call() -> Result<()> {
    let map = UrlMap::start(&[alternative(&on(Method::EmptyCall))]).await?;
    map.lands(&[(empty(), ALTERNATIVE), (unary(), DEFAULT)]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn test_full_path_match_unary_call() -> Result<()> {
    let map = UrlMap::start(&[alternative(&on(Method::UnaryCall))]).await?;
    map.lands(&[(unary(), ALTERNATIVE), (empty(), DEFAULT)]).await
}

/// The first match wins, also where a later route would take the call elsewhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn test_two_routes_and_prefix_match() -> Result<()> {
    let map = UrlMap::start(&[
        rule(
            &json!({"prefix": "/grpc.testing.TestService/Unary"}),
            DEFAULT,
            &json!({}),
        ),
        alternative(&on(Method::EmptyCall)),
        alternative(&on(Method::UnaryCall)),
    ])
    .await?;
    map.lands(&[(unary(), DEFAULT), (empty(), ALTERNATIVE)]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn test_regex_match() -> Result<()> {
    let regex = json!({"safe_regex": {"google_re2": {}, "regex": r"^\/.*\/UnaryCall$"}});
    let map = UrlMap::start(&[alternative(&regex)]).await?;
    map.lands(&[(unary(), ALTERNATIVE), (empty(), DEFAULT)]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn test_case_insensitive_match() -> Result<()> {
    let path = "/gRpC.tEsTinG.tEstseRvice/empTycaLl";
    let map = UrlMap::start(&[alternative(&json!({"path": path, "case_sensitive": false}))]).await?;
    map.lands(&[(empty(), ALTERNATIVE), (unary(), DEFAULT)]).await?;
    let map = UrlMap::start(&[alternative(&json!({"path": path}))]).await?;
    map.lands(&[(empty(), DEFAULT)]).await
}
