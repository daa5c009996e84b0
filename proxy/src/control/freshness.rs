//! How fresh is what we hold? Every resource with its versions, its last refusal and its state.
//!
//! Holds: what is in use comes from the catalog, what was only asked for from the clients; both are read when somebody
//! asks and nothing is kept for it, so that ten thousand clusters cost nothing until then.

use std::collections::BTreeMap;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use remora_model::Name;
use remora_translate::config_source::{GrpcTarget, Source};
use remora_xds_client as xds;

use super::Control;
use super::held::{HeldResource, Kind};
use super::sources::ClientKey;
use crate::admin::{
    AcceptedVersion, ClientStatus, ResourceKind, ResourceState, ResourceView, SourceView, StreamEndView,
    StreamView, TypeView, UpdateFailure,
};

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
            match (unheard.remove(name), &view.error) {
                (Some(said), None) => {
                    view.status = status_of(&said);
                    view.error = failure_of(&said);
                }
                (None, Some(_)) if is_withdrawn(resource) => {
                    view.status = ClientStatus::Acked;
                    view.error = None;
                }
                _ => {}
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

    /// Every client with its stream and its types.
    pub(super) fn source_views(&self) -> Vec<SourceView> {
        let mut sources: Vec<SourceView> = self
            .sources
            .clients()
            .map(|(key, handle)| SourceView {
                name: name_of(key),
                stream: stream_view(handle.stream_status()),
                types: handle.overview().iter().filter_map(type_view).collect(),
            })
            .collect();
        sources.sort_by(|a, b| a.name.cmp(&b.name));
        sources
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

/// A source in words, with the type where the stream is for that alone.
fn name_of(key: &ClientKey) -> String {
    let of_type = || {
        let url = key.type_url.unwrap_or_default();
        url.rsplit('.').next().unwrap_or_default().to_owned()
    };
    match &key.source {
        Source::Ads => "ADS".into(),
        Source::Grpc(grpc) => {
            let server = grpc.services.first().map(|service| match &service.target {
                GrpcTarget::Cluster(name) | GrpcTarget::Uri(name) => &**name,
            });
            format!("{} from {}", of_type(), server.unwrap_or_default())
        }
        Source::Path(path) => format!("{} from {}", of_type(), path.path),
    }
}

fn stream_view(status: xds::StreamStatus) -> StreamView {
    StreamView {
        connected_to: status.connected_to,
        since: status.since.map(|since| since.elapsed()),
        last_message: status.last_message.map(|at| at.elapsed()),
        opened: status.opened,
        failures: status.failures,
        last_end: status.last_end.map(|end| StreamEndView {
            server: end.server,
            reason: end.reason,
            age: end.at.elapsed(),
        }),
    }
}

fn type_view(status: &xds::TypeStatus) -> Option<TypeView> {
    let counts = &status.counts;
    Some(TypeView {
        kind: ResourceKind::of(&status.type_url)?,
        version: Arc::clone(&status.version),
        states: [
            ("acked", counts.accepted),
            ("nacked", counts.rejected),
            ("requested", counts.requested),
            ("missing", counts.missing),
            ("received_error", counts.errors),
        ],
        received: status.received,
        accepted: status.accepted,
        rejected: status.rejected,
        fetch_timeouts: status.fetch_timeouts,
        last_update: status.last_accepted.map(|at| at.elapsed()),
        last_rejection: status
            .last_rejected
            .as_ref()
            .map(|rejected| (rejected.at.elapsed(), Arc::clone(&rejected.version))),
    })
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

/// Whether a refusal that the client does not know of any more is over: the server went back to the version in use,
/// which is recognised by its bytes and never comes here. A refusal of files is ours alone and has the version in use.
fn is_withdrawn(held: &HeldResource) -> bool {
    let of_files = held
        .rejected
        .as_ref()
        .is_some_and(|rejected| rejected.version == held.version);
    !held.body.is_empty() && !of_files
}

/// The version that a resource holds; one that was only ever refused holds none.
fn accepted(held: &HeldResource) -> Option<AcceptedVersion> {
    (!held.body.is_empty()).then(|| AcceptedVersion {
        version: Arc::clone(&held.version),
        updated: held.updated,
        body: held.body.clone(),
    })
}
