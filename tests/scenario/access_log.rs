//! Does an access log show a request as it was sent upstream? Path and authority that the route rewrote, the scheme
//! that it was routed by, and beside them what the client sent.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::bootstrap::{self, type_url};
use harness::client::{self, RawClient};
use harness::process::{Options, Port, Proxy, ProxyProcess};
use harness::upstream::Upstream;
use serde_json::{Value, json};

const FORMAT: &str =
    "%REQ(:SCHEME)% %REQ(:AUTHORITY)% %REQ(:PATH)% was %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %RESPONSE_CODE%\n";

fn manager(log: &Path) -> Value {
    let mut routes = bootstrap::route_everything("routes", "up");
    routes["virtual_hosts"][0]["routes"] = json!([
        {"match": {"prefix": "/old/"}, "route":
            {"cluster": "up", "prefix_rewrite": "/new/", "host_rewrite_literal": "rewritten.test"}},
        {"match": {"prefix": "/"}, "route": {"cluster": "up"}},
    ]);
    bootstrap::http_connection_manager(&json!({
        "route_config": routes,
        "normalize_path": true,
        "access_log": [{"name": "file", "typed_config": {
            "@type": type_url("extensions.access_loggers.file.v3.FileAccessLog"),
            "path": log.to_string_lossy(),
            "log_format": {"text_format_source": {"inline_string": FORMAT}},
        }}],
    }))
}

/// The lines of the log, once there are so many.
async fn lines(log: &Path, count: usize) -> Result<Vec<String>> {
    let read = async {
        loop {
            let text = std::fs::read_to_string(log).unwrap_or_default();
            if text.lines().count() >= count {
                return Ok(text.lines().map(str::to_owned).collect());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    client::timed(read).await.context("the access log never came")
}

async fn shows_what_was_sent(proxy: Proxy) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let log = folder.path().join("access.log");
    let upstream = Upstream::start("up").await?;
    let (port, admin) = (Port::reserve()?, Port::reserve()?);
    let text = bootstrap::fixed(
        admin.address(),
        vec![bootstrap::listener("ingress", port.address(), manager(&log))],
        vec![bootstrap::cluster("up", &[upstream.address()])],
    );
    let process = ProxyProcess::start(proxy, &text.to_string(), admin, &Options::default()).await?;
    let mut client = RawClient::connect(port.address()).await?;
    for head in [
        "GET /old/x?y=1 HTTP/1.1\r\nhost: a.test\r\n\r\n",
        "GET /a/../b HTTP/1.1\r\nhost: A.test\r\nx-forwarded-proto: https\r\n\r\n",
        "GET /same HTTP/1.1\r\nhost: a.test\r\n\r\n",
    ] {
        let response = client.exchange(head.as_bytes()).await?;
        ensure!(response.status() == 200, "{}", response.status());
    }
    drop(client);
    let seen = lines(&log, 3).await?;
    let expected = [
        "http rewritten.test /new/x?y=1 was /old/x?y=1 200",
        "https A.test /b was /b 200",
        "http a.test /same was /same 200",
    ];
    ensure!(seen == expected, "{seen:#?}");
    drop((process, upstream));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_access_log_shows_the_request_as_it_was_sent() -> Result<()> {
    for proxy in Proxy::under_test("access log")? {
        shows_what_was_sent(proxy).await.with_context(|| proxy.name())?;
    }
    Ok(())
}
