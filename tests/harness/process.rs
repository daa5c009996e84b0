//! How does a test run a proxy: Remora or, with the same bootstrap, the real Envoy?
//!
//! A [`ProxyProcess`] is started from a bootstrap text, waited for at `/ready`, and killed by its own process id when
//! it is dropped; when the test panics then, or `REMORA_TEST_LOG=1` is set, the end of its log goes to standard error. A [`Port`] keeps its
//! number free for the proxy by staying bound (with `SO_REUSEPORT`, without listening) until the test ends.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::net::TcpSocket;

use crate::client;
use crate::peers::{self, Missing};

/// The proxy under test. Both take an Envoy v3 bootstrap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proxy {
    /// Ours.
    Remora,
    /// The real Envoy, the reference.
    Envoy,
}

/// How to start it.
#[derive(Clone, Debug)]
pub struct Options {
    /// Worker threads.
    pub concurrency: u32,
    /// Further command line arguments.
    pub arguments: Vec<String>,
    /// What to put before the command line: `ip netns exec NAME`, `taskset -c 0`.
    pub wrapper: Vec<String>,
    /// The user and group that it becomes (root only). Binary, bootstrap and log are then put where that user can
    /// reach them.
    pub user: Option<(u32, u32)>,
    /// Whether it is out of reach of the terminal's Ctrl-C, so that whoever started it ends it.
    pub own_process_group: bool,
    /// Envoy's name of the log level.
    pub log_level: String,
    /// How long it may take until `/ready` answers 200.
    pub ready_within: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            concurrency: 1,
            arguments: Vec::new(),
            wrapper: Vec::new(),
            user: None,
            own_process_group: false,
            log_level: "warning".to_owned(),
            ready_within: Duration::from_secs(30),
        }
    }
}

/// A port number that nobody else gets while this lives.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _reservation: TcpSocket,
}

/// A running proxy.
#[derive(Debug)]
pub struct ProxyProcess {
    kind: Proxy,
    child: Child,
    admin: SocketAddr,
    folder: tempfile::TempDir,
}

impl Proxy {
    /// Its name in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Remora => "remora",
            Self::Envoy => "envoy",
        }
    }

    /// Its binary.
    pub fn binary(self) -> Result<PathBuf, Missing> {
        match self {
            Self::Remora => peers::remora(),
            Self::Envoy => peers::envoy(),
        }
    }

    /// The proxies that `test` is to run with: what `REMORA_TEST_PROXY` says (`remora`, `envoy` or `both`), else Remora.
    /// One whose binary is not here is skipped aloud; where that is Remora, the test then runs with Envoy, if there is
    /// one, so that at least the expectations are checked. A binary that is there and does not serve fails the test.
    ///
    /// # Errors
    /// When something would be skipped and `REMORA_NO_SKIP=1` is set.
    pub fn under_test(test: &str) -> Result<Vec<Self>> {
        let wanted = match std::env::var("REMORA_TEST_PROXY").as_deref() {
            Ok("envoy") => vec![Self::Envoy],
            Ok("both") => vec![Self::Envoy, Self::Remora],
            _ => vec![Self::Remora],
        };
        let mut usable = Vec::new();
        for proxy in wanted {
            match proxy.binary() {
                Ok(_) => usable.push(proxy),
                Err(missing) => {
                    peers::skip(&format!("{test} with {}", proxy.name()), &missing)?;
                    if proxy == Self::Remora && usable.is_empty() && Self::Envoy.binary().is_ok() {
                        usable.push(Self::Envoy);
                    }
                }
            }
        }
        Ok(usable)
    }
}

impl Port {
    /// Reserves a port on 127.0.0.1 that the system chooses.
    pub fn reserve() -> Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseport(true)?;
        socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
        let number = socket.local_addr()?.port();
        Ok(Self {
            number,
            _reservation: socket,
        })
    }

    /// Reserves a port that a proxy had, for the same proxy started again.
    ///
    /// # Errors
    /// Somebody else has it.
    pub fn again(address: SocketAddr) -> Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseport(true)?;
        // Its last connections may still be in TIME_WAIT.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        Ok(Self {
            number: address.port(),
            _reservation: socket,
        })
    }

    /// The number.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// 127.0.0.1 with the number.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.number).into()
    }
}

