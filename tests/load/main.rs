//! What does a request cost, beside the others, on this machine?
//!
//! Runs every peer in turn on one core, load and backend on another, in alternated rounds, and prints the medians. Only
//! CPU time per request (the scheduler's accounting of the proxy's processes) is steady enough to compare; throughput
//! and latency are shown beside it. Compare ratios of one run, never figures of two.
//!
//! `cargo run --release -p remora-tests --bin remora-load` after `cargo build --release -p remora`.

mod accounting;
mod backend;
mod generator;
mod instructions;
mod mesh;
mod peer;
mod report;

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::{Parser, Subcommand, ValueEnum};
use harness::peers;

use peer::{Certificates, Peer};
use report::Run;

/// What was needed only to start is given back, or not, within this time.
const REST: Duration = Duration::from_secs(3);

/// Which work is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Scenario {
    /// HTTP/1.1 with keep-alive on both sides.
    Http1,
    /// HTTP/2 on both sides.
    Http2,
    /// Two proxies, HTTP/1.1 over mutual TLS between them.
    Mtls,
    /// A TCP relay.
    Tcp,
}

/// What the backend speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Backend {
    Http1,
    Http2,
}

/// Runs the proxies side by side and prints what a request costs each.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// The scenarios, in order.
    #[arg(long, value_delimiter = ',', default_values_t = [Scenario::Http1, Scenario::Http2, Scenario::Mtls, Scenario::Tcp])]
    scenarios: Vec<Scenario>,
    /// The peers; those that are not installed are skipped aloud.
    #[arg(long, value_delimiter = ',', default_values_t = [Peer::Direct, Peer::Envoy, Peer::Remora, Peer::Haproxy, Peer::Nginx])]
    peers: Vec<Peer>,
    /// Rounds; the order of the peers turns with each.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds of load in each run, after one of warm-up.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// The core of the proxies.
    #[arg(long, default_value_t = 0)]
    proxy_core: usize,
    /// The core of load and backend.
    #[arg(long, default_value_t = 1)]
    load_core: usize,
    /// Where to write every single run as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serves as the backend; used by the command itself.
    #[command(hide = true)]
    Backend { kind: Backend },
    /// A mesh of ten thousand services: what it costs to load, to hold, to follow and to scrape, beside Envoy.
    Mesh(mesh::Arguments),
    /// What a request costs in instructions and allocations, held against what is recorded.
    Instructions(instructions::Arguments),
}

/// The cores, if there are enough to keep the proxy apart.
#[derive(Clone, Copy, Debug)]
struct Cores {
    proxy: Option<usize>,
    load: Option<usize>,
}

impl Scenario {
    fn name(self) -> &'static str {
        match self {
            Self::Http1 => "http1",
            Self::Http2 => "http2",
            Self::Mtls => "mtls",
            Self::Tcp => "tcp",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Http1 => "HTTP/1.1 keep-alive, 64 connections",
            Self::Http2 => "HTTP/2 on both sides, 10 connections with 10 streams each",
            Self::Mtls => {
                "Two proxies, HTTP/1.1 over mutual TLS between them, 64 connections (both proxies added up)"
            }
            Self::Tcp => "TCP relay, 64 connections",
        }
    }
}

