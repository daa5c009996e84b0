//! How the control plane's clients reach their servers: through a cluster of the bootstrap, with its endpoints,
//! addresses and TLS, exactly as the data path would.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use remora_model::cluster::{Cluster, PickFacts};
use remora_model::snapshot::Snapshot;
use remora_xds_client as xds;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{mpsc, oneshot};

use crate::failure::ConnectFailure;
use crate::io::{Io, Socket, Transport};
use crate::observe::WorkerCounters;
use crate::upstream::{Wish, connect};
use crate::worker::{Graveyard, World};

type Wanted = (Arc<str>, oneshot::Sender<io::Result<Io>>);

/// Opens connections on the control thread.
#[derive(Debug, Clone)]
pub struct Dialer {
    wanted: mpsc::UnboundedSender<Wanted>,
    known: Rc<RefCell<HashMap<Arc<str>, Arc<Cluster>>>>,
}

impl Dialer {
    /// A dialer whose connections are opened by a task on this thread.
    pub fn start(
        counters: WorkerCounters,
        graveyard: Graveyard,
        current: Rc<dyn Fn() -> Arc<Snapshot>>,
    ) -> Self {
        let (wanted, mut orders) = mpsc::unbounded_channel::<Wanted>();
        let known: Rc<RefCell<HashMap<Arc<str>, Arc<Cluster>>>> = Rc::default();
        let table = Rc::clone(&known);
        let counters = Rc::new(counters);
        tokio::task::spawn_local(async move {
            while let Some((name, answer)) = orders.recv().await {
                let cluster = table.borrow().get(&name).cloned();
                let world = Rc::new(World::pinned(current(), graveyard.clone()));
                let counters = Rc::clone(&counters);
                tokio::task::spawn_local(async move {
                    // Whoever gave up waiting hears nothing.
                    let _ = answer.send(dial(cluster, &name, world, &counters).await);
                });
            }
        });
        Self { wanted, known }
    }

    /// Enters the newest version of a cluster that a control plane may be behind.
    pub fn know(&self, cluster: &Arc<Cluster>) {
        self.known
            .borrow_mut()
            .insert(Arc::clone(&cluster.config.name), Arc::clone(cluster));
    }

    /// Whether the connection to this target will be TLS.
    pub fn is_encrypted(&self, target: &xds::Target) -> bool {
        let xds::Target::Cluster(name) = target else {
            return false;
        };
        let known = self.known.borrow();
        known
            .get(name)
            .is_some_and(|cluster| cluster.config.transport.fallback.tls().is_some())
    }

    /// `connection_keepalive` of the cluster: the silence before a ping and the time for its answer.
    pub fn keepalive(&self, target: &xds::Target) -> Option<(Duration, Duration)> {
        let xds::Target::Cluster(name) = target else {
            return None;
        };
        self.known.borrow().get(name)?.config.http.http2.keepalive
    }

    /// The connector that the clients use.
    pub fn connector(&self) -> xds::Connector {
        let wanted = self.wanted.clone();
        xds::Connector::new(move |target| {
            let wanted = wanted.clone();
            async move {
                let transport = match target {
                    xds::Target::Tcp { host, port } => {
                        let stream = TcpStream::connect((host.as_str(), port)).await?;
                        stream.set_nodelay(true)?;
                        Transport::Tcp(stream)
                    }
                    xds::Target::Unix(path) => Transport::Unix(UnixStream::connect(path).await?),
                    xds::Target::Cluster(name) => {
                        let (answer, answered) = oneshot::channel();
                        let gone = || io::Error::other("the control thread is shutting down");
                        wanted.send((name, answer)).map_err(|_| gone())?;
                        return answered.await.map_err(|_| gone())?;
                    }
                };
                Ok(Io::Plain(Socket::new(transport)))
            }
        })
    }
}

async fn dial(
    cluster: Option<Arc<Cluster>>,
    name: &str,
    world: Rc<World>,
    counters: &WorkerCounters,
) -> io::Result<Io> {
    let cluster = cluster.ok_or_else(|| io::Error::other(format!("no cluster '{name}' in the bootstrap")))?;
    let endpoint = cluster
        .pick(&PickFacts::default(), &mut fastrand::Rng::new())
        .map(|pick| Arc::clone(pick.endpoint))
        .map_err(|why| io::Error::other(format!("cluster '{name}': {why}")))?;
    let cells = counters.cluster(&cluster.config);
    let socket = cluster
        .config
        .transport
        .choose(&endpoint.spec.details().transport_labels);
    let alpn: [Box<[u8]>; 1] = [b"h2".as_slice().into()];
    let wish = Wish {
        server_name: None,
        alpn: &alpn,
        alpn_wins: false,
        announced: None,
    };
    let connected = connect(world, &cells, &cluster.config, &endpoint, socket, wish).await;
    connected.map(|connected| connected.io).map_err(|failure| {
        let kind = match failure {
            ConnectFailure::TimedOut(_) => io::ErrorKind::TimedOut,
            _ => io::ErrorKind::Other,
        };
        io::Error::new(
            kind,
            format!(
                "cluster '{name}' at {:?}: {}",
                endpoint.spec.address,
                failure.reason()
            ),
        )
    })
}
