//! Who tells the sidecars what to do? One control plane for each of them, serving the YAML files over delta ADS.
//!
//! Both live on the node, as a mesh's control plane lives outside the pods. [`Control::shift`] changes the weights of
//! routes and endpoints in one push and returns when the client's sidecar has taken both.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use harness::certificates::{Authority, Leaf};
use harness::control_plane::{ControlPlane, ENDPOINT, Kind, LISTENER, ROUTE, Resource};

use super::pods::{Place, Ports};
use super::resources::{Files, Values, bind_every_address, without_idle_endpoints};

/// The client's identity.
pub(crate) const CLIENT_ID: &str = "spiffe://demo.local/ns/demo/sa/client";
/// The server's identity.
pub(crate) const SERVER_ID: &str = "spiffe://demo.local/ns/demo/sa/server";

/// How long a sidecar may take to answer a push.
const PATIENCE: Duration = Duration::from_secs(10);

/// How much of the traffic each version is to get, in percent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Weights(pub(crate) [u32; 2]);

/// Which sidecar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Server,
}

impl Side {
    /// The pod's name, and the folder of its resources.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Side::Client => "client",
            Side::Server => "server",
        }
    }
}

/// The control planes and what they serve.
#[derive(Debug)]
pub(crate) struct Control {
    files: Files,
    values: Values,
    planes: [ControlPlane; 2],
}

impl Control {
    /// Makes the certificates and serves everything, with the first weights. `service` are the service's HTTP and TCP
    /// ports, `applications` those of the applications.
    pub(crate) async fn start(
        place: &Place,
        service: [u16; 2],
        applications: Ports,
        weights: Weights,
    ) -> Result<Self> {
        let [client, server] = place.control_planes;
        let planes = place
            .node
            .run(async move {
                Ok([
                    ControlPlane::listen(SocketAddr::new(client, 0)).await?,
                    ControlPlane::listen(SocketAddr::new(server, 0)).await?,
                ])
            })
            .await?;
        let mut values = Values::default();
        values
            .set("service", place.service)
            .set("service_http", service[0])
            .set("service_tcp", service[1])
            .set("server_pod", place.server_pod)
            .set("v1_http", applications.http[0])
            .set("v2_http", applications.http[1])
            .set("v1_tcp", applications.tcp[0])
            .set("v2_tcp", applications.tcp[1])
            .set("client_id", CLIENT_ID)
            .set("server_id", SERVER_ID);
        let mut control = Control {
            files: Files::open()?,
            values,
            planes,
        };
        control.weigh(weights);
        control.serve_everything(place)?;
        Ok(control)
    }

    fn serve_everything(&mut self, place: &Place) -> Result<()> {
        let authority = Authority::new("The demo's throw-away authority")?;
        let certificates = [authority.spiffe(CLIENT_ID)?, authority.spiffe(SERVER_ID)?];
        for (side, certificate) in [Side::Client, Side::Server].into_iter().zip(certificates) {
            self.plane(side).put(self.secrets(&authority, &certificate)?);
            let files: &[&str] = match side {
                Side::Client => &["listeners", "routes", "clusters", "endpoints"],
                Side::Server => &["listeners", "clusters"],
            };
            let mut resources = Vec::new();
            for file in files {
                resources.extend(self.read(&format!("{}/{file}.yaml", side.name()))?);
            }
            if place.pods.is_none() {
                resources = unredirected(resources, &place.server_pod.to_string())?;
            }
            self.plane(side).put(resources);
        }
        Ok(())
    }

    fn secrets(&self, authority: &Authority, certificate: &Leaf) -> Result<Vec<Resource>> {
        let mut values = self.values.clone();
        values
            .set_text("certificate", &certificate.certificate_pem)
            .set_text("private_key", &certificate.key_pem)
            .set_text("authority", authority.pem());
        self.files.read("secrets.yaml", &values)
    }

    fn read(&self, file: &str) -> Result<Vec<Resource>> {
        let resources = self.files.read(file, &self.values)?;
        resources.into_iter().map(without_idle_endpoints).collect()
    }

    fn weigh(&mut self, Weights([v1, v2]): Weights) {
        self.values.set("v1_weight", v1).set("v2_weight", v2);
    }

    fn plane(&self, side: Side) -> &ControlPlane {
        match side {
            Side::Client => &self.planes[0],
            Side::Server => &self.planes[1],
        }
    }

    /// What a sidecar is to be started with.
    pub(crate) fn bootstrap(&self, side: Side, admin: SocketAddr) -> Result<String> {
        let mut values = self.values.clone();
        let server = self.plane(side).address();
        values
            .set("node", side.name())
            .set("admin_address", admin.ip())
            .set("admin_port", admin.port())
            .set("control_plane_address", server.ip())
            .set("control_plane_port", server.port());
        self.files.text("bootstrap.yaml", &values)
    }

    /// Changes the weights, and waits until the client's sidecar has taken the change.
    ///
    /// # Errors
    /// When it refuses, or does not answer in time.
    pub(crate) async fn shift(&mut self, weights: Weights) -> Result<()> {
        self.weigh(weights);
        let mut resources = self.read("client/routes.yaml")?;
        resources.extend(self.read("client/endpoints.yaml")?);
        let plane = self.plane(Side::Client);
        plane.forget_requests();
        plane.put(resources);
        for type_url in [ENDPOINT, ROUTE] {
            let answered = |kind: Kind| kind == Kind::Ack || kind == Kind::Nack;
            let answer = plane
                .wait_for(PATIENCE, |answer| {
                    answer.type_url == type_url && answered(answer.kind)
                })
                .await?;
            anyhow::ensure!(
                answer.kind == Kind::Ack,
                "{type_url} was refused: {}",
                answer.error
            );
        }
        Ok(())
    }

    /// What the sidecars refused, in their words.
    pub(crate) fn refusals(&self) -> Vec<String> {
        let all = self.planes.iter().flat_map(ControlPlane::requests);
        all.filter(|request| request.kind == Kind::Nack)
            .map(|request| request.error)
            .collect()
    }
}

fn unredirected(resources: Vec<Resource>, server_pod: &str) -> Result<Vec<Resource>> {
    let mut all = Vec::new();
    for resource in resources {
        if resource.body.type_url == LISTENER {
            all.extend(bind_every_address(&resource, server_pod)?);
        } else {
            all.push(resource);
        }
    }
    Ok(all)
}
