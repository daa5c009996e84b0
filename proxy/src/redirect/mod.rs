//! Which connections of this network namespace go through the proxy? `remora redirect apply|remove|print`.
//!
//! [`settings`] says what is wanted, [`rules`] makes it data, [`iptables`] and [`nftables`] make the data text, and
//! [`backend`] runs the program that hands the text to the kernel. `apply` replaces whatever of ours is there, so a
//! second one changes nothing; `remove` leaves nothing of ours; rules of others are never touched. TCP only, by
//! `REDIRECT`; TPROXY and DNS are not done here. [`order`] explains each rule and its place.

pub mod backend;
pub mod iptables;
pub mod loopback;
pub mod nftables;
#[doc = include_str!("order.md")]
pub mod order {}
pub mod rules;
pub mod settings;
#[cfg(test)]
mod tests;

use std::io::{self, Write};

use backend::{Backend, Tool};
use rules::{Family, RuleSet};
use settings::{Ipv6, Settings};

/// The command line of `remora redirect`.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
}

/// What to do with the rules of the current network namespace.
#[derive(Debug, Clone, clap::Subcommand)]
enum Action {
    /// Lay the rules, replacing any that an earlier apply laid
    Apply(Wanted),
    /// Remove everything that apply laid
    Remove {
        /// Whose rules to remove; `auto` removes them wherever they are
        #[arg(long, value_name = "NAME", default_value = "auto")]
        backend: Backend,
    },
    /// Write to standard output what apply would lay in a namespace without rules; needs no privilege
    Print(Wanted),
}

#[derive(Debug, Clone, clap::Args)]
struct Wanted {
    /// Which program lays the rules
    #[arg(long, value_name = "NAME", default_value = "auto")]
    backend: Backend,

    #[command(flatten)]
    settings: Settings,
}

/// Why the rules are not as asked for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Two flags contradict each other.
    #[error("{0}")]
    Settings(String),
    /// The process may not change rules.
    #[error(
        "changing redirection rules needs the capability {capability} in this network namespace; \
         this process (user id {user}) does not have it"
    )]
    NoCapability {
        /// `NET_ADMIN`, or for legacy iptables `NET_RAW`.
        capability: &'static str,
        /// The effective user id.
        user: u32,
    },
    /// No program that could do it is installed.
    #[error("not installed (looked in PATH and the sbin folders): {0}")]
    NoProgram(String),
    /// A program refused.
    #[error("{program} failed: {reason}")]
    Program {
        /// The program's name.
        program: String,
        /// What it wrote to standard error, and its exit status.
        reason: String,
    },
    /// Every installed program refused.
    #[error("no backend could lay the rules: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join(" | "))]
    NoBackend(Vec<Error>),
    /// The kernel refused to add or remove the address.
    #[error("changing the address ::6 of the loopback interface failed: {0} (--ipv6 off does without)")]
    Loopback(io::Error),
    /// Standard output is gone.
    #[error("writing the rules failed: {0}")]
    Output(io::Error),
}

/// Carries out `remora redirect`.
///
/// # Errors
/// A sentence for the operator. After an error of `apply` with nft the rules are as before; with iptables each
/// family's rules are either as before or as asked for.
pub fn run(arguments: Arguments) -> Result<(), Error> {
    match arguments.action {
        Action::Apply(wanted) => apply(&wanted),
        Action::Remove { backend } => remove(backend),
        Action::Print(wanted) => print(&wanted, &mut io::stdout().lock()),
    }
}

fn apply(wanted: &Wanted) -> Result<(), Error> {
    wanted.settings.check().map_err(Error::Settings)?;
    need(NET_ADMIN)?;
    let rules = rule_sets(&wanted.settings);
    let used = first_that_works(&wanted.backend.tools()?, &rules)?;
    // Ours in the places that other tools write, from an earlier apply with another backend.
    let installed = Backend::Auto.tools()?;
    for other in installed.iter().filter(|tool| !tool.same_place(&used)) {
        if other.has_ours() {
            other.remove()?;
        }
    }
    if rules.iter().any(|rules| rules.family == Family::V6) {
        loopback::add().map(drop).map_err(Error::Loopback)
    } else {
        loopback::remove().map_err(Error::Loopback)
    }
}

fn first_that_works(tools: &[Tool], rules: &[RuleSet]) -> Result<Tool, Error> {
    let mut refusals = Vec::new();
    for tool in tools {
        match tool.apply(rules) {
            Ok(()) => return Ok(tool.clone()),
            Err(error) => refusals.push(error),
        }
    }
    Err(Error::NoBackend(refusals))
}

fn remove(backend: Backend) -> Result<(), Error> {
    need(NET_ADMIN)?;
    // One that fails does not keep the others from removing theirs.
    let results: Vec<_> = backend.tools()?.iter().map(Tool::remove).collect();
    results.into_iter().collect::<Result<(), _>>()?;
    loopback::remove().map_err(Error::Loopback)
}

fn print(wanted: &Wanted, out: &mut impl Write) -> Result<(), Error> {
    wanted.settings.check().map_err(Error::Settings)?;
    let rules = rule_sets(&wanted.settings);
    let tool = wanted
        .backend
        .tools()
        .ok()
        .and_then(|tools| tools.into_iter().next());
    let by_nft = tool.as_ref().map_or(
        matches!(wanted.backend, Backend::Auto | Backend::Nft),
        Tool::is_nft,
    );
    let mut text = String::new();
    if by_nft {
        text.push_str("# nft -f -\n");
        text.push_str(&nftables::apply(&rules));
    } else {
        for rules in &rules {
            let program = match &tool {
                Some(tool) => tool.program(rules.family, "restore"),
                None if rules.family == Family::V4 => "iptables-restore".to_owned(),
                None => "ip6tables-restore".to_owned(),
            };
            text.push_str(&format!("# {program} --noflush\n"));
            text.push_str(&iptables::apply(rules, &iptables::Present::default()));
        }
    }
    if rules.iter().any(|rules| rules.family == Family::V6) {
        text.push_str("# ip -6 address add ::6/128 dev lo\n");
    }
    out.write_all(text.as_bytes()).map_err(Error::Output)
}

fn rule_sets(settings: &Settings) -> Vec<RuleSet> {
    let with_ipv6 = match settings.ipv6 {
        Ipv6::On => true,
        Ipv6::Off => false,
        Ipv6::Auto => loopback::kernel_has_ipv6(),
    };
    let families = [Some(Family::V4), with_ipv6.then_some(Family::V6)];
    families
        .into_iter()
        .flatten()
        .map(|family| RuleSet::new(settings, family))
        .collect()
}

/// A capability and its bit in `linux/capability.h`.
type Capability = (&'static str, u32);
const NET_ADMIN: Capability = ("NET_ADMIN", 12);
const NET_RAW: Capability = ("NET_RAW", 13);

/// Whether this process has a capability; where that cannot be read, the attempt will tell.
fn need((capability, bit): Capability) -> Result<(), Error> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    match field.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()) {
        Some(bits) if bits & (1 << bit) == 0 => Err(Error::NoCapability {
            capability,
            user: rustix::process::geteuid().as_raw(),
        }),
        _ => Ok(()),
    }
}
