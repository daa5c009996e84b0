//! What the rules do to a packet, read back from the text of both writers.

mod packet;
mod reader;

use clap::Parser as _;
use proptest::prelude::*;

use super::*;
use packet::{Fate, expected};
use rules::ChainName;

#[derive(Debug, clap::Parser)]
struct CommandLine {
    #[command(flatten)]
    settings: Settings,
}

fn settings(flags: &[&str]) -> Settings {
    CommandLine::try_parse_from([&["redirect"], flags].concat())
        .unwrap()
        .settings
}

fn refusal(flags: &[&str]) -> String {
    CommandLine::try_parse_from([&["redirect"], flags].concat())
        .unwrap_err()
        .to_string()
}

fn iptables_text(flags: &[&str], family: Family) -> String {
    iptables::apply(
        &RuleSet::new(&settings(flags), family),
        &iptables::Present::default(),
    )
}

fn nft_text(flags: &[&str]) -> String {
    nftables::apply(&[Family::V4, Family::V6].map(|family| RuleSet::new(&settings(flags), family)))
}

/// The lines without comments.
fn bare(text: &str) -> Vec<&str> {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.starts_with('#'))
        .collect()
}

const IPTABLES_GOLDEN: &str = "\
*nat
:REMORA_IN_REDIRECT - [0:0]
:REMORA_REDIRECT - [0:0]
:REMORA_INBOUND - [0:0]
:REMORA_OUTPUT - [0:0]
# inbound goes to the proxy
-A REMORA_IN_REDIRECT -p tcp -j REDIRECT --to-ports 15006
# outbound goes to the proxy
-A REMORA_REDIRECT -p tcp -j REDIRECT --to-ports 15001
# the tunnel port is the proxy's own
-A REMORA_INBOUND -p tcp --dport 15008 -j RETURN
# inbound port left alone
-A REMORA_INBOUND -p tcp --dport 15090 -j RETURN
-A REMORA_INBOUND -p tcp --dport 15021 -j RETURN
-A REMORA_INBOUND -p tcp --dport 15020 -j RETURN
# all other inbound
-A REMORA_INBOUND -p tcp -j REMORA_IN_REDIRECT
# the proxy hands an inbound connection to the application
-A REMORA_OUTPUT -p tcp -o lo -s 127.0.0.6/32 -j RETURN
# the proxy calls its own pod: as if it came from outside
-A REMORA_OUTPUT -p tcp -o lo ! -d 127.0.0.1/32 -m owner --uid-owner 1337 -j REMORA_INBOUND
-A REMORA_OUTPUT -p tcp -o lo ! -d 127.0.0.1/32 -m owner --gid-owner 1337 -j REMORA_INBOUND
# the application calls its own pod: direct
-A REMORA_OUTPUT -p tcp -o lo -j RETURN
# what the proxy sends, leaves
-A REMORA_OUTPUT -p tcp -m owner --uid-owner 1337 -j RETURN
-A REMORA_OUTPUT -p tcp -m owner --gid-owner 1337 -j RETURN
# all other outbound
-A REMORA_OUTPUT -p tcp -j REMORA_REDIRECT
-A PREROUTING -p tcp -j REMORA_INBOUND
-A OUTPUT -p tcp -j REMORA_OUTPUT
COMMIT
";

