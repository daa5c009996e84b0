//! The rules that `remora redirect` lays do what they promise, in real network namespaces.
//!
//! Three pods: `pod` has the rules, an application and the proxy's ports; `outside` calls and is called; `friend` is
//! excluded by its addresses. Every listener answers with its name, its peer and the original destination.

#![cfg(test)]

#[path = "redirect/world.rs"]
mod world;

use std::net::IpAddr;

use harness::namespaces::{Network, Pod, probe, run};
use world::{
    APPLICATION, Caller, Family, PROXY, World, call, direct, everything, foreign_rules, listen, redirect,
    redirected, skipped,
};

const BACKENDS: [&str; 3] = ["nft", "iptables-nft", "iptables-legacy"];

#[test]
fn the_matrix_holds_with_nft() {
    matrix("nft");
}

#[test]
fn the_matrix_holds_with_iptables_over_nf_tables() {
    matrix("iptables-nft");
}

#[test]
fn the_matrix_holds_with_legacy_iptables() {
    matrix("iptables-legacy");
}

/// Every kind of connection, both families, against one set of rules.
fn matrix(backend: &str) {
    if skipped(backend) {
        return;
    }
    let world = World::new();
    let (friend4, friend6) = (world.friend.ipv4, world.friend.ipv6);
    let friend = format!("{friend4},{friend6}");
    let flags = [
        ["-d", "15090,15021,15020,9090"],
        ["-o", "81"],
        ["-x", &friend],
        ["--exclude-inbound-cidrs", &friend],
        ["--exclude-uid", "2000,2001"],
        ["--exclude-gid", "3000"],
    ];
    world.redirect("apply", backend, flags.as_flattened()).unwrap();

    for family in [Family::V4, Family::V6] {
        let connections = Connections {
            backend,
            world: &world,
            family,
        };
        connections.outbound();
        connections.inbound();
        connections.within_the_pod();
    }
}

/// The part of the matrix for one backend and one family.
struct Connections<'a> {
    backend: &'a str,
    world: &'a World,
    family: Family,
}

impl Connections<'_> {
    fn outbound(&self) {
        let [pod, outside, friend] = self.addresses();
        self.pod_calls(APPLICATION, outside, 80, redirected("outbound", pod, outside, 80));
        self.pod_calls(APPLICATION, outside, 81, direct("outside", pod));
        self.pod_calls(APPLICATION, friend, 80, direct("friend", pod));
        for left_alone in [
            PROXY,
            Caller(1337, 1000),
            Caller(1000, 1337),
            Caller(2001, 1000),
            Caller(1000, 3000),
        ] {
            self.pod_calls(left_alone, outside, 80, direct("outside", pod));
        }
    }

    fn inbound(&self) {
        let [pod, outside, friend] = self.addresses();
        self.neighbour_calls(
            &self.world.outside,
            pod,
            8080,
            redirected("inbound", outside, pod, 8080),
        );
        self.neighbour_calls(&self.world.outside, pod, 9090, direct("application", outside));
        self.neighbour_calls(&self.world.outside, pod, 15021, direct("agent", outside));
        self.neighbour_calls(&self.world.outside, pod, 15008, direct("tunnel", outside));
        self.neighbour_calls(&self.world.friend, pod, 8080, direct("application", friend));
    }

    fn within_the_pod(&self) {
        let [pod, ..] = self.addresses();
        let (loopback, handover) = (self.family.loopback(), self.family.handover());
        self.pod_calls(APPLICATION, pod, 8080, direct("application", pod));
        self.pod_calls(APPLICATION, loopback, 8080, direct("application", loopback));
        self.pod_calls(Caller(2000, 1000), pod, 8080, direct("application", pod));
        self.pod_calls(PROXY, loopback, 8080, direct("application", loopback));
        self.pod_calls(PROXY, pod, 9090, direct("application", pod));
        for proxy in [PROXY, Caller(1337, 1000), Caller(1000, 1337)] {
            self.pod_calls(proxy, pod, 8080, redirected("inbound", pod, pod, 8080));
            let handed_over = self.world.pod_calls(proxy, Some(handover), pod, 8080);
            assert_eq!(
                handed_over,
                direct("application", handover),
                "{}: {proxy:?} hands over",
                self.backend
            );
        }
    }

    fn addresses(&self) -> [IpAddr; 3] {
        [&self.world.pod, &self.world.outside, &self.world.friend].map(|pod| self.family.of(pod))
    }

    fn pod_calls(&self, caller: Caller, to: IpAddr, port: u16, expected: String) {
        let answer = self.world.pod_calls(caller, None, to, port);
        assert_eq!(
            answer, expected,
            "{}: {caller:?} calls {to} port {port}",
            self.backend
        );
    }

    fn neighbour_calls(&self, caller: &Pod, to: IpAddr, port: u16, expected: String) {
        let answer = call(caller, APPLICATION, None, to, port);
        assert_eq!(
            answer,
            expected,
            "{}: {} calls {to} port {port}",
            self.backend,
            caller.namespace.name()
        );
    }
}

