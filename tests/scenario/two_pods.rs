//! Does the main job get done? The demo, judged: two pods, shifting weights, three protocols, and what is on the wire.

#[path = "../demo/engine/mod.rs"]
mod engine;

#[path = "two_pods/capture.rs"]
mod capture;

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use capture::{Capture, Seen};
use engine::control::{CLIENT_ID, Weights};
use engine::pods::{self, Scene};
use engine::tally::{PROTOCOLS, Tally};
use engine::traffic::MARKER;
use engine::{Demo, SHIFTS};
use harness::client::RawClient;
use harness::namespaces;
use harness::peers::{self, Missing};
use harness::process::Proxy;

/// How long each phase lasts: long enough for shares to be near the weights.
const PHASE: Duration = Duration::from_secs(3);

/// How far a share may be from its weight. With 500 requests at random, five points are more than twice the standard
/// deviation of a share of one half, and the seventh point is more than three times.
const TOLERANCE: f64 = 0.08;

/// Why pods cannot be made here; says so aloud.
async fn pods_are_missing(test: &str) -> Result<bool> {
    let Some(missing) = pods::missing().await else {
        return Ok(false);
    };
    peers::skip(test, &Missing(missing))?;
    Ok(true)
}

/// Runs the phases under traffic.
async fn all_phases(demo: &mut Demo) -> Result<Tally> {
    demo.send_traffic();
    for (phase, weights) in SHIFTS.into_iter().enumerate() {
        if phase > 0 {
            demo.shift(weights).await?;
        }
        // The length of a phase, not a synchronisation: nothing is expected to have happened by then.
        tokio::time::sleep(PHASE).await;
    }
    demo.finish().await
}

fn nothing_failed(demo: &Demo, tally: &Tally) -> Result<()> {
    ensure!(
        tally.failed() == 0,
        "{} of {} failed: {:#?}",
        tally.failed(),
        tally.total(),
        tally.failures
    );
    ensure!(demo.refusals().is_empty(), "refused: {:#?}", demo.refusals());
    ensure!(tally.stream.messages > 0, "the long stream carried nothing");
    Ok(())
}

fn shares_follow_the_weights(tally: &Tally) -> Result<()> {
    for phase in &tally.phases {
        let Weights([_, second]) = phase.weights;
        for protocol in PROTOCOLS {
            let share = &phase.shares[protocol as usize];
            let part = share
                .of_second()
                .with_context(|| format!("no answer by {}", protocol.name()))?;
            let wanted = f64::from(second) / 100.0;
            ensure!(
                (part - wanted).abs() <= TOLERANCE,
                "{} with {:?}: {part} of {} answers came from v2",
                protocol.name(),
                phase.weights,
                share.total()
            );
        }
    }
    Ok(())
}

/// Every answer and every TCP connection carries the client's identity and no other.
fn the_server_saw_the_client(demo: &Demo, tally: &Tally) -> Result<()> {
    let tcp: u64 = tally.phases.iter().map(|phase| phase.shares[2].total()).sum();
    for (callers, how) in [
        (&tally.callers, "x-forwarded-client-cert"),
        (&demo.tcp_callers(), "the access log"),
    ] {
        let others: Vec<_> = callers.keys().filter(|caller| *caller != CLIENT_ID).collect();
        ensure!(others.is_empty(), "{how} names {others:?}");
    }
    let named = demo.tcp_callers().get(CLIENT_ID).copied().unwrap_or_default();
    ensure!(
        named == tcp && tcp > 0,
        "{named} of {tcp} TCP connections are in the access log"
    );
    Ok(())
}

/// Not a promise about speed, only that nothing waits for a timeout on its way.
fn nothing_stalls(tally: &Tally) -> Result<()> {
    for share in tally.phases.iter().flat_map(|phase| &phase.shares) {
        let median = share.percentile(50);
        ensure!(
            median < Duration::from_secs(1),
            "half of the answers take more than {median:?}"
        );
    }
    Ok(())
}

/// The service's address is answered by the client's sidecar or by nobody.
async fn without_a_sidecar_there_is_no_service(demo: &Demo) -> Result<()> {
    let to = demo.service().http;
    let connected = demo
        .place()
        .node
        .run(async move { RawClient::connect(to).await.map(drop) })
        .await;
    ensure!(connected.is_err(), "{to} answers without a sidecar");
    Ok(())
}

/// Who has no certificate gets nothing from the application, whether it speaks TLS or not.
async fn a_stranger_gets_nothing(demo: &Demo) -> Result<()> {
    let place = demo.place();
    let to = (place.server_pod, place.ports().http[0]).into();
    let answer = place
        .node
        .run(async move {
            let mut stranger = RawClient::connect(to).await?;
            stranger
                .exchange(b"GET / HTTP/1.1\r\nhost: greeter\r\n\r\n")
                .await
        })
        .await;
    ensure!(
        answer.is_err(),
        "a stranger was answered: {:?}",
        answer.map(|answer| answer.head)
    );
    Ok(())
}

