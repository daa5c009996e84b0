//! The rules in the language of `nft -f`: one own table for each family.
//!
//! One text is one transaction for both families: our tables are dropped and made anew, all or nothing. Everything of
//! ours lies in these tables, so removal is dropping them, and nobody else's table is touched. A table of each family
//! rather than one `inet` table: network address translation in `inet` needs Linux 5.2, in `ip` and `ip6` 3.18.

use std::fmt::Write as _;

use super::rules::{Family, Match, Rule, RuleSet, Verdict};

/// The name of our tables.
const TABLE: &str = "remora";

/// The text that replaces our tables by `rules`, whether they are there or not.
pub fn apply(rules: &[RuleSet]) -> String {
    let mut text = String::new();
    for rules in rules {
        text.push_str(&drop_table(rules.family));
        table(&mut text, rules);
    }
    text
}

/// The text that drops our tables of these families, whether they are there or not.
pub fn remove(families: &[Family]) -> String {
    families.iter().map(|family| drop_table(*family)).collect()
}

/// Which of our tables `nft list tables` lists.
pub fn present(listed: &str) -> Vec<Family> {
    let ours = |family: &Family| {
        listed
            .lines()
            .any(|line| line.trim() == format!("table {} {TABLE}", word(*family)))
    };
    [Family::V4, Family::V6].into_iter().filter(ours).collect()
}

/// Dropping a table that is not there is an error, so it is made first.
fn drop_table(family: Family) -> String {
    format!("table {0} {TABLE}\ndelete table {0} {TABLE}\n", word(family))
}

fn word(family: Family) -> &'static str {
    match family {
        Family::V4 => "ip",
        Family::V6 => "ip6",
    }
}

fn table(text: &mut String, rules: &RuleSet) {
    let mut line = |content: &str| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{content}");
    };
    line(&format!("table {} {TABLE} {{", word(rules.family)));
    for chain in &rules.chains {
        line(&format!("  chain {} {{", chain.name.text()));
        let mut said = "";
        for rule in &chain.rules {
            if rule.why != said {
                line(&format!("    # {}", rule.why));
            }
            said = rule.why;
            line(&format!("    {}", render(rule, rules.family)));
        }
        line("  }");
    }
    for (hook, chain) in [("prerouting", "REMORA_INBOUND"), ("output", "REMORA_OUTPUT")] {
        line(&format!("  chain {hook} {{"));
        line(&format!("    type nat hook {hook} priority -100; policy accept;"));
        line(&format!("    meta l4proto tcp jump {chain}"));
        line("  }");
    }
    line("}");
}

fn render(rule: &Rule, family: Family) -> String {
    let addresses = word(family);
    let mut text = String::new();
    for condition in &rule.matches {
        text.push_str(&match condition {
            Match::InInterface(name) => format!("iifname \"{}\" ", interface(name)),
            Match::OutInterface(name) => format!("oifname \"{}\" ", interface(name)),
            Match::Source(range) => format!("{addresses} saddr {range} "),
            Match::Destination(range) => format!("{addresses} daddr {range} "),
            Match::DestinationNot(range) => format!("{addresses} daddr != {range} "),
            Match::DestinationPort(ports) if ports.first == ports.last => {
                format!("tcp dport {} ", ports.first)
            }
            Match::DestinationPort(ports) => format!("tcp dport {}-{} ", ports.first, ports.last),
            Match::Uid(uid) => format!("meta skuid {uid} "),
            Match::Gid(gid) => format!("meta skgid {gid} "),
        });
    }
    text.push_str(&match rule.verdict {
        Verdict::Return => "return".to_owned(),
        Verdict::Jump(chain) => format!("jump {}", chain.text()),
        Verdict::Redirect(port) => format!("meta l4proto tcp redirect to :{port}"),
    });
    text
}

/// iptables writes "any ending" as `+`, nft as `*`.
fn interface(name: &str) -> String {
    match name.strip_suffix('+') {
        Some(start) => format!("{start}*"),
        None => name.to_owned(),
    }
}
