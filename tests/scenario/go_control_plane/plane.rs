//! How does a test run our program on go-control-plane, and by which of its four gRPC modes does the proxy follow it?

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use harness::bootstrap::{self, AdsVariant};
use harness::peers;
use serde_json::{Value, json};
use tokio::sync::{OnceCell, watch};

/// How long a test waits for something that must happen.
pub const WITHIN: Duration = Duration::from_secs(30);

/// Our program on go-control-plane, running.
pub struct GoControlPlane {
    child: Child,
    input: ChildStdin,
    events: watch::Receiver<Vec<Value>>,
    /// Where it serves.
    pub address: SocketAddr,
}

impl GoControlPlane {
    /// Starts it at `listen` (`127.0.0.1:0` for a port of the system's choice), the way that `way` needs it.
    pub async fn start(binary: &Path, way: Way, listen: &str) -> Result<Self> {
        let mut child = Command::new(binary)
            .arg(format!("-ads={}", matches!(way, Way::Ads(_))))
            .args(["-listen", listen])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the control plane")?;
        let input = child.stdin.take().context("standard input is piped")?;
        let output = child.stdout.take().context("standard output is piped")?;
        let (sender, mut events) = watch::channel(Vec::new());
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let event = serde_json::from_str(&line).unwrap_or(Value::String(line));
                sender.send_modify(|all: &mut Vec<Value>| all.push(event));
            }
        });
        events.wait_for(|all| !all.is_empty()).await?;
        let port = events.borrow()[0]["port"]
            .as_u64()
            .context("the first line names the port")?;
        let address = SocketAddr::from(([127, 0, 0, 1], u16::try_from(port)?));
        Ok(Self {
            child,
            input,
            events,
            address,
        })
    }

    /// Gives a command and waits until it is carried out.
    pub async fn command(&mut self, command: &Value) -> Result<()> {
        let before = self.count(|event| event["event"] == "done");
        writeln!(self.input, "{command}")?;
        self.wait(|events| {
            let failed = events.iter().any(|event| event["event"] == "error");
            failed || events.iter().filter(|event| event["event"] == "done").count() > before
        })
        .await?;
        match self.events().iter().find(|event| event["event"] == "error") {
            Some(error) => bail!("go-control-plane: {error}"),
            None => Ok(()),
        }
    }

    /// Waits until `enough` holds of what it said.
    pub async fn wait(&mut self, enough: impl Fn(&[Value]) -> bool) -> Result<()> {
        let waited = tokio::time::timeout(WITHIN, self.events.wait_for(|all| enough(all)))
            .await
            .map(|_| ());
        waited.with_context(|| format!("go-control-plane saw only {:#?}", self.events()))
    }

    /// What it said so far, one value a line.
    pub fn events(&self) -> Vec<Value> {
        self.events.borrow().clone()
    }

    /// Serves `resources`: a whole snapshot, in lists by kind.
    pub async fn turn_into(&mut self, resources: &Value) -> Result<()> {
        self.command(&json!({"op": "resources", "resources": resources}))
            .await
    }

    /// How many responses of any type were refused so far.
    pub fn refusals(&self) -> usize {
        self.count(|event| event["event"] == "nack")
    }

    /// Ends it as `kill -9` does.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// How often it said something for which `wanted` holds.
    pub fn count(&self, wanted: impl Fn(&Value) -> bool) -> usize {
        self.events.borrow().iter().filter(|event| wanted(event)).count()
    }
}

impl Drop for GoControlPlane {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program, built once.
pub async fn binary() -> Result<Result<&'static PathBuf, peers::Missing>> {
    static BINARY: OnceCell<Result<PathBuf, peers::Missing>> = OnceCell::const_new();
    let built = BINARY.get_or_try_init(|| async { build() }).await?;
    Ok(built.as_ref().map_err(Clone::clone))
}

/// Builds the program into the target folder, beside the tests.
fn build() -> Result<Result<PathBuf, peers::Missing>> {
    let go = match peers::go() {
        Ok(go) => go,
        Err(missing) => return Ok(Err(missing)),
    };
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance/go-control-plane");
    let binary = std::env::current_exe()?.with_file_name("remora-go-control-plane");
    let output = Command::new(go)
        .args(["build", "-mod=readonly", "-o"])
        .arg(&binary)
        .arg(".")
        .current_dir(source)
        .output()?;
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() {
        return Ok(Ok(binary));
    }
    let offline = [
        "dial tcp",
        "no such host",
        "i/o timeout",
        "connection refused",
        "module lookup disabled",
    ];
    if offline.iter().any(|sign| words.contains(sign)) {
        return Ok(Err(peers::Missing(format!(
            "Go modules cannot be fetched: {}",
            words.trim()
        ))));
    }
    bail!("go build failed: {words}")
}

/// Which way the resources come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// All types on one stream.
    Ads(AdsVariant),
    /// One stream per type.
    Separate(AdsVariant),
}

impl Way {
    /// The bootstrap of a proxy that follows `server` this way.
    pub fn bootstrap(self, admin: SocketAddr, server: SocketAddr) -> Value {
        match self {
            Self::Ads(variant) => {
                let mut config = bootstrap::ads(admin, server, variant);
                config["dynamic_resources"]["ads_config"]["grpc_services"] = json!([service()]);
                config
            }
            Self::Separate(variant) => {
                let mut config = bootstrap::ads(admin, server, variant);
                config["dynamic_resources"] =
                    json!({"lds_config": self.source(), "cds_config": self.source()});
                config
            }
        }
    }

    /// Where resources that others name come from.
    pub fn source(self) -> Value {
        match self {
            Self::Ads(_) => json!({"ads": {}, "resource_api_version": "V3"}),
            Self::Separate(variant) => json!({"resource_api_version": "V3", "api_config_source": {
                "api_type": if variant == AdsVariant::Delta { "DELTA_GRPC" } else { "GRPC" },
                "transport_api_version": "V3",
                "grpc_services": [service()]}}),
        }
    }

    /// The program's word for the sources of what others name; empty for ADS.
    pub fn separate(self) -> &'static str {
        match self {
            Self::Ads(_) => "",
            Self::Separate(AdsVariant::Sotw) => "sotw",
            Self::Separate(AdsVariant::Delta) => "delta",
        }
    }
}

/// The server, asked again after 0.1 to 0.5 s when it is away.
fn service() -> Value {
    json!({"envoy_grpc": {"cluster_name": "control_plane", "retry_policy": {"retry_back_off": {
        "base_interval": "0.1s", "max_interval": "0.5s"}}}})
}
