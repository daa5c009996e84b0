//! PROXY headers in both directions, compared with the real Envoy.
//!
//! Both proxies get one bootstrap and the same servers; for each header the client's view, what the server behind was
//! told, the access log and in the end the counters must be the same.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use harness::bootstrap::{self, type_url};
use harness::client::RawClient;
use harness::peers;
use harness::process::{Port, Proxy};
use harness::upstream::Upstream;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::endpoints::{Endpoint, Manner};
use crate::stage::{WITHIN, listener_filter, start, timely};

const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Version 2 from 1.2.3.4:1111 to 5.6.7.8:2222, with these TLVs.
fn v2(tlvs: &[u8]) -> Vec<u8> {
    binary(
        0x21,
        0x11,
        &[&[1, 2, 3, 4, 5, 6, 7, 8, 4, 87, 8, 174], tlvs].concat(),
    )
}

fn binary(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).unwrap_or_default().to_be_bytes();
    [V2, &[command, family], &length, body].concat()
}

fn tlv(kind: u8, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len()).unwrap_or_default().to_be_bytes();
    [&[kind], &length[..], value].concat()
}

/// The listener that a header goes to, and the header.
fn headers() -> Vec<(&'static str, Vec<u8>)> {
    let v1 = "PROXY TCP4 1.2.3.4 5.6.7.8 1111 2222\r\n";
    let six = "PROXY TCP6 1::2 5::8 1111 2222\r\n";
    let ea = tlv(0xea, b"vpc-1");
    let texts = [
        ("plain", v1),
        ("plain", six),
        ("plain", "PROXY UNKNOWN\r\n"),
        ("plain", "PROXY UNKNOWN fff 3 3 3\r\n"),
        ("plain", "no header at all, as long as one"),
        ("plain", "PROXY TCP4 1.2.3.4 5.6.7.8 1111 99999\r\n"),
        ("plain", "PROXY TCP4 1.2.3.4 5.6.7.8 0 0\r\n"),
        ("plain", "PROXY TCP4 1.2.3.444 5.6.7.8 1111 2222\r\n"),
        ("plain", "PROXY TCP4 ::1 ::2 1111 2222\r\n"),
        ("plain", "PROXY TCP4 1.2.3.4 5.6.7.8 1111\r\n"),
        ("plain", "PROXY TCP4 1.2.3.4 5.6.7.8 1111 2222 3\r\n"),
        ("plain", "PROXY  TCP4 1.2.3.4 5.6.7.8 1111 2222\r\n"),
        ("plain", "PROXY TCP4 1.2.3.4 5.6.7.8 1111 2222\nhello\r\n"),
        ("plain", "PROXY TCP4 01.2.3.4 5.6.7.8 1111 2222\r\n"),
        ("plain", "PROXY TCP4 224.0.0.1 5.6.7.8 1111 2222\r\n"),
        ("optional", ""),
        ("optional", "PROXYx"),
        ("optional", v1),
        ("no version 1", v1),
        ("to version 2", v1),
        ("to version 2", six),
        ("to version 1", six),
        ("optional to version 2", ""),
        ("counted apart", v1),
    ];
    let mut headers: Vec<_> = texts
        .into_iter()
        .map(|(to, text)| (to, text.as_bytes().to_vec()))
        .collect();
    headers.extend([
        ("plain", v2(b"")),
        ("plain", binary(0x20, 0, b"")),
        ("plain", binary(0x20, 0x11, &[0; 12])),
        ("plain", binary(0x21, 0, b"abc")),
        ("plain", binary(0x21, 0x12, &v2(b"")[16..])),
        ("plain", binary(0x21, 0x31, &[0; 216])),
        ("plain", binary(0x22, 0x11, &[1; 12])),
        ("plain", binary(0x11, 0x11, &[1; 12])),
        ("plain", binary(0x21, 0x11, &[1; 3])),
        ("plain", v2(b"\xea\0\x09abc")),
        (
            "rules",
            v2(&[&ea[..], &tlv(2, b"a\xffb"), &tlv(3, b"\0\x01")].concat()),
        ),
        ("rules", v2(&[&ea[..], &tlv(0xea, b"second")].concat())),
        ("rules", binary(0x20, 0x11, &v2(&ea)[16..])),
        ("no version 1", v2(b"")),
        ("to version 2", v2(&ea)),
        ("to version 2", binary(0x20, 0, b"")),
        ("to version 1", v2(&ea)),
        ("own TLVs", v2(&[&ea[..], &tlv(0xee, b"not kept")].concat())),
        ("counted apart", v2(b"")),
    ]);
    headers
}

fn filter(fields: &Value) -> Value {
    let mut filter = listener_filter("proxy_protocol", "proxy_protocol.v3.ProxyProtocol");
    bootstrap::merge(&mut filter["typed_config"], fields);
    filter
}

