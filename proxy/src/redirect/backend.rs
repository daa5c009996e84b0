//! Which program lays the rules, and running it.
//!
//! The kernel keeps rules in three places that do not see each other: tables of `nft`, tables of the old iptables
//! interface, and tables of iptables over nf_tables. A [`Tool`] is an installed program for one of them. Laying rules
//! with one tool takes ours away from the other places, after the new ones are in force, so there is no gap.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::rules::{Family, RuleSet};
use super::{Error, NET_RAW, iptables, need, nftables};

/// Who is to lay the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Backend {
    /// The first that works of nft, iptables, iptables-nft, iptables-legacy.
    Auto,
    /// The first that works of iptables, iptables-nft, iptables-legacy.
    Iptables,
    /// The iptables programs that write nf_tables.
    IptablesNft,
    /// The iptables programs that use the old kernel interface.
    IptablesLegacy,
    /// nft, with tables of our own.
    Nft,
}

impl Backend {
    /// Its name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Backend::Auto => "auto",
            Backend::Iptables => "iptables",
            Backend::IptablesNft => "iptables-nft",
            Backend::IptablesLegacy => "iptables-legacy",
            Backend::Nft => "nft",
        }
    }

    fn candidates(self) -> &'static [&'static str] {
        match self {
            Backend::Auto => &["nft", "iptables", "iptables-nft", "iptables-legacy"],
            Backend::Iptables => &["iptables", "iptables-nft", "iptables-legacy"],
            Backend::IptablesNft => &["iptables-nft", "iptables"],
            Backend::IptablesLegacy => &["iptables-legacy", "iptables"],
            Backend::Nft => &["nft"],
        }
    }

    /// The installed tools in the order in which they are to be tried, at most one for each place.
    ///
    /// # Errors
    /// [`Error::NoProgram`] naming what was looked for.
    pub fn tools(self) -> Result<Vec<Tool>, Error> {
        let mut tools: Vec<Tool> = Vec::new();
        for tool in self.candidates().iter().filter_map(|name| Tool::find(name)) {
            let wanted = match self {
                Backend::IptablesNft => tool.place == Place::IptablesNft,
                Backend::IptablesLegacy => tool.place == Place::IptablesLegacy,
                _ => true,
            };
            if wanted && tools.iter().all(|earlier| earlier.place != tool.place) {
                tools.push(tool);
            }
        }
        if tools.is_empty() {
            Err(Error::NoProgram(self.candidates().join(", ")))
        } else {
            Ok(tools)
        }
    }
}

/// Where the kernel keeps rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Nft,
    IptablesNft,
    IptablesLegacy,
}

/// An installed program, or family of programs, that lays rules.
#[derive(Debug, Clone)]
pub struct Tool {
    /// `nft`, `iptables`, `iptables-nft` or `iptables-legacy`.
    pub name: &'static str,
    place: Place,
}

impl Tool {
    fn find(name: &'static str) -> Option<Tool> {
        let place = match name {
            "nft" => locate("nft").map(|_| Place::Nft),
            "iptables-nft" => locate("iptables-nft-restore").map(|_| Place::IptablesNft),
            "iptables-legacy" => locate("iptables-legacy-restore").map(|_| Place::IptablesLegacy),
            _ => {
                let version = Command::new(locate("iptables-restore")?)
                    .arg("--version")
                    .output()
                    .ok()?;
                let over_nft = String::from_utf8_lossy(&version.stdout).contains("nf_tables");
                Some(if over_nft {
                    Place::IptablesNft
                } else {
                    Place::IptablesLegacy
                })
            }
        }?;
        Some(Tool { name, place })
    }

    /// Whether this is nft rather than one of the iptables.
    pub fn is_nft(&self) -> bool {
        self.place == Place::Nft
    }

    /// Whether both write the same place.
    pub fn same_place(&self, other: &Tool) -> bool {
        self.place == other.place
    }

    /// Puts `rules` in force and takes away what is left of ours for families without rules.
    ///
    /// One transaction with nft. With iptables one for each family, all of them tried before the first is committed.
    ///
    /// # Errors
    /// What the program wrote, or that it is missing.
    pub fn apply(&self, rules: &[RuleSet]) -> Result<(), Error> {
        let unused = |family: &Family| rules.iter().all(|rules| rules.family != *family);
        if self.is_nft() {
            let mut stale = nftables::present(&run("nft", &["list", "tables"], "")?);
            stale.retain(unused);
            let text = nftables::remove(&stale) + &nftables::apply(rules);
            return run("nft", &["-f", "-"], &text).map(drop);
        }
        if self.place == Place::IptablesLegacy {
            need(NET_RAW)?;
        }
        let mut texts = Vec::new();
        for rules in rules {
            let saved = run(&self.program(rules.family, "save"), &["-t", "nat"], "")?;
            texts.push((
                rules.family,
                iptables::apply(rules, &iptables::Present::read(&saved)),
            ));
        }
        for (family, text) in &texts {
            self.restore(*family, &["--test"], text)?;
        }
        for (family, text) in &texts {
            self.restore(*family, &[], text)?;
        }
        for family in [Family::V4, Family::V6].into_iter().filter(unused) {
            self.remove_family(family)?;
        }
        Ok(())
    }

