//! What is seen of one row, with what must differ from run to run taken out.
//!
//! An observation is a JSON object: what the client got and what the upstream received. Ports, request ids, dates and
//! durations become words; header fields are sorted by name, fields of one name keep their order.

use std::io::Read;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use harness::client::{Http2Client, Http2Response, RawClient, RawResponse};
use harness::http1::{Fields, Head, fields_json};
use harness::upstream::{Received, Upstream};
use http::{HeaderMap, HeaderName, HeaderValue, Request};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;

use super::table::{Http2, Send, Step};

/// How long copies of requests may take to arrive.
const PATIENCE: Duration = Duration::from_secs(20);

/// Carries out a row against `to` and says what came of it.
pub(crate) async fn observe(send: &Send, to: SocketAddr, upstreams: &[&Upstream]) -> Result<Value> {
    for upstream in upstreams {
        upstream.take_received();
    }
    let client = match send {
        Send::Text(text) => exchange(text, to).await,
        Send::Steps(steps) => converse(steps, to).await,
        Send::Http2(request) => http2(request, to).await,
    };
    let client = client.unwrap_or_else(|error| json!({"status": 0, "ended": words(&error)}));
    await_received(awaited(send), upstreams).await?;
    let received: Vec<Value> = upstreams
        .iter()
        .flat_map(|up| up.take_received())
        .map(|got| report(&got))
        .collect();
    Ok(json!({"client": client, "upstream": received}))
}

/// How many requests the upstreams receive, where a row says so (`x-await`): copies come when they come.
fn awaited(send: &Send) -> usize {
    let said = match send {
        Send::Text(text) => text.lines().find_map(|line| line.strip_prefix("x-await: ")),
        Send::Steps(_) => None,
        Send::Http2(request) => request
            .headers
            .iter()
            .find_map(|(name, value)| (*name == "x-await").then_some(*value)),
    };
    said.and_then(|said| said.parse().ok()).unwrap_or(0)
}

async fn await_received(count: usize, upstreams: &[&Upstream]) -> Result<()> {
    let all = async {
        loop {
            let have: Vec<usize> = upstreams.iter().map(|up| up.received().len()).collect();
            if have.iter().sum::<usize>() >= count {
                return;
            }
            let more = upstreams.iter().zip(&have);
            let more = more.map(|(up, have)| Box::pin(up.wait_received(have + 1)));
            futures_util::future::select_all(more).await;
        }
    };
    tokio::time::timeout(PATIENCE, all)
        .await
        .with_context(|| format!("the upstreams did not receive {count} requests"))
}

/// How a connection ended, without the words of one library version or system call.
fn words(error: &anyhow::Error) -> &'static str {
    let text = format!("{error:#}").to_ascii_lowercase();
    if text.contains("no answer within") {
        "no answer"
    } else if text.contains("stream error") || text.contains("stream closed") {
        "stream reset"
    } else {
        "closed"
    }
}

async fn exchange(text: &str, to: SocketAddr) -> Result<Value> {
    let mut client = RawClient::connect(to).await?;
    let response = client.exchange(&wire(text)).await?;
    Ok(response_json(&response))
}

async fn converse(steps: &[Step], to: SocketAddr) -> Result<Value> {
    let mut client = RawClient::connect(to).await?;
    let mut seen = Vec::new();
    let mut status = 0;
    for step in steps {
        match step {
            Step::Text(text) => client.send(&wire(text)).await?,
            Step::Fill(count) => client.send(&vec![b'x'; *count]).await?,
            Step::Head => {
                let head = client.read_head().await?.context("closed")?;
                status = head.status();
                seen.push(head_json(&head));
            }
            Step::Read(count) => {
                let mut bytes = vec![0; *count];
                harness::client::timed(async { Ok(client.stream().read_exact(&mut bytes).await?) }).await?;
                seen.push(body_json(&bytes));
            }
            Step::Response(method) => {
                let response = client.read_response(method).await?.context("closed")?;
                status = response.status();
                seen.push(response_json(&response));
            }
        }
    }
    Ok(json!({"status": status, "seen": seen}))
}

