//! Is this process ready, and if not, what is it waiting for? In words.

use super::Control;
use super::held::Kind;

/// How far start-up is.
///
/// ```text
/// Clusters --all clusters warm--> Listeners --all listeners warm--> Live --SIGTERM | drain--> Draining
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Waiting for clusters and their endpoints; listeners are not asked for yet.
    Clusters,
    /// Waiting for listeners, their routes and secrets.
    Listeners,
    /// Everything initial is in use.
    Live,
    /// Shutting down.
    Draining,
}

impl Control {
    /// Why we are not ready; `None` if we are.
    pub(super) fn waiting_for(&self) -> Option<String> {
        let kind = match self.phase {
            Phase::Live if self.failed_health_check => {
                return Some("health check failed by the operator".into());
            }
            Phase::Live => return None,
            Phase::Draining => return Some("draining: no new connections are taken".into()),
            Phase::Clusters => Kind::Cluster,
            Phase::Listeners => Kind::Listener,
        };
        let what = if kind == Kind::Cluster {
            "clusters (CDS)"
        } else {
            "listeners (LDS)"
        };
        if let Some((name, open)) = self.catalog.warming(kind).first() {
            let what = if kind == Kind::Cluster {
                "cluster"
            } else {
                "listener"
            };
            return Some(format!("waiting for {open}, which {what} '{name}' needs"));
        }
        let trouble = self.connected.iter().find_map(|(_, state)| state.as_ref().err());
        Some(match trouble {
            Some(reason) => format!("waiting for {what} from the control plane: {reason}"),
            None => format!("waiting for {what} from the control plane"),
        })
    }
}