impl ProxyProcess {
    /// Starts `kind` with `bootstrap` (YAML or JSON) and waits until it is ready. `admin` is the port that the
    /// bootstrap names for its admin listener.
    ///
    /// # Errors
    /// When the binary is absent, ends early (with the end of its log) or is not ready in time.
    pub async fn start(kind: Proxy, bootstrap: &str, admin: Port, options: &Options) -> Result<Self> {
        let mut process = Self::spawn(kind, bootstrap, admin, options)?;
        process.wait_ready(options.ready_within).await?;
        Ok(process)
    }

    /// Starts without waiting.
    ///
    /// # Errors
    /// When the binary is absent or cannot be started.
    pub fn spawn(kind: Proxy, bootstrap: &str, admin: Port, options: &Options) -> Result<Self> {
        let mut binary = kind.binary().map_err(|missing| anyhow::anyhow!(missing.0))?;
        let folder = tempfile::tempdir()?;
        let config = folder.path().join(if bootstrap.trim_start().starts_with('{') {
            "b.json"
        } else {
            "b.yaml"
        });
        std::fs::write(&config, bootstrap)?;
        let log = File::create(folder.path().join("log"))?;
        if let Some(user) = options.user {
            binary = hand_over(folder.path(), &binary, user)?;
        }
        let mut line: Vec<std::ffi::OsString> = options.wrapper.iter().map(Into::into).collect();
        line.extend([binary.into(), "-c".into(), config.into()]);
        line.extend(["--concurrency".into(), options.concurrency.to_string().into()]);
        line.extend(["-l".into(), options.log_level.clone().into()]);
        if kind == Proxy::Envoy {
            line.push("--disable-hot-restart".into());
        }
        line.extend(options.arguments.iter().map(Into::into));
        // The admin port is bound without SO_REUSEPORT, so it must be let go of first.
        let address = admin.address();
        drop(admin);
        let mut command = Command::new(line.first().context("a command line is never empty")?);
        if let Some((user, group)) = options.user {
            command.uid(user).gid(group);
        }
        if options.own_process_group {
            command.process_group(0);
        }
        let child = command
            .args(&line[1..])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", kind.name()))?;
        Ok(Self {
            kind,
            child,
            admin: address,
            folder,
        })
    }