/// Name, fields of the filter, fields of the TCP proxy.
fn listeners() -> Vec<(&'static str, Value, Value)> {
    let to = |cluster: &str| json!({"cluster": cluster});
    let rules = json!([
        {"tlv_type": 0xea, "on_tlv_present": {"key": "ea"}},
        {"tlv_type": 3, "on_tlv_present": {"key": "three", "value_string_encoding": "BASE64"}},
        {"tlv_type": 9, "on_tlv_present": {"key": "absent"}},
    ]);
    vec![
        ("plain", json!({}), to("shows")),
        ("rules", json!({"rules": rules}), to("shows")),
        (
            "optional",
            json!({"allow_requests_without_proxy_protocol": true}),
            to("shows"),
        ),
        (
            "no version 1",
            json!({"disallowed_versions": ["V1"]}),
            to("shows"),
        ),
        (
            "counted apart",
            json!({"stat_prefix": "apart", "disallowed_versions": ["V2"]}),
            to("shows"),
        ),
        ("to version 1", json!({}), to("v1")),
        ("to version 2", json!({"pass_through_tlvs": {}}), to("v2")),
        (
            "optional to version 2",
            json!({"allow_requests_without_proxy_protocol": true}),
            to("v2"),
        ),
        (
            "own TLVs",
            json!({"pass_through_tlvs": {"match_type": "INCLUDE", "tlv_type": [0xea]}}),
            json!({"cluster": "v2", "proxy_protocol_tlvs": [{"type": 0xeb, "value": "eHg="}],
                "proxy_protocol_tlv_merge_policy": "APPEND_IF_EXISTS_OR_ADD"}),
        ),
    ]
}

fn announcing(name: &str, to: &Endpoint, config: Value) -> Value {
    let mut cluster = bootstrap::cluster(name, &[to.address]);
    cluster["transport_socket"] = json!({"name": "envoy.transport_sockets.upstream_proxy_protocol", "typed_config": {
        "@type": type_url("extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport"),
        "config": config,
        "transport_socket": {"name": "envoy.transport_sockets.raw_buffer", "typed_config": {
            "@type": type_url("extensions.transport_sockets.raw_buffer.v3.RawBuffer")}},
    }});
    cluster
}

fn clusters(shows: &Endpoint) -> Vec<Value> {
    let with_tlvs =
        json!({"version": "V2", "pass_through_tlvs": {}, "added_tlvs": [{"type": 0xe0, "value": "YQ=="}]});
    vec![
        bootstrap::cluster("shows", &[shows.address]),
        announcing("v1", shows, json!({})),
        announcing("v2", shows, with_tlvs),
    ]
}

const FORMAT: &str = "flags=%RESPONSE_FLAGS% remote=%DOWNSTREAM_REMOTE_ADDRESS% local=%DOWNSTREAM_LOCAL_ADDRESS% \
    direct=%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT% rx=%BYTES_RECEIVED% \
    all=%DYNAMIC_METADATA(envoy.filters.listener.proxy_protocol)% \
    three=%DYNAMIC_METADATA(envoy.filters.listener.proxy_protocol:three)%\n";

async fn observe(proxy: Proxy, shows: &Endpoint) -> Result<Vec<String>> {
    let folder = tempfile::tempdir()?;
    let (mut ports, mut configured) = (BTreeMap::new(), Vec::new());
    for (name, fields, over) in listeners() {
        let port = Port::reserve()?;
        configured.push(listener(name, &port, (&fields, &over), folder.path()));
        ports.insert(name, port);
    }
    let mut process = start(proxy, configured, clusters(shows)).await?;
    let mut seen = Vec::new();
    for (to, header) in headers() {
        let port = &ports[to];
        let heard = act(port, &header).await?;
        let mut view = format!("{to} {}: {heard}", header.escape_ascii());
        if heard != "closed" {
            let told = timely(async {
                loop {
                    if let Some(told) = shows.take_one() {
                        return Ok(told);
                    }
                    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
                }
            });
            view += &format!(", told {}", told.await?);
        }
        seen.push(view);
    }
    let stats = process.admin_text("/stats?filter=proxy_proto").await?;
    process.terminate()?;
    process.wait_exit(WITHIN).await?;
    for (name, port) in &ports {
        let log = std::fs::read_to_string(folder.path().join(name)).unwrap_or_default();
        // The ports of this run's connections differ from run to run.
        let own = format!("127.0.0.1:{}", port.number());
        seen.extend(
            log.lines()
                .map(|line| format!("{name} {}", without_client(&line.replace(&own, "here")))),
        );
    }
    let counted = stats.lines().filter(|line| line.contains("proxy_proto"));
    seen.extend(counted.map(str::to_owned));
    Ok(seen)
}

/// `127.0.0.1:34567` without the port.
fn without_client(line: &str) -> String {
    let words = line.split(' ').map(|word| match word.split_once("=127.0.0.1:") {
        Some((name, _)) => format!("{name}=client"),
        None => word.to_owned(),
    });
    words.collect::<Vec<_>>().join(" ")
}

