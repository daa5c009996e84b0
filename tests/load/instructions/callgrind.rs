//! Processes under callgrind, and what they did between two moments.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::Cost;

/// How long a reading may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Functions that hand out memory.
const ALLOCATORS: [&str; 8] = [
    "_rjem_malloc",
    "_rjem_calloc",
    "_rjem_mallocx",
    "_rjem_realloc",
    "_rjem_rallocx",
    "malloc",
    "calloc",
    "realloc",
];

/// Where the readings are written.
pub(super) struct Callgrind {
    folder: PathBuf,
    /// Removed with this, unless the profiles are to be kept.
    _scratch: Option<tempfile::TempDir>,
}

impl Callgrind {
    pub(super) fn new(keep: Option<&Path>) -> Result<Self> {
        if let Some(folder) = keep {
            std::fs::create_dir_all(folder)?;
            return Ok(Self {
                folder: folder.canonicalize()?,
                _scratch: None,
            });
        }
        let scratch = tempfile::tempdir()?;
        Ok(Self {
            folder: scratch.path().to_owned(),
            _scratch: Some(scratch),
        })
    }

    /// What to put before the command line; the process keeps its id.
    pub(super) fn wrapper(&self) -> Vec<String> {
        let file = self.folder.join("%p");
        vec![
            "valgrind".to_owned(),
            "--quiet".to_owned(),
            "--tool=callgrind".to_owned(),
            format!("--callgrind-out-file={}", file.display()),
        ]
    }

    /// Counts from here.
    pub(super) fn begin(&self, pids: &[u32]) -> Result<()> {
        pids.iter().try_for_each(|pid| tell(*pid, "zero"))
    }

    /// What all of them did since, by request.
    pub(super) fn end(&self, pids: &[u32], requests: usize) -> Result<Cost> {
        let mut sum = Cost {
            instructions: 0.0,
            allocations: 0.0,
        };
        for pid in pids {
            tell(*pid, "dump")?;
            let (instructions, allocations) = read(&self.profile(*pid)?)?;
            sum.instructions += instructions as f64 / requests as f64;
            sum.allocations += allocations as f64 / requests as f64;
        }
        Ok(sum)
    }

    /// The profile of a process, once it is whole.
    fn profile(&self, pid: u32) -> Result<String> {
        let file: PathBuf = self.folder.join(format!("{pid}.1"));
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Ok(text) = std::fs::read_to_string(&file)
                && text.lines().rev().take(3).any(|line| line.starts_with("totals:"))
            {
                return Ok(text);
            }
            if Instant::now() > deadline {
                bail!("no profile in {}", file.display());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn tell(pid: u32, what: &str) -> Result<()> {
    let output = Command::new("vgdb")
        .arg(format!("--pid={pid}"))
        .arg(what)
        .output()?;
    ensure!(
        output.status.success(),
        "vgdb {what}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// Instructions and allocations of a profile (the format is described in the Valgrind manual, "Callgrind Format
/// Specification"): a name is written with its number once, and by its number alone from then on.
fn read(profile: &str) -> Result<(u64, u64)> {
    let mut totals = None;
    let mut numbers = std::collections::HashSet::new();
    let mut allocates = false;
    let mut allocations = 0;
    for line in profile.lines() {
        if let Some(count) = line.strip_prefix("totals: ") {
            totals = Some(count.trim().parse::<u64>()?);
        } else if let Some(name) = line.strip_prefix("cfn=").or_else(|| line.strip_prefix("fn=")) {
            let (number, name) = name.split_once(' ').unwrap_or((name, ""));
            if ALLOCATORS.contains(&name) {
                numbers.insert(number.to_owned());
            }
            allocates = line.starts_with("cfn=") && numbers.contains(number);
        } else if let Some(calls) = line.strip_prefix("calls=")
            && allocates
        {
            let count = calls.split_whitespace().next().unwrap_or_default();
            allocations += count.parse::<u64>()?;
            allocates = false;
        }
    }
    Ok((totals.context("a profile without totals")?, allocations))
}
