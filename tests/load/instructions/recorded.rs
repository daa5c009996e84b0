//! The figures that a change is held against.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, ensure};
use harness::peers::{self, Missing};
use serde_json::{Map, Value, json};

use super::Cost;

/// What a case may take of what is recorded. The relay's two directions meet their events in another order each time.
fn bound(case: &str) -> f64 {
    if case == "tcp" { 1.15 } else { 1.02 }
}

/// Further allocations that are noise: a timer wheel, a table that grows.
const SLACK: f64 = 0.1;

/// What `recorded.json` says.
pub(super) struct Recorded(Value);

impl Recorded {
    pub(super) fn read() -> Result<Self> {
        Ok(Self(match std::fs::read(path()) {
            Ok(bytes) => serde_json::from_slice(&bytes)?,
            Err(_) => Value::Null,
        }))
    }

    pub(super) fn cost(&self, case: &str) -> Option<Cost> {
        let said = self.0.get("cases")?.get(case)?;
        Some(Cost {
            instructions: said.get("instructions")?.as_f64()?,
            allocations: said.get("allocations")?.as_f64()?,
        })
    }

    /// # Errors
    /// Names every case that takes more than recorded.
    pub(super) fn judge(&self, costs: &[(&str, Cost)]) -> Result<()> {
        let here = where_measured();
        if self.0.get("measured_with") != Some(&here) {
            let missing = Missing(format!("recorded with another processor or compiler than {here}"));
            return peers::skip("instructions: comparison with the record", &missing);
        }
        let worse: Vec<String> = costs
            .iter()
            .filter_map(|(case, now)| Some((case, now, self.cost(case)?)))
            .filter(|(case, now, before)| {
                now.instructions > before.instructions * bound(case)
                    || now.allocations > before.allocations + SLACK
            })
            .map(|(case, now, before)| format!("{case}: {now:?}, recorded {before:?}"))
            .collect();
        ensure!(worse.is_empty(), "more than recorded: {}", worse.join("; "));
        Ok(())
    }
}

/// Writes the record; cases that were not measured stay as they are.
pub(super) fn write(costs: &[(&str, Cost)]) -> Result<()> {
    let mut cases = match Recorded::read()?.0.get("cases") {
        Some(Value::Object(cases)) => cases.clone(),
        _ => Map::new(),
    };
    for (case, cost) in costs {
        let figures = json!({
            "instructions": cost.instructions.round(),
            "allocations": (cost.allocations * 100.0).round() / 100.0,
        });
        cases.insert((*case).to_owned(), figures);
    }
    let all = json!({"measured_with": where_measured(), "cases": cases});
    std::fs::write(path(), format!("{all:#}\n"))?;
    Ok(())
}

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("load/instructions/recorded.json")
}

/// What decides which code runs: the processor's extensions choose among the routines of libraries, the compiler makes
/// the rest.
fn where_measured() -> Value {
    let information = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = information
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("unknown", |(_, model)| model.trim());
    let answer = |program: &str| {
        let output = Command::new(program).arg("--version").output();
        output.map_or_else(
            |_| "unknown".to_owned(),
            |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        )
    };
    json!({"processor": model, "compiler": answer("rustc"), "valgrind": answer("valgrind")})
}
