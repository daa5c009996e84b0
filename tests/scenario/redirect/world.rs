//! The pods, listeners and callers of the redirection tests, and what they see.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;

use harness::namespaces::{self, Network, Pod, probe, run};
use harness::peers::{Missing, skip};

pub(crate) const APPLICATION: Caller = Caller(1000, 1000);
pub(crate) const PROXY: Caller = Caller(1337, 1337);

/// Whether a test of this backend cannot run here; says so aloud, once for each backend.
pub(crate) fn skipped(backend: &str) -> bool {
    static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let missing = if installed(backend) {
        namespaces::missing()
    } else {
        Some(format!("{backend} is not installed"))
    };
    if let Some(missing) = &missing
        && SAID.lock().unwrap().insert(backend.to_owned())
    {
        skip(
            &format!("redirection rules by {backend}"),
            &Missing(missing.clone()),
        )
        .unwrap();
    }
    missing.is_some()
}

fn installed(backend: &str) -> bool {
    let program = if backend == "nft" {
        "nft"
    } else {
        &format!("{backend}-restore")
    };
    Command::new(program).arg("--version").output().is_ok()
}

/// User and group of a calling process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Caller(pub(crate) u32, pub(crate) u32);

#[derive(Debug, Clone, Copy)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    pub(crate) fn of(self, pod: &Pod) -> IpAddr {
        match self {
            Family::V4 => pod.ipv4.into(),
            Family::V6 => pod.ipv6.into(),
        }
    }

    pub(crate) fn loopback(self) -> IpAddr {
        match self {
            Family::V4 => [127, 0, 0, 1].into(),
            Family::V6 => [0, 0, 0, 0, 0, 0, 0, 1].into(),
        }
    }

    pub(crate) fn handover(self) -> IpAddr {
        match self {
            Family::V4 => [127, 0, 0, 6].into(),
            Family::V6 => [0, 0, 0, 0, 0, 0, 0, 6].into(),
        }
    }
}

/// The three pods and their listeners. Fields are dropped in order: listeners before the namespaces they are in.
pub(crate) struct World {
    _listeners: [Listeners; 3],
    pub(crate) pod: Pod,
    pub(crate) outside: Pod,
    pub(crate) friend: Pod,
    _network: Network,
}

impl World {
    pub(crate) fn new() -> Self {
        let mut network = Network::new().unwrap();
        let [pod, outside, friend] = ["pod", "outside", "friend"].map(|label| network.pod(label).unwrap());
        let in_pod = [
            "application=[::]:8080",
            "application=[::]:9090",
            "outbound=[::]:15001",
            "inbound=[::]:15006",
            "tunnel=[::]:15008",
            "agent=[::]:15021",
            "other-outbound=[::]:16001",
            "other-inbound=[::]:16006",
        ];
        let listeners = [
            listen(&pod, &in_pod),
            listen(&outside, &["outside=[::]:80", "outside=[::]:81"]),
            listen(&friend, &["friend=[::]:80", "friend=[::]:81"]),
        ];
        World {
            _listeners: listeners,
            pod,
            outside,
            friend,
            _network: network,
        }
    }

    pub(crate) fn redirect(&self, action: &str, backend: &str, flags: &[&str]) -> anyhow::Result<()> {
        redirect(&self.pod, action, backend, flags)
    }

    pub(crate) fn pod_calls(&self, caller: Caller, from: Option<IpAddr>, to: IpAddr, port: u16) -> String {
        call(&self.pod, caller, from, to, port)
    }
}

/// A process with listeners; ends with this value.
pub(crate) struct Listeners(Child);

impl Drop for Listeners {
    fn drop(&mut self) {
        // The end of its standard input ends it.
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

pub(crate) fn listen(pod: &Pod, listeners: &[&str]) -> Listeners {
    let mut command = pod.namespace.command(probe());
    let command = command
        .arg("listen")
        .args(listeners)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut ready = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut ready)
        .unwrap();
    assert_eq!(ready, "listening\n");
    Listeners(child)
}

pub(crate) fn redirect(pod: &Pod, action: &str, backend: &str, flags: &[&str]) -> anyhow::Result<()> {
    let mut command = pod.namespace.command(probe());
    run(command
        .args(["redirect", action, "--backend", backend])
        .args(flags))
    .map(drop)
}

/// What the listener answers, or why there is none.
pub(crate) fn call(
    pod: &Pod,
    Caller(uid, gid): Caller,
    from: Option<IpAddr>,
    to: IpAddr,
    port: u16,
) -> String {
    let mut command = pod.namespace.command_as(uid, gid, probe());
    command.arg("call");
    if let Some(from) = from {
        command.arg("--from").arg(from.to_string());
    }
    match run(command.arg(SocketAddr::new(to, port).to_string())) {
        Ok(output) => String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        Err(error) => format!("{error:#}"),
    }
}

pub(crate) fn direct(name: &str, peer: IpAddr) -> String {
    format!("{name} peer={peer} original=-")
}

pub(crate) fn redirected(name: &str, peer: IpAddr, to: IpAddr, port: u16) -> String {
    format!("{name} peer={peer} original={}", SocketAddr::new(to, port))
}

/// Rules of somebody else, in every place that is installed: before and after ours, and of other tables.
pub(crate) fn foreign_rules(pod: &Pod) {
    let rules = [
        "-t nat -A PREROUTING -p tcp --dport 7 -j RETURN",
        "-t nat -A OUTPUT -p tcp --dport 7 -j RETURN",
        "-A INPUT -p tcp --dport 7 -j DROP",
    ];
    for backend in ["iptables-nft", "iptables-legacy"]
        .into_iter()
        .filter(|backend| installed(backend))
    {
        for program in [backend.to_owned(), backend.replace("iptables", "ip6tables")] {
            for rule in rules {
                run(pod.namespace.command(&program).args(rule.split(' '))).unwrap();
            }
        }
    }
    if installed("nft") {
        let rules = "add table ip somebody; add chain ip somebody remora; add table inet remora";
        run(pod.namespace.command("nft").arg(rules)).unwrap();
    }
}

/// All rules of all kinds and the loopback addresses, without comments and packet counts.
pub(crate) fn everything(pod: &Pod) -> String {
    let mut all = String::new();
    let saves = [
        "iptables-nft-save",
        "iptables-legacy-save",
        "ip6tables-nft-save",
        "ip6tables-legacy-save",
    ];
    let commands = saves.map(|save| vec![save]).into_iter().chain([
        vec!["nft", "list", "ruleset"],
        vec!["ip", "-6", "addr", "show", "dev", "lo"],
    ]);
    for words in commands {
        // A program that is not installed has no rules.
        let Ok(output) = pod.namespace.command(words[0]).args(&words[1..]).output() else {
            continue;
        };
        for line in String::from_utf8_lossy(&output.stdout)
            .lines()
            .filter(|line| !line.starts_with('#'))
        {
            all.push_str(&uncounted(line));
            all.push('\n');
        }
    }
    all
}

/// A rule without `[3:180]` (iptables) and `counter packets 3 bytes 180` (nft).
fn uncounted(line: &str) -> String {
    let mut words = line.split_whitespace().peekable();
    let mut kept = Vec::new();
    while let Some(word) = words.next() {
        if word == "counter" && words.peek() == Some(&"packets") {
            words.by_ref().take(4).for_each(drop);
        } else if !word.starts_with('[') {
            kept.push(word);
        }
    }
    kept.join(" ")
}
