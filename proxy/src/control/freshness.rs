//! How fresh is what we hold? Every resource with its versions, its last refusal and its state.
//!
//! Holds: what is in use comes from the catalog, what was only asked for from the clients; both are read when somebody
//! asks and nothing is kept for it, so that ten thousand clusters cost nothing until then.

use std::collections::BTreeMap;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use remora_model::Name;
use remora_xds_client as xds;

use super::Control;
use super::held::{HeldResource, Kind};
use crate::admin::{AcceptedVersion, ClientStatus, ResourceKind, ResourceState, ResourceView, UpdateFailure};

/// The kind of resource behind the admin endpoint's.
pub(super) fn kind_of(kind: ResourceKind) -> Kind {
    match kind {
        ResourceKind::Cluster => Kind::Cluster,
        ResourceKind::Endpoints => Kind::Endpoints,
        ResourceKind::Listener => Kind::Listener,
        ResourceKind::Routes => Kind::RouteConfiguration,
        ResourceKind::Secret => Kind::Secret,
    }
}

impl Control {
    /// Every resource of a kind by name: static and dynamic, accepted, refused and only asked for.
    pub(super) fn resource_views(&self, kind: ResourceKind) -> Vec<ResourceView> {
        let held = kind_of(kind);
        let warming: HashSet<Name> = self
            .catalog
            .warming(held)
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        let mut unheard = self.unheard(held);
        let mut views = Vec::new();
        for (name, resource) in self.catalog.held.of(held) {
            let mut view = view(kind, name, resource, warming.contains(name));
            let serving = self.catalog.serving.get(&(held, Arc::clone(name)));
            view.serving = serving.and_then(accepted);
            if let (Some(said), None) = (unheard.remove(name), &view.error) {
                view.status = status_of(&said);
                view.error = failure_of(&said);
            }
            views.push(view);
        }
        views.extend(unheard.into_values().map(|said| ResourceView {
            kind,
            name: Arc::clone(&said.name),
            accepted: None,
            serving: None,
            error: failure_of(&said),
            state: ResourceState::Warming,
            status: status_of(&said),
        }));
        views
    }

    /// What the clients asked for and did not get as it should be.
    fn unheard(&self, kind: Kind) -> BTreeMap<Name, xds::ResourceStatus> {
        let clients = self.sources.clients();
        let statuses = clients.filter_map(|(_, handle)| handle.status(kind.type_url()));
        statuses
            .flat_map(|status| status.resources)
            .filter(|resource| resource.client_status() != xds::ClientStatus::Acked)
            .map(|resource| (Arc::clone(&resource.name), resource))
            .collect()
    }
}

fn status_of(said: &xds::ResourceStatus) -> ClientStatus {
    match said.client_status() {
        xds::ClientStatus::Requested => ClientStatus::Requested,
        xds::ClientStatus::DoesNotExist => ClientStatus::DoesNotExist,
        xds::ClientStatus::Acked => ClientStatus::Acked,
        xds::ClientStatus::Nacked => ClientStatus::Nacked,
        xds::ClientStatus::ReceivedError => ClientStatus::ReceivedError,
        xds::ClientStatus::Timeout => ClientStatus::Timeout,
    }
}

/// What the client knows of a refusal that never came to us, or of an error that the server sent.
fn failure_of(said: &xds::ResourceStatus) -> Option<UpdateFailure> {
    if let Some(error) = &said.error {
        return Some(UpdateFailure {
            details: format!(
                "the server sent an error: {} (gRPC status {})",
                error.message, error.code
            )
            .into(),
            version: Arc::from(""),
            last_attempt: calendar(error.at),
        });
    }
    said.rejected.as_ref().map(|rejected| UpdateFailure {
        details: rejected.reason.as_str().into(),
        version: Arc::clone(&rejected.version),
        last_attempt: calendar(rejected.at),
    })
}

/// When an instant was, by the calendar.
pub(super) fn calendar(at: Instant) -> SystemTime {
    let now = SystemTime::now();
    now.checked_sub(at.elapsed()).unwrap_or(now)
}

fn view(kind: ResourceKind, name: &Name, held: &HeldResource, warming: bool) -> ResourceView {
    let accepted = accepted(held);
    let error = held.rejected.as_ref().map(|rejected| UpdateFailure {
        details: rejected.reason.as_str().into(),
        version: Arc::clone(&rejected.version),
        last_attempt: rejected.at,
    });
    let state = match (held.is_static, warming || accepted.is_none()) {
        (true, _) => ResourceState::Static,
        (false, true) => ResourceState::Warming,
        (false, false) => ResourceState::Active,
    };
    let status = if error.is_some() {
        ClientStatus::Nacked
    } else {
        ClientStatus::Acked
    };
    ResourceView {
        kind,
        name: Arc::clone(name),
        accepted,
        serving: None,
        error,
        state,
        status,
    }
}

/// The version that a resource holds; one that was only ever refused holds none.
fn accepted(held: &HeldResource) -> Option<AcceptedVersion> {
    (!held.body.is_empty()).then(|| AcceptedVersion {
        version: Arc::clone(&held.version),
        updated: held.updated,
        body: held.body.clone(),
    })
}