const NFT_GOLDEN_V6: &str = "\
table ip6 remora
delete table ip6 remora
table ip6 remora {
  chain REMORA_IN_REDIRECT {
    # inbound goes to the proxy
    meta l4proto tcp redirect to :15006
  }
  chain REMORA_REDIRECT {
    # outbound goes to the proxy
    meta l4proto tcp redirect to :15001
  }
  chain REMORA_INBOUND {
    # the tunnel port is the proxy's own
    tcp dport 15008 return
    # inbound port left alone
    tcp dport 15090 return
    tcp dport 15021 return
    tcp dport 15020 return
    # all other inbound
    jump REMORA_IN_REDIRECT
  }
  chain REMORA_OUTPUT {
    # the proxy hands an inbound connection to the application
    oifname \"lo\" ip6 saddr ::6/128 return
    # the proxy calls its own pod: as if it came from outside
    oifname \"lo\" ip6 daddr != ::1/128 meta skuid 1337 jump REMORA_INBOUND
    oifname \"lo\" ip6 daddr != ::1/128 meta skgid 1337 jump REMORA_INBOUND
    # the application calls its own pod: direct
    oifname \"lo\" return
    # what the proxy sends, leaves
    meta skuid 1337 return
    meta skgid 1337 return
    # all other outbound
    jump REMORA_REDIRECT
  }
  chain prerouting {
    type nat hook prerouting priority -100; policy accept;
    meta l4proto tcp jump REMORA_INBOUND
  }
  chain output {
    type nat hook output priority -100; policy accept;
    meta l4proto tcp jump REMORA_OUTPUT
  }
}
";

#[test]
fn the_common_case_reads_like_this() {
    assert_eq!(iptables_text(&[], Family::V4), IPTABLES_GOLDEN);
    let v6 = IPTABLES_GOLDEN
        .replace("127.0.0.6/32", "::6/128")
        .replace("127.0.0.1/32", "::1/128");
    assert_eq!(iptables_text(&[], Family::V6), v6);
    let v4 = NFT_GOLDEN_V6
        .replace("ip6", "ip")
        .replace("::6/128", "127.0.0.6/32")
        .replace("::1/128", "127.0.0.1/32");
    assert_eq!(nft_text(&[]), v4 + NFT_GOLDEN_V6);
}

/// Flags; the lines that come and the lines that go, with iptables for IPv4 and with nft for both families.
type FlagCase = (
    &'static [&'static str],
    &'static [&'static str],
    &'static [&'static str],
);

