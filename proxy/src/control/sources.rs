//! Where resources come from: one client per server (or file) and scope, all events in one queue.
//!
//! Holds: a client is started by the first interest in it and lives until the process ends; the variant of the protocol
//! is its own business.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use remora_translate::config_source::{BackOff, GrpcService, GrpcSource, GrpcTarget, Source, Variant};
use remora_xds_client as xds;
use tokio::sync::mpsc;

use super::connector::Dialer;

/// Where a resource comes from; `None`: the bootstrap.
pub type Origin = Option<Source>;

/// Which client: of which source, and for one type only or for all.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ClientKey {
    /// The source.
    pub source: Source,
    /// `None`: the aggregated stream.
    pub type_url: Option<&'static str>,
}

impl ClientKey {
    /// The client that serves `type_url` from `source`.
    pub fn of(source: &Source, type_url: &'static str) -> Self {
        let type_url = match source {
            Source::Ads => None,
            Source::Grpc(_) | Source::Path(_) => Some(type_url),
        };
        Self {
            source: source.clone(),
            type_url,
        }
    }

    /// Where the resources of this client come from.
    pub fn origin(&self) -> Origin {
        Some(self.source.clone())
    }
}

/// All clients.
#[derive(Debug)]
pub struct Sources {
    clients: HashMap<ClientKey, xds::Handle>,
    events: mpsc::Sender<(ClientKey, xds::Event)>,
    ads: Option<GrpcSource>,
    node: Bytes,
    dialer: Dialer,
}

impl Sources {
    /// No client yet. `ads` is what [`Source::Ads`] means.
    pub fn new(
        ads: Option<GrpcSource>,
        node: Bytes,
        dialer: Dialer,
        events: mpsc::Sender<(ClientKey, xds::Event)>,
    ) -> Self {
        Self {
            clients: HashMap::new(),
            events,
            ads,
            node,
            dialer,
        }
    }

    /// Says what is wanted of one type from one source.
    pub fn want(
        &mut self,
        source: &Source,
        type_url: &'static str,
        interest: xds::Interest,
        fetch_timeout: Option<Duration>,
    ) {
        let key = ClientKey::of(source, type_url);
        if let Some(handle) = self.client(&key, fetch_timeout) {
            handle.set_fetch_timeout(type_url, fetch_timeout);
            handle.want(type_url, interest);
        }
    }

    /// Whether a type was ever asked for from this client.
    pub fn serves(&self, key: &ClientKey, type_url: &str) -> bool {
        let handle = self.clients.get(key);
        handle.is_some_and(|handle| handle.status(type_url).is_some())
    }

    /// Answers a response.
    pub fn verdict(&self, key: &ClientKey, response: xds::ResponseToken, rejections: Vec<xds::Rejection>) {
        if let Some(handle) = self.clients.get(key) {
            handle.verdict(response, rejections);
        }
    }

    /// All clients.
    pub fn clients(&self) -> impl Iterator<Item = (&ClientKey, &xds::Handle)> {
        self.clients.iter()
    }

    fn client(&mut self, key: &ClientKey, fetch_timeout: Option<Duration>) -> Option<&xds::Handle> {
        if !self.clients.contains_key(key) {
            match self.start(key, fetch_timeout) {
                Ok((handle, events)) => {
                    tokio::task::spawn_local(pass_on(key.clone(), events, self.events.clone()));
                    self.clients.insert(key.clone(), handle);
                }
                Err(reason) => tracing::error!(source = ?key.source, %reason, "no client for this source"),
            }
        }
        self.clients.get(key)
    }

    fn start(
        &self,
        key: &ClientKey,
        fetch_timeout: Option<Duration>,
    ) -> Result<(xds::Handle, mpsc::Receiver<xds::Event>), String> {
        match &key.source {
            Source::Ads => {
                let ads = self
                    .ads
                    .as_ref()
                    .ok_or("the bootstrap has no dynamic_resources.ads_config")?;
                self.start_grpc(ads, xds::Scope::Aggregated, fetch_timeout)
            }
            Source::Grpc(grpc) => {
                let scope = xds::Scope::Only(key.type_url.unwrap_or_default().into());
                self.start_grpc(grpc, scope, fetch_timeout)
            }
            Source::Path(path) => {
                let config = xds::filesystem::FileConfig {
                    type_url: key.type_url.unwrap_or_default().into(),
                    path: PathBuf::from(path.path.as_ref()),
                    watched_directory: path.watched_directory.as_deref().map(PathBuf::from),
                    fetch_timeout,
                };
                Ok(xds::filesystem::spawn(config, read_discovery_response))
            }
        }
    }

