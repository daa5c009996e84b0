//! Checks by gRPC and by TCP, at another address or over another transport, beside Envoy.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use harness::process::Port;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};

use super::checks::check;
use super::patient::{Answer, PATH, Patient};
use super::stage::{Stage, with_envoy};

/// What a server of `grpc.health.v1.Health` answers: status of HTTP, content type, body, `grpc-status` at the end.
#[derive(Debug, Clone)]
struct Word(u16, &'static str, Vec<u8>, Option<&'static str>);

impl Word {
    fn says(status: u8) -> Self {
        Self(200, "application/grpc", vec![0, 0, 0, 0, 2, 8, status], Some("0"))
    }
}

/// What was asked: the head and the message.
type Asked = Arc<Mutex<Vec<(http::request::Parts, Vec<u8>)>>>;

async fn grpc_server(word: Word) -> Result<(SocketAddr, Asked)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let (address, asked) = (listener.local_addr()?, Asked::default());
    let all = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // How a connection ends is the proxy's matter.
            tokio::spawn(grpc_answers(stream, word.clone(), Arc::clone(&all)));
        }
    });
    Ok((address, asked))
}

async fn grpc_answers(stream: TcpStream, word: Word, asked: Asked) -> Result<()> {
    let mut connection = h2::server::handshake(stream).await?;
    while let Some(request) = connection.accept().await {
        let (request, mut respond) = request?;
        let (word, asked) = (word.clone(), Arc::clone(&asked));
        tokio::spawn(async move {
            let (head, mut body) = request.into_parts();
            let mut message = Vec::new();
            while let Some(data) = body.data().await {
                let data = data?;
                body.flow_control().release_capacity(data.len())?;
                message.extend_from_slice(&data);
            }
            asked
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push((head, message));
            let Word(status, kind, body, end) = word;
            let response = http::Response::builder()
                .status(status)
                .header("content-type", kind);
            let alone = response.body(())?;
            let mut stream = respond.send_response(alone, false)?;
            stream.send_data(Bytes::from(body), end.is_none())?;
            if let Some(end) = end {
                stream.send_trailers([("grpc-status".parse()?, end.parse()?)].into_iter().collect())?;
            }
            Result::<()>::Ok(())
        });
    }
    Ok(())
}

fn slow(kind: &str, fields: &Value) -> Value {
    json!({"health_checks": [{"timeout": "10s", "interval": "300s", "no_traffic_interval": "300s",
        "unhealthy_threshold": 3, "healthy_threshold": 2, kind: fields}]})
}

