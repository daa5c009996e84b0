//! Does a request notice that an upstream closed the idle connection that it was about to use?
//!
//! Servers close idle keep-alive connections when they like, also in the very moment in which the next request leaves.
//! Who may be sent twice is sent again on a new connection, and the client sees nothing; a POST is never sent twice.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use harness::bootstrap;
use harness::client::RawClient;
use harness::http1;
use harness::process::{Options, Port, Proxy, ProxyProcess};
use harness::upstream::{Behaviour, Upstream};
use serde_json::json;
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};

const WITHIN: Duration = Duration::from_secs(20);

async fn start(proxy: Proxy, endpoint: SocketAddr) -> Result<(ProxyProcess, Port)> {
    let (port, admin) = (Port::reserve()?, Port::reserve()?);
    let manager = bootstrap::http_connection_manager(
        &json!({"route_config": bootstrap::route_everything("routes", "upstream")}),
    );
    let listener = bootstrap::listener("http", port.address(), manager);
    let cluster = bootstrap::cluster("upstream", &[endpoint]);
    let text = bootstrap::fixed(admin.address(), vec![listener], vec![cluster]).to_string();
    let process = ProxyProcess::start(proxy, &text, admin, &Options::default()).await?;
    Ok((process, port))
}

/// A server that answers the first request of a connection and, when the second one has arrived, closes without a
/// word: what a close that crosses a request on its way looks like to the proxy, every time.
struct ClosesOnReuse {
    address: SocketAddr,
    /// Requests that arrived and were not answered, and POSTs of any kind.
    unanswered: Arc<AtomicUsize>,
    posts: Arc<AtomicUsize>,
    task: AbortHandle,
}

impl ClosesOnReuse {
    async fn start() -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let (unanswered, posts) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let counts = (Arc::clone(&unanswered), Arc::clone(&posts));
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(answer_once(stream, counts.clone()));
            }
        });
        Ok(Self {
            address,
            unanswered,
            posts,
            task: task.abort_handle(),
        })
    }
}

impl Drop for ClosesOnReuse {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer_once(stream: TcpStream, counts: (Arc<AtomicUsize>, Arc<AtomicUsize>)) -> Result<()> {
    let mut stream = BufReader::new(stream);
    for turn in 0..2 {
        let Some(head) = http1::read_head(&mut stream).await? else {
            return Ok(());
        };
        http1::read_body(&mut stream, head.request_framing()).await;
        if head.word(0) == "POST" {
            counts.1.fetch_add(1, Ordering::Relaxed);
        }
        if turn == 1 {
            counts.0.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
            .await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gets_on_a_connection_that_was_just_closed_are_sent_again() -> Result<()> {
    let upstream = ClosesOnReuse::start().await?;
    let (process, port) = start(Proxy::Remora, upstream.address).await?;
    let mut client = RawClient::connect(port.address()).await?;
    for number in 0..50 {
        let answer = client.exchange(b"GET / HTTP/1.1\r\nhost: test\r\n\r\n").await?;
        ensure!(
            answer.status() == 200,
            "request {number}: {:?}: {}",
            answer.head,
            answer.text()
        );
    }
    // Every connection served one, and then met another that had to be sent again.
    let unanswered = upstream.unanswered.load(Ordering::Relaxed);
    ensure!(unanswered == 49, "{unanswered} requests met a closed connection");
    process
        .wait_metric(
            "envoy_cluster_upstream_rq_reuse_race_retried",
            "upstream",
            49.0,
            WITHIN,
        )
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_post_is_never_sent_twice() -> Result<()> {
    for body in ["", "5 and 8"] {
        let upstream = ClosesOnReuse::start().await?;
        let (process, port) = start(Proxy::Remora, upstream.address).await?;
        let mut client = RawClient::connect(port.address()).await?;
        let warm = client.exchange(b"GET / HTTP/1.1\r\nhost: test\r\n\r\n").await?;
        ensure!(warm.status() == 200);
        let request = format!(
            "POST / HTTP/1.1\r\nhost: test\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let answer = client.exchange(request.as_bytes()).await?;
        ensure!(
            answer.status() == 503 && answer.text().contains("connection termination"),
            "{:?}: {}",
            answer.head,
            answer.text()
        );
        let posts = upstream.posts.load(Ordering::Relaxed);
        ensure!(posts == 1, "the upstream saw {posts} POSTs");
        let retried = process
            .metric("envoy_cluster_upstream_rq_reuse_race_retried", "upstream")
            .await?;
        ensure!(retried.unwrap_or(0.0) == 0.0, "retried: {retried:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_that_closes_after_each_answer_costs_no_request() -> Result<()> {
    for proxy in Proxy::under_test("reuse: closing upstream")? {
        let behaviour = Behaviour {
            close_after: Some(1),
            ..Behaviour::default()
        };
        let upstream = Upstream::start_with("upstream", behaviour, None).await?;
        let (process, port) = start(proxy, upstream.address()).await?;
        let mut client = RawClient::connect(port.address()).await?;
        for number in 1..=5 {
            let method = if number % 2 == 0 { "GET" } else { "POST" };
            let request = format!("{method} / HTTP/1.1\r\nhost: test\r\ncontent-length: 0\r\n\r\n");
            let answer = client.exchange(request.as_bytes()).await?;
            ensure!(
                answer.status() == 200,
                "request {number}: {:?}: {}",
                answer.head,
                answer.text()
            );
            // The closing arrives while the connection is idle: it must be noticed there, not by the next request.
            process
                .wait_metric(
                    "envoy_cluster_upstream_cx_destroy_remote",
                    "upstream",
                    f64::from(number),
                    WITHIN,
                )
                .await?;
        }
        let seen = upstream.received();
        ensure!(seen.len() == 5, "the upstream saw {} requests for 5", seen.len());
    }
    Ok(())
}
