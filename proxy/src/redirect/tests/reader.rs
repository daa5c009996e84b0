//! Reads both texts back into rules. Only what the writers write is understood; anything else panics.

use super::super::rules::{Chain, ChainName, Family, Match, Rule, RuleSet, Verdict};
use super::super::settings::PortRange;

/// Reads a text of `iptables-restore`.
pub(super) fn iptables(text: &str, family: Family) -> RuleSet {
    let mut chains: Vec<Chain> = Vec::new();
    let mut hooks = Vec::new();
    let mut why = "";
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix(':') {
            chains.push(Chain {
                name: chain_name(rest.strip_suffix(" - [0:0]").unwrap()),
                rules: Vec::new(),
            });
            why = "";
        } else if let Some(comment) = line.strip_prefix("# ") {
            why = known(comment);
        } else if let Some(rule) = line.strip_prefix("-A ") {
            let (chain, rule) = rule.split_once(' ').unwrap();
            if chain.starts_with("REMORA_") {
                let chain = chains
                    .iter_mut()
                    .find(|known| known.name == chain_name(chain))
                    .unwrap();
                chain.rules.push(iptables_rule(rule, why));
            } else {
                hooks.push((chain, rule));
            }
        } else {
            assert!(["*nat", "COMMIT"].contains(&line), "{line}");
        }
    }
    assert_eq!(
        hooks,
        [
            ("PREROUTING", "-p tcp -j REMORA_INBOUND"),
            ("OUTPUT", "-p tcp -j REMORA_OUTPUT")
        ]
    );
    RuleSet { family, chains }
}

fn iptables_rule(rule: &str, why: &'static str) -> Rule {
    let rule = rule
        .strip_prefix("-p tcp ")
        .unwrap()
        .replace("! -d", "!-d")
        .replace("-m owner ", "");
    let words: Vec<&str> = rule.split(' ').collect();
    let mut matches = Vec::new();
    for (at, pair) in words.chunks(2).enumerate() {
        let value = pair[1];
        matches.push(match pair[0] {
            "-i" => Match::InInterface(value.to_owned()),
            "-o" => Match::OutInterface(value.to_owned()),
            "-s" => Match::Source(value.parse().unwrap()),
            "-d" => Match::Destination(value.parse().unwrap()),
            "!-d" => Match::DestinationNot(value.parse().unwrap()),
            "--dport" => Match::DestinationPort(ports(value, ':')),
            "--uid-owner" => Match::Uid(value.parse().unwrap()),
            "--gid-owner" => Match::Gid(value.parse().unwrap()),
            "-j" => {
                let verdict = match value {
                    "RETURN" => Verdict::Return,
                    "REDIRECT" => {
                        assert_eq!(words[at * 2 + 2], "--to-ports");
                        Verdict::Redirect(words[at * 2 + 3].parse().unwrap())
                    }
                    chain => Verdict::Jump(chain_name(chain)),
                };
                return Rule {
                    matches,
                    verdict,
                    why,
                };
            }
            other => panic!("{other}"),
        });
    }
    panic!("no verdict in {rule}")
}

/// Reads a text of `nft -f` with one table.
pub(super) fn nft(text: &str, family: Family) -> RuleSet {
    let word = if family == Family::V4 { "ip" } else { "ip6" };
    let head = format!("table {word} remora\ndelete table {word} remora\ntable {word} remora {{\n");
    let (mut chains, mut hooks): (Vec<Chain>, Vec<String>) = Default::default();
    let (mut chain, mut why) = (String::new(), "");
    for line in text.strip_prefix(&head).unwrap().lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("chain ") {
            chain = name.strip_suffix(" {").unwrap().to_owned();
            if chain.starts_with("REMORA_") {
                chains.push(Chain {
                    name: chain_name(&chain),
                    rules: Vec::new(),
                });
            }
        } else if let Some(comment) = line.strip_prefix("# ") {
            why = known(comment);
        } else if line != "}" && chain.starts_with("REMORA_") {
            chains.last_mut().unwrap().rules.push(nft_rule(line, word, why));
        } else if line != "}" {
            hooks.push(line.to_owned());
        }
    }
    let hook = |hook: &str| format!("type nat hook {hook} priority -100; policy accept;");
    let jump = |chain: &str| format!("meta l4proto tcp jump {chain}");
    assert_eq!(
        hooks,
        [
            hook("prerouting"),
            jump("REMORA_INBOUND"),
            hook("output"),
            jump("REMORA_OUTPUT")
        ]
    );
    RuleSet { family, chains }
}

fn nft_rule(rule: &str, addresses: &str, why: &'static str) -> Rule {
    let mut matches = Vec::new();
    let mut words = rule.split(' ');
    let interface = |name: &str| name.trim_matches('"').replace('*', "+");
    loop {
        let key = words.next().unwrap();
        let mut next = || words.next().unwrap();
        match key {
            "iifname" => matches.push(Match::InInterface(interface(next()))),
            "oifname" => matches.push(Match::OutInterface(interface(next()))),
            "tcp" => {
                assert_eq!(next(), "dport");
                matches.push(Match::DestinationPort(ports(next(), '-')));
            }
            "meta" => match next() {
                "skuid" => matches.push(Match::Uid(next().parse().unwrap())),
                "skgid" => matches.push(Match::Gid(next().parse().unwrap())),
                other => assert_eq!((other, next()), ("l4proto", "tcp")),
            },
            key if key == addresses => matches.push(match (next(), next()) {
                ("saddr", range) => Match::Source(range.parse().unwrap()),
                ("daddr", "!=") => Match::DestinationNot(next().parse().unwrap()),
                ("daddr", range) => Match::Destination(range.parse().unwrap()),
                other => panic!("{other:?}"),
            }),
            "return" => {
                return Rule {
                    matches,
                    verdict: Verdict::Return,
                    why,
                };
            }
            "jump" => {
                return Rule {
                    matches,
                    verdict: Verdict::Jump(chain_name(next())),
                    why,
                };
            }
            "redirect" => {
                assert_eq!(next(), "to");
                let port = next().trim_start_matches(':').parse().unwrap();
                return Rule {
                    matches,
                    verdict: Verdict::Redirect(port),
                    why,
                };
            }
            other => panic!("{other}"),
        }
    }
}

fn ports(text: &str, between: char) -> PortRange {
    let (first, last) = text.split_once(between).unwrap_or((text, text));
    PortRange {
        first: first.parse().unwrap(),
        last: last.parse().unwrap(),
    }
}

fn chain_name(text: &str) -> ChainName {
    ChainName::ALL
        .into_iter()
        .find(|name| name.text() == text)
        .unwrap()
}

/// A comment is compared like any other part of a rule, so it has to live as long as the rules' own.
fn known(comment: &str) -> &'static str {
    comment.to_owned().leak()
}
