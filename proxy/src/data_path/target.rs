//! Which cluster, endpoint and time limits does a routed request get?

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderMap, StatusCode};
use remora_model::balance::Bringing;
use remora_model::cluster::{Cluster, Discovery, Level, PickFacts, Unpickable};
use remora_model::endpoint::{Endpoint, Labels};
use remora_model::filter::HttpFilter;
use remora_model::listener::HttpManager;
use remora_model::route::{
    Action, ClusterChoice, Decision, Forward, HeaderMutationPair, Route, RouteTable, VirtualHost,
    WeightedCluster,
};
use remora_model::snapshot::{ClusterId, Snapshot};

use crate::failure::Failure;
use crate::upstream::Protocol;
use crate::worker::{Worker, World};

/// A decision that outlives the world it was made in: only the parts that the exchange needs.
#[derive(Debug, Clone)]
pub struct Chosen {
    /// The table.
    pub table: Arc<RouteTable>,
    /// The virtual host.
    pub virtual_host: Arc<VirtualHost>,
    /// The route.
    pub route: Arc<Route>,
    weighted: Option<usize>,
}

impl Chosen {
    /// Keeps what a decision over `table` said.
    pub fn new(table: &Arc<RouteTable>, decision: &Decision<'_>) -> Self {
        let weighted = match (&decision.route.action, decision.weighted) {
            (Action::Forward(forward), Some(drawn)) => match &forward.cluster {
                ClusterChoice::Weighted(all) => {
                    all.entries.iter().position(|entry| std::ptr::eq(entry, drawn))
                }
                _ => None,
            },
            _ => None,
        };
        Self {
            table: Arc::clone(table),
            virtual_host: Arc::clone(decision.virtual_host),
            route: Arc::clone(decision.route),
            weighted,
        }
    }

    /// The labels of the subset that the request is for.
    pub fn labels<'a>(&'a self, forward: &'a Forward) -> Option<&'a Labels> {
        let own = self.weighted().and_then(|entry| entry.labels.as_deref());
        own.or_else(|| forward.endpoint.as_deref()?.labels.as_ref())
    }

    /// The decision, borrowed again.
    pub fn decision(&self) -> Decision<'_> {
        Decision {
            table: &self.table,
            virtual_host: &self.virtual_host,
            route: &self.route,
            weighted: self.weighted(),
        }
    }

    /// Whether any level has request mutations.
    pub fn mutates_request(&self) -> bool {
        self.levels().any(|pair| !pair.request().is_empty())
    }

    /// Whether any level has response mutations.
    pub fn mutates_response(&self) -> bool {
        self.levels().any(|pair| !pair.response().is_empty())
    }

    fn levels(&self) -> impl Iterator<Item = &HeaderMutationPair> {
        let fixed = [
            &self.table.headers,
            &self.virtual_host.headers,
            &self.route.headers,
        ];
        fixed
            .into_iter()
            .chain(self.weighted().map(|entry| &entry.headers))
    }

    /// The entry of `weighted_clusters` that was drawn.
    pub fn weighted(&self) -> Option<&WeightedCluster> {
        match &self.route.action {
            Action::Forward(forward) => match &forward.cluster {
                ClusterChoice::Weighted(all) => all.entries.get(self.weighted?),
                _ => None,
            },
            _ => None,
        }
    }
}

/// The cluster that a choice names. A header names it as text, which only the control side can turn into an id, so it
/// is looked for among the names of the world.
pub fn cluster_of(
    choice: &ClusterChoice,
    weighted: Option<&WeightedCluster>,
    headers: &HeaderMap,
    world: &World,
) -> Option<Arc<Cluster>> {
    let by_id = |id: ClusterId| world.cluster(id).map(Arc::clone);
    match choice {
        ClusterChoice::One(id) => by_id(*id),
        ClusterChoice::Weighted(_) => by_id(weighted?.cluster),
        ClusterChoice::Header(name) => {
            let wanted = headers.get(name)?.to_str().ok()?;
            world
                .clusters
                .iter()
                .find(|(_, cluster)| *cluster.config.name == *wanted)
                .map(|(_, c)| Arc::clone(c))
        }
    }
}

/// The member of an aggregate cluster that serves, and what was chosen of it; `None` where the cluster serves itself.
///
/// # Errors
/// [`Failure::NoHealthyUpstream`]: no member has an endpoint.
pub fn member_of(worker: &Worker, cluster: &Cluster) -> Result<Option<(Arc<Cluster>, Level)>, Failure> {
    if cluster.stands_for().is_none() {
        return Ok(None);
    }
    let choose = |world: &Snapshot| {
        let chosen = worker.with_rng(|rng| cluster.member(|id| world.cluster(id), rng));
        chosen.map(|(member, level)| (Arc::clone(member), level))
    };
    let chosen = choose(&worker.world());
    // What was waited for is published, but this worker may not have taken it over yet.
    let chosen = chosen.or_else(|_| choose(&worker.shared.current()));
    chosen.map(Some).map_err(|_| Failure::NoHealthyUpstream)
}