const FLAGS: &[FlagCase] = &[
    (
        &["-p", "1"],
        &["-A REMORA_REDIRECT -p tcp -j REDIRECT --to-ports 1"],
        &["meta l4proto tcp redirect to :1"],
    ),
    (
        &["-z", "2"],
        &["-A REMORA_IN_REDIRECT -p tcp -j REDIRECT --to-ports 2"],
        &["meta l4proto tcp redirect to :2"],
    ),
    (
        &["-e", "3"],
        &["-A REMORA_INBOUND -p tcp --dport 3 -j RETURN"],
        &["tcp dport 3 return"],
    ),
    (
        &["-u", "4,5"],
        &[
            "-A REMORA_OUTPUT -p tcp -o lo ! -d 127.0.0.1/32 -m owner --uid-owner 5 -j REMORA_INBOUND",
            "-A REMORA_OUTPUT -p tcp -m owner --uid-owner 4 -j RETURN",
        ],
        &[
            "oifname \"lo\" ip6 daddr != ::1/128 meta skuid 4 jump REMORA_INBOUND",
            "meta skuid 5 return",
        ],
    ),
    (
        &["-g", "6"],
        &[
            "-A REMORA_OUTPUT -p tcp -o lo ! -d 127.0.0.1/32 -m owner --gid-owner 6 -j REMORA_INBOUND",
            "-A REMORA_OUTPUT -p tcp -m owner --gid-owner 6 -j RETURN",
        ],
        &[
            "oifname \"lo\" ip daddr != 127.0.0.1/32 meta skgid 6 jump REMORA_INBOUND",
            "meta skgid 6 return",
        ],
    ),
    (
        &["--exclude-uid", "7", "--exclude-gid", "8"],
        &[
            "-A REMORA_OUTPUT -p tcp -m owner --uid-owner 7 -j RETURN",
            "-A REMORA_OUTPUT -p tcp -m owner --gid-owner 8 -j RETURN",
        ],
        &["meta skuid 7 return", "meta skgid 8 return"],
    ),
    (
        &["-b", "80,8000-8010"],
        &["-A REMORA_INBOUND -p tcp --dport 8000:8010 -j REMORA_IN_REDIRECT"],
        &[
            "tcp dport 80 jump REMORA_IN_REDIRECT",
            "tcp dport 8000-8010 jump REMORA_IN_REDIRECT",
        ],
    ),
    (
        &["-d", "9090"],
        &["-A REMORA_INBOUND -p tcp --dport 9090 -j RETURN"],
        &["tcp dport 9090 return"],
    ),
    (
        &["--exclude-inbound-cidrs", "10.1.2.3,fd00::/8"],
        &["-A REMORA_INBOUND -p tcp -s 10.1.2.3/32 -j RETURN"],
        &["ip saddr 10.1.2.3/32 return", "ip6 saddr fd00::/8 return"],
    ),
    (
        &["-i", "10.0.0.9/8,fd00::/8"],
        &["-A REMORA_OUTPUT -p tcp -d 10.0.0.0/8 -j REMORA_REDIRECT"],
        &[
            "ip daddr 10.0.0.0/8 jump REMORA_REDIRECT",
            "ip6 daddr fd00::/8 jump REMORA_REDIRECT",
        ],
    ),
    (
        &["-x", "10.0.0.0/8"],
        &["-A REMORA_OUTPUT -p tcp -d 10.0.0.0/8 -j RETURN"],
        &["ip daddr 10.0.0.0/8 return"],
    ),
    (
        &["-q", "443"],
        &["-A REMORA_OUTPUT -p tcp --dport 443 -j REMORA_REDIRECT"],
        &["tcp dport 443 jump REMORA_REDIRECT"],
    ),
    (
        &["-o", "25"],
        &["-A REMORA_OUTPUT -p tcp --dport 25 -j RETURN"],
        &["tcp dport 25 return"],
    ),
    (
        &["-c", "eth1,cali+"],
        &[
            "-A REMORA_INBOUND -p tcp -i eth1 -j RETURN",
            "-A REMORA_OUTPUT -p tcp -o cali+ -j RETURN",
        ],
        &["iifname \"cali*\" return", "oifname \"eth1\" return"],
    ),
];

#[test]
fn every_flag_adds_its_rules() {
    for (flags, iptables, nft) in FLAGS {
        let common = (iptables_text(&[], Family::V4), nft_text(&[]));
        let texts = (iptables_text(flags, Family::V4), nft_text(flags));
        for line in *iptables {
            assert!(!bare(&common.0).contains(line), "{line}");
            assert!(
                bare(&texts.0).contains(line),
                "{flags:?}: expected {line:?} in\n{}",
                texts.0
            );
        }
        for line in *nft {
            assert!(!bare(&common.1).contains(line), "{line}");
            assert!(
                bare(&texts.1).contains(line),
                "{flags:?}: expected {line:?} in\n{}",
                texts.1
            );
        }
    }
}

#[test]
fn the_spellings_of_others_mean_the_same() {
    let istio = "-p 15001 -z 15006 -u 1337 -g 1337 -m REDIRECT -i * -x  -b * -d 15090,15021,15020";
    let flags: Vec<_> = istio.split(' ').collect();
    assert_eq!(nft_text(&flags), nft_text(&[]));
    let long = [
        ["--envoy-port", "1"],
        ["--inbound-capture-port", "2"],
        ["--inbound-tunnel-port", "3"],
        ["--istio-inbound-ports", "4"],
        ["--istio-local-exclude-ports", "5"],
        ["--istio-service-cidr", "10.0.0.0/8"],
        ["--istio-service-exclude-cidr", "10.1.0.0/16"],
        ["--istio-outbound-ports", "6"],
        ["--istio-local-outbound-ports-exclude", "7"],
        ["--istio-exclude-interfaces", "eth1"],
        ["--istio-inbound-interception-mode", "REDIRECT"],
    ];
    let short = [
        "-p",
        "1",
        "-z",
        "2",
        "-e",
        "3",
        "-b",
        "4",
        "-d",
        "5",
        "-i",
        "10.0.0.0/8",
        "-x",
        "10.1.0.0/16",
    ];
    let short = [&short[..], &["-q", "6", "-o", "7", "-c", "eth1"]].concat();
    assert_eq!(nft_text(long.as_flattened()), nft_text(&short));
}