fn listener(name: &str, port: &Port, (fields, over): (&Value, &Value), folder: &Path) -> Value {
    let mut proxy = bootstrap::tcp_proxy("");
    let config = &mut proxy["typed_config"];
    bootstrap::merge(config, over);
    config["access_log"] = json!([{"name": "envoy.access_loggers.file", "typed_config": {
        "@type": type_url("extensions.access_loggers.file.v3.FileAccessLog"),
        "path": folder.join(name).to_string_lossy(),
        "log_format": {"text_format_source": {"inline_string": FORMAT}},
    }}]);
    let mut listener = bootstrap::listener(name, port.address(), proxy);
    listener["listener_filters"] = json!([filter(fields)]);
    listener
}

/// Sends the header and a word, and hears it come back, or not.
async fn act(port: &Port, header: &[u8]) -> Result<String> {
    timely(async {
        let mut stream = TcpStream::connect(port.address()).await?;
        stream.write_all(&[header, b"hello"].concat()).await?;
        let mut heard = Vec::new();
        let read = stream.read_to_end(&mut heard).await;
        Ok(match read {
            Ok(_) if !heard.is_empty() => format!("heard {}", heard.escape_ascii()),
            _ => "closed".to_owned(),
        })
    })
    .await
}

/// A server's own client address stands in what it was told, where the header is about our own connection.
fn normal(view: &str) -> String {
    // 127.0.0.1 twice and two ports: in text, and in bytes.
    let text = view.split("TCP4 127.0.0.1 127.0.0.1 ");
    let text: Vec<_> = text
        .map(|part| part.split_once("\\r\\nhello").map_or(part, |(_, rest)| rest))
        .collect();
    let own = "\\x7f\\x00\\x00\\x01\\x7f\\x00\\x00\\x01";
    match view.split_once(own) {
        Some((before, _)) => format!("{before} own addresses"),
        None if text.len() > 1 => text.join("own addresses"),
        None => view.to_owned(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_are_read_and_written_as_envoys() -> Result<()> {
    if let Err(missing) = peers::envoy() {
        return peers::skip("PROXY headers beside Envoy", &missing);
    }
    let shows = Endpoint::start(Manner::Shows).await?;
    let normal = |views: Vec<String>| views.iter().map(|view| normal(view)).collect::<Vec<_>>();
    let theirs = normal(observe(Proxy::Envoy, &shows).await?);
    let ours = normal(observe(Proxy::Remora, &shows).await?);
    ensure!(theirs.len() > headers().len(), "Envoy was seen to do {theirs:#?}");
    let missing: Vec<_> = theirs.iter().filter(|line| !ours.contains(line)).collect();
    let new: Vec<_> = ours.iter().filter(|line| !theirs.contains(line)).collect();
    ensure!(
        missing.is_empty() && new.is_empty(),
        "Envoy {missing:#?}\nRemora {new:#?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_of_different_clients_share_no_connection_that_tells_them_apart() -> Result<()> {
    let (upstream, port) = (Upstream::start("application").await?, Port::reserve()?);
    // The application does not know the header, so another of our listeners takes it off again.
    let inner = Port::reserve()?;
    let manager = |stat: &str, cluster: &str| {
        bootstrap::http_connection_manager(&json!({
            "stat_prefix": stat, "use_remote_address": true,
            "route_config": bootstrap::route_everything("routes", cluster),
        }))
    };
    let mut outer = bootstrap::listener("outer", port.address(), manager("outer", "inner"));
    outer["listener_filters"] = json!([filter(&json!({}))]);
    let mut second = bootstrap::listener("inner", inner.address(), manager("inner", "application"));
    second["listener_filters"] = json!([filter(&json!({}))]);
    let mut announced = bootstrap::cluster("inner", &[inner.address()]);
    announced["transport_socket"] = announcing(
        "x",
        &Endpoint::start(Manner::Echo).await?,
        json!({"version": "V2"}),
    )["transport_socket"]
        .clone();
    let clusters = vec![
        announced,
        bootstrap::cluster("application", &[upstream.address()]),
    ];
    let _proxy = crate::stage::remora(vec![outer, second], clusters).await?;
    for client in ["1.2.3.4", "1.2.3.5", "1.2.3.4"] {
        let mut connection = RawClient::connect(port.address()).await?;
        let header = format!("PROXY TCP4 {client} 5.6.7.8 1111 2222\r\n");
        connection.send(header.as_bytes()).await?;
        let answer = connection.exchange(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await?;
        ensure!(answer.status() == 200, "{:?}", answer.head);
        let received = upstream.take_received();
        let request = received.last().context("a request")?;
        let told = request.header("x-forwarded-for").unwrap_or_default();
        ensure!(
            told.split(',').all(|hop| hop.trim() == client),
            "of {client} it was told {told}"
        );
    }
    Ok(())
}
