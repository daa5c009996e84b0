//! Two pods, two sidecars and a control plane that shifts the weights under traffic, to be watched in a terminal.
//!
//! `deploy/demo/run` builds and starts it; `deploy/demo/README.md` says what is to be seen.

mod engine;
mod screen;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::{Parser, ValueEnum};
use engine::pods::{Scene, missing};
use engine::{Demo, SHIFTS};
use harness::process::Proxy;
use screen::{Progress, Screen};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// How often the screen is drawn.
const FRAME: Duration = Duration::from_millis(200);

/// Shows two sidecars carrying HTTP, gRPC and TCP over mutual TLS while the weights shift
#[derive(Debug, Parser)]
#[command(name = "remora-demo", version)]
struct Arguments {
    /// Seconds between two shifts of the weights
    #[arg(long, value_name = "SECONDS", default_value_t = 5.0, value_parser = positive)]
    seconds: f64,
    /// Write plain lines, without colours and without redrawing
    #[arg(long)]
    plain: bool,
    /// Stay after the last shift, until Ctrl-C
    #[arg(long)]
    keep: bool,
    /// Use loopback ports even where pods can be made
    #[arg(long)]
    loopback: bool,
    /// Which proxy the sidecars are; Envoy takes the same files
    #[arg(long, value_name = "NAME", default_value = "remora")]
    sidecar: Sidecar,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Sidecar {
    Remora,
    Envoy,
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.5..=3600.0).contains(&seconds) => Ok(seconds),
        _ => Err("expected a number of seconds from 0.5 to 3600".to_owned()),
    }
}

#[tokio::main(worker_threads = 1)]
#[expect(clippy::print_stderr, reason = "the program's last word")]
async fn main() -> ExitCode {
    let mut wish = match Interrupts::new() {
        Ok(interrupts) => interrupts,
        Err(error) => {
            eprintln!("remora-demo: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    match show(&Arguments::parse(), &mut wish).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("remora-demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The wishes to end: Ctrl-C, a closed terminal, a polite kill.
struct Interrupts([Signal; 3]);

impl Interrupts {
    fn new() -> Result<Self> {
        Ok(Interrupts([
            signal(SignalKind::interrupt())?,
            signal(SignalKind::hangup())?,
            signal(SignalKind::terminate())?,
        ]))
    }

    async fn come(&mut self) {
        let [interrupt, hangup, terminate] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = hangup.recv() => {}
            _ = terminate.recv() => {}
        }
    }
}

async fn show(arguments: &Arguments, interrupts: &mut Interrupts) -> Result<ExitCode> {
    let proxy = match arguments.sidecar {
        Sidecar::Remora => Proxy::Remora,
        Sidecar::Envoy => Proxy::Envoy,
    };
    let mut screen = Screen::new(arguments.plain);
    let scene = choose(arguments, &mut screen).await?;
    screen.say(&format!(
        "Starting two sidecars ({}), two versions of an application and a control plane ...",
        proxy.name()
    ))?;
    let mut demo = tokio::select! {
        demo = Demo::start(proxy, scene) => demo?,
        () = interrupts.come() => return Ok(ExitCode::FAILURE),
    };
    screen.introduce(&demo, proxy)?;
    demo.send_traffic();
    let whole = tokio::select! {
        shown = shifts(arguments, &mut demo, &mut screen) => { shown?; true }
        () = interrupts.come() => false,
    };
    if whole && arguments.keep {
        screen.invite(&demo)?;
        let forever = Progress {
            phase: SHIFTS.len() - 1,
            part: 1.0,
        };
        tokio::select! {
            ended = watch(&demo, &mut screen, None, |_| forever) => ended?,
            () = interrupts.come() => {}
        }
    }
    let tally = demo.finish().await?;
    screen.conclude(&demo, &tally, whole)?;
    drop(demo);
    Ok(if tally.failed() == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Pods where they can be made, else loopback, and says why.
async fn choose(arguments: &Arguments, screen: &mut Screen) -> Result<Scene> {
    let why = if arguments.loopback {
        Some("as asked for".to_owned())
    } else {
        missing().await
    };
    let Some(why) = why else {
        return Ok(Scene::Pods);
    };
    screen.say(&format!(
        "Loopback ports instead of pods, without redirection: {why}"
    ))?;
    Ok(Scene::Loopback)
}

async fn shifts(arguments: &Arguments, demo: &mut Demo, screen: &mut Screen) -> Result<()> {
    let length = Duration::from_secs_f64(arguments.seconds);
    for (phase, weights) in SHIFTS.into_iter().enumerate() {
        if phase > 0 {
            demo.shift(weights).await?;
        }
        let progress = |passed: Duration| Progress {
            phase,
            part: (passed.as_secs_f64() / length.as_secs_f64()).min(1.0),
        };
        watch(demo, screen, Some(length), progress).await?;
        screen.phase_over(&demo.tally())?;
    }
    Ok(())
}

/// Draws until `length` is over, or for ever.
async fn watch(
    demo: &Demo,
    screen: &mut Screen,
    length: Option<Duration>,
    progress: impl Fn(Duration) -> Progress,
) -> Result<()> {
    let begun = Instant::now();
    while length.is_none_or(|length| begun.elapsed() < length) {
        screen.draw(&demo.tally(), progress(begun.elapsed()))?;
        tokio::time::sleep(FRAME).await;
    }
    Ok(())
}
