//! What did a process cost? The scheduler's own accounting of its threads, and its resident memory.

use anyhow::{Context, Result};

/// A reading of one or several processes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Reading {
    /// Nanoseconds on a CPU since the start, all threads.
    pub(crate) cpu_ns: u64,
    /// Resident memory now, KiB.
    pub(crate) resident_kib: u64,
    /// Resident memory at its highest, KiB.
    pub(crate) peak_kib: u64,
}

/// Reads all of `pids` and adds them up.
pub(crate) fn read(pids: &[u32]) -> Result<Reading> {
    let mut sum = Reading::default();
    for pid in pids {
        for thread in std::fs::read_dir(format!("/proc/{pid}/task")).context("the process is gone")? {
            let text = std::fs::read_to_string(thread?.path().join("schedstat"))?;
            sum.cpu_ns += text
                .split_whitespace()
                .next()
                .and_then(|word| word.parse::<u64>().ok())
                .unwrap_or(0);
        }
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        sum.resident_kib += field(&status, "VmRSS:");
        sum.peak_kib += field(&status, "VmHWM:");
    }
    Ok(sum)
}

/// How many processes wanted to run, on average over the last minute.
pub(crate) fn load_average() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/loadavg")?;
    let first = text
        .split_whitespace()
        .next()
        .context("/proc/loadavg begins with a number")?;
    Ok(first.parse()?)
}

fn field(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.split_whitespace().next())
        .and_then(|word| word.parse().ok())
        .unwrap_or(0)
}