/// The cluster itself, or the member that serves in its place with what was chosen of it.
///
/// # Errors
/// [`Failure::NoHealthyUpstream`]: no member has an endpoint.
pub fn serving(worker: &Worker, cluster: &Arc<Cluster>) -> Result<(Arc<Cluster>, Option<Level>), Failure> {
    Ok(match member_of(worker, cluster)? {
        Some((member, level)) => (member, Some(level)),
        None => (Arc::clone(cluster), None),
    })
}

/// An endpoint of the cluster for a connection that wanted to go to `destination`.
///
/// # Errors
/// [`Failure::NoHealthyUpstream`], or an original destination that is not usable.
pub fn endpoint_of(
    worker: &Worker,
    cluster: &Cluster,
    facts: &PickFacts<'_>,
    destination: Option<SocketAddr>,
    bringing: &Bringing<'_>,
) -> Result<Arc<Endpoint>, Failure> {
    let policy = &cluster.endpoints.options.policy;
    if let Some(endpoint) = cluster.named(bringing) {
        return Ok(Arc::clone(endpoint));
    }
    let watches = policy.watches_time();
    let by_zone = cluster
        .endpoints
        .priorities
        .first()
        .is_some_and(|first| first.zones.is_some());
    let local = if by_zone {
        worker.world().local.clone()
    } else {
        None
    };
    let facts = PickFacts {
        now: watches.then(Instant::now),
        running: if watches {
            worker.shared.started.elapsed()
        } else {
            Duration::ZERO
        },
        local: local.as_deref(),
        ..*facts
    };
    match worker.with_rng(|rng| cluster.pick(&facts, rng).map(|pick| Arc::clone(pick.endpoint))) {
        Ok(endpoint) => Ok(endpoint),
        Err(Unpickable::OriginalDestination) => {
            let Discovery::OriginalDestination(settings) = &cluster.config.discovery else {
                return Err(Failure::NoHealthyUpstream);
            };
            let named = settings.named(bringing);
            let mut address = named.or(destination).ok_or(Failure::NoHealthyUpstream)?;
            if let Some(port) = settings.port_override {
                address.set_port(port);
            }
            Ok(worker.original_destinations.endpoint(&cluster.config, address))
        }
        Err(Unpickable::NoEndpoints | Unpickable::NoneUsable { .. }) => Err(Failure::NoHealthyUpstream),
    }
}

/// The cluster with its endpoints, where they are subscribed to by use and this is the first use; `None` where there is
/// nothing to wait for.
///
/// # Errors
/// They did not come within `connect_timeout`.
pub async fn with_endpoints(worker: &Worker, cluster: &Cluster) -> Result<Option<Arc<Cluster>>, Failure> {
    let by_use = worker.shared.on_demand.get();
    if by_use.is_some() && cluster.stands_for().is_some() {
        let world = worker.world();
        for member in cluster.members(&|id| world.cluster(id)) {
            // A member whose endpoints do not come is passed over.
            let _ = Box::pin(with_endpoints(worker, member)).await;
        }
        return Ok(None);
    }
    let Some(on_demand) = by_use.filter(|_| matches!(cluster.config.discovery, Discovery::Eds { .. })) else {
        return Ok(None);
    };
    let limit = cluster.config.connect_timeout;
    let asked = on_demand.ask(Arc::clone(&cluster.config.name));
    match tokio::time::timeout(limit, asked).await {
        // The world that has them is published; this worker may not have taken it over yet.
        Ok(()) => Ok(worker.shared.current().cluster(cluster.config.id).map(Arc::clone)),
        Err(_) => Err(Failure::EndpointsNotReceived(limit)),
    }
}

/// ALPN names that a filter puts in the place of the cluster's own.
pub fn upstream_alpn(manager: &HttpManager, protocol: Protocol) -> Option<&[Box<[u8]>]> {
    let names = manager.filters.iter().find_map(|filter| match &filter.filter {
        HttpFilter::UpstreamAlpn(names) if !filter.disabled => Some(names),
        _ => None,
    })?;
    let names = match protocol {
        Protocol::Http1 => &names.http11,
        Protocol::Http2 | Protocol::Alpn => &names.http2,
    };
    (!names.is_empty()).then_some(names.as_slice())
}

/// Whether trailers pass: up, and down. HTTP/1 carries them only where `enable_trailers` says so.
pub fn trailers(
    manager: &HttpManager,
    cluster: &Cluster,
    client: http::Version,
    upstream: Protocol,
) -> (bool, bool) {
    let client = client == http::Version::HTTP_2 || manager.http1.trailers;
    let upstream = upstream != Protocol::Http1 || cluster.config.http.http1.trailers;
    (client && upstream, client && upstream)
}

/// The status of a route whose cluster is not there.
pub fn cluster_missing(forward: &Forward) -> Failure {
    let status = forward.cluster_not_found;
    debug_assert!(
        status >= StatusCode::BAD_REQUEST,
        "translation lets only errors through"
    );
    Failure::NoCluster(status)
}