    /// Starts without waiting for readiness, with an admin port that the system chooses: `bootstrap` names port 0.
    /// Nobody can take that port between its choice and its use. Blocks until the process says which one it is, so the
    /// test's runtime must have another thread.
    ///
    /// # Errors
    /// As [`Self::spawn`], and when the process ends or says nothing in time.
    pub fn spawn_on_any_port(kind: Proxy, bootstrap: &str, options: &Options) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("admin");
        let mut options = options.clone();
        let path = file.to_string_lossy().into_owned();
        options
            .arguments
            .extend(["--admin-address-path".to_owned(), path]);
        let mut process = Self::spawn(kind, bootstrap, Port::reserve()?, &options)?;
        let deadline = Instant::now() + options.ready_within;
        tokio::task::block_in_place(|| {
            loop {
                let said = std::fs::read_to_string(&file).unwrap_or_default();
                if let Ok(address) = said.trim().parse() {
                    process.admin = address;
                    return Ok(());
                }
                if let Some(status) = process.child.try_wait()? {
                    bail!("{} ended with {status}:\n{}", kind.name(), process.log_tail());
                }
                if Instant::now() > deadline {
                    bail!("{} names no admin port:\n{}", kind.name(), process.log_tail());
                }
                std::thread::sleep(Duration::from_millis(2));
            }
        })?;
        Ok(process)
    }

    /// Waits until `/ready` says 200.
    pub async fn wait_ready(&mut self, within: Duration) -> Result<()> {
        let admin = self.admin;
        let is_ready = move || async move {
            matches!(client::get(admin, "/ready").await, Ok(response) if response.status() == 200)
        };
        self.wait_until(within, is_ready).await
    }

    /// Waits until `is_ready` says so, for a proxy whose admin port cannot be reached from here (in a network
    /// namespace).
    ///
    /// # Errors
    /// When the proxy ends first or the time is over; both with the end of its log.
    pub async fn wait_until<F>(&mut self, within: Duration, is_ready: impl Fn() -> F) -> Result<()>
    where
        F: Future<Output = bool>,
    {
        let deadline = Instant::now() + within;
        loop {
            if let Some(status) = self.child.try_wait()? {
                bail!(
                    "{} ended with {status} before it was ready:\n{}",
                    self.kind.name(),
                    self.log_tail()
                );
            }
            if is_ready().await {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!(
                    "{} is not ready after {within:?}:\n{}",
                    self.kind.name(),
                    self.log_tail()
                );
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Which proxy it is.
    pub fn kind(&self) -> Proxy {
        self.kind
    }

    /// Its process id; with a wrapper that does not `exec`, the wrapper's.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its admin port.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// The body that an admin path answers with.
    pub async fn admin_text(&self, path: &str) -> Result<String> {
        let response = client::get(self.admin, path).await?;
        Ok(String::from_utf8_lossy(&response.body.bytes).into_owned())
    }

    /// What a `POST` to an admin path answers: status and body.
    pub async fn admin_post(&self, path: &str) -> Result<(u16, String)> {
        let admin = self.admin;
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: {admin}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        );
        let response = client::RawClient::connect(admin)
            .await?
            .exchange(request.as_bytes())
            .await?;
        Ok((response.status(), response.text()))
    }

    /// The sum over all series of one Prometheus metric whose labels contain `labels`; `None` if it is not there.
    pub async fn metric(&self, name: &str, labels: &str) -> Result<Option<f64>> {
        let text = self.admin_text("/stats/prometheus").await?;
        let mut sum = None;
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let Some((series, value)) = line.rsplit_once(' ') else {
                continue;
            };
            let (found, with) = series.split_once('{').unwrap_or((series, ""));
            if found == name && with.contains(labels) {
                *sum.get_or_insert(0.0) += value.parse::<f64>().unwrap_or(0.0);
            }
        }
        Ok(sum)
    }

    /// Waits until [`Self::metric`] is at least `least`.
    ///
    /// # Errors
    /// When it is not within `within`; the message says what it is.
    pub async fn wait_metric(&self, name: &str, labels: &str, least: f64, within: Duration) -> Result<()> {
        self.wait_metric_for(name, labels, within, |now| now >= least)
            .await
            .with_context(|| format!("not {least}"))
    }

    /// Waits until `enough` holds of [`Self::metric`].
    ///
    /// # Errors
    /// When it does not within `within`; the message says what it is.
    pub async fn wait_metric_for(
        &self,
        name: &str,
        labels: &str,
        within: Duration,
        enough: impl Fn(f64) -> bool,
    ) -> Result<()> {
        let deadline = Instant::now() + within;
        loop {
            let now = self.metric(name, labels).await?;
            if now.is_some_and(&enough) {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("{name}{{{labels}}} is {now:?} after {within:?}");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until the log has a line that contains all of `words`, and returns it.
    ///
    /// # Errors
    /// When there is none within `within`; the message holds the end of the log.
    pub async fn wait_log(&self, words: &[&str], within: Duration) -> Result<String> {
        let deadline = Instant::now() + within;
        loop {
            let log = self.log();
            if let Some(line) = log
                .lines()
                .find(|line| words.iter().all(|word| line.contains(word)))
            {
                return Ok(line.to_owned());
            }
            if Instant::now() > deadline {
                bail!(
                    "no line with {words:?} in the log after {within:?}:\n{}",
                    self.log_tail()
                );
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Everything it wrote to standard output and standard error.
    pub fn log(&self) -> String {
        std::fs::read(self.folder.path().join("log"))
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// Ends it at once (`SIGKILL`), and waits for its end.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Asks it to end.
    pub fn terminate(&self) -> Result<()> {
        let pid = i32::try_from(self.child.id())?;
        let pid = rustix::process::Pid::from_raw(pid).context("a process id is never 0")?;
        Ok(rustix::process::kill_process(pid, rustix::process::Signal::TERM)?)
    }

    /// Waits for its end.
    pub async fn wait_exit(&mut self, within: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + within;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() > deadline {
                bail!("{} still runs after {within:?}", self.kind.name());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}

/// Gives the folder and what is in it to `user`, with a copy of the binary, whose own folder that user may not enter.
fn hand_over(folder: &Path, binary: &Path, (user, group): (u32, u32)) -> Result<PathBuf> {
    let copy = folder.join(binary.file_name().context("a binary has a name")?);
    std::fs::copy(binary, &copy).with_context(|| format!("copying {}", binary.display()))?;
    for entry in std::fs::read_dir(folder)? {
        chown(entry?.path(), Some(user), Some(group))?;
    }
    chown(folder, Some(user), Some(group))?;
    Ok(copy)
}

impl Drop for ProxyProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() || std::env::var_os("REMORA_TEST_LOG").is_some() {
            use std::io::Write;
            let _ = writeln!(
                std::io::stderr(),
                "--- log of {}:\n{}",
                self.kind.name(),
                self.log_tail()
            );
        }
    }
}