#[test]
fn only_what_is_included_is_intercepted() {
    for backend in BACKENDS.iter().filter(|backend| !skipped(backend)) {
        let world = World::new();
        let outside = format!("{},{}", world.outside.ipv4, world.outside.ipv6);
        let flags = [
            "-i", &outside, "-q", "81", "-b", "8080", "-p", "16001", "-z", "16006", "-u", "4000", "-g",
            "4000",
        ];
        world.redirect("apply", backend, &flags).unwrap();
        for family in [Family::V4, Family::V6] {
            let [pod, outside, friend] =
                [&world.pod, &world.outside, &world.friend].map(|pod| family.of(pod));
            let pod_calls = |to, port| world.pod_calls(APPLICATION, None, to, port);
            assert_eq!(
                pod_calls(outside, 80),
                redirected("other-outbound", pod, outside, 80),
                "{backend}"
            );
            assert_eq!(
                pod_calls(friend, 81),
                redirected("other-outbound", pod, friend, 81),
                "{backend}"
            );
            assert_eq!(pod_calls(friend, 80), direct("friend", pod), "{backend}");
            assert_eq!(
                world.pod_calls(Caller(4000, 1), None, outside, 80),
                direct("outside", pod),
                "{backend}"
            );
            let outside_calls = |port| call(&world.outside, APPLICATION, None, pod, port);
            assert_eq!(
                outside_calls(8080),
                redirected("other-inbound", outside, pod, 8080),
                "{backend}"
            );
            assert_eq!(outside_calls(9090), direct("application", outside), "{backend}");
        }
    }
}

#[test]
fn an_interface_or_a_family_can_be_left_alone() {
    for backend in BACKENDS.iter().filter(|backend| !skipped(backend)) {
        let world = World::new();
        let (pod, outside) = (Family::V4.of(&world.pod), Family::V4.of(&world.outside));
        world.redirect("apply", backend, &["-c", "eth+"]).unwrap();
        assert_eq!(
            world.pod_calls(APPLICATION, None, outside, 80),
            direct("outside", pod),
            "{backend}"
        );
        assert_eq!(
            call(&world.outside, APPLICATION, None, pod, 8080),
            direct("application", outside),
            "{backend}"
        );

        world.redirect("apply", backend, &["--ipv6", "off"]).unwrap();
        let expected = redirected("outbound", pod, outside, 80);
        assert_eq!(
            world.pod_calls(APPLICATION, None, outside, 80),
            expected,
            "{backend}"
        );
        let (pod, outside) = (Family::V6.of(&world.pod), Family::V6.of(&world.outside));
        assert_eq!(
            world.pod_calls(APPLICATION, None, outside, 80),
            direct("outside", pod),
            "{backend}"
        );
    }
}

#[test]
fn sockets_of_one_family_learn_the_original_destination() {
    if skipped("nft") {
        return;
    }
    let network = &mut Network::new().unwrap();
    let pod = network.pod("pod").unwrap();
    let _listeners = listen(&pod, &["outbound=0.0.0.0:15001", "outbound=[::1]:15001"]);
    redirect(&pod, "apply", "nft", &[]).unwrap();
    for (family, far) in [(Family::V4, "192.0.2.9"), (Family::V6, "2001:db8::9")] {
        let far: IpAddr = far.parse().unwrap();
        let answer = call(&pod, APPLICATION, None, far, 443);
        assert_eq!(answer, redirected("outbound", family.of(&pod), far, 443));
    }
}

#[test]
fn apply_is_idempotent_and_remove_is_complete() {
    for backend in BACKENDS.iter().filter(|backend| !skipped(backend)) {
        let network = &mut Network::new().unwrap();
        let pod = network.pod("pod").unwrap();
        foreign_rules(&pod);
        let before = everything(&pod);
        redirect(&pod, "remove", "auto", &[]).unwrap();
        assert_eq!(
            everything(&pod),
            before,
            "{backend}: removing nothing changes nothing"
        );

        redirect(&pod, "apply", backend, &[]).unwrap();
        let first = everything(&pod);
        assert!(
            first.contains("REMORA_OUTPUT") && first.contains("inet6 ::6/128"),
            "{backend}: {first}"
        );
        redirect(&pod, "apply", backend, &[]).unwrap();
        assert_eq!(
            everything(&pod),
            first,
            "{backend}: the second apply changes nothing"
        );

        redirect(&pod, "apply", backend, &["-p", "16001"]).unwrap();
        let changed = everything(&pod);
        assert_eq!(
            changed.replace("16001", "15001"),
            first,
            "{backend}: only the port changes"
        );
        redirect(&pod, "apply", backend, &["--ipv6", "off"]).unwrap();
        assert!(
            !everything(&pod).contains("inet6 ::6/128"),
            "{backend}: without IPv6 no address"
        );

        redirect(&pod, "apply", backend, &[]).unwrap();
        redirect(&pod, "remove", "auto", &[]).unwrap();
        assert_eq!(everything(&pod), before, "{backend}: nothing is left");
        redirect(&pod, "remove", backend, &[]).unwrap();
        assert_eq!(everything(&pod), before, "{backend}: removing twice is fine");
    }
}

