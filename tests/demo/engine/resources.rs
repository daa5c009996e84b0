//! How do the files under `deploy/demo/resources` become resources?
//!
//! A file has the form that `path_config_source` also reads (`envoy.service.discovery.v3.DiscoveryResponse`), with names
//! in `${braces}` where an address, a weight or a certificate goes. [`Files::read`] puts the values in and reads the text
//! as YAML. Where no rules redirect connections, [`bind_every_address`] makes the listeners bind what they otherwise get
//! handed. What the resources mean is not judged here.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::core::v3::address::Address as Kind;
use envoy_types::pb::envoy::config::core::v3::socket_address::PortSpecifier;
use envoy_types::pb::envoy::config::core::v3::{Address, SocketAddress};
use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use envoy_types::pb::envoy::config::listener::v3::Listener;
use envoy_types::pb::envoy::config::route::v3::RouteConfiguration;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::Secret;
use envoy_types::pb::envoy::service::discovery::v3::DiscoveryResponse;
use envoy_types::pb::google::protobuf::Any;
use harness::control_plane::{CLUSTER, ENDPOINT, LISTENER, ROUTE, Resource, SECRET};
use prost::Message as _;
use remora_proto::{Pool, ReadOptions};

/// What stands for the names in braces.
#[derive(Clone, Debug, Default)]
pub(crate) struct Values(BTreeMap<&'static str, String>);

/// The files and what reads them.
#[derive(Debug)]
pub(crate) struct Files {
    pool: Pool,
    folder: PathBuf,
}

impl Values {
    /// Sets a value; a later one of the same name wins.
    pub(crate) fn set(&mut self, name: &'static str, value: impl ToString) -> &mut Self {
        self.0.insert(name, value.to_string());
        self
    }

    /// Sets a text of several lines, as a quoted string on one.
    pub(crate) fn set_text(&mut self, name: &'static str, text: &str) -> &mut Self {
        self.set(name, serde_json::Value::from(text))
    }

    /// `text` with every `${name}` replaced.
    ///
    /// # Errors
    /// When a name has no value.
    pub(crate) fn fill(&self, text: &str) -> Result<String> {
        let mut parts = text.split("${");
        let mut filled = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let (name, rest) = part.split_once('}').context("${ without }")?;
            let value = self
                .0
                .get(name)
                .with_context(|| format!("nothing stands for ${{{name}}}"))?;
            filled.push_str(value);
            filled.push_str(rest);
        }
        Ok(filled)
    }
}

impl Files {
    /// The files of this repository.
    pub(crate) fn open() -> Result<Self> {
        Ok(Files {
            pool: Pool::load()?,
            folder: PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/demo/resources")),
        })
    }

    /// The text of a file with its values.
    pub(crate) fn text(&self, file: &str, values: &Values) -> Result<String> {
        let path = self.folder.join(file);
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        values.fill(&text).with_context(|| path.display().to_string())
    }

    /// The resources of a file.
    ///
    /// # Errors
    /// Everything that is wrong with the text, each with its line.
    pub(crate) fn read(&self, file: &str, values: &Values) -> Result<Vec<Resource>> {
        let text = self.text(file, values)?;
        let document = self
            .pool
            .read(
                &text,
                "envoy.service.discovery.v3.DiscoveryResponse",
                ReadOptions::default(),
            )
            .map_err(|problems| anyhow::anyhow!(problems.in_file(file)))?;
        let response: DiscoveryResponse = document.decode()?;
        response.resources.into_iter().map(named).collect()
    }
}

/// A resource with the name that its message says.
fn named(body: Any) -> Result<Resource> {
    let bytes = body.value.as_slice();
    let name = match body.type_url.as_str() {
        LISTENER => Listener::decode(bytes)?.name,
        CLUSTER => Cluster::decode(bytes)?.name,
        ROUTE => RouteConfiguration::decode(bytes)?.name,
        ENDPOINT => ClusterLoadAssignment::decode(bytes)?.cluster_name,
        SECRET => Secret::decode(bytes)?.name,
        other => bail!("{other} is no type of resource of the demo"),
    };
    Ok(Resource { name, body })
}

/// Leaves out endpoints of weight 0, which EDS has no word for.
pub(crate) fn without_idle_endpoints(resource: Resource) -> Result<Resource> {
    if resource.body.type_url != ENDPOINT {
        return Ok(resource);
    }
    let mut assignment = ClusterLoadAssignment::decode(resource.body.value.as_slice())?;
    for locality in &mut assignment.endpoints {
        let weighs = |weight: Option<u32>| weight.is_none_or(|weight| weight > 0);
        locality
            .lb_endpoints
            .retain(|endpoint| weighs(endpoint.load_balancing_weight.as_ref().map(|weight| weight.value)));
    }
    Ok(Resource::new(&resource.name, &assignment))
}

/// For loopback, where no connection is redirected: a listener that is handed connections by their original destination
/// binds its address, and of a listener for all ports of a pod each filter chain becomes one listener on its port.
pub(crate) fn bind_every_address(resource: &Resource, pod: &str) -> Result<Vec<Resource>> {
    let listener = Listener::decode(resource.body.value.as_slice())?;
    if listener.bind_to_port.is_some() {
        let bound = Listener {
            bind_to_port: None,
            ..listener
        };
        return Ok(vec![Resource::new(&bound.name, &bound)]);
    }
    let mut listeners = Vec::new();
    for chain in &listener.filter_chains {
        let mut chain = chain.clone();
        let port = chain
            .filter_chain_match
            .take()
            .and_then(|wanted| wanted.destination_port);
        // A chain for any port would have nothing to bind.
        let Some(port) = port else { continue };
        let single = Listener {
            name: chain.name.clone(),
            address: Some(socket_address(pod, port.value)),
            listener_filters: Vec::new(),
            filter_chains: vec![chain],
            ..listener.clone()
        };
        listeners.push(Resource::new(&single.name, &single));
    }
    Ok(listeners)
}

fn socket_address(address: &str, port: u32) -> Address {
    Address {
        address: Some(Kind::SocketAddress(SocketAddress {
            address: address.to_owned(),
            port_specifier: Some(PortSpecifier::PortValue(port)),
            ..SocketAddress::default()
        })),
    }
}
