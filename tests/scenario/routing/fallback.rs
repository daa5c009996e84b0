//! What does a client get whose cluster cannot serve it, where the route says what?

use anyhow::{Result, ensure};
use harness::client::RawResponse;
use harness::process::{Port, Proxy};
use harness::upstream::Upstream;
use serde_json::{Value, json};

use crate::scene::{Plan, Scene, to};

/// A route with a fallback.
fn falling(cluster: &str, prefix: &str, fallback: Value, more: Value) -> Value {
    let mut route = to(cluster, prefix, more);
    route["metadata"] = json!({"filter_metadata": {"remora.fallback": fallback}});
    route
}

fn remora(name: &str) -> Result<Option<Proxy>> {
    Ok(Proxy::under_test(name)?
        .into_iter()
        .find(|proxy| *proxy != Proxy::Envoy))
}

fn degraded(answer: &RawResponse) -> &str {
    answer.head.header("x-remora-degraded").unwrap_or("no")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unreachable_cluster_is_stood_in_for() -> Result<()> {
    let Some(proxy) = remora("routing: fallbacks")? else {
        return Ok(());
    };
    let (upstream, spare) = (Upstream::start("a").await?, Upstream::start("spare").await?);
    let nobody = Port::reserve()?;
    let reply = json!({"response": {"status": 203, "headers": {"x-from": "route"}, "body": "later"}});
    let plan = Plan::new(
        vec![
            falling(
                "gone",
                "/spare",
                json!({"cluster": "spare"}),
                json!({"prefix_rewrite": "/x"}),
            ),
            falling("gone", "/reply", reply, json!({})),
            falling(
                "gone",
                "/both",
                json!({"cluster": "gone", "response": {"body": "both"}}),
                json!({}),
            ),
            to("gone", "/none", json!({})),
        ],
        &[
            ("a", upstream.address()),
            ("spare", spare.address()),
            ("gone", nobody.address()),
        ],
    );
    let scene = Scene::start(proxy, &plan).await?;

    let answer = scene.get("/spare", "").await?;
    ensure!(
        answer.status() == 200 && degraded(&answer) == "cluster",
        "{answer:?}"
    );
    let got = spare.received();
    ensure!(got[0].target == "/x", "changed once: {}", got[0].target);
    let logged = scene.logged("/x").await?;
    ensure!(logged == "200 UF via_upstream", "{logged}");

    let answer = scene.get("/reply", "").await?;
    ensure!(
        answer.status() == 203 && degraded(&answer) == "response",
        "{answer:?}"
    );
    ensure!(answer.text() == "later" && answer.head.header("x-from") == Some("route"));
    let logged = scene.logged("/reply").await?;
    ensure!(logged.starts_with("203 UF degraded_response{"), "{logged}");

    let answer = scene.get("/both", "").await?;
    ensure!(
        answer.text() == "both" && degraded(&answer) == "response",
        "{answer:?}"
    );
    let answer = scene.get("/none", "").await?;
    ensure!(answer.status() == 503 && degraded(&answer) == "no", "{answer:?}");

    scene
        .counted("envoy_cluster_upstream_rq_degraded_response", "", 1.0)
        .await?;
    scene
        .counted("envoy_cluster_upstream_rq_degraded_cluster", "", 1.0)
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_may_have_been_carried_out_is_not_answered_otherwise() -> Result<()> {
    let Some(proxy) = remora("routing: fallbacks after sending")? else {
        return Ok(());
    };
    let upstream = Upstream::start("a").await?;
    let reply = json!({"response": {"status": 203}});
    let routes = vec![falling("a", "/slow", reply, json!({"timeout": "0.3s"}))];
    let scene = Scene::start(proxy, &Plan::new(routes, &[("a", upstream.address())])).await?;
    let slow = "x-behave: delay=20000\r\n";
    let answer = scene.get("/slow", slow).await?;
    ensure!(answer.status() == 203, "{answer:?}");
    let mut client = harness::client::RawClient::connect(scene.port.address()).await?;
    let post = format!("POST /slow HTTP/1.1\r\nhost: test\r\n{slow}content-length: 1\r\n\r\na");
    let answer = client.exchange(post.as_bytes()).await?;
    ensure!(answer.status() == 504 && degraded(&answer) == "no", "{answer:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_good_answer_is_given_again() -> Result<()> {
    let Some(proxy) = remora("routing: last good answers")? else {
        return Ok(());
    };
    let upstream = Upstream::start("a").await?;
    let stale = json!({"stale": {"max_age": "600s", "max_bytes": 5000}});
    let plan = Plan::new(
        vec![falling("a", "/", stale, json!({"timeout": "0.3s"}))],
        &[("a", upstream.address())],
    );
    let scene = Scene::start(proxy, &plan).await?;
    let slow = "x-behave: delay=20000\r\n";
    let (good, long) = ("x-behave: body=4000\r\n", "x-behave: body=9000\r\n");

    ensure!(scene.get("/a", slow).await?.status() == 504, "there is none yet");
    let first = scene.get("/a", good).await?;
    ensure!(first.status() == 200 && degraded(&first) == "no");
    let again = scene.get("/a", slow).await?;
    ensure!(again.status() == 200 && degraded(&again) == "stale", "{again:?}");
    ensure!(again.text() == first.text() && again.head.header("age").is_some());

    // Not one of another address, of a client who says who it is, or a long one.
    ensure!(scene.get("/b", slow).await?.status() == 504);
    let who = "authorization: x\r\n";
    ensure!(scene.get("/c", &format!("{who}{good}")).await?.status() == 200);
    ensure!(scene.get("/c", slow).await?.status() == 504);
    ensure!(scene.get("/a", &format!("{who}{slow}")).await?.status() == 504);
    ensure!(scene.get("/d", long).await?.status() == 200);
    ensure!(scene.get("/d", slow).await?.status() == 504);
    scene
        .counted("envoy_cluster_upstream_rq_degraded_stale", "", 1.0)
        .await
}
