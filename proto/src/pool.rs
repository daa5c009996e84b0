//! Where do the descriptors live, and for how long?
//!
//! What always holds: [`Pool::load`] makes an owned value; with the last clone of it about 12 MB are freed, since nothing
//! static refers to it. Loading takes 20 to 45 ms, so it belongs to start-up, to `/config_dump`, and to tests, never to a
//! request.

use prost_reflect::{DescriptorPool, MessageDescriptor};

use crate::type_url::message_name;

/// The descriptor set of Envoy's API, without comments, as `build.rs` wrote it.
static DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// The descriptors of every message of Envoy's v3 API (contrib extensions aside), of the well-known types, and of the
/// messages in [`crate::extra`].
#[derive(Clone, Debug)]
pub struct Pool {
    descriptors: DescriptorPool,
}

/// Why the descriptors did not load: the set that this crate was built with contradicts itself.
#[derive(Debug, thiserror::Error)]
#[error("the built-in descriptors of Envoy's API do not load: {0}")]
pub struct PoolError(#[from] prost_reflect::DescriptorError);

impl Pool {
    /// Loads the built-in descriptors: 20 to 45 ms, 12 MB until dropped.
    ///
    /// # Errors
    /// When the descriptor set of `envoy-types` cannot be resolved; a test of this crate shows that the pinned one can.
    pub fn load() -> Result<Self, PoolError> {
        let mut descriptors = DescriptorPool::decode(DESCRIPTORS)?;
        descriptors.add_file_descriptor_protos(crate::extra::descriptors())?;
        Ok(Self { descriptors })
    }

    /// Whether the message that `type_url` names (by what follows its last slash) is described here.
    #[must_use]
    pub fn knows(&self, type_url: &str) -> bool {
        self.message(type_url).is_some()
    }

    /// Whether a `google.protobuf.FieldMask` of this path (field names with dots between) may be used on the message
    /// `name` (a full name or a type URL): each field is there, and none but the last is repeated or a scalar.
    #[must_use]
    pub fn has_path(&self, name: &str, path: &str) -> bool {
        let mut inside = self.message(name);
        path.split('.').all(|segment| {
            let field = inside
                .take()
                .and_then(|message| message.get_field_by_name(segment));
            field.is_some_and(|field| {
                if !field.is_list() && !field.is_map() {
                    inside = field.kind().as_message().cloned();
                }
                true
            })
        })
    }

    /// The descriptor of a message, by type URL or full name.
    pub(crate) fn message(&self, type_url: &str) -> Option<MessageDescriptor> {
        self.descriptors.get_message_by_name(message_name(type_url))
    }

    /// Every full message name, for "did you mean".
    pub(crate) fn message_names(&self) -> impl Iterator<Item = String> {
        self.descriptors
            .all_messages()
            .map(|message| message.full_name().to_owned())
    }

    pub(crate) fn descriptors(&self) -> &DescriptorPool {
        &self.descriptors
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_leads_through_single_messages_only() {
        let pool = Pool::load().unwrap();
        let cluster = crate::TypeUrl::CLUSTER.as_str();
        for (path, there) in [
            ("name", true),
            ("load_assignment.endpoints", true),
            ("connect_timeout.seconds", true),
            ("metadata.filter_metadata", true),
            ("load_assignment.endpoints.locality", false),
            ("name.first", false),
            ("nope", false),
            ("", false),
        ] {
            assert_eq!(pool.has_path(cluster, path), there, "{path}");
        }
        assert!(!pool.has_path("no.Such", "name"));
    }
}