#[test]
fn a_wrong_value_is_refused_with_what_was_expected_and_found() {
    for (flags, expected, found) in [
        (["-o", "80,http"], "expected a port", "\"http\""),
        (["-o", "0"], "expected a port", "\"0\""),
        (["-o", "90-80"], "expected a port", "\"90-80\""),
        (
            ["-u", "proxy"],
            "expected a numeric user or group id",
            "\"proxy\"",
        ),
        (
            ["-x", "10.0.0.0/33"],
            "expected an address range",
            "\"10.0.0.0/33\"",
        ),
        (
            ["-c", "eth0 return"],
            "expected the name of a network interface",
            "\"eth0 return\"",
        ),
        (["-c", "+"], "expected the name of a network interface", "\"+\""),
        (["-m", "TPROXY"], "only REDIRECT", "\"TPROXY\""),
    ] {
        let refusal = refusal(&flags);
        assert!(refusal.contains(expected) && refusal.contains(found), "{refusal}");
    }
    let same = settings(&["-p", "15006"]).check().unwrap_err();
    assert!(
        same.contains("--outbound-port and --inbound-port are both 15006"),
        "{same}"
    );
}

#[test]
fn a_hook_that_is_right_stays_and_a_wrong_one_is_replaced() {
    let rules = RuleSet::new(&settings(&[]), Family::V4);
    let saved =
        |hooks: &str| format!("*nat\n:OUTPUT ACCEPT [0:0]\n:REMORA_OUTPUT - [1:60]\n{hooks}\nCOMMIT\n");
    let right =
        "-A PREROUTING -p tcp -j REMORA_INBOUND\n-A OUTPUT -j OTHER\n-A OUTPUT -p tcp -j REMORA_OUTPUT";
    let text = iptables::apply(&rules, &iptables::Present::read(&saved(right)));
    assert!(!text.contains("-A OUTPUT") && !text.contains("-D "), "{text}");

    let twice = format!("{right}\n-A OUTPUT -p tcp -j REMORA_OUTPUT\n-A REMORA_OUTPUT -j REMORA_REDIRECT");
    let text = iptables::apply(&rules, &iptables::Present::read(&saved(&twice)));
    assert_eq!(
        text.matches("-D OUTPUT -p tcp -j REMORA_OUTPUT\n").count(),
        2,
        "{text}"
    );
    assert_eq!(
        text.matches("-A OUTPUT -p tcp -j REMORA_OUTPUT\n").count(),
        1,
        "{text}"
    );
    assert!(!text.contains("OTHER") && !text.contains("-D REMORA"), "{text}");
}

#[test]
fn removal_names_all_of_ours_and_nothing_else() {
    let saved = "*nat\n:OUTPUT ACCEPT [0:0]\n:OTHER - [0:0]\n:REMORA_OUTPUT - [0:0]\n:REMORA_OLD - [0:0]\n\
                 -A OUTPUT -j OTHER\n-A OUTPUT -m mark --mark 1 -g REMORA_OLD\n-A REMORA_OUTPUT -j REMORA_OLD\nCOMMIT\n";
    let expected = "*nat\n:REMORA_OUTPUT - [0:0]\n:REMORA_OLD - [0:0]\n-D OUTPUT -m mark --mark 1 -g REMORA_OLD\n\
                    -X REMORA_OUTPUT\n-X REMORA_OLD\nCOMMIT\n";
    assert_eq!(
        iptables::remove(&iptables::Present::read(saved)).as_deref(),
        Some(expected)
    );
    assert_eq!(
        iptables::remove(&iptables::Present::read("*nat\n-A OUTPUT -j OTHER\nCOMMIT\n")),
        None
    );

    let listed = "table ip nat\ntable ip6 remora\ntable inet remora_of_somebody\n";
    assert_eq!(nftables::present(listed), [Family::V6]);
    assert_eq!(
        nftables::remove(&[Family::V6]),
        "table ip6 remora\ndelete table ip6 remora\n"
    );
}

