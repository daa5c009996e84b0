//! The rules in the language of `iptables-restore --noflush`, and what `iptables-save` says about ours.
//!
//! One text is one transaction of one family: our chains are emptied and filled and the two hooks are put right, all
//! or nothing, and nobody else's rule is touched. Hooks that are already right keep their place among other people's
//! rules, so a second application changes nothing.

use std::fmt::Write as _;

use super::rules::{ChainName, Match, Rule, RuleSet, Verdict};

/// What is ours in a saved `nat` table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Present {
    chains: Vec<String>,
    hooks: Vec<String>,
}

impl Present {
    /// Reads the output of `iptables-save -t nat` or `ip6tables-save -t nat`.
    pub fn read(saved: &str) -> Self {
        let mut present = Present::default();
        for line in saved.lines() {
            if let Some(chain) = line.strip_prefix(':').and_then(|rest| rest.split(' ').next()) {
                if chain.starts_with(ChainName::PREFIX) {
                    present.chains.push(chain.to_owned());
                }
            } else if let Some(rule) = line.strip_prefix("-A ")
                && !rule.starts_with(ChainName::PREFIX)
                && target(rule).is_some_and(|target| target.starts_with(ChainName::PREFIX))
            {
                present.hooks.push(rule.to_owned());
            }
        }
        present
    }

    /// Whether nothing of ours is there.
    pub fn is_empty(&self) -> bool {
        self.chains.is_empty() && self.hooks.is_empty()
    }
}

/// The text that turns what is `present` into `rules`.
pub fn apply(rules: &RuleSet, present: &Present) -> String {
    let mut text = String::from("*nat\n");
    for chain in &rules.chains {
        line(&mut text, &format!(":{} - [0:0]", chain.name.text()));
    }
    let stale = || {
        present
            .chains
            .iter()
            .filter(|name| ChainName::ALL.iter().all(|ours| ours.text() != *name))
    };
    for name in stale() {
        line(&mut text, &format!(":{name} - [0:0]"));
    }
    for chain in &rules.chains {
        let mut said = "";
        for rule in &chain.rules {
            if rule.why != said {
                line(&mut text, &format!("# {}", rule.why));
            }
            said = rule.why;
            line(&mut text, &format!("-A {} {}", chain.name.text(), render(rule)));
        }
    }
    if present.hooks != HOOKS {
        for hook in &present.hooks {
            line(&mut text, &format!("-D {hook}"));
        }
        for hook in HOOKS {
            line(&mut text, &format!("-A {hook}"));
        }
    }
    for name in stale() {
        line(&mut text, &format!("-X {name}"));
    }
    text.push_str("COMMIT\n");
    text
}

/// The text that removes what is `present`, or nothing if there is nothing.
pub fn remove(present: &Present) -> Option<String> {
    if present.is_empty() {
        return None;
    }
    let mut text = String::from("*nat\n");
    for chain in &present.chains {
        line(&mut text, &format!(":{chain} - [0:0]"));
    }
    for hook in &present.hooks {
        line(&mut text, &format!("-D {hook}"));
    }
    for chain in &present.chains {
        line(&mut text, &format!("-X {chain}"));
    }
    text.push_str("COMMIT\n");
    Some(text)
}

/// Where our chains are entered, as `iptables-save` writes it. Appended: the rules of others come first.
const HOOKS: [&str; 2] = [
    "PREROUTING -p tcp -j REMORA_INBOUND",
    "OUTPUT -p tcp -j REMORA_OUTPUT",
];

/// The chain that a saved rule jumps to.
fn target(rule: &str) -> Option<&str> {
    let mut words = rule.split(' ');
    words.find(|word| matches!(*word, "-j" | "-g"))?;
    words.next()
}

fn render(rule: &Rule) -> String {
    let mut text = String::from("-p tcp");
    for condition in &rule.matches {
        text.push(' ');
        text.push_str(&match condition {
            Match::InInterface(name) => format!("-i {name}"),
            Match::OutInterface(name) => format!("-o {name}"),
            Match::Source(range) => format!("-s {range}"),
            Match::Destination(range) => format!("-d {range}"),
            Match::DestinationNot(range) => format!("! -d {range}"),
            Match::DestinationPort(ports) if ports.first == ports.last => format!("--dport {}", ports.first),
            Match::DestinationPort(ports) => format!("--dport {}:{}", ports.first, ports.last),
            Match::Uid(uid) => format!("-m owner --uid-owner {uid}"),
            Match::Gid(gid) => format!("-m owner --gid-owner {gid}"),
        });
    }
    text.push_str(&match rule.verdict {
        Verdict::Return => " -j RETURN".to_owned(),
        Verdict::Jump(chain) => format!(" -j {}", chain.text()),
        Verdict::Redirect(port) => format!(" -j REDIRECT --to-ports {port}"),
    });
    text
}

fn line(text: &mut String, content: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{content}");
}
