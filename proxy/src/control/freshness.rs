//! How fresh is what we hold? Every resource with its versions, its last refusal and its state.
//!
//! Holds: what is in use comes from the catalog, what was only asked for from the clients; both are read when somebody
//! asks and nothing is kept for it, so that ten thousand clusters cost nothing until then.

use std::collections::BTreeMap;
use std::collections::HashSet;
use std::sync::Arc;

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
            let said = unheard.remove(name);
            if let (Some(said), None) = (said, &view.error) {
                view.status = said;
            }
            views.push(view);
        }
        views.extend(unheard.into_iter().map(|(name, status)| ResourceView {
            kind,
            name,
            accepted: None,
            serving: None,
            error: None,
            state: ResourceState::Warming,
            status,
        }));
        views
    }

    /// What the clients asked for and did not get.
    fn unheard(&self, kind: Kind) -> BTreeMap<Name, ClientStatus> {
        let clients = self.sources.clients();
        let statuses = clients.filter_map(|(_, handle)| handle.status(kind.type_url()));
        let not_there = |resource: xds::ResourceStatus| {
            let status = match resource.state {
                xds::ResourceState::Requested => ClientStatus::Requested,
                xds::ResourceState::DoesNotExist => ClientStatus::DoesNotExist,
                xds::ResourceState::Accepted { .. } => return None,
            };
            Some((resource.name, status))
        };
        statuses
            .flat_map(|status| status.resources)
            .filter_map(not_there)
            .collect()
    }
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