#[test]
fn a_stale_chain_of_ours_goes_away_on_apply() {
    let present = iptables::Present::read("*nat\n:REMORA_OLD - [0:0]\n:REMORA_OUTPUT - [0:0]\nCOMMIT\n");
    let text = iptables::apply(&RuleSet::new(&settings(&[]), Family::V4), &present);
    assert!(
        text.contains(":REMORA_OLD - [0:0]\n") && text.ends_with("-X REMORA_OLD\nCOMMIT\n"),
        "{text}"
    );
    assert_eq!(text.matches("-X ").count(), 1, "{text}");
}

#[test]
fn a_missing_program_is_named() {
    let error = backend::run("remora-no-such-program", &[], "")
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("not installed") && error.contains("remora-no-such-program"),
        "{error}"
    );
    let error = backend::run("sh", &["-c", "echo bad rule >&2; exit 3"], "")
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("sh failed: bad rule") && error.contains('3'),
        "{error}"
    );
}

proptest! {
    /// Both texts, read back, are the rules that were written: no rule lost, added, changed or moved.
    #[test]
    fn writing_and_reading_keeps_every_rule_in_its_place(flags in packet::flags(), v6 in any::<bool>()) {
        let family = if v6 { Family::V6 } else { Family::V4 };
        let rules = RuleSet::new(&settings(&words(&flags)), family);
        prop_assert_eq!(&reader::iptables(&iptables::apply(&rules, &iptables::Present::default()), family), &rules);
        prop_assert_eq!(&reader::nft(&nftables::apply(std::slice::from_ref(&rules)), family), &rules);
    }

    /// A packet that meets the rules ends where the promise in words says, whatever the flags.
    #[test]
    fn a_packet_ends_where_it_should(flags in packet::flags(), packet in packet::packets()) {
        let settings = settings(&words(&flags));
        let rules = RuleSet::new(&settings, packet.family());
        prop_assert_eq!(packet.walk(&rules), expected(&settings, &packet));
    }

    /// The proxy can neither be sent back to its outbound port nor loop when it hands a connection over.
    #[test]
    fn the_proxy_never_loops(flags in packet::flags(), packet in packet::packets()) {
        let settings = settings(&words(&flags));
        let rules = RuleSet::new(&settings, packet.family());
        let by_proxy = packet.is_sent() && packet::owned_by(&packet, &settings.proxy_uid, &settings.proxy_gid);
        let fate = packet.walk(&rules);
        prop_assert!(!by_proxy || fate != Fate::Port(settings.outbound_port.get()));
        prop_assert!(!packet.is_handed_over() || fate == Fate::Unchanged);
    }

    /// A jump only leads to a chain that stands earlier, so no packet walks for ever.
    #[test]
    fn jumps_lead_backwards(flags in packet::flags()) {
        let rules = RuleSet::new(&settings(&words(&flags)), Family::V4);
        let place = |name: ChainName| rules.chains.iter().position(|chain| chain.name == name);
        for chain in &rules.chains {
            for rule in &chain.rules {
                if let rules::Verdict::Jump(to) = rule.verdict {
                    prop_assert!(place(to) < place(chain.name));
                }
            }
        }
    }
}

fn words(flags: &[String]) -> Vec<&str> {
    flags.iter().map(String::as_str).collect()
}
