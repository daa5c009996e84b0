//! What does a person see? One block for each phase: who answers, how fast, and what failed.
//!
//! In a terminal the block of the running phase is drawn again and again in its place, and stays when the phase is over.
//! Elsewhere, or when asked for plain lines, each block is written once, at the end of its phase, without colours.

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _, stdout};

use anyhow::Result;
use harness::process::Proxy;

use crate::engine::control::{CLIENT_ID, SERVER_ID, Weights};
use crate::engine::tally::{PROTOCOLS, Share, Tally};
use crate::engine::{Demo, SHIFTS};

/// Cells of a bar.
const BAR: usize = 28;

const BOLD: &str = "1";
const DIM: &str = "2";
const RED: &str = "1;31";
const GREEN: &str = "1;32";
/// Of the first and of the second version.
const VERSION_COLOURS: [&str; 2] = ["36", "35"];

/// How far a phase is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Progress {
    /// Its number, from 0.
    pub(crate) phase: usize,
    /// 0 to 1.
    pub(crate) part: f64,
}

/// The terminal, or whatever standard output is.
#[derive(Debug)]
pub(crate) struct Screen {
    live: bool,
    colours: bool,
    /// Lines of the block that the next draw replaces.
    drawn: usize,
    last: Option<Progress>,
}

impl Screen {
    /// Redraws and colours in a terminal, unless `plain`; colours also not where `NO_COLOR` is set.
    pub(crate) fn new(plain: bool) -> Self {
        let live = stdout().is_terminal() && !plain;
        Screen {
            live,
            colours: live && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
            drawn: 0,
            last: None,
        }
    }

    /// Writes a line that stays.
    pub(crate) fn say(&mut self, line: &str) -> Result<()> {
        Ok(writeln!(stdout(), "{line}")?)
    }

    /// Who is who.
    pub(crate) fn introduce(&mut self, demo: &Demo, proxy: Proxy) -> Result<()> {
        let (place, service) = (demo.place(), demo.service());
        let (at, client, server) = match &place.pods {
            Some(pods) => (
                "two network namespaces; rules of `remora redirect apply` intercept the connections",
                format!("client pod {}", pods.client.ipv4),
                format!("server pod {}", pods.server.ipv4),
            ),
            None => (
                "loopback ports, without interception",
                "client".to_owned(),
                "server".to_owned(),
            ),
        };
        let name = |text: &str| self.paint(BOLD, &format!("  {text:<11} "));
        let lines = [
            String::new(),
            format!("{}{at}", name("where")),
            format!(
                "{}{client}, an application that speaks in the clear to",
                name("who calls")
            ),
            format!(
                "{}{} (HTTP/1.1 and gRPC) and {} (TCP)",
                name(""),
                service.http,
                service.tcp
            ),
            format!(
                "{}{server}, two versions of an application: v1 and v2",
                name("who answers")
            ),
            format!(
                "{}two {} sidecars, configured over delta ADS",
                name("between"),
                proxy.name()
            ),
            format!("{}mutual TLS: {CLIENT_ID}", name("")),
            format!("{}       with {SERVER_ID}", name("")),
            String::new(),
        ];
        self.say(&lines.join("\n"))?;
        if self.live {
            write!(stdout(), "\x1b[?25l")?;
        }
        Ok(())
    }

    /// Draws the running phase over its last picture.
    pub(crate) fn draw(&mut self, tally: &Tally, progress: Progress) -> Result<()> {
        self.last = Some(progress);
        if !self.live {
            return Ok(());
        }
        let block = self.block(tally, progress);
        self.replace(&block)
    }

    /// Draws the phase a last time; the picture stays.
    pub(crate) fn phase_over(&mut self, tally: &Tally) -> Result<()> {
        if let Some(progress) = self.last.take() {
            let block = self.block(
                tally,
                Progress {
                    part: 1.0,
                    ..progress
                },
            );
            self.replace(&block)?;
            self.drawn = 0;
        }
        Ok(())
    }

    /// How to look for oneself.
    pub(crate) fn invite(&mut self, demo: &Demo) -> Result<()> {
        self.phase_over(&demo.tally())?;
        let inside = match &demo.place().pods {
            Some(pods) => format!("ip netns exec {} ", pods.client.namespace.name()),
            None => String::new(),
        };
        self.say(&format!(
            "  Everything stays until Ctrl-C. Call the service as the application does:\n  {}\n",
            self.paint(
                BOLD,
                &format!("{inside}curl -d hello http://{}/", demo.service().http)
            )
        ))
    }