fn only_tls_is_between_the_pods(between: &Seen, within: &Seen) -> Result<()> {
    ensure!(
        within.contains(MARKER),
        "the capture within the client's pod lacks what the application sent"
    );
    ensure!(
        !between.contains(MARKER),
        "what the application sent is to be read between the pods"
    );
    let mut application_data = 0;
    for ((from, to), direction) in &between.directions {
        let records = direction.records().with_context(|| format!("{from} to {to}"))?;
        application_data += records.application_data;
    }
    ensure!(
        application_data > 100,
        "only {application_data} TLS records with data in {} directions",
        between.directions.len()
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn weights_shift_under_traffic_between_two_pods_and_nothing_is_lost_or_readable() -> Result<()> {
    let test = "two_pods";
    if pods_are_missing(test).await? {
        return Ok(());
    }
    for proxy in Proxy::under_test(test)? {
        judge(proxy)
            .await
            .with_context(|| format!("with {}", proxy.name()))?;
    }
    Ok(())
}

async fn judge(proxy: Proxy) -> Result<()> {
    let mut demo = Demo::start(proxy, Scene::Pods).await?;
    let captures = captures(&demo).await?;
    without_a_sidecar_there_is_no_service(&demo).await?;
    a_stranger_gets_nothing(&demo).await?;
    let tally = all_phases(&mut demo).await?;
    nothing_failed(&demo, &tally)?;
    shares_follow_the_weights(&tally)?;
    nothing_stalls(&tally)?;
    the_server_saw_the_client(&demo, &tally)?;
    if let Some([between, within]) = captures {
        only_tls_is_between_the_pods(&between.end()?, &within.end()?)?;
    }
    Ok(())
}

/// A capture on the wire between the pods, and one within the client's pod that shows that captures see plain text.
async fn captures(demo: &Demo) -> Result<Option<[Capture; 2]>> {
    if let Err(missing) = peers::program("tcpdump") {
        peers::skip("two_pods: the capture between the pods", &missing)?;
        return Ok(None);
    }
    let place = demo.place();
    let pods = place.pods.as_ref().context("there are pods")?;
    let between = format!("tcp and host {} and host {}", pods.client.ipv4, pods.server.ipv4);
    // The second pod's interface, as the node sees it.
    let between = Capture::start(&place.node, "pod2", between).await?;
    let within = Capture::start(&place.client, "lo", "tcp".to_owned()).await?;
    Ok(Some([between, within]))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_files_serve_on_loopback_where_there_are_no_pods() -> Result<()> {
    for proxy in Proxy::under_test("two_pods on loopback")? {
        let mut demo = Demo::start(proxy, Scene::Loopback).await?;
        let judged = async {
            let tally = all_phases(&mut demo).await?;
            nothing_failed(&demo, &tally)?;
            shares_follow_the_weights(&tally)?;
            the_server_saw_the_client(&demo, &tally)
        };
        judged.await.with_context(|| format!("with {}", proxy.name()))?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupted_demo_leaves_nothing_behind() -> Result<()> {
    let test = "two_pods: interrupted";
    if pods_are_missing(test).await? {
        return Ok(());
    }
    for proxy in Proxy::under_test(test)? {
        // The sidecars' user goes through this folder to its own.
        let scratch = tempfile::tempdir()?;
        std::fs::set_permissions(scratch.path(), PermissionsExt::from_mode(0o755))?;
        let mut demo = Command::new(env!("CARGO_BIN_EXE_remora-demo"))
            .args(["--sidecar", proxy.name(), "--seconds", "600"])
            .env("TMPDIR", scratch.path())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut lines = BufReader::new(demo.stdout.take().context("standard output is piped")?).lines();
        let introduced = lines.any(|line| line.is_ok_and(|line| line.contains("mutual TLS")));
        ensure!(introduced, "the demo with {} ended at once", proxy.name());
        let (name, at) = (
            format!("remora-{}-", demo.id()),
            scratch.path().display().to_string(),
        );
        ensure!(
            namespaces_of(&name)? == 3 && processes_of(&at)? == 2,
            "it is not up as expected"
        );

        let pid = rustix::process::Pid::from_raw(i32::try_from(demo.id())?).context("no process id")?;
        rustix::process::kill_process(pid, rustix::process::Signal::INT)?;
        let last = lines.map_while(Result::ok).filter(|line| !line.is_empty()).last();
        let status = demo.wait()?;
        ensure!(status.success(), "{status}, {last:?}");
        ensure!(
            last.as_ref().is_some_and(|line| line.contains("0 failed of")),
            "it ended with {last:?}"
        );
        ensure!(namespaces_of(&name)? == 0, "namespaces are left");
        ensure!(processes_of(&at)? == 0, "processes are left");
        let files = std::fs::read_dir(scratch.path())?.count();
        ensure!(files == 0, "{files} files are left");
    }
    Ok(())
}

fn namespaces_of(name: &str) -> Result<usize> {
    let all = namespaces::run(Command::new("ip").args(["netns", "list"]))?;
    Ok(String::from_utf8_lossy(&all.stdout).matches(name).count())
}

/// How many processes have `text` in their command line.
fn processes_of(text: &str) -> Result<usize> {
    let mut count = 0;
    for entry in std::fs::read_dir("/proc")? {
        // A process may end while it is looked at.
        let line = std::fs::read(entry?.path().join("cmdline")).unwrap_or_default();
        count += usize::from(String::from_utf8_lossy(&line).contains(text));
    }
    Ok(count)
}