#[test]
fn damaged_rules_are_put_right() {
    if skipped("iptables-legacy") {
        return;
    }
    let network = &mut Network::new().unwrap();
    let pod = network.pod("pod").unwrap();
    redirect(&pod, "apply", "iptables-legacy", &[]).unwrap();
    let whole = everything(&pod);
    let iptables = |rule: &str| {
        run(pod
            .namespace
            .command("iptables-legacy")
            .args(["-t", "nat"])
            .args(rule.split(' ')))
    };
    for damage in [
        "-A OUTPUT -p tcp -j REMORA_OUTPUT",
        "-I PREROUTING -p tcp --dport 7 -j REMORA_INBOUND",
        "-F REMORA_OUTPUT",
        "-N REMORA_OF_AN_OLDER_VERSION",
        "-D PREROUTING -p tcp -j REMORA_INBOUND",
    ] {
        iptables(damage).unwrap();
        redirect(&pod, "apply", "iptables-legacy", &[]).unwrap();
        assert_eq!(everything(&pod), whole, "after {damage}");
    }
}

#[test]
fn another_backend_replaces_the_first() {
    let installed: Vec<_> = BACKENDS.into_iter().filter(|backend| !skipped(backend)).collect();
    for first in &installed {
        for second in installed.iter().filter(|second| *second != first) {
            let network = &mut Network::new().unwrap();
            let pod = network.pod("pod").unwrap();
            foreign_rules(&pod);
            redirect(&pod, "apply", second, &[]).unwrap();
            let alone = everything(&pod);
            redirect(&pod, "remove", second, &[]).unwrap();
            redirect(&pod, "apply", first, &[]).unwrap();
            redirect(&pod, "apply", second, &[]).unwrap();
            assert_eq!(everything(&pod), alone, "{first} then {second}");
        }
    }
}

#[test]
fn without_privilege_print_works_and_apply_says_what_it_needs() {
    if skipped("nft") {
        return;
    }
    let network = &mut Network::new().unwrap();
    let pod = network.pod("pod").unwrap();
    let as_nobody = |action: &str| {
        let mut command = pod.namespace.command_as(1000, 1000, probe());
        run(command.args(["redirect", action]))
    };
    let printed = String::from_utf8(as_nobody("print").unwrap().stdout).unwrap();
    assert!(printed.contains("chain REMORA_OUTPUT {"), "{printed}");
    for action in ["apply", "remove"] {
        let refusal = format!("{:#}", as_nobody(action).unwrap_err());
        assert!(
            refusal.contains("NET_ADMIN") && refusal.contains("user id 1000"),
            "{refusal}"
        );
    }
    assert!(!everything(&pod).contains("REMORA"));
}

#[test]
fn remove_never_claims_to_have_removed_what_it_cannot_see() {
    if skipped("iptables-legacy") {
        return;
    }
    let network = &mut Network::new().unwrap();
    let pod = network.pod("pod").unwrap();
    redirect(&pod, "apply", "iptables-legacy", &[]).unwrap();
    let laid = everything(&pod);
    let refusal = format!("{:#}", without_raw(&pod, &["remove"]).unwrap_err());
    assert!(refusal.contains("NET_RAW"), "{refusal}");
    assert_eq!(everything(&pod), laid);
}

#[test]
fn nft_needs_no_raw_sockets_beside_the_legacy_rules_of_others() {
    if skipped("iptables-legacy") || skipped("nft") {
        return;
    }
    let network = &mut Network::new().unwrap();
    let pod = network.pod("pod").unwrap();
    foreign_rules(&pod);
    without_raw(&pod, &["apply", "--backend", "nft"]).unwrap();
    assert!(everything(&pod).contains("table ip6 remora"));
}

fn without_raw(pod: &Pod, arguments: &[&str]) -> anyhow::Result<()> {
    let mut command = pod.namespace.command("setpriv");
    command
        .args(["--bounding-set=-net_raw", "--inh-caps=-net_raw"])
        .arg(probe());
    run(command.arg("redirect").args(arguments)).map(drop)
}

#[test]
fn what_is_printed_is_what_is_laid() {
    if skipped("nft") {
        return;
    }
    let network = &mut Network::new().unwrap();
    let [applied, piped] = ["applied", "piped"].map(|label| network.pod(label).unwrap());
    redirect(&applied, "apply", "nft", &["-x", "10.0.0.0/8"]).unwrap();
    let shell = format!(
        "{} redirect print --backend nft -x 10.0.0.0/8 | nft -f -",
        probe().display()
    );
    run(piped.namespace.command("sh").args(["-c", &shell])).unwrap();
    let ruleset = |pod: &Pod| {
        run(pod.namespace.command("nft").args(["list", "ruleset"]))
            .unwrap()
            .stdout
    };
    assert_eq!(ruleset(&applied), ruleset(&piped));
}