impl std::fmt::Display for Scenario {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl std::fmt::Display for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    match &arguments.command {
        Some(Command::Backend { kind }) => return backend::serve(*kind).await,
        Some(Command::Mesh(arguments)) => return mesh::run(arguments).await,
        Some(Command::Instructions(arguments)) => return instructions::run(arguments).await,
        None => {}
    }
    let count = std::thread::available_parallelism()?.get();
    let apart =
        count >= 2 && peers::program("taskset").is_ok() && arguments.proxy_core != arguments.load_core;
    let core = |number: usize| apart.then_some(number);
    let cores = Cores {
        proxy: core(arguments.proxy_core),
        load: core(arguments.load_core),
    };
    let mut out = std::io::stdout();
    if !apart {
        writeln!(
            out,
            "The proxies share their cores with load and backend: the figures mean little."
        )?;
    }
    if cfg!(debug_assertions) {
        writeln!(out, "This is a debug build: run it with --release.")?;
    }
    let busy = accounting::load_average()?;
    if busy > 0.5 {
        writeln!(
            out,
            "The machine is busy before we start (load average {busy}): caches are shared, ratios shift."
        )?;
    }
    let certificates = Certificates::new()?;
    let mut runs = Vec::new();
    for scenario in &arguments.scenarios {
        runs.extend(measure(*scenario, &arguments, &certificates, cores).await?);
    }
    writeln!(out, "{}", report::markdown(&runs, &arguments.scenarios))?;
    if let Some(path) = &arguments.json {
        std::fs::write(path, serde_json::to_string_pretty(&report::json(&runs))?)?;
    }
    Ok(())
}

/// All rounds of one scenario.
async fn measure(
    scenario: Scenario,
    arguments: &Arguments,
    certificates: &Certificates,
    cores: Cores,
) -> Result<Vec<Run>> {
    let mut usable = Vec::new();
    let generator = if scenario == Scenario::Http2 {
        "h2load"
    } else {
        "wrk"
    };
    if let Err(missing) = peers::program(generator) {
        peers::skip(&format!("load {}", scenario.name()), &missing)?;
        return Ok(Vec::new());
    }
    for peer in &arguments.peers {
        match peer.usable(scenario) {
            Ok(()) => usable.push(*peer),
            Err(missing) => peers::skip(&format!("load {} {}", scenario.name(), peer.name()), &missing)?,
        }
    }
    let mut runs = Vec::new();
    for round in 0..arguments.rounds {
        for index in 0..usable.len() {
            let peer = usable[(index + round) % usable.len()];
            let run = once(scenario, peer, arguments.seconds, certificates, cores).await?;
            let cpu = run
                .cpu_us
                .map_or_else(String::new, |cpu| format!(", {cpu:.1} us of CPU each"));
            writeln!(
                std::io::stderr(),
                "{} round {}: {} {:.0} requests/s{cpu}, p50 {:.0} us, p99 {:.0} us, {} failed",
                scenario.name(),
                round + 1,
                peer.name(),
                run.rate,
                run.p50_us,
                run.p99_us,
                run.failures
            )?;
            runs.push(run);
        }
    }
    Ok(runs)
}

/// One run: a fresh backend and a fresh peer, memory at rest, a second of warm-up, then the load.
async fn once(
    scenario: Scenario,
    peer: Peer,
    seconds: u64,
    certificates: &Certificates,
    cores: Cores,
) -> Result<Run> {
    let (backing, address) = peer::start_backend(scenario, cores.load)?;
    let running = peer.start(scenario, address, certificates, cores.proxy).await?;
    tokio::time::sleep(REST).await;
    let rest = accounting::read(&running.pids)?;
    let is_http2 = scenario == Scenario::Http2;
    generator::run(is_http2, running.address, 1, cores.load)?;
    let before = accounting::read(&running.pids)?;
    let seen = generator::run(is_http2, running.address, seconds, cores.load)?;
    let after = accounting::read(&running.pids)?;
    drop(backing);
    let mib = |kib: u64| kib as f64 / 1024.0;
    let spent = (after.cpu_ns - before.cpu_ns) as f64 / 1000.0;
    Ok(Run {
        scenario,
        peer,
        cpu_us: (!running.pids.is_empty()).then(|| spent / (seen.requests + seen.failures).max(1) as f64),
        rate: seen.rate,
        p50_us: seen.p50_us,
        p99_us: seen.p99_us,
        rest_mib: mib(rest.resident_kib),
        peak_mib: mib(after.peak_kib),
        failures: seen.failures,
    })
}
