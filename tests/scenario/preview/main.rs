//! What do the commands that run nothing say about files?
//!
//! Each test runs the program itself, on files as control planes and proxies write them.

mod check;
mod diff;
mod fields;

use std::process::{Command, Output};

use anyhow::{Context, Result, anyhow};
use harness::peers;
use serde_json::Value;

/// A folder of files, and the program to look at them with.
struct Files(tempfile::TempDir);

/// What the program said.
struct Said {
    code: i32,
    text: String,
    error: String,
}

impl Said {
    fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.text).with_context(|| format!("no JSON: {}{}", self.text, self.error))
    }
}

impl Files {
    fn new() -> Result<Self> {
        Ok(Self(tempfile::tempdir()?))
    }

    fn put(&self, name: &str, content: impl AsRef<[u8]>) -> Result<()> {
        Ok(std::fs::write(self.0.path().join(name), content)?)
    }

    /// Runs the program inside the folder.
    fn run(&self, arguments: &[&str]) -> Result<Said> {
        let Output {
            status,
            stdout,
            stderr,
        } = Command::new(peers::remora().map_err(|missing| anyhow!(missing.0))?)
            .args(arguments)
            .current_dir(self.0.path())
            .output()?;
        Ok(Said {
            code: status.code().context("ended by a signal")?,
            text: String::from_utf8(stdout)?,
            error: String::from_utf8(stderr)?,
        })
    }
}