    /// Whether something of ours is there, as far as this tool can see.
    pub fn has_ours(&self) -> bool {
        match self.place {
            Place::Nft => !nft_tables().is_empty(),
            _ => [Family::V4, Family::V6]
                .iter()
                .any(|family| self.present(*family).is_ok_and(|ours| !ours.is_empty())),
        }
    }

    /// Takes away everything of ours.
    ///
    /// # Errors
    /// What the program wrote: legacy tables that are there but cannot be read are an error. nf_tables that cannot
    /// be read are not there, since whoever may change them may read them.
    pub fn remove(&self) -> Result<(), Error> {
        if self.is_nft() {
            return match nft_tables()[..] {
                [] => Ok(()),
                ref families => run("nft", &["-f", "-"], &nftables::remove(families)).map(drop),
            };
        }
        self.remove_family(Family::V4)?;
        self.remove_family(Family::V6)
    }

    fn remove_family(&self, family: Family) -> Result<(), Error> {
        match iptables::remove(&self.present(family)?) {
            Some(text) => self.restore(family, &[], &text),
            None => Ok(()),
        }
    }

    fn present(&self, family: Family) -> Result<iptables::Present, Error> {
        let legacy = self.place == Place::IptablesLegacy;
        if legacy && !legacy_table_exists(family) {
            return Ok(iptables::Present::default());
        }
        if legacy {
            need(NET_RAW)?;
        }
        match run(&self.program(family, "save"), &["-t", "nat"], "") {
            Ok(saved) => Ok(iptables::Present::read(&saved)),
            Err(error) if legacy => Err(error),
            Err(_) => Ok(iptables::Present::default()),
        }
    }

    /// `--wait` is for the lock that the old kernel interface needs; the new one accepts and ignores it.
    fn restore(&self, family: Family, options: &[&str], text: &str) -> Result<(), Error> {
        let options = [&["--noflush", "--wait", "5"], options].concat();
        run(&self.program(family, "restore"), &options, text).map(drop)
    }

    /// The program's name: `iptables-legacy` and `restore` make `ip6tables-legacy-restore` for IPv6.
    pub fn program(&self, family: Family, what: &str) -> String {
        let variant = self.name.strip_prefix("iptables").unwrap_or_default();
        let family = if family == Family::V4 {
            "iptables"
        } else {
            "ip6tables"
        };
        format!("{family}{variant}-{what}")
    }
}

fn nft_tables() -> Vec<Family> {
    run("nft", &["list", "tables"], "")
        .map(|listed| nftables::present(&listed))
        .unwrap_or_default()
}

/// The old interface makes a table when it is asked about one, so it is only asked about one that exists.
fn legacy_table_exists(family: Family) -> bool {
    let names = if family == Family::V4 {
        "ip_tables_names"
    } else {
        "ip6_tables_names"
    };
    let tables = std::fs::read_to_string(format!("/proc/self/net/{names}")).unwrap_or_default();
    tables.lines().any(|table| table == "nat")
}

/// Where a program lies. The folders for system programs are searched even if `PATH` omits them.
fn locate(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders =
        std::env::split_paths(&path).chain(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from));
    folders
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

/// Runs a program with `input`; answers what it wrote to standard output.
pub(super) fn run(program: &str, arguments: &[&str], input: &str) -> Result<String, Error> {
    let file = locate(program).ok_or_else(|| Error::NoProgram(program.to_owned()))?;
    let failed = |reason: String| Error::Program {
        program: program.to_owned(),
        reason,
    };
    let started = Command::new(file)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = started.map_err(|error| failed(error.to_string()))?;
    let written = child
        .stdin
        .take()
        .map_or(Ok(()), |mut stdin| stdin.write_all(input.as_bytes()));
    let output = child
        .wait_with_output()
        .map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        written.map_err(|error| failed(error.to_string()))?;
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(failed(format!(
        "{} ({})",
        said.trim().replace('\n', "; "),
        output.status
    )))
}
