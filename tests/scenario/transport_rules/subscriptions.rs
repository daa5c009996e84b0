//! S2, S5, S7 to S11: in which order is what subscribed to, and how is a subscription changed and ended?

use std::time::Instant;

use anyhow::{Result, ensure};
use harness::bootstrap;
use harness::client::{self, PATIENCE};
use harness::control_plane::{CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET};
use harness::scripted::{Delta, Variant};
use harness::upstream::Upstream;

use serde_json::json;

use crate::scene::{
    Scene, bad_cluster, direct_listener, eds_cluster, endpoints, endpoints_of, rds_listener, resource, routes,
};
use crate::{in_both_variants, is_runnable};

in_both_variants! {
    s2_a_refusal_of_one_type_changes_no_other => types_do_not_mix;
    s5_what_is_named_is_asked_for_before_what_names_it_serves => starts_in_order;
    s7_one_request_carries_all_names => asks_in_one_request;
    s8_the_last_name_is_given_up_by_an_empty_list => gives_up_the_last_name;
    s8_nothing_is_asked_for_where_nothing_is_named => asks_for_nothing;
    s10_what_nobody_asked_for_is_acknowledged_and_has_no_effect => ignores_what_nobody_asked_for;
    s11_given_up_and_wanted_again_in_one_breath_it_serves => comes_again;
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
    let ready = client::get(scene.process.admin(), "/ready").await?;
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
    scene.process.wait_ready(PATIENCE).await?;
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

/// S8: a type that nobody names is not asked for, least of all with an empty list.
async fn asks_for_nothing<V: Variant>(mut scene: Scene<V>) -> Result<()> {
    scene.ads.expect_introduction(&V::first(CLUSTER, &[])).await?;
    scene.ads.serve(CLUSTER, "1", &[], &[]).await?;
    scene.ads.expect_exactly(&V::first(LISTENER, &[])).await?;
    let direct = direct_listener("ingress", &scene.port);
    scene.ads.serve(LISTENER, "1", &[direct], &[]).await?;
    scene.process.wait_ready(PATIENCE).await?;
    scene.answers_with(200).await?;
    for type_url in [ENDPOINT, ROUTE, SECRET] {
        let asked = scene.ads.unasked(type_url)?;
        ensure!(asked.is_empty(), "{asked:?}");
    }
    Ok(())
}

/// S7: three clusters, one EDS request; two more, one more request.
async fn asks_in_one_request<V: Variant>(mut scene: Scene<V>) -> Result<()> {
    let upstream = Upstream::start("one").await?;
    let names = ["a", "b", "c", "d", "e"];
    let clusters = names.map(eds_cluster);
    let of = |name: &&str| endpoints_of(name, &upstream);
    scene.ads.expect_introduction(&V::first(CLUSTER, &[])).await?;
    scene.ads.serve(CLUSTER, "1", &clusters[..3], &[]).await?;
    scene.ads.expect_exactly(&V::first(ENDPOINT, &names[..3])).await?;
    let first: Vec<_> = names[..3].iter().map(of).collect();
    let nonce = scene.ads.serve(ENDPOINT, "1", &first, &names[..3]).await?;
    scene.ads.expect_exactly(&V::first(LISTENER, &[])).await?;
    scene.ads.serve(CLUSTER, "2", &clusters, &[]).await?;
    let change = V::change(ENDPOINT, ("1", &nonce), &names, (&["d", "e"], &[]));
    scene.ads.expect_exactly(&change).await?;
    let all: Vec<_> = names.iter().map(of).collect();
    scene.ads.serve(ENDPOINT, "2", &all, &names).await?;
    scene.ads.serve(LISTENER, "1", &[], &[]).await?;
    let further = scene.ads.unasked(ENDPOINT)?;
    ensure!(further.is_empty(), "{further:?}");
    Ok(())
}

/// S10: a resource of a name, and a response of a type, that were not asked for.
async fn ignores_what_nobody_asked_for<V: Variant>(mut scene: Scene<V>) -> Result<()> {
    let blue = Upstream::start("blue").await?;
    scene.serve(&[&blue]).await?;
    scene.ads.send(SECRET, "1", &[])?;
    let both = [endpoints(&blue), endpoints_of("zzz", &blue)];
    scene.ads.serve(ENDPOINT, "2", &both, &["blue"]).await?;
    scene
        .ads
        .serve(ROUTE, "2", &[routes("routes", "zzz")], &["routes"])
        .await?;
    scene.answers_with(503).await?;
    ensure!(
        scene.ads.unasked(SECRET)?.is_empty(),
        "an answer to what was not asked"
    );
    let listed = scene.process.admin_text("/clusters").await?;
    ensure!(listed.contains("blue") && !listed.contains("zzz"), "{listed}");
    Ok(())
}

/// S11: a cluster vanishes and comes back before anything else happens. Whatever the client asks then, it is told; it
/// must not wait for what it did not ask for. Routes that say so show that all of it was taken in.
async fn comes_again<V: Variant>(mut scene: Scene<V>) -> Result<()> {
    let blue = Upstream::start("blue").await?;
    scene.serve(&[&blue]).await?;
    let mut marked = bootstrap::route_everything("routes", "blue");
    marked["response_headers_to_add"] = json!([{"header": {"key": "x-late", "value": "yes"}}]);
    scene.ads.send_with_removals(CLUSTER, "2", &[], &["blue"])?;
    let nonce = scene.ads.send(CLUSTER, "3", &[eds_cluster("blue")])?;
    scene.ads.send(ROUTE, "2", &[resource(ROUTE, &marked)])?;
    scene.ads.expect(CLUSTER).await?;
    scene
        .ads
        .expect_exactly(&V::ack(CLUSTER, "3", &nonce, &[]))
        .await?;
    let (mut version, deadline) = (2, Instant::now() + PATIENCE);
    loop {
        let answer = client::get(scene.port.address(), "/").await?;
        if answer.head.header("x-late").is_some() && answer.status() == 200 {
            return Ok(());
        }
        // A server answers a name that is asked for, and only that.
        for request in scene.ads.take_unasked(ENDPOINT)? {
            if V::names(&request).iter().any(|name| name == "blue") {
                scene
                    .ads
                    .send(ENDPOINT, &version.to_string(), &[endpoints(&blue)])?;
                version += 1;
            }
        }
        ensure!(Instant::now() < deadline, "never again: {:?}", answer.head);
    }
}

/// S9, delta: an answer carries no change, a change carries no nonce, and versions are told once per stream.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s9_an_answer_changes_nothing_and_a_change_answers_nothing() -> Result<()> {
    if !is_runnable("s9")? {
        return Ok(());
    }
    let mut scene = Scene::<Delta>::start().await?;
    let (blue, green) = (Upstream::start("blue").await?, Upstream::start("green").await?);
    scene.serve(&[&blue]).await?;
    let (mut added, mut removed, mut answered) = (Vec::new(), Vec::new(), Vec::new());
    let swap = scene
        .ads
        .send_with_removals(CLUSTER, "2", &[eds_cluster("green")], &["blue"])?;
    let update = scene.ads.send(ENDPOINT, "2", &[endpoints_of("blue", &green)])?;
    scene
        .ads
        .expect_exactly(&Delta::ack(CLUSTER, "2", &swap, &[]))
        .await?;
    while answered.is_empty() || added.is_empty() || removed.is_empty() {
        let request = scene.ads.expect(ENDPOINT).await?;
        let changes =
            !request.resource_names_subscribe.is_empty() || !request.resource_names_unsubscribe.is_empty();
        ensure!(changes == request.response_nonce.is_empty(), "{request:?}");
        ensure!(request.initial_resource_versions.is_empty(), "{request:?}");
        added.extend(request.resource_names_subscribe);
        removed.extend(request.resource_names_unsubscribe);
        answered.extend(Some(request.response_nonce).filter(|nonce| !nonce.is_empty()));
    }
    ensure!(added == ["green"] && removed == ["blue"] && answered == [update]);
    scene.ads.serve(ENDPOINT, "3", &[endpoints(&green)], &[]).await?;
    let further = scene.ads.unasked(ENDPOINT)?;
    ensure!(further.is_empty(), "{further:?}");
    Ok(())
}
