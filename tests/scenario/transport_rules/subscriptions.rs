//! S1 to S11: which streams are opened, what is said first, and what is subscribed to?

use anyhow::{Result, ensure};
use harness::control_plane::{CLUSTER, ENDPOINT, LISTENER, ROUTE};
use harness::scripted::Variant;
use harness::upstream::Upstream;

use crate::in_both_variants;
use crate::scene::{Scene, bad_cluster, eds_cluster, endpoints, rds_listener, routes};

in_both_variants! {
    s2_a_refusal_of_one_type_changes_no_other => types_do_not_mix;
    s8_the_last_name_is_given_up_by_an_empty_list => gives_up_the_last_name;
    s5_what_is_named_is_asked_for_before_what_names_it_serves => starts_in_order;
}

/// S2: versions and nonces belong to one type each.
async fn types_do_not_mix<V: Variant>(mut scene: Scene<V>) -> Result<()> {
    let blue = Upstream::start("blue").await?;
    scene.serve(&[&blue]).await?;
    ensure!(
        scene.plane.dialled().len() == 1,
        "more than one stream: {:?}",
        scene.plane.dialled()
    );
    let refused = scene
        .ads
        .send(CLUSTER, "2", &[eds_cluster("blue"), bad_cluster("bad")])?;
    let nack = scene.ads.expect(CLUSTER).await?;
    ensure!(
        V::nonce(&nack) == refused && V::error(&nack).is_some(),
        "{nack:?}"
    );
    let ingress = rds_listener("ingress", &scene.port);
    let listener = scene.ads.serve(LISTENER, "7", &[ingress], &[]).await?;
    ensure!(listener != refused);
    scene
        .ads
        .serve(ROUTE, "8", &[routes("routes", "blue")], &["routes"])
        .await?;
    scene
        .ads
        .serve(ENDPOINT, "9", &[endpoints(&blue)], &["blue"])
        .await?;
    Ok(())
}

/// S5: CDS, EDS, LDS, RDS; ready at last.
async fn starts_in_order<V: Variant>(mut scene: Scene<V>) -> Result<()> {
    let blue = Upstream::start("blue").await?;
    let mut first = scene.ads.next().await?;
    ensure!(
        V::take_node(&mut first).is_some() && first == V::first(CLUSTER, &[]),
        "{first:?}"
    );
    let nonce = scene.ads.send(CLUSTER, "1", &[eds_cluster("blue")])?;
    let mut then = [scene.ads.next().await?, scene.ads.next().await?];
    then.sort_by_key(|request| V::type_url(request) != CLUSTER);
    ensure!(
        then == [V::ack(CLUSTER, "1", &nonce, &[]), V::first(ENDPOINT, &["blue"])],
        "{then:?}"
    );
    ensure!(
        scene.ads.unasked(LISTENER)?.is_empty(),
        "listeners before their clusters"
    );
    scene
        .ads
        .serve(ENDPOINT, "1", &[endpoints(&blue)], &["blue"])
        .await?;
    scene.ads.expect_exactly(&V::first(LISTENER, &[])).await?;
    let ingress = rds_listener("ingress", &scene.port);
    scene.ads.serve(LISTENER, "1", &[ingress], &[]).await?;
    scene.ads.expect_exactly(&V::first(ROUTE, &["routes"])).await?;
    let ready = harness::client::get(scene.process.admin(), "/ready").await?;
    ensure!(ready.status() == 503, "ready before its routes");
    let early = tokio::net::TcpStream::connect(scene.port.address()).await;
    ensure!(
        early.is_err(),
        "a connection was taken before the routes were there"
    );
    scene
        .ads
        .serve(ROUTE, "1", &[routes("routes", "blue")], &["routes"])
        .await?;
    scene.process.wait_ready(harness::client::PATIENCE).await?;
    scene.answers_from("blue").await
}

/// S8: the list that becomes empty is said; before there was a name, nothing was.
async fn gives_up_the_last_name<V: Variant>(mut scene: Scene<V>) -> Result<()> {
    let blue = Upstream::start("blue").await?;
    let nonces = scene.serve(&[&blue]).await?;
    let nonce = scene.ads.send_with_removals(CLUSTER, "2", &[], &["blue"])?;
    scene
        .ads
        .expect_exactly(&V::ack(CLUSTER, "2", &nonce, &[]))
        .await?;
    let nothing = V::change(ENDPOINT, ("1", &nonces[ENDPOINT]), &[], (&[], &["blue"]));
    scene.ads.expect_exactly(&nothing).await?;
    scene.answers_with(503).await
}
