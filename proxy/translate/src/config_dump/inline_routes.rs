//! The route configurations that stand inside of listeners, which Envoy's dump lists beside those of RDS.

use prost::Message;
use remora_proto::{pb, type_url};

use super::{AcceptedVersion, ClientStatus, ResourceKind, ResourceState, ResourceView};
use crate::filter::network;
use pb::envoy::config::listener::v3::{Listener, filter::ConfigType};
use pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, http_connection_manager::RouteSpecifier,
};

/// Every inline route configuration of these listeners, as a static resource.
pub(super) fn of(listeners: &[ResourceView]) -> Vec<ResourceView> {
    let versions = listeners
        .iter()
        .filter(|view| view.kind == ResourceKind::Listener)
        .flat_map(|view| view.serving.iter().chain(&view.accepted));
    versions.flat_map(of_version).collect()
}

fn of_version(version: &AcceptedVersion) -> Vec<ResourceView> {
    let Ok(listener) = Listener::decode(&*version.body) else {
        return Vec::new();
    };
    let chains = listener
        .filter_chains
        .iter()
        .chain(&listener.default_filter_chain);
    let managers = chains
        .flat_map(|chain| &chain.filters)
        .filter_map(|filter| match &filter.config_type {
            Some(ConfigType::TypedConfig(any)) if is_manager(&any.type_url) => {
                HttpConnectionManager::decode(any.value.as_slice()).ok()
            }
            _ => None,
        });
    let routes = managers.filter_map(|manager| match manager.route_specifier {
        Some(RouteSpecifier::RouteConfig(routes)) => Some(ResourceView {
            kind: ResourceKind::Routes,
            name: routes.name.as_str().into(),
            accepted: Some(AcceptedVersion {
                version: "".into(),
                updated: version.updated,
                body: routes.encode_to_vec().into(),
            }),
            serving: None,
            error: None,
            state: ResourceState::Static,
            status: ClientStatus::Acked,
        }),
        _ => None,
    });
    routes.collect()
}

fn is_manager(url: &str) -> bool {
    type_url::message_name(url) == network::HTTP_MANAGER
}