    fn start_grpc(
        &self,
        grpc: &GrpcSource,
        scope: xds::Scope,
        fetch_timeout: Option<Duration>,
    ) -> Result<(xds::Handle, mpsc::Receiver<xds::Event>), String> {
        let variant = match grpc.variant {
            Variant::StateOfTheWorld => xds::Variant::StateOfTheWorld,
            Variant::Delta => xds::Variant::Delta,
        };
        let servers = grpc
            .services
            .iter()
            .map(|service| self.server(service))
            .collect::<Result<Vec<_>, _>>()?;
        let mut config = xds::ClientConfig::new(variant, scope, servers, self.node.clone());
        let BackOff { base, max } = grpc.back_off;
        config.back_off = xds::BackOff::new(base, max);
        config.fetch_timeout = fetch_timeout;
        config.rate_limit = grpc.rate_limit.map(|limit| xds::RateLimit {
            max_tokens: limit.max_tokens,
            fill_interval: limit.fill_interval,
        });
        let said = config
            .servers
            .iter()
            .find_map(|server| self.dialer.keepalive(&server.target));
        if let Some((interval, timeout)) = said {
            config.keepalive_interval = Some(interval);
            config.keepalive_timeout = timeout;
        }
        xds::spawn(config, self.dialer.connector()).map_err(|error| error.to_string())
    }

    fn server(&self, service: &GrpcService) -> Result<xds::Server, String> {
        let (name, target) = match &service.target {
            GrpcTarget::Cluster(name) => (Arc::clone(name), xds::Target::Cluster(Arc::clone(name))),
            GrpcTarget::Uri(uri) => (Arc::clone(uri), target_of(uri)?),
        };
        let scheme = if self.dialer.is_encrypted(&target) {
            http::uri::Scheme::HTTPS
        } else {
            http::uri::Scheme::HTTP
        };
        let authority = match &service.authority {
            Some(authority) => authority.to_string(),
            None => authority_of(&target, &name),
        };
        let initial_metadata = service
            .initial_metadata
            .iter()
            .map(|(name, value)| {
                (
                    name.to_string(),
                    String::from_utf8_lossy(value.as_bytes()).into_owned(),
                )
            })
            .collect();
        Ok(xds::Server {
            name,
            target,
            authority,
            scheme,
            initial_metadata,
        })
    }
}

/// `:authority` where nobody says it: the cluster's name as Envoy has it, the address as gRPC has it, and `localhost`
/// where neither can stand in a request.
fn authority_of(target: &xds::Target, name: &str) -> String {
    let authority = match target {
        xds::Target::Cluster(_) => name.to_owned(),
        xds::Target::Tcp { host, port } if host.contains(':') => format!("[{host}]:{port}"),
        xds::Target::Tcp { host, port } => format!("{host}:{port}"),
        xds::Target::Unix(_) => String::new(),
    };
    match authority.parse::<http::uri::Authority>() {
        Ok(_) => authority,
        Err(_) => "localhost".to_owned(),
    }
}

/// A gRPC target URI: `host:port`, `dns:///host:port`, `ipv4:...`, `unix:/path`.
fn target_of(uri: &str) -> Result<xds::Target, String> {
    if let Some(path) = uri.strip_prefix("unix:") {
        return Ok(xds::Target::Unix(PathBuf::from(path.trim_start_matches("//"))));
    }
    let rest = ["dns:///", "dns:", "ipv4:", "ipv6:", "passthrough:///"]
        .iter()
        .find_map(|p| uri.strip_prefix(p));
    let authority = rest.unwrap_or(uri);
    let (host, port) = authority
        .rsplit_once(':')
        .ok_or_else(|| format!("target '{uri}': expected 'host:port'"))?;
    let port = port
        .parse()
        .map_err(|_| format!("target '{uri}': expected a port, found '{port}'"))?;
    Ok(xds::Target::Tcp {
        host: host.trim_matches(['[', ']']).to_owned(),
        port,
    })
}

/// A file of resources, in any of its forms.
fn read_discovery_response(path: &Path, content: &[u8]) -> Result<Bytes, String> {
    remora_translate::read_discovery_response(&path.to_string_lossy(), content).map(Bytes::from)
}

async fn pass_on(
    key: ClientKey,
    mut from: mpsc::Receiver<xds::Event>,
    to: mpsc::Sender<(ClientKey, xds::Event)>,
) {
    while let Some(event) = from.recv().await {
        if to.send((key.clone(), event)).await.is_err() {
            return;
        }
    }
}
