//! Network namespaces that stand for pods, joined by a node that routes between them.
//!
//! A [`Network`] is one node namespace; each [`Pod`] has a veth pair to it, one IPv4 and one IPv6 address, and the node
//! as its default route. Nothing touches the machine's own namespace, names are unique to the process, and everything
//! ends on drop, panicking or not: the processes inside, then the namespaces. Needs root and `ip`; [`missing`] says in
//! words what is not there, for a test that has to skip.

use std::ffi::OsStr;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result, bail, ensure};

/// Why namespaces cannot be made here, or `None` if they can. Tries it, once in a process.
pub fn missing() -> Option<String> {
    static ANSWER: OnceLock<Option<String>> = OnceLock::new();
    ANSWER.get_or_init(try_one).clone()
}

fn try_one() -> Option<String> {
    if let Err(error) = Command::new("ip").arg("-V").output() {
        return Some(format!("the program ip (iproute2) does not run: {error}"));
    }
    let trial = Namespace::new("trial").and_then(|trial| run(trial.command("true")).map(drop));
    trial
        .err()
        .map(|error| format!("network namespaces cannot be made (root is needed): {error:#}"))
}

/// A network namespace with a loopback interface that is up.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes a namespace whose name ends in `label`.
    pub fn new(label: &str) -> Result<Self> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("remora-{}-{number}-{label}", std::process::id());
        ip(&["netns", "add", &name])?;
        let namespace = Namespace { name };
        ip(&["-n", &namespace.name, "link", "set", "lo", "up"])?;
        // Without duplicate address detection addresses serve at once instead of after a second or two.
        namespace.set("net/ipv6/conf/all/accept_dad", "0")?;
        namespace.set("net/ipv6/conf/default/accept_dad", "0")?;
        Ok(namespace)
    }

    /// Its name, as `ip netns list` shows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A command that runs `program` inside, as the current user.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program);
        command
    }

    /// A command that runs `program` inside, as this user and group and without other groups.
    pub fn command_as(&self, uid: u32, gid: u32, program: impl AsRef<OsStr>) -> Command {
        let mut command = self.command(probe());
        command
            .arg("as")
            .arg(uid.to_string())
            .arg(gid.to_string())
            .arg(program);
        command
    }

    /// Writes a kernel setting of this namespace, named by its path below `/proc/sys`.
    fn set(&self, setting: &str, value: &str) -> Result<()> {
        let mut command = self.command("sh");
        run(command.args(["-c", &format!("echo {value} > /proc/sys/{setting}")])).map(drop)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let inside = Command::new("ip").args(["netns", "pids", &self.name]).output();
        let inside = inside
            .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
            .unwrap_or_default();
        for process in inside.split_whitespace() {
            let _ = Command::new("kill")
                .args(["-KILL", process])
                .stderr(Stdio::null())
                .status();
        }
        let _ = Command::new("ip").args(["netns", "del", &self.name]).status();
    }
}

/// A node and the pods that it routes between.
#[derive(Debug)]
pub struct Network {
    node: Namespace,
    pods: u8,
}

impl Network {
    /// A node without pods.
    pub fn new() -> Result<Self> {
        let node = Namespace::new("node")?;
        node.set("net/ipv4/ip_forward", "1")?;
        node.set("net/ipv6/conf/all/forwarding", "1")?;
        Ok(Network { node, pods: 0 })
    }

    /// The node's namespace: it sees every packet between pods and reaches each of them, so it may hold a control
    /// plane or a capture.
    pub fn node(&self) -> &Namespace {
        &self.node
    }

    /// Adds a pod. The interface to it is called `pod<number>` on the node, counted from 1, and `eth0` in the pod.
    pub fn pod(&mut self, label: &str) -> Result<Pod> {
        ensure!(self.pods < u8::MAX, "a network has at most 255 pods");
        self.pods += 1;
        let number = self.pods;
        let namespace = Namespace::new(label)?;
        let (node, pod, link) = (
            self.node.name.as_str(),
            namespace.name.as_str(),
            format!("pod{number}"),
        );
        ip(&[
            "-n", node, "link", "add", &link, "type", "veth", "peer", "name", "eth0", "netns", pod,
        ])?;
        let ipv4 = |host: u8| Ipv4Addr::new(10, 77, number, host);
        let ipv6 = |host: u16| Ipv6Addr::new(0xfd77, u16::from(number), 0, 0, 0, 0, 0, host);
        for (namespace, interface, host) in [(node, link.as_str(), 1), (pod, "eth0", 2)] {
            ip(&[
                "-n",
                namespace,
                "addr",
                "add",
                &format!("{}/24", ipv4(host)),
                "dev",
                interface,
            ])?;
            let address = format!("{}/64", ipv6(u16::from(host)));
            ip(&[
                "-n", namespace, "addr", "add", &address, "dev", interface, "nodad",
            ])?;
            ip(&["-n", namespace, "link", "set", interface, "up"])?;
        }
        ip(&["-n", pod, "route", "add", "default", "via", &ipv4(1).to_string()])?;
        ip(&[
            "-n",
            pod,
            "-6",
            "route",
            "add",
            "default",
            "via",
            &ipv6(1).to_string(),
        ])?;
        Ok(Pod {
            namespace,
            ipv4: ipv4(2),
            ipv6: ipv6(2),
            gateway_ipv4: ipv4(1),
            gateway_ipv6: ipv6(1),
        })
    }
}

/// A namespace with an address of each family.
#[derive(Debug)]
pub struct Pod {
    /// Where to run its processes.
    pub namespace: Namespace,
    /// The pod's IPv4 address.
    pub ipv4: Ipv4Addr,
    /// The pod's IPv6 address.
    pub ipv6: Ipv6Addr,
    /// The node's IPv4 address as this pod sees it.
    pub gateway_ipv4: Ipv4Addr,
    /// The node's IPv6 address as this pod sees it.
    pub gateway_ipv6: Ipv6Addr,
}

/// Runs a command to its end; an error has the command and what it wrote.
pub fn run(mut command: impl std::borrow::BorrowMut<Command>) -> Result<Output> {
    let command = command.borrow_mut();
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("starting {command:?}"))?;
    if !output.status.success() {
        let said = [
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        ]
        .concat();
        bail!("{command:?}: {}: {}", output.status, said.trim());
    }
    Ok(output)
}

/// The helper program of this package, which lies beside the test that runs or one folder up.
pub fn probe() -> PathBuf {
    let here = std::env::current_exe().unwrap_or_default();
    let folders = here.ancestors().skip(1).take(2);
    let found = folders
        .map(|folder| folder.join("netns-probe"))
        .find(|file| file.is_file());
    found.unwrap_or_else(|| PathBuf::from("netns-probe"))
}

fn ip(arguments: &[&str]) -> Result<()> {
    run(Command::new("ip").args(arguments)).map(drop)
}
