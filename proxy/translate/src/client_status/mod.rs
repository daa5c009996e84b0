//! What does this client say of its configuration? (`envoy.service.status.v3.ClientStatusDiscoveryService`, CSDS)
//!
//! Holds: there is one client, ourselves; of each resource the newest accepted version is shown, in `generic_xds_configs`
//! (gRFC A40), with secrets redacted as in a config dump. It does not speak gRPC: it answers messages.

mod node_matcher;
#[cfg(test)]
mod tests;

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use prost::Message;
use remora_proto::{Pool, PoolError};

use crate::config_dump::{ClientStatus, ResourceState, ResourceView, UpdateFailure, shared_pool};
use crate::pb::envoy::admin::v3::{ClientResourceStatus, UpdateFailureState};
use crate::pb::envoy::config::core::v3::Node;
use crate::pb::envoy::service::status::v3::{
    ClientConfig, ClientStatusRequest, ClientStatusResponse, client_config::GenericXdsConfig,
};
use crate::pb::google::protobuf::{Any, Timestamp};

/// The client as it stands.
#[derive(Debug, Clone)]
pub struct ClientView {
    /// Its encoded `envoy.config.core.v3.Node`.
    pub node: Bytes,
    /// Every resource.
    pub resources: Vec<ResourceView>,
}

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// The descriptors do not load.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// The request cannot be understood.
    #[error("{0}")]
    Request(String),
}

/// Answers an encoded `ClientStatusRequest` with an encoded `ClientStatusResponse`: without a client in it if
/// `node_matchers` mean another one.
///
/// # Errors
/// See [`StatusError`].
pub fn client_status(request: &[u8], client: &ClientView) -> Result<Bytes, StatusError> {
    let request = ClientStatusRequest::decode(request)
        .map_err(|error| StatusError::Request(format!("expected a ClientStatusRequest: {error}")))?;
    let node = Node::decode(&*client.node).unwrap_or_default();
    let mut response = ClientStatusResponse::default();
    if node_matcher::any_matches(&request.node_matchers, &node).map_err(StatusError::Request)? {
        let pool = match request.exclude_resource_contents {
            true => None,
            false => Some(shared_pool()?),
        };
        let configs = client.resources.iter();
        response.config.push(ClientConfig {
            node: Some(node),
            generic_xds_configs: configs.map(|view| config(view, pool.as_deref())).collect(),
            ..ClientConfig::default()
        });
    }
    Ok(response.encode_to_vec().into())
}

/// One resource; without its contents if there is no pool to redact it by.
fn config(view: &ResourceView, pool: Option<&Pool>) -> GenericXdsConfig {
    let type_url = view.kind.type_url();
    let accepted = view.accepted.as_ref();
    let contents = |pool: &Pool| {
        let body = &accepted?.body;
        // What cannot be read cannot be rid of its secrets either.
        let value = pool.redacted(type_url, body)?;
        Some(Any {
            type_url: type_url.into(),
            value,
        })
    };
    GenericXdsConfig {
        type_url: type_url.into(),
        name: view.name.to_string(),
        version_info: accepted.map_or_else(String::new, |accepted| accepted.version.to_string()),
        xds_config: pool.and_then(contents),
        last_updated: accepted.map(|accepted| timestamp(accepted.updated)),
        client_status: status(view.status).into(),
        error_state: view.error.as_ref().map(failure),
        is_static_resource: view.state == ResourceState::Static,
        ..GenericXdsConfig::default()
    }
}

fn failure(error: &UpdateFailure) -> UpdateFailureState {
    UpdateFailureState {
        last_update_attempt: Some(timestamp(error.last_attempt)),
        details: error.details.to_string(),
        version_info: error.version.to_string(),
        ..UpdateFailureState::default()
    }
}

fn status(status: ClientStatus) -> ClientResourceStatus {
    match status {
        ClientStatus::Requested => ClientResourceStatus::Requested,
        ClientStatus::DoesNotExist => ClientResourceStatus::DoesNotExist,
        ClientStatus::Acked => ClientResourceStatus::Acked,
        ClientStatus::Nacked => ClientResourceStatus::Nacked,
        ClientStatus::ReceivedError => ClientResourceStatus::ReceivedError,
        ClientStatus::Timeout => ClientResourceStatus::Timeout,
    }
}

fn timestamp(time: SystemTime) -> Timestamp {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp {
        seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(since.subsec_nanos()).unwrap_or_default(),
    }
}