    /// The last words: what failed, and who was seen.
    pub(crate) fn conclude(&mut self, demo: &Demo, tally: &Tally, whole: bool) -> Result<()> {
        self.phase_over(tally)?;
        if !whole {
            self.say("  Interrupted before the last shift was over.")?;
        }
        for (number, failure) in tally.failures.iter().take(10).enumerate() {
            self.say(&format!(
                "  {} {failure}",
                self.paint(RED, &format!("failure {}:", number + 1))
            ))?;
        }
        for refusal in demo.refusals() {
            self.say(&format!("  {} {refusal}", self.paint(RED, "a sidecar refused:")))?;
        }
        let over_tcp = demo.tcp_callers();
        let named: u64 = over_tcp.get(CLIENT_ID).copied().unwrap_or(0);
        if !over_tcp.is_empty() {
            self.say(&format!(
                "  {} of {} TCP connections came from {CLIENT_ID}, says the server's sidecar.",
                grouped(named),
                grouped(over_tcp.values().sum())
            ))?;
        }
        let colour = if tally.failed() == 0 { GREEN } else { RED };
        let sum = format!("{} failed of {}", grouped(tally.failed()), grouped(tally.total()));
        self.say(&format!("  {}\n", self.paint(colour, &sum)))
    }

    fn replace(&mut self, block: &str) -> Result<()> {
        let mut out = String::new();
        if self.drawn > 0 {
            write!(out, "\x1b[{}F", self.drawn)?;
        }
        for line in block.lines() {
            let clear = if self.live { "\x1b[K" } else { "" };
            writeln!(out, "{line}{clear}")?;
        }
        self.drawn = if self.live { block.lines().count() } else { 0 };
        let mut stdout = stdout();
        stdout.write_all(out.as_bytes())?;
        Ok(stdout.flush()?)
    }

    fn block(&self, tally: &Tally, progress: Progress) -> String {
        let Some(phase) = tally.phases.get(progress.phase) else {
            return String::new();
        };
        let mut block = vec![self.heading(phase.weights, progress)];
        block.push(self.paint(
            DIM,
            &format!(
                "  {:<9} {:>5} {:<BAR$} {:<5} {:>9} {:>7} {:>9} {:>9}",
                "", "v1", "", "v2", "answers", "failed", "p50", "p99"
            ),
        ));
        for protocol in PROTOCOLS {
            block.push(self.row(protocol.name(), &phase.shares[protocol as usize]));
        }
        let stream = &tally.stream;
        block.push(format!(
            "  {:<9} one gRPC stream both ways, open since the start with {}: {} messages, {} broken",
            "stream",
            stream.version,
            grouped(stream.messages),
            self.failures(stream.broken, 0),
        ));
        let all: u64 = tally.callers.values().sum();
        for (caller, count) in &tally.callers {
            let colour = if caller == CLIENT_ID { GREEN } else { RED };
            block.push(format!(
                "  {:<9} {} seen by the application in {} of {} answers",
                "identity",
                self.paint(colour, caller),
                grouped(*count),
                grouped(all)
            ));
        }
        block.push(String::new());
        block.join("\n") + "\n"
    }

    fn heading(&self, Weights([v1, v2]): Weights, progress: Progress) -> String {
        let filled = cells(progress.part);
        let title = format!(
            "  {} of {}   v1 {v1} %, v2 {v2} %",
            progress.phase + 1,
            SHIFTS.len()
        );
        let title = self.paint(BOLD, &format!("{title:<32}"));
        if progress.part >= 1.0 {
            return title.trim_end().to_owned();
        }
        format!(
            "{title}{}{}",
            "━".repeat(filled),
            self.paint(DIM, &"─".repeat(BAR - filled))
        )
    }

    fn row(&self, name: &str, share: &Share) -> String {
        let mut row = format!("  {name:<9} ");
        match share.of_second() {
            None => row.push_str(&" ".repeat(BAR + 12)),
            Some(second) => {
                let of_second = cells(second);
                let percent = |part: f64| format!("{:.0} %", part * 100.0);
                let [first_bar, second_bar] = ["█".repeat(BAR - of_second), "▒".repeat(of_second)];
                row.push_str(&self.paint(VERSION_COLOURS[0], &format!("{:>5} ", percent(1.0 - second))));
                row.push_str(&self.paint(VERSION_COLOURS[0], &first_bar));
                row.push_str(&self.paint(VERSION_COLOURS[1], &second_bar));
                row.push_str(&self.paint(VERSION_COLOURS[1], &format!(" {:<5}", percent(second))));
            }
        }
        let _ = write!(
            row,
            " {:>9} {} {:>9} {:>9}",
            grouped(share.total()),
            self.failures(share.failed, 7),
            milliseconds(share, 50),
            milliseconds(share, 99)
        );
        row
    }

    fn failures(&self, count: u64, width: usize) -> String {
        let colour = if count == 0 { GREEN } else { RED };
        self.paint(colour, &format!("{:>width$}", grouped(count)))
    }

    fn paint(&self, colour: &str, text: &str) -> String {
        if self.colours {
            format!("\x1b[{colour}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if self.live {
            let _ = write!(stdout(), "\x1b[?25h");
            let _ = stdout().flush();
        }
    }
}

/// How many cells of a bar stand for `part`.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a part of a small number"
)]
fn cells(part: f64) -> usize {
    (part.clamp(0.0, 1.0) * BAR as f64).round() as usize
}

fn milliseconds(share: &Share, percent: usize) -> String {
    if share.total() == 0 {
        return String::new();
    }
    format!("{:.2} ms", share.percentile(percent).as_secs_f64() * 1000.0)
}

/// 12345 as 12,345.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}
