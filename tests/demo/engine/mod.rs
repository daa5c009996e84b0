//! The life of a demo: two pods with sidecars and applications, a control plane, a client, and three shifts of weight.
//!
//! The program `remora-demo` shows it, the test `two_pods` judges it. [`Demo::start`] builds everything in order,
//! [`Demo::shift`] moves the weights under traffic, [`Demo::finish`] lets what is under way end and gives the tally.
//! Dropped at any moment, it leaves no process, namespace or file behind.

pub(crate) mod application;
pub(crate) mod control;
pub(crate) mod pods;
pub(crate) mod resources;
pub(crate) mod tally;
pub(crate) mod traffic;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use harness::process::{Options, Port, Proxy, ProxyProcess};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use application::Application;
use control::{Control, Side, Weights};
use pods::{Inside, PROXY_USER, Place, Ports, Scene};
use tally::{Board, Tally};
use traffic::Service;

/// The weights of the three phases.
pub(crate) const SHIFTS: [Weights; 3] = [Weights([90, 10]), Weights([50, 50]), Weights([0, 100])];

/// How long a sidecar may take to end once nobody uses it.
const FAREWELL: Duration = Duration::from_secs(5);

/// A running demo. Fields are dropped in order: traffic, sidecars, control planes, then the pods.
#[derive(Debug)]
pub(crate) struct Demo {
    stop: watch::Sender<bool>,
    traffic: Option<JoinHandle<()>>,
    sidecars: [ProxyProcess; 2],
    control: Control,
    board: Board,
    service: Service,
    _service_ports: Vec<Port>,
    place: Place,
}

impl Demo {
    /// Builds everything and waits until both sidecars are ready; nothing is sent yet.
    pub(crate) async fn start(proxy: Proxy, scene: Scene) -> Result<Self> {
        let place = Place::new(scene).await?;
        let applications = start_applications(&place).await?;
        let (service, service_ports) = choose_service(&place)?;
        let ports = [service.http.port(), service.tcp.port()];
        let control = Control::start(&place, ports, applications, SHIFTS[0]).await?;
        let server = start_sidecar(proxy, Side::Server, &control, &place).await?;
        let client = start_sidecar(proxy, Side::Client, &control, &place).await?;
        Ok(Demo {
            stop: watch::Sender::new(false),
            traffic: None,
            sidecars: [client, server],
            control,
            board: Board::default(),
            service,
            _service_ports: service_ports,
            place,
        })
    }

    /// Starts the client application, with the weights that are in force.
    pub(crate) fn send_traffic(&mut self) {
        self.board.begin(SHIFTS[0]);
        let work = traffic::run(self.service, self.board.clone(), self.stop.subscribe());
        self.traffic = Some(self.place.client.start(work));
    }

    /// Shifts the weights, and opens the next phase once the client's sidecar has taken them.
    pub(crate) async fn shift(&mut self, weights: Weights) -> Result<()> {
        self.control.shift(weights).await?;
        self.board.begin(weights);
        Ok(())
    }

    /// Lets everything under way end, the sidecars too, so that their logs are whole.
    pub(crate) async fn finish(&mut self) -> Result<Tally> {
        self.stop.send_replace(true);
        if let Some(traffic) = self.traffic.take() {
            traffic.await.context("the client application")?;
        }
        for sidecar in &mut self.sidecars {
            // One that has ended by itself, or does not end when asked, is reported by what failed.
            let _ = sidecar.terminate();
            let _ = sidecar.wait_exit(FAREWELL).await;
        }
        Ok(self.tally())
    }

    /// Everything so far.
    pub(crate) fn tally(&self) -> Tally {
        self.board.tally()
    }

    /// Where it takes place.
    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    /// The service's addresses.
    pub(crate) fn service(&self) -> Service {
        self.service
    }

    /// What the sidecars refused of what the control planes sent.
    pub(crate) fn refusals(&self) -> Vec<String> {
        self.control.refusals()
    }

    /// Who opened the TCP connections, and how many, by the access log of the server's sidecar.
    pub(crate) fn tcp_callers(&self) -> BTreeMap<String, u64> {
        let mut callers = BTreeMap::new();
        let log = self.sidecars[Side::Server as usize].log();
        for line in log.lines().filter_map(|line| line.strip_prefix("tcp caller=")) {
            let caller = line.split(' ').next().unwrap_or_default();
            *callers.entry(caller.to_owned()).or_default() += 1;
        }
        callers
    }
}

async fn start_applications(place: &Place) -> Result<Ports> {
    let mut ports = place.ports();
    for (index, version) in tally::VERSIONS.into_iter().enumerate() {
        let (at, http, tcp) = (place.applications, ports.http[index], ports.tcp[index]);
        let application = place
            .server
            .run(async move { Application::start(version, at, http, tcp).await })
            .await?;
        (ports.http[index], ports.tcp[index]) = (application.http, application.tcp);
    }
    Ok(ports)
}

/// The service's address: nobody's in the pods, on loopback two free ports that are kept until the end.
fn choose_service(place: &Place) -> Result<(Service, Vec<Port>)> {
    let at = |port| SocketAddr::new(place.service, port);
    if place.pods.is_some() {
        let service = Service {
            http: at(80),
            tcp: at(7000),
        };
        return Ok((service, Vec::new()));
    }
    let ports = vec![Port::reserve()?, Port::reserve()?];
    let service = Service {
        http: at(ports[0].number()),
        tcp: at(ports[1].number()),
    };
    Ok((service, ports))
}

async fn start_sidecar(proxy: Proxy, side: Side, control: &Control, place: &Place) -> Result<ProxyProcess> {
    let inside: &Inside = match side {
        Side::Client => &place.client,
        Side::Server => &place.server,
    };
    let options = Options {
        user: place.pods.is_some().then_some(PROXY_USER),
        own_process_group: true,
        ..Options::default()
    };
    let admin = inside.run(async { Port::reserve() }).await?;
    let bootstrap = control.bootstrap(side, admin.address())?;
    inside
        .run(async move { ProxyProcess::start(proxy, &bootstrap, admin, &options).await })
        .await
        .with_context(|| format!("the {}'s sidecar", side.name()))
}