/// What servers answer, and what becomes of them.
fn words() -> Vec<(Word, &'static str)> {
    let twice = [Word::says(1).2, Word::says(1).2].concat();
    vec![
        (Word::says(1), "healthy"),
        (Word::says(2), "/failed_active_hc"),
        (
            Word(200, "application/grpc", vec![0, 0, 0, 0, 0], Some("0")),
            "/failed_active_hc",
        ),
        (
            Word(200, "application/grpc", vec![1, 0, 0, 0, 2, 8, 1], Some("0")),
            "/failed_active_hc",
        ),
        (
            Word(200, "application/grpc", vec![0, 0, 0, 0, 1, 8], Some("0")),
            "/failed_active_hc",
        ),
        (
            Word(200, "application/grpc", twice, Some("0")),
            "/failed_active_hc",
        ),
        (
            Word(200, "application/grpc", Vec::new(), Some("12")),
            "/failed_active_hc",
        ),
        (
            Word(200, "application/grpc", Word::says(1).2, None),
            "/failed_active_hc",
        ),
        (
            Word(200, "text/plain", Word::says(1).2, Some("0")),
            "/failed_active_hc",
        ),
        (
            Word(404, "application/grpc", Word::says(1).2, Some("0")),
            "/failed_active_hc",
        ),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grpc_health_decides_as_with_envoy() -> Result<()> {
    let words = words();
    let mut heads = Vec::new();
    for proxy in with_envoy("checks: grpc")? {
        let mut servers = Vec::new();
        for (word, flags) in &words {
            servers.push((grpc_server(word.clone()).await?, word, flags));
        }
        let all: Vec<_> = servers.iter().map(|((address, _), ..)| *address).collect();
        let fields =
            json!({"service_name": "a.B", "initial_metadata": [{"header": {"key": "x-a", "value": "b"}}]});
        let mut cluster = slow("grpc_health_check", &fields);
        cluster["typed_extension_protocol_options"] =
            harness::bootstrap::http_protocol(&json!({"http2_protocol_options": {}}));
        let stage = Stage::start(proxy, &all, &cluster).await?;
        for ((address, _), word, flags) in &servers {
            let found = stage.flags(*address).await?;
            ensure!(found == **flags, "{proxy:?}: {word:?}: {found}");
        }
        let (head, message) = {
            let mut asked = servers[0].0.1.lock().unwrap_or_else(PoisonError::into_inner);
            asked.pop().context("nothing was asked")?
        };
        ensure!(
            message[..] == *b"\0\0\0\0\x05\x0a\x03a.B",
            "{proxy:?}: {message:?}"
        );
        let mut fields: Vec<_> = head.headers.iter().map(|(n, v)| format!("{n}: {v:?}")).collect();
        fields.retain(|field| !field.starts_with("content-length"));
        fields.sort_unstable();
        heads.push((proxy, head.method.clone(), head.uri.to_string(), fields));
        let stats = stage.stats("health_check").await?;
        ensure!(
            stats == ["attempt: 10", "failure: 9", "healthy: 1", "success: 1"],
            "{proxy:?}: {stats:?}"
        );
    }
    for other in &heads[1..] {
        ensure!(
            (&other.1, &other.2, &other.3) == (&heads[0].1, &heads[0].2, &heads[0].3),
            "{heads:#?}"
        );
    }
    Ok(())
}

/// A server that says this at once, whatever it hears.
async fn speaker(word: &'static [u8]) -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
                let _ = stream.write_all(word).await;
                while stream.read_u8().await.is_ok() {}
            });
        }
    });
    Ok(address)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tcp_is_asked_as_with_envoy() -> Result<()> {
    for proxy in with_envoy("checks: tcp")? {
        let closed = Port::reserve()?;
        let (one, other) = (speaker(b"..a..b..").await?, speaker(b"..b..a..").await?);
        let all = [one, other, closed.address()];
        let stage = Stage::start(proxy, &all, &slow("tcp_health_check", &json!({}))).await?;
        ensure!(stage.flags(one).await? == "healthy" && stage.flags(other).await? == "healthy");
        ensure!(stage.flags(closed.address()).await? == "/failed_active_hc");
        let mut picky = slow(
            "tcp_health_check",
            &json!({"send": {"text": "00"}, "receive": [{"text": "61"}, {"text": "62"}]}),
        );
        picky["health_checks"][0]["timeout"] = json!("0.5s");
        let stage = Stage::start(proxy, &all, &picky).await?;
        ensure!(stage.flags(one).await? == "healthy", "{proxy:?}");
        let flags = stage.flags(other).await?;
        ensure!(
            flags == "/failed_active_hc/active_hc_timeout",
            "{proxy:?}: {flags}"
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_may_say_where_and_whether_it_is_asked() -> Result<()> {
    for proxy in with_envoy("checks: where")? {
        let [asked, silent] = [Patient::well().await?, Patient::start(Answer::Close).await?];
        let address = |of: SocketAddr| harness::bootstrap::address(of);
        let at = |config: Value| json!({"endpoint": {"address": address(silent.address()), "health_check_config": config}});
        let elsewhere = asked.address();
        for (endpoint, checked, host) in [
            (
                at(json!({"port_value": elsewhere.port(), "hostname": "own.example"})),
                true,
                "host: own.example",
            ),
            (at(json!({"address": address(elsewhere)})), true, "host: watched"),
            (at(json!({"disable_active_health_check": true})), false, ""),
        ] {
            asked.answers(Answer::http(200, "", "ok"));
            let mut cluster = check(&json!({}));
            cluster["load_assignment"] =
                json!({"cluster_name": "watched", "endpoints": [{"lb_endpoints": [endpoint]}]});
            let stage = Stage::start(proxy, &[], &cluster).await?;
            ensure!(
                stage.flags(silent.address()).await? == "healthy",
                "{proxy:?}: {endpoint}"
            );
            ensure!(stage.get().await?.status() == 200);
            let heads = asked.checks();
            ensure!(heads.is_empty() != checked, "{proxy:?}: {endpoint}");
            ensure!(
                heads.iter().all(|head| head.contains(host)),
                "{proxy:?}: {heads:?}"
            );
        }
        ensure!(asked.requests() == 0 && silent.requests() == 3, "{proxy:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_name_of_the_cluster_and_the_body_are_compared() -> Result<()> {
    for proxy in with_envoy("checks: name and body")? {
        let answers = [
            (
                "x-envoy-upstream-healthchecked-cluster: mine-1",
                "a ok b",
                "healthy",
            ),
            (
                "x-envoy-upstream-healthchecked-cluster: other",
                "a ok b",
                "/failed_active_hc",
            ),
            ("", "a ok b", "/failed_active_hc"),
            (
                "x-envoy-upstream-healthchecked-cluster: mine-1",
                "b ok a",
                "/failed_active_hc",
            ),
        ];
        let mut patients = Vec::new();
        for (header, body, _) in answers {
            patients.push(Patient::start(Answer::http(200, header, body)).await?);
        }
        let all: Vec<_> = patients.iter().map(Patient::address).collect();
        let fields = json!({"path": PATH, "service_name_matcher": {"prefix": "mine"},
            "receive": [{"text": "61"}, {"text": "6f6b"}, {"text": "62"}]});
        let stage = Stage::start(proxy, &all, &slow("http_health_check", &fields)).await?;
        for (patient, (header, body, flags)) in patients.iter().zip(answers) {
            let found = stage.flags(patient.address()).await?;
            ensure!(found == flags, "{proxy:?}: {header} {body}: {found}");
        }
        stage.wait_stat("health_check.verify_cluster", 3).await?;
    }
    Ok(())
}
