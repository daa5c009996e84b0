//! Does gRPC survive the proxy? grpcio, which nobody here wrote, is client and server.
//!
//! Unary calls, streams in both directions, metadata, every status, cancellation and deadlines go through the proxy
//! by HTTP/2 on both sides; the server must see a cancelled call end.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::bootstrap;
use harness::peers;
use harness::process::{Options, Port, Proxy, ProxyProcess};
use serde_json::json;
use tokio::sync::watch;

/// The grpcio server; it ends when its input closes.
struct Server {
    child: Child,
    lines: watch::Receiver<Vec<String>>,
    address: SocketAddr,
}

impl Server {
    async fn start(python: &Path) -> Result<Self> {
        let mut child = Command::new(python)
            .args(["-u"])
            .arg(script("server.py"))
            .arg("grpcio")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let output = child.stdout.take().context("standard output is piped")?;
        let (sender, mut lines) = watch::channel(Vec::new());
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                sender.send_modify(|all: &mut Vec<String>| all.push(line));
            }
        });
        lines
            .wait_for(|all| !all.is_empty())
            .await
            .context("the gRPC server did not start")?;
        let port: u16 = lines.borrow()[0].parse().context("the first line is the port")?;
        Ok(Self {
            child,
            lines,
            address: SocketAddr::from(([127, 0, 0, 1], port)),
        })
    }

    async fn wait_line(&mut self, start: &str) -> Result<String> {
        let found = self
            .lines
            .wait_for(|all| all.iter().any(|line| line.starts_with(start)));
        let waited = tokio::time::timeout(Duration::from_secs(10), found)
            .await
            .map(|all| all.map(|all| all.clone()));
        let lines = waited.with_context(|| format!("the server never said '{start}'"))??;
        lines
            .into_iter()
            .find(|line| line.starts_with(start))
            .context("it was just there")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("conformance/grpc")
        .join(name)
}

/// A bootstrap with one HTTP/2 listener before the server; no time limits, as meshes set them for gRPC.
fn config(admin: SocketAddr, listen: SocketAddr, server: SocketAddr) -> String {
    let manager = bootstrap::http_connection_manager(&json!({"route_config": {
        "name": "r", "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [
            {"match": {"prefix": "/"}, "route": {"cluster": "grpc", "timeout": "0s"}}]}]}}));
    let listener = bootstrap::listener("grpc", listen, manager);
    bootstrap::fixed(
        admin,
        vec![listener],
        vec![bootstrap::http2_cluster("grpc", &[server])],
    )
    .to_string()
}

/// Runs the client's cases against `target`; each line of its output is one case.
async fn run_client(python: &Path, target: SocketAddr) -> Result<Vec<String>> {
    let mut child = Command::new(python)
        .args(["-u"])
        .arg(script("client.py"))
        .arg(target.to_string())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut output = child.stdout.take().context("standard output is piped")?;
    let text = tokio::task::spawn_blocking(move || {
        let mut text = String::new();
        output.read_to_string(&mut text).map(|_| text)
    });
    let waited = tokio::time::timeout(Duration::from_secs(120), text).await;
    if waited.is_err() {
        child.kill()?;
    }
    child.wait()?;
    Ok(waited
        .context("the gRPC client hangs")???
        .lines()
        .map(str::to_owned)
        .collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grpc_calls_of_every_kind_pass_through_it() -> Result<()> {
    let python = match peers::python_with_grpc() {
        Ok(python) => python,
        Err(missing) => return peers::skip("grpc", &missing),
    };
    for proxy in Proxy::under_test("grpc")? {
        let mut server = Server::start(&python).await?;
        let (admin, port) = (Port::reserve()?, Port::reserve()?);
        let text = config(admin.address(), port.address(), server.address);
        let process = ProxyProcess::start(proxy, &text, admin, &Options::default()).await?;
        let cases = run_client(&python, port.address()).await?;
        let failed: Vec<&String> = cases.iter().filter(|case| !case.starts_with("ok ")).collect();
        ensure!(failed.is_empty(), "{}: {failed:#?}", proxy.name());
        ensure!(
            cases.len() == 16,
            "{}: the client ran only {cases:?}",
            proxy.name()
        );
        server.wait_line("cancelled hang").await?;
        let slow = server.wait_line("cancelled slow").await?;
        let remaining = slow
            .rsplit(' ')
            .next()
            .and_then(|word| word.parse::<f64>().ok())
            .unwrap_or(-1.0);
        ensure!(
            (0.0..=0.5).contains(&remaining),
            "the deadline did not reach the server: '{slow}'"
        );
        drop(process);
    }
    Ok(())
}
