//! A1 to A11: how is every response answered, and what becomes of what was wrong in it?

use anyhow::{Context, Result, ensure};
use harness::control_plane::{CLUSTER, ENDPOINT};
use harness::scripted::Variant;
use harness::upstream::Upstream;

use crate::in_both_variants;
use crate::scene::{Scene, bad_cluster, eds_cluster, endpoints};

in_both_variants! {
    a3_the_good_resources_of_a_refused_response_apply => the_good_apply;
}

/// A3: {good, bad}: the good one is asked for on; the NACK names the bad one only.
async fn the_good_apply<V: Variant>(mut scene: Scene<V>) -> Result<()> {
    let good = Upstream::start("good").await?;
    scene.ads.expect_introduction(&V::first(CLUSTER, &[])).await?;
    let nonce = scene
        .ads
        .send(CLUSTER, "1", &[eds_cluster("good"), bad_cluster("bad")])?;
    let nack = scene.ads.expect(CLUSTER).await?;
    let error = V::error(&nack)
        .context("a refusal has error_detail")?
        .message
        .clone();
    ensure!(nack == V::nack(CLUSTER, "", &nonce, &[], &error), "{nack:?}");
    ensure!(error.contains("bad: ") && !error.contains("good"), "{error}");
    scene.ads.expect_exactly(&V::first(ENDPOINT, &["good"])).await?;
    scene
        .ads
        .serve(ENDPOINT, "1", &[endpoints(&good)], &["good"])
        .await?;
    Ok(())
}
