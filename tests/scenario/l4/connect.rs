//! CONNECT requests that end at the proxy, compared with the real Envoy: what the client is told, what the server
//! hears, what the access log says.

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use harness::bootstrap::{self, type_url};
use harness::client::RawClient;
use harness::peers;
use harness::process::{Port, Proxy};
use http::Request;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::endpoints::{Endpoint, Manner};
use crate::stage::{WITHIN, start, timely};

/// Name, the route's cluster, its `connect_config`.
fn routes() -> Vec<(&'static str, &'static str, Value)> {
    vec![
        ("plain", "server", json!({})),
        ("post", "server", json!({"allow_post": true})),
        (
            "announced",
            "server",
            json!({"proxy_protocol_config": {"version": "V1"}}),
        ),
        ("nobody", "nobody", json!({})),
    ]
}

fn manager(folder: &std::path::Path) -> Value {
    let routes: Vec<_> = routes()
        .into_iter()
        .flat_map(|(name, cluster, config)| {
            let action = json!({"cluster": cluster, "upgrade_configs": [{"upgrade_type": "CONNECT", "connect_config": config}]});
            let headers = json!([{"name": ":authority", "string_match": {"prefix": name}}]);
            let added = json!([{"header": {"key": "x-route", "value": name}}]);
            ["connect_matcher", "prefix"].map(|matcher| {
                let mut criteria = json!({"headers": headers});
                criteria[matcher] = if matcher == "prefix" { json!("/") } else { json!({}) };
                json!({"match": criteria, "route": action, "response_headers_to_add": added})
            })
        })
        .collect();
    bootstrap::http_connection_manager(&json!({
        "upgrade_configs": [{"upgrade_type": "CONNECT"}],
        "http2_protocol_options": {"allow_connect": true},
        "route_config": {"name": "routes", "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
        "access_log": [{"name": "envoy.access_loggers.file", "typed_config": {
            "@type": type_url("extensions.access_loggers.file.v3.FileAccessLog"),
            "path": folder.join("log").to_string_lossy(),
            "log_format": {"text_format_source": {"inline_string":
                "%REQ(:METHOD)% %REQ(:AUTHORITY)% %RESPONSE_CODE% %RESPONSE_FLAGS% rx=%BYTES_RECEIVED% tx=%BYTES_SENT% \
                 %UPSTREAM_CLUSTER%\n"}},
        }}],
    }))
}

/// A head without what differs from one answer to the next.
fn told(head: &harness::http1::Head) -> String {
    let fields = head.headers.iter().filter(|(name, _)| {
        !["date", "x-envoy-upstream-service-time"].contains(&name.to_ascii_lowercase().as_str())
    });
    let mut fields: Vec<_> = fields.map(|(name, value)| format!("{name}: {value}")).collect();
    fields.sort_unstable();
    format!("{} {fields:?}", head.status())
}

async fn by_http1(port: &Port, authority: &str) -> Result<String> {
    let mut client = RawClient::connect(port.address()).await?;
    client
        .send(format!("CONNECT {authority} HTTP/1.1\r\nhost: {authority}\r\n\r\n").as_bytes())
        .await?;
    let head = client.read_head().await?.context("an answer")?;
    let mut view = told(&head);
    if head.status() == 200 {
        client.send(b"hello").await?;
        let mut heard = Vec::new();
        client.stream().read_to_end(&mut heard).await?;
        view += &format!(" then {}", heard.escape_ascii());
    }
    Ok(view)
}

/// A POST of unknown length, whose answer is one, too.
async fn by_post(port: &Port, authority: &str) -> Result<String> {
    let mut stream = TcpStream::connect(port.address()).await?;
    let head = format!("POST / HTTP/1.1\r\nhost: {authority}\r\ntransfer-encoding: chunked\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(b"5\r\nhello\r\n0\r\n\r\n").await?;
    let mut client = RawClient::over(stream);
    let answer = client.read_response("POST").await?.context("an answer")?;
    Ok(format!("{} then {}", answer.status(), answer.text()))
}

async fn by_http2(port: &Port, authority: &str) -> Result<String> {
    let stream = TcpStream::connect(port.address()).await?;
    let (mut sender, connection) = h2::client::handshake(stream).await?;
    let driver = tokio::spawn(connection);
    let request = Request::builder().method("CONNECT").uri(authority).body(())?;
    let (answer, mut up) = sender.send_request(request, false)?;
    let (head, mut body) = answer.await?.into_parts();
    up.send_data(Bytes::from_static(b"hello"), true)?;
    let mut heard = Vec::new();
    while let Some(bytes) = body.data().await {
        heard.extend_from_slice(&bytes?);
    }
    driver.abort();
    Ok(format!(
        "{} {:?} then {}",
        head.status,
        head.headers.get("x-route"),
        heard.escape_ascii()
    ))
}

async fn observe(proxy: Proxy, server: &Endpoint, nobody: &Port) -> Result<Vec<String>> {
    let folder = tempfile::tempdir()?;
    let port = Port::reserve()?;
    let listeners = vec![bootstrap::listener("l", port.address(), manager(folder.path()))];
    let clusters = vec![
        bootstrap::cluster("server", &[server.address]),
        bootstrap::cluster("nobody", &[nobody.address()]),
    ];
    let mut process = start(proxy, listeners, clusters).await?;
    let mut seen = Vec::new();
    let heard = async || {
        timely(async {
            loop {
                if let Some(told) = server.take_one() {
                    return Ok(told);
                }
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        })
        .await
    };
    for authority in ["plain:1", "post:1", "announced:1"] {
        seen.push(timely(by_http1(&port, authority)).await.context(authority)?);
        seen.push(without_client(&heard().await?));
        seen.push(timely(by_http2(&port, authority)).await.context(authority)?);
        seen.push(without_client(&heard().await?));
    }
    seen.push(timely(by_http1(&port, "nobody:1")).await?);
    seen.push(timely(by_http1(&port, "other:1")).await?);
    seen.push(timely(by_post(&port, "post:1")).await.context("POST")?);
    seen.push(heard().await?);
    process.terminate()?;
    process.wait_exit(WITHIN).await?;
    let log = std::fs::read_to_string(folder.path().join("log"))?;
    seen.extend(log.lines().map(str::to_owned));
    Ok(seen)
}

/// A PROXY header without the ports, which are others each time.
fn without_client(heard: &str) -> String {
    match (
        heard.split_once("TCP4 127.0.0.1 127.0.0.1 "),
        heard.split_once("\\r\\n"),
    ) {
        (Some((before, _)), Some((_, after))) => format!("{before}loopback {after}"),
        _ => heard.to_owned(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connect_ends_as_envoys() -> Result<()> {
    if let Err(missing) = peers::envoy() {
        return peers::skip("CONNECT beside Envoy", &missing);
    }
    let (server, nobody) = (Endpoint::start(Manner::Shows).await?, Port::reserve()?);
    let theirs = observe(Proxy::Envoy, &server, &nobody).await?;
    let ours = observe(Proxy::Remora, &server, &nobody).await?;
    ensure!(theirs.len() >= 24, "Envoy was seen to do {theirs:#?}");
    ensure!(theirs == ours, "Envoy {theirs:#?}\nRemora {ours:#?}");
    Ok(())
}
