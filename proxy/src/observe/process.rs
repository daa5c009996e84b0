//! What does the system say of this process? Read from `/proc` at a scrape; zero where there is no such file.

use std::fs;

/// Facts of this process.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ProcessFacts {
    /// Resident bytes.
    pub resident: u64,
    /// Bytes of private data that were asked for.
    pub data: u64,
    /// Most resident bytes so far.
    pub peak: u64,
    /// Open file descriptors.
    pub descriptors: u64,
    /// User and system time, seconds.
    pub cpu_seconds: f64,
    /// Threads.
    pub threads: u64,
}

/// Clock ticks per second in `/proc` (`USER_HZ`), 100 on every architecture that Linux supports today.
const TICKS: f64 = 100.0;

impl ProcessFacts {
    /// The facts of now.
    pub fn now() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let number = |key: &str| -> u64 {
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
            line.and_then(|rest| rest.split_whitespace().next()?.parse().ok())
                .unwrap_or(0)
        };
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        // The command may hold spaces; what follows its bracket is regular (proc_pid_stat(5), field 3 on).
        let fields: Vec<&str> = stat
            .rsplit_once(") ")
            .map_or("", |(_, rest)| rest)
            .split_whitespace()
            .collect();
        let ticks = |field: usize| {
            fields
                .get(field - 3)
                .and_then(|text| text.parse::<u64>().ok())
                .unwrap_or(0)
        };
        Self {
            resident: number("VmRSS") << 10,
            data: number("VmData") << 10,
            peak: number("VmHWM") << 10,
            descriptors: fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as u64),
            cpu_seconds: (ticks(14) + ticks(15)) as f64 / TICKS,
            threads: number("Threads"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_descriptors_and_a_thread() {
        let facts = ProcessFacts::now();
        assert!(
            facts.resident > 1 << 20 && facts.data > 0 && facts.peak >= facts.resident,
            "{facts:?}"
        );
        assert!(facts.descriptors >= 3 && facts.threads >= 1, "{facts:?}");
    }
}
