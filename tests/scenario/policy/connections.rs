//! A policy that changes holds at once: for open connections, and for the next request of one that stays open.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::bootstrap::{self, AdsVariant, type_url};
use harness::client::{RawClient, timed};
use harness::control_plane::{CLUSTER, ControlPlane, LISTENER, ResourceReader};
use harness::process::{Options, Port, Proxy, ProxyProcess};
use harness::upstream::{TcpEcho, Upstream, tcp_echo};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

const WITHIN: Duration = Duration::from_secs(20);

struct Scene {
    reader: ResourceReader,
    control_plane: ControlPlane,
    process: ProxyProcess,
    tunnel: Port,
    http: Port,
    log: tempfile::TempDir,
    _echo: TcpEcho,
    _upstream: Upstream,
}

fn policy(action: &str, principal: &Value) -> Value {
    json!({"action": action, "policies": {"the policy": {"permissions": [{"any": true}], "principals": [principal]}}})
}

/// Everybody here.
fn local() -> Value {
    json!({"direct_remote_ip": {"address_prefix": "127.0.0.0", "prefix_len": 8}})
}

impl Scene {
    async fn start() -> Result<Self> {
        let control_plane = ControlPlane::start().await?;
        let (echo, upstream) = (tcp_echo("echo").await?, Upstream::start("web").await?);
        let (tunnel, http, admin) = (Port::reserve()?, Port::reserve()?, Port::reserve()?);
        let text = bootstrap::ads(admin.address(), control_plane.address(), AdsVariant::Delta).to_string();
        let reader = ResourceReader::new()?;
        control_plane.put([
            reader.json(CLUSTER, &bootstrap::cluster("echo", &[echo.address()]))?,
            reader.json(CLUSTER, &bootstrap::cluster("web", &[upstream.address()]))?,
        ]);
        let mut scene = Self {
            reader,
            control_plane,
            process: ProxyProcess::spawn(Proxy::Remora, &text, admin, &Options::default())?,
            tunnel,
            http,
            log: tempfile::tempdir()?,
            _echo: echo,
            _upstream: upstream,
        };
        scene.judge(&policy("ALLOW", &local())).await?;
        scene.process.wait_ready(WITHIN).await?;
        Ok(scene)
    }

    /// Sends both listeners with this policy, and waits until it is in force.
    async fn judge(&mut self, rules: &Value) -> Result<()> {
        let guard = json!({"name": "guard", "typed_config": {
            "@type": type_url("extensions.filters.network.rbac.v3.RBAC"), "stat_prefix": "guard",
            "rules": rules, "shadow_rules": policy("DENY", &local()), "shadow_rules_stat_prefix": "next_"}});
        let mut tunnel = bootstrap::tcp_proxy("echo");
        tunnel["typed_config"]["access_log"] = json!([{"name": "log", "typed_config": {
            "@type": type_url("extensions.access_loggers.file.v3.FileAccessLog"),
            "path": self.log.path().join("log"),
            "log_format": {"text_format_source": {"inline_string":
                "%CONNECTION_TERMINATION_DETAILS% %DYNAMIC_METADATA(envoy.filters.network.rbac)% %RESPONSE_FLAGS%\n"}}}}]);
        let mut listener = bootstrap::listener("tunnel", self.tunnel.address(), tunnel.clone());
        listener["filter_chains"][0]["filters"] = json!([guard, tunnel]);
        let manager = bootstrap::http_connection_manager(&json!({
            "access_log": [{"name": "log", "typed_config": {
                "@type": type_url("extensions.access_loggers.file.v3.FileAccessLog"),
                "path": self.log.path().join("requests"),
                "log_format": {"text_format_source": {"inline_string":
                    "%DYNAMIC_METADATA(envoy.filters.http.rbac)% %RESPONSE_CODE_DETAILS%\n"}}}}],
            "route_config": bootstrap::route_everything("routes", "web"),
            "http_filters": [
                {"name": "policy", "typed_config": {
                    "@type": type_url("extensions.filters.http.rbac.v3.RBAC"), "rules": rules}},
                {"name": "router", "typed_config": {
                    "@type": type_url("extensions.filters.http.router.v3.Router")}}]}));
        let http = bootstrap::listener("http", self.http.address(), manager);
        self.control_plane.forget_requests();
        self.control_plane.put([
            self.reader.json(LISTENER, &listener)?,
            self.reader.json(LISTENER, &http)?,
        ]);
        self.control_plane.wait_ack(LISTENER).await?;
        Ok(())
    }

