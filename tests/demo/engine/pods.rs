//! Where does the demo take place: in network namespaces with redirection rules, or on loopback ports without?
//!
//! [`Place::new`] makes either. Work for a place runs by [`Inside::run`]: on a thread of its own that has entered the
//! namespace, so that its sockets and processes are in there. Everything ends on drop: the threads, then the namespaces.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::process::Command;
use std::thread::JoinHandle;

use anyhow::{Context as _, Result};
use harness::namespaces::{self, Namespace, Network, Pod, probe, run};
use harness::peers;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// The user and group that the rules let through.
pub(crate) const PROXY_USER: (u32, u32) = (1337, 1337);

/// An address that no interface has: only a redirected connection gets an answer from it.
const SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);

/// Which place is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scene {
    /// Network namespaces with rules; an error where they cannot be made.
    Pods,
    /// Ports on loopback.
    Loopback,
}

/// The ports of the applications in the server pod.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ports {
    /// HTTP/1.1 and gRPC, version 1 and 2; 0 lets the system choose.
    pub(crate) http: [u16; 2],
    /// TCP, version 1 and 2; 0 lets the system choose.
    pub(crate) tcp: [u16; 2],
}

/// Three places that one can run things in, and their addresses.
#[derive(Debug)]
pub(crate) struct Place {
    /// Where the control plane is, and where all packets between the pods pass.
    pub(crate) node: Inside,
    /// Where the client application and its sidecar are.
    pub(crate) client: Inside,
    /// Where the server applications and their sidecar are.
    pub(crate) server: Inside,
    /// Where the sidecars find their control planes: as the client's pod sees the node, and as the server's does.
    pub(crate) control_planes: [IpAddr; 2],
    /// The address that the client application knows.
    pub(crate) service: IpAddr,
    /// The server pod's own address.
    pub(crate) server_pod: IpAddr,
    /// Where the applications listen.
    pub(crate) applications: IpAddr,
    /// The namespaces, if that is what it is. Dropped last.
    pub(crate) pods: Option<Pods>,
}

/// The network namespaces.
#[derive(Debug)]
pub(crate) struct Pods {
    /// The client's pod.
    pub(crate) client: Pod,
    /// The server's pod.
    pub(crate) server: Pod,
    /// The node between them.
    _network: Network,
}

impl Place {
    /// Makes the place.
    pub(crate) async fn new(scene: Scene) -> Result<Self> {
        match scene {
            Scene::Pods => Self::pods().await,
            Scene::Loopback => Self::loopback(),
        }
    }

    async fn pods() -> Result<Self> {
        let mut network = Network::new()?;
        let (client, server) = (network.pod("client")?, network.pod("server")?);
        let place = Place {
            node: Inside::enter(Some(network.node()))?,
            client: Inside::enter(Some(&client.namespace))?,
            server: Inside::enter(Some(&server.namespace))?,
            control_planes: [client.gateway_ipv4.into(), server.gateway_ipv4.into()],
            service: SERVICE.into(),
            server_pod: server.ipv4.into(),
            applications: Ipv4Addr::UNSPECIFIED.into(),
            pods: Some(Pods {
                client,
                server,
                _network: network,
            }),
        };
        for pod in [&place.client, &place.server] {
            pod.run(async { redirect() }).await?;
        }
        Ok(place)
    }

    fn loopback() -> Result<Self> {
        Ok(Place {
            node: Inside::enter(None)?,
            client: Inside::enter(None)?,
            server: Inside::enter(None)?,
            control_planes: [Ipv4Addr::LOCALHOST.into(); 2],
            service: Ipv4Addr::LOCALHOST.into(),
            // The applications have the same ports at 127.0.0.1.
            server_pod: Ipv4Addr::new(127, 77, 2, 2).into(),
            applications: Ipv4Addr::LOCALHOST.into(),
            pods: None,
        })
    }

    /// Which ports the applications are to take.
    pub(crate) fn ports(&self) -> Ports {
        match self.pods {
            Some(_) => Ports {
                http: [8081, 8082],
                tcp: [9081, 9082],
            },
            None => Ports {
                http: [0, 0],
                tcp: [0, 0],
            },
        }
    }
}

/// Why there can be no pods with rules here, or `None` if there can. Tries it.
pub(crate) async fn missing() -> Option<String> {
    if let Some(missing) = namespaces::missing() {
        return Some(missing);
    }
    let trial = async {
        let namespace = Namespace::new("rules")?;
        Inside::enter(Some(&namespace))?.run(async { redirect() }).await
    };
    let error = trial.await.err()?;
    Some(format!("no redirection rules can be laid: {error:#}"))
}

/// Lays the rules in the namespace of the calling thread.
fn redirect() -> Result<()> {
    // The helper of the tests has the same command, for a test that was built without the program.
    let program: PathBuf = peers::remora().unwrap_or_else(|_| probe());
    run(Command::new(program).args(["redirect", "apply"])).map(drop)
}

/// A thread with a runtime, in a network namespace or in none of its own.
#[derive(Debug)]
pub(crate) struct Inside {
    runtime: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Inside {
    fn enter(namespace: Option<&Namespace>) -> Result<Self> {
        let namespace = match namespace {
            None => None,
            Some(namespace) => Some(File::open(format!("/run/netns/{}", namespace.name()))?),
        };
        let (stop, stopped) = oneshot::channel();
        let (entered, answer) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = enter_here(namespace);
            let Ok(runtime) = runtime else {
                let _ = entered.send(runtime.map(|_| None));
                return;
            };
            let _ = entered.send(Ok(Some(runtime.handle().clone())));
            let _ = runtime.block_on(stopped);
        });
        let runtime = answer.recv().context("the thread of a namespace ended")??;
        Ok(Inside {
            runtime: runtime.context("the thread of a namespace has no runtime")?,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// Runs `work` in there. A panic of it is an error here.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        self.runtime.spawn(work).await?
    }

    /// Starts `work` in there; it ends with the place.
    pub(crate) fn start(
        &self,
        work: impl Future<Output = ()> + Send + 'static,
    ) -> tokio::task::JoinHandle<()> {
        self.runtime.spawn(work)
    }
}

fn enter_here(namespace: Option<File>) -> Result<tokio::runtime::Runtime> {
    use std::os::fd::AsFd as _;
    if let Some(namespace) = namespace {
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
            .context("entering a network namespace")?;
    }
    Ok(Builder::new_current_thread().enable_all().build()?)
}

impl Drop for Inside {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
