//! Where does a connection go of which not a byte was read yet, whatever it turns out to carry?
//!
//! Holds: an answer is given only if every chain that the connection may still get leads to the same cluster and to no
//! other, and if it would go there in plain text without a word from the client. Then connecting at once can disclose
//! nothing and go nowhere that the first bytes could still forbid. Bounded: a listener or a route table with more
//! possibilities than [`MOST`] counts as one that differs.

use std::ops::ControlFlow;
use std::sync::Arc;

use super::{ConnectionFacts, HttpManager, Listener, Routes, TcpProxy, Terminal};
use crate::route::{Action, ClusterChoice, RouteTable};
use crate::snapshot::{ClusterId, Snapshot};

/// Chains and routes that are looked at.
pub const MOST: usize = 256;

/// What is common to all candidates of a connection.
#[derive(Debug, Clone)]
pub struct CommonUpstream {
    /// The cluster.
    pub cluster: ClusterId,
    /// The proxy that serves the connection if the server speaks first.
    pub proxy: Arc<TcpProxy>,
}

impl Listener {
    /// The one cluster that this connection goes to, however it goes on. `facts` are those of a connection whose
    /// client said nothing.
    pub fn common_upstream(&self, facts: &ConnectionFacts<'_>, world: &Snapshot) -> Option<CommonUpstream> {
        let silent = self.chain_for(facts)?;
        let Terminal::Tcp(proxy) = &silent.terminal else {
            return None;
        };
        if silent.tls.is_some() || !silent.network_filters.is_empty() || !proxy.connects_at_once() {
            return None;
        }
        let ClusterChoice::One(cluster) = proxy.cluster else {
            return None;
        };
        let mut left = MOST;
        let mut same = true;
        self.index.reach(facts, &mut |end| {
            let chain = end
                .and_then(|position| self.chains.get(position as usize))
                .or(self.default_chain.as_ref());
            same = match chain.map(|chain| &chain.terminal) {
                // Closed without an upstream, as it would be anyway.
                None => true,
                Some(Terminal::Close) => false,
                Some(Terminal::Tcp(other)) => only(&other.cluster, cluster) && other.labels == proxy.labels,
                Some(Terminal::Http(manager)) => routes_only(manager, world, cluster, &mut left),
            };
            left = left.saturating_sub(1);
            same &= left > 0;
            same
        });
        same.then(|| CommonUpstream {
            cluster,
            proxy: Arc::clone(proxy),
        })
    }
}

fn only(choice: &ClusterChoice, cluster: ClusterId) -> bool {
    match choice {
        ClusterChoice::One(id) => *id == cluster,
        ClusterChoice::Weighted(all) => {
            let mut chosen = all.entries.iter().filter(|entry| entry.weight > 0);
            chosen.all(|entry| entry.cluster == cluster)
        }
        ClusterChoice::Header(_) => false,
    }
}

fn routes_only(manager: &HttpManager, world: &Snapshot, cluster: ClusterId, left: &mut usize) -> bool {
    let table: &RouteTable = match &manager.routes {
        Routes::Inline(table) => table,
        Routes::Dynamic(id) => match world.route_table(*id) {
            Some(table) => table,
            None => return false,
        },
    };
    let routes = table.virtual_hosts.iter().flat_map(|host| &host.routes);
    let outcome = routes.map(|route| &route.action).try_for_each(|action| {
        *left = left.saturating_sub(1);
        match action {
            Action::Forward(forward) if *left > 0 && only(&forward.cluster, cluster) => {
                ControlFlow::Continue(())
            }
            Action::Forward(_) => ControlFlow::Break(()),
            // Answered here: no upstream.
            _ => ControlFlow::Continue(()),
        }
    });
    outcome.is_continue()
}
