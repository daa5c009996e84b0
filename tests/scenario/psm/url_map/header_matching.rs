//! `url_map/header_matching_test`: `EmptyCall` and `UnaryCall` carry different metadata; a rule sees one of them.

use anyhow::Result;
use serde_json::{Value, json};

use super::{ALTERNATIVE, DEFAULT, UrlMap, alternative};
use crate::caller::Rpc;

const KEY: &str = "xds_md";
const NUMERIC: &str = "xds_md_numeric";
const OF_EMPTY: &str = "empty_ytpme";
const OF_UNARY: &str = "unary_yranu";

fn empty() -> Rpc {
    super::empty().with(KEY, OF_EMPTY)
}

fn unary() -> Rpc {
    super::unary().with(KEY, OF_UNARY).with(NUMERIC, "159")
}

/// With a rule for this header: `EmptyCall` lands here, `UnaryCall` there.
async fn lands(header: &Value, of_empty: &str, of_unary: &str) -> Result<()> {
    let map = UrlMap::start(&[alternative(&json!({"prefix": "/", "headers": [header]}))]).await?;
    map.lands(&[(empty(), of_empty), (unary(), of_unary)]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn test_exact_match() -> Result<()> {
    lands(
        &json!({"name": KEY, "exact_match": OF_EMPTY}),
        ALTERNATIVE,
        DEFAULT,
    )
    .await?;
    let typed = json!({"name": KEY, "string_match": {"exact": OF_EMPTY}});
    lands(&typed, ALTERNATIVE, DEFAULT).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn test_prefix_match() -> Result<()> {
    lands(
        &json!({"name": KEY, "prefix_match": &OF_UNARY[..2]}),
        DEFAULT,
        ALTERNATIVE,
    )
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn test_suffix_match() -> Result<()> {
    let end = &OF_EMPTY[OF_EMPTY.len() - 2..];
    lands(&json!({"name": KEY, "suffix_match": end}), ALTERNATIVE, DEFAULT).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn test_present_match() -> Result<()> {
    lands(
        &json!({"name": NUMERIC, "present_match": true}),
        DEFAULT,
        ALTERNATIVE,
    )
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn test_invert_match() -> Result<()> {
    let header = json!({"name": KEY, "exact_match": OF_UNARY, "invert_match": true});
    lands(&header, ALTERNATIVE, DEFAULT).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn test_range_match() -> Result<()> {
    let range = |start, end| json!({"name": NUMERIC, "range_match": {"start": start, "end": end}});
    lands(&range(100, 200), DEFAULT, ALTERNATIVE).await?;
    // The end is not part of a range.
    lands(&range(100, 159), DEFAULT, DEFAULT).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn test_regex_match() -> Result<()> {
    let regex = json!({"google_re2": {}, "regex": "^em.*me$"});
    lands(
        &json!({"name": KEY, "safe_regex_match": regex}),
        ALTERNATIVE,
        DEFAULT,
    )
    .await
}