    /// An access log once it has so many lines.
    async fn lines(&self, file: &str, least: usize) -> Result<Vec<String>> {
        let path = self.log.path().join(file);
        timed(async {
            loop {
                let text = std::fs::read_to_string(&path).unwrap_or_default();
                let lines: Vec<String> = text.lines().map(str::to_owned).collect();
                if lines.len() >= least {
                    return Ok(lines);
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await
    }
}

/// A tunnel to the echo, greeted.
async fn tunnel(scene: &Scene) -> Result<BufReader<TcpStream>> {
    let mut stream = BufReader::new(TcpStream::connect(scene.tunnel.address()).await?);
    let mut greeting = String::new();
    timed(async { Ok(stream.read_line(&mut greeting).await?) }).await?;
    ensure!(greeting == "echo\n", "greeted with {greeting:?}");
    Ok(stream)
}

async fn echoes(stream: &mut BufReader<TcpStream>, word: &str) -> Result<()> {
    stream.write_all(word.as_bytes()).await?;
    let mut back = vec![0; word.len()];
    timed(async { Ok(stream.read_exact(&mut back).await?) }).await?;
    ensure!(back == word.as_bytes(), "{back:?} came back");
    Ok(())
}

/// Ready once the other side has closed, with what came before.
async fn closed(mut stream: impl AsyncReadExt + Unpin) -> Result<Vec<u8>> {
    let mut rest = Vec::new();
    timed(async {
        // A reset is an end too.
        let _ = stream.read_to_end(&mut rest).await;
        Ok(rest)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_ends_when_its_policy_does_not_permit_it_any_more_and_only_then() -> Result<()> {
    let mut scene = Scene::start().await?;
    let mut open = tunnel(&scene).await?;
    echoes(&mut open, "one").await?;

    // Other words for the same: nobody is disturbed.
    scene.judge(&policy("ALLOW", &json!({"any": true}))).await?;
    echoes(&mut open, "two").await?;

    scene.judge(&policy("DENY", &local())).await?;
    ensure!(closed(open).await?.is_empty());
    scene
        .process
        .wait_metric("envoy_rbac_revoked", "guard", 1.0, WITHIN)
        .await?;
    let refused = TcpStream::connect(scene.tunnel.address()).await?;
    ensure!(
        closed(refused).await?.is_empty(),
        "no byte of the server gets out"
    );
    let denied = scene.process.metric("envoy_rbac_denied", "guard").await?;
    ensure!(denied == Some(1.0), "{denied:?} denied");
    let line = r#"rbac_access_denied_matched_policy[the_policy] {"next_shadow_effective_policy_id":"the policy","next_shadow_engine_result":"denied"} -"#;
    let lines = scene.lines("log", 2).await?;
    ensure!(lines == [line, line], "{lines:#?}");

    scene.judge(&policy("ALLOW", &local())).await?;
    echoes(&mut tunnel(&scene).await?, "three").await?;
    let stats = scene.process.admin_text("/stats?filter=guard").await?;
    for line in ["guard.rbac.allowed: 2", "guard.rbac.next_.shadow_denied: 3"] {
        ensure!(stats.lines().any(|other| other == line), "no {line} in {stats}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_request_on_a_connection_meets_the_new_policy() -> Result<()> {
    let mut scene = Scene::start().await?;
    let request = b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n";
    let mut client = RawClient::connect(scene.http.address()).await?;
    ensure!(client.exchange(request).await?.status() == 200);
    scene.judge(&policy("DENY", &local())).await?;
    let refused = client
        .exchange(request)
        .await
        .context("the connection stays open")?;
    ensure!(
        refused.status() == 403 && refused.text() == "RBAC: access denied",
        "{refused:?}"
    );
    scene.judge(&policy("ALLOW", &local())).await?;
    ensure!(client.exchange(request).await?.status() == 200);
    let denied = scene.process.metric("envoy_http_rbac_denied", "").await?;
    ensure!(denied == Some(1.0), "{denied:?} denied");
    let allowed =
        r#"{"enforced_effective_policy_id":"the policy","enforced_engine_result":"allowed"} via_upstream"#;
    let denied = r#"{"enforced_effective_policy_id":"the policy","enforced_engine_result":"denied"} rbac_access_denied_matched_policy[the_policy]"#;
    let lines = scene.lines("requests", 3).await?;
    ensure!(lines == [allowed, denied, allowed], "{lines:#?}");
    Ok(())
}
