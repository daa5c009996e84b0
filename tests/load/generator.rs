//! Who makes the load, and what did it see? `wrk` for HTTP/1.1 (also through a TCP relay), `h2load` for HTTP/2.

use std::net::SocketAddr;
use std::process::Command;

use anyhow::{Context, Result, bail};
use harness::peers;

/// What a generator counted.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    /// Requests answered by 2xx.
    pub(crate) requests: u64,
    /// Everything else.
    pub(crate) failures: u64,
    /// Requests per second.
    pub(crate) rate: f64,
    /// Median latency, microseconds.
    pub(crate) p50_us: f64,
    /// 99th percentile, microseconds.
    pub(crate) p99_us: f64,
}

/// Saturates `to` for `seconds` from `core`.
pub(crate) fn run(http2: bool, to: SocketAddr, seconds: u64, core: Option<usize>) -> Result<Seen> {
    if http2 {
        h2load(to, seconds, core)
    } else {
        wrk(to, seconds, core)
    }
}

/// A command on one core.
pub(crate) fn pinned(program: &std::path::Path, core: Option<usize>) -> Command {
    match core {
        None => Command::new(program),
        Some(core) => {
            let mut command = Command::new("taskset");
            command.args(["-c", &core.to_string()]).arg(program);
            command
        }
    }
}

fn output(command: &mut Command) -> Result<String> {
    let output = command.output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(text);
    }
    bail!(
        "{command:?} failed: {text}{}",
        String::from_utf8_lossy(&output.stderr)
    )
}

fn wrk(to: SocketAddr, seconds: u64, core: Option<usize>) -> Result<Seen> {
    let program = peers::program("wrk").map_err(|missing| anyhow::anyhow!(missing.0))?;
    let mut command = pinned(&program, core);
    command
        .args(["-t1", "-c64", "--latency", "-d", &format!("{seconds}s")])
        .arg(format!("http://{to}/"));
    wrk_report(&output(&mut command)?)
}

fn wrk_report(text: &str) -> Result<Seen> {
    let mut seen = Seen::default();
    for line in text.lines().map(str::trim) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["50%", value] => seen.p50_us = microseconds(value)?,
            ["99%", value] => seen.p99_us = microseconds(value)?,
            [count, "requests", "in", ..] => seen.requests = count.parse()?,
            ["Requests/sec:", rate] => seen.rate = rate.parse()?,
            ["Non-2xx", "or", "3xx", "responses:", count] => seen.failures += count.parse::<u64>()?,
            ["Socket", "errors:", rest @ ..] => {
                seen.failures += rest
                    .iter()
                    .filter_map(|word| word.trim_end_matches(',').parse::<u64>().ok())
                    .sum::<u64>();
            }
            _ => {}
        }
    }
    if seen.requests == 0 {
        bail!("wrk saw no answer: {text}");
    }
    Ok(seen)
}

/// `812.00us`, `1.20ms`, `2.00s`.
fn microseconds(text: &str) -> Result<f64> {
    let units = [("us", 1.0), ("ms", 1000.0), ("s", 1_000_000.0)];
    let (number, factor) = units
        .iter()
        .find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, factor)))
        .context("a time has a unit")?;
    Ok(number.parse::<f64>()? * factor)
}

fn h2load(to: SocketAddr, seconds: u64, core: Option<usize>) -> Result<Seen> {
    let program = peers::program("h2load").map_err(|missing| anyhow::anyhow!(missing.0))?;
    let folder = tempfile::tempdir()?;
    let log = folder.path().join("requests");
    let mut command = pinned(&program, core);
    command.args(["-c10", "-m10", "-t1", "-D", &seconds.to_string()]);
    command
        .arg(format!("--log-file={}", log.display()))
        .arg(format!("http://{to}/"));
    let text = output(&mut command)?;
    h2load_report(&std::fs::read_to_string(&log)?, seconds).with_context(|| format!("h2load said: {text}"))
}

/// Each line of the log is start time, status and duration in microseconds.
fn h2load_report(log: &str, seconds: u64) -> Result<Seen> {
    let mut seen = Seen::default();
    let mut durations = Vec::new();
    for line in log.lines() {
        let mut words = line.split_whitespace().skip(1);
        let (Some(status), Some(duration)) = (words.next(), words.next()) else {
            continue;
        };
        if status.starts_with('2') {
            seen.requests += 1;
            durations.push(duration.parse::<u64>()?);
        } else {
            seen.failures += 1;
        }
    }
    if durations.is_empty() {
        bail!("h2load saw no answer");
    }
    durations.sort_unstable();
    let at = |percent: usize| durations[(durations.len() - 1) * percent / 100] as f64;
    (seen.p50_us, seen.p99_us) = (at(50), at(99));
    seen.rate = seen.requests as f64 / seconds as f64;
    Ok(seen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_wrk_says_is_read() {
        let text = "  2 threads\n    50%  812.00us\n    99%    2.10ms\n  1000 requests in 5.00s, 1MB read\n  \
                    Socket errors: connect 0, read 3, write 0, timeout 1\n  Non-2xx or 3xx responses: 2\nRequests/sec:  200.5\n";
        let seen = wrk_report(text).unwrap();
        assert_eq!((seen.requests, seen.failures), (1000, 6));
        assert!((seen.p50_us - 812.0).abs() < 0.01 && (seen.p99_us - 2100.0).abs() < 0.01);
    }

    #[test]
    fn what_h2load_logs_is_read() {
        let seen = h2load_report("1\t200\t10\n2\t200\t30\n3\t503\t20\n4\t-1\t5\n", 2).unwrap();
        assert_eq!((seen.requests, seen.failures), (2, 2));
        assert!((seen.p50_us - 10.0).abs() < 0.01 && (seen.rate - 1.0).abs() < 0.01);
    }
}
