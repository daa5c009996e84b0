//! What is said and done on an HTTP/2 connection before and beside its streams, read frame by frame, beside Envoy.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use harness::bootstrap::http_protocol;
use harness::client::{RawClient, timed};
use harness::peers;
use harness::process::Proxy;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::scene::{Plan, Scene, to};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const NO_SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;

/// A frame: type, flags, stream, payload.
struct Frame(u8, u8, u32, Vec<u8>);

async fn frame(stream: &mut TcpStream) -> Result<Frame> {
    let mut head = [0; 9];
    stream.read_exact(&mut head).await?;
    let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
    stream.read_exact(&mut payload).await?;
    let number = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
    Ok(Frame(head[3], head[4], number, payload))
}

/// The settings of a side that were asked for: how many streams (3), how large a stream's window (4), and by how much
/// that of the connection grows (0).
async fn said(stream: &mut TcpStream) -> Result<BTreeMap<u16, u32>> {
    let mut said = BTreeMap::new();
    while !(said.contains_key(&4) && said.contains_key(&0)) {
        match frame(stream).await? {
            Frame(SETTINGS, 0, 0, payload) => {
                for setting in payload.chunks_exact(6) {
                    let name = u16::from_be_bytes([setting[0], setting[1]]);
                    if matches!(name, 3 | 4) {
                        said.insert(
                            name,
                            u32::from_be_bytes([setting[2], setting[3], setting[4], setting[5]]),
                        );
                    }
                }
            }
            Frame(WINDOW_UPDATE, _, 0, payload) => {
                let growth: [u8; 4] = payload.as_slice().try_into()?;
                said.insert(0, u32::from_be_bytes(growth));
            }
            _ => {}
        }
    }
    Ok(said)
}

fn options(keepalive: &Value) -> Value {
    json!({"max_concurrent_streams": 7, "initial_stream_window_size": 100_000,
        "initial_connection_window_size": 300_000, "connection_keepalive": keepalive})
}

/// A proxy that speaks HTTP/2 on both sides, to a server that the test plays.
async fn start(proxy: Proxy, server: &TcpListener, keepalive: &Value) -> Result<Scene> {
    let mut plan = Plan::new(
        vec![to("h2", "/", json!({"timeout": "60s"}))],
        &[("h2", server.local_addr()?)],
    );
    let upstream = http_protocol(&json!({"http2_protocol_options": options(keepalive)}));
    plan.clusters[0].2 = json!({"typed_extension_protocol_options": upstream});
    plan.manager = json!({"http2_protocol_options": options(keepalive)});
    Scene::start(proxy, &plan).await
}

/// The connection that a request of ours makes the proxy open.
async fn upstream(scene: &Scene, server: &TcpListener) -> Result<(RawClient, TcpStream)> {
    let mut client = RawClient::connect(scene.port.address()).await?;
    client.send(b"GET / HTTP/1.1\r\nhost: h\r\n\r\n").await?;
    let (mut stream, _) = server.accept().await?;
    let mut preface = vec![0; PREFACE.len()];
    stream.read_exact(&mut preface).await?;
    ensure!(preface == PREFACE, "{preface:?}");
    stream.write_all(NO_SETTINGS).await?;
    Ok((client, stream))
}

async fn downstream(scene: &Scene) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(scene.port.address()).await?;
    stream.write_all(PREFACE).await?;
    stream.write_all(NO_SETTINGS).await?;
    Ok(stream)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_sides_say_what_they_are_told_as_envoy_does() -> Result<()> {
    if let Err(missing) = peers::envoy() {
        return peers::skip("both_sides_say_what_they_are_told_as_envoy_does", &missing);
    }
    let test = "both_sides_say_what_they_are_told_as_envoy_does";
    let mut seen = Vec::new();
    for proxy in [vec![Proxy::Envoy], Proxy::under_test(test)?].concat() {
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let keepalive = json!({"interval": "600s", "timeout": "600s"});
        let scene = start(proxy, &server, &keepalive).await?;
        let (_client, mut up) = timed(upstream(&scene, &server)).await?;
        let mut down = downstream(&scene).await?;
        let mut of_up = timed(said(&mut up)).await?;
        // How many streams we may open is for a server to ask: it means pushed ones.
        of_up.remove(&3);
        seen.push((of_up, timed(said(&mut down)).await?));
    }
    ensure!(
        seen[0].1.get(&3) == Some(&7) && seen[0].1.get(&4) == Some(&100_000),
        "{seen:?}"
    );
    ensure!(seen.iter().all(|one| *one == seen[0]), "{seen:?}");
    Ok(())
}

/// Waits for a ping that asks.
async fn pinged(stream: &mut TcpStream) -> Result<()> {
    loop {
        if matches!(frame(stream).await?, Frame(PING, 0, 0, _)) {
            return Ok(());
        }
    }
}

/// A peer that leaves pings unanswered is taken for dead, on both sides.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_does_not_answer_is_left() -> Result<()> {
    for proxy in Proxy::under_test("a_peer_that_does_not_answer_is_left")? {
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let keepalive = json!({"interval": "0.2s", "timeout": "0.3s"});
        let scene = start(proxy, &server, &keepalive).await?;
        let (mut client, mut up) = timed(upstream(&scene, &server)).await?;
        timed(pinged(&mut up)).await.context("upstream")?;
        let answer = timed(client.read_response("GET")).await?.context("an answer")?;
        ensure!(answer.status() == 503, "{}: {}", proxy.name(), answer.status());

        let mut down = downstream(&scene).await?;
        timed(pinged(&mut down)).await.context("downstream")?;
        timed(ended(&mut down)).await.context("downstream")?;
    }
    Ok(())
}

async fn ended(stream: &mut TcpStream) -> Result<()> {
    let mut rest = Vec::new();
    match tokio::time::timeout(Duration::from_secs(15), stream.read_to_end(&mut rest)).await {
        Ok(_) => Ok(()),
        Err(_) => bail!("the connection stays"),
    }
}