async fn http2(request: &Http2, to: SocketAddr) -> Result<Value> {
    let client = Http2Client::connect(to).await?;
    let mut head = Request::builder()
        .method(request.method)
        .version(http::Version::HTTP_2)
        .uri(format!("http://{}{}", request.authority, request.path));
    for (name, value) in request.headers {
        head = head.header(*name, *value);
    }
    let mut trailers = HeaderMap::new();
    for (name, value) in request.trailers {
        trailers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    let trailers = (!trailers.is_empty()).then_some(trailers);
    let response = client
        .exchange(
            head.body(())?,
            Bytes::from_static(request.body.as_bytes()),
            trailers,
        )
        .await?;
    Ok(http2_json(&response))
}

/// LF becomes CRLF.
fn wire(text: &str) -> Vec<u8> {
    text.replace('\n', "\r\n").into_bytes()
}

fn head_json(head: &Head) -> Value {
    json!({"line": head.start_line, "headers": normal(&head.headers)})
}

fn response_json(response: &RawResponse) -> Value {
    json!({
        "status": response.status(), "line": response.head.start_line, "headers": normal(&response.head.headers),
        "informational": response.informational.iter().map(head_json).collect::<Vec<_>>(),
        "body": coded_json(&response.head.headers, &response.body.bytes), "complete": response.body.complete,
        "trailers": normal(&response.body.trailers),
    })
}

fn http2_json(response: &Http2Response) -> Value {
    let fields = |map: &HeaderMap| -> Fields {
        map.iter()
            .map(|(name, value)| {
                (
                    name.to_string(),
                    String::from_utf8_lossy(value.as_bytes()).into_owned(),
                )
            })
            .collect()
    };
    json!({
        "status": response.head.status().as_u16(), "headers": normal(&fields(response.head.headers())),
        "body": coded_json(&fields(response.head.headers()), &response.body), "trailers": response.trailers.as_ref().map(|map| normal(&fields(map))),
        "reset": response.reset.map(|reason| format!("{reason:?}")),
    })
}

fn report(received: &Received) -> Value {
    let mut report = received.report();
    report["connection"] = Value::Null;
    report["headers"] = normal(&received.headers);
    if received
        .header("content-encoding")
        .is_some_and(|coding| coding == "gzip")
    {
        report["body"] = coded_json(&received.headers, &received.body);
        report["body_length"] = Value::Null;
    }
    if received.header("x-await").is_some() && received.header("x-envoy-internal").is_some() {
        // A copy names the proxy's own address, which is another one on every machine.
        for field in report["headers"].as_array_mut().into_iter().flatten() {
            if field[0] == "x-forwarded-for"
                && let Some((before, _)) = field[1].as_str().and_then(|value| value.rsplit_once(','))
            {
                field[1] = json!(format!("{before},HERE"));
            } else if field[0] == "x-forwarded-for" {
                field[1] = json!("HERE");
            }
        }
    }
    report
}

/// A body as it reads once it is not compressed any more.
fn coded_json(headers: &Fields, bytes: &[u8]) -> Value {
    let coding = headers
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case("content-encoding"));
    let mut plain = Vec::new();
    let read = match coding.map(|(_, value)| value.as_str()) {
        Some("gzip") => flate2::read::GzDecoder::new(bytes).read_to_end(&mut plain),
        Some("br") => brotli::Decompressor::new(bytes, 4096).read_to_end(&mut plain),
        Some("zstd") => {
            zstd::stream::read::Decoder::new(bytes).and_then(|mut decoder| decoder.read_to_end(&mut plain))
        }
        _ => return body_json(bytes),
    };
    match read {
        Ok(_) => json!({"compressed": body_json(&plain)}),
        Err(_) if bytes.is_empty() => body_json(bytes),
        Err(error) => json!(format!("not to be read: {error}")),
    }
}

/// A short body as text, a long one as its length; the upstream's report is compared where it was received.
fn body_json(bytes: &[u8]) -> Value {
    let text = String::from_utf8_lossy(bytes);
    if text.contains("\"upstream\":") {
        json!("the upstream's report")
    } else if bytes.len() > 400 {
        json!(format!(
            "{} octets, all x: {}",
            bytes.len(),
            bytes.iter().all(|byte| *byte == b'x')
        ))
    } else {
        json!(text)
    }
}

fn normal(fields: &Fields) -> Value {
    let mut fields: Fields = fields
        .iter()
        .map(|(name, value)| (name.clone(), normal_value(&name.to_ascii_lowercase(), value)))
        .collect();
    fields.sort_by_key(|(name, _)| name.to_ascii_lowercase());
    fields_json(&fields)
}

fn normal_value(name: &str, value: &str) -> String {
    let is_uuid = value.len() == 36 && value.bytes().filter(|byte| *byte == b'-').count() == 4;
    match name {
        "date" if value.ends_with(" GMT") => "DATE".to_owned(),
        "x-request-id" if is_uuid => "UUID".to_owned(),
        // When a request is tried again it says what is left of a timeout, after a wait that is drawn.
        "x-envoy-expected-rq-timeout-ms"
            if value.parse().is_ok_and(|left: u32| (300..=2000).contains(&left)) =>
        {
            "AT MOST 2000".to_owned()
        }
        "x-envoy-expected-rq-timeout-ms"
            if value.parse().is_ok_and(|left: u32| (5000..=8000).contains(&left)) =>
        {
            "AT MOST 8000".to_owned()
        }
        // How long the rows took.
        "age" if value.parse().is_ok_and(|age: u32| age <= 60) => "AGE".to_owned(),
        "x-envoy-upstream-service-time" => "MILLISECONDS".to_owned(),
        // It counts down from row to row.
        "x-ratelimit-reset"
            if value
                .parse::<u32>()
                .is_ok_and(|seconds| (3500..=3600).contains(&seconds)) =>
        {
            "AN HOUR".to_owned()
        }
        // The upstream's report holds what differs from run to run.
        "content-length"
            if value
                .parse::<u32>()
                .is_ok_and(|length| (200..2000).contains(&length)) =>
        {
            "OF THE REPORT".to_owned()
        }
        _ => value.to_owned(),
    }
}
