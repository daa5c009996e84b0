//! The messages of `envoy.service.discovery.v3`, as far as the protocol itself reads or writes them.
//!
//! What holds: field numbers and wire types are those of `discovery.proto` (tests read every request back with the
//! generated types). Three fields are kept as raw bytes on purpose: `node` passes through verbatim; resources are
//! decoded one by one, as are their errors, so that a broken entry condemns itself and not the response; bodies are slices of the
//! received buffer, not copies. Fields that nothing here uses are skipped by the decoder.

use std::collections::BTreeMap;

use bytes::Bytes;

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct SotwRequest {
    #[prost(string, tag = "1")]
    pub(crate) version_info: String,
    #[prost(bytes = "bytes", tag = "2")]
    pub(crate) node: Bytes,
    #[prost(string, repeated, tag = "3")]
    pub(crate) resource_names: Vec<String>,
    #[prost(string, tag = "4")]
    pub(crate) type_url: String,
    #[prost(string, tag = "5")]
    pub(crate) response_nonce: String,
    #[prost(message, optional, tag = "6")]
    pub(crate) error_detail: Option<Status>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct DeltaRequest {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) node: Bytes,
    #[prost(string, tag = "2")]
    pub(crate) type_url: String,
    #[prost(string, repeated, tag = "3")]
    pub(crate) resource_names_subscribe: Vec<String>,
    #[prost(string, repeated, tag = "4")]
    pub(crate) resource_names_unsubscribe: Vec<String>,
    #[prost(btree_map = "string, string", tag = "5")]
    pub(crate) initial_resource_versions: BTreeMap<String, String>,
    #[prost(string, tag = "6")]
    pub(crate) response_nonce: String,
    #[prost(message, optional, tag = "7")]
    pub(crate) error_detail: Option<Status>,
}

/// `google.rpc.Status`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Status {
    #[prost(int32, tag = "1")]
    pub(crate) code: i32,
    #[prost(string, tag = "2")]
    pub(crate) message: String,
}

/// The fields that `DiscoveryResponse` and `DeltaDiscoveryResponse` share, under the same numbers: enough to know
/// which type a response is for, and to answer it without reading its resources.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ResponseHead {
    #[prost(string, tag = "1")]
    pub(crate) version: String,
    #[prost(string, tag = "4")]
    pub(crate) type_url: String,
    #[prost(string, tag = "5")]
    pub(crate) nonce: String,
}

/// The rest of either response; the state-of-the-world one has no removals.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ResponseBody {
    #[prost(bytes = "bytes", repeated, tag = "2")]
    pub(crate) resources: Vec<Bytes>,
    #[prost(bytes = "bytes", repeated, tag = "7")]
    pub(crate) resource_errors: Vec<Bytes>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct DeltaBody {
    #[prost(bytes = "bytes", repeated, tag = "2")]
    pub(crate) resources: Vec<Bytes>,
    #[prost(string, repeated, tag = "6")]
    pub(crate) removed_resources: Vec<String>,
    #[prost(message, repeated, tag = "8")]
    pub(crate) removed_resource_names: Vec<Named>,
    #[prost(bytes = "bytes", repeated, tag = "9")]
    pub(crate) resource_errors: Vec<Bytes>,
}

/// `envoy.service.discovery.v3.ResourceError`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ResourceError {
    #[prost(message, optional, tag = "1")]
    pub(crate) resource_name: Option<Named>,
    #[prost(message, optional, tag = "2")]
    pub(crate) error_detail: Option<Status>,
}

/// `envoy.service.discovery.v3.Resource`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ResourceWrapper {
    #[prost(string, tag = "1")]
    pub(crate) version: String,
    #[prost(message, optional, tag = "2")]
    pub(crate) resource: Option<Any>,
    #[prost(string, tag = "3")]
    pub(crate) name: String,
    #[prost(message, optional, tag = "6")]
    pub(crate) ttl: Option<Duration>,
    #[prost(message, optional, tag = "8")]
    pub(crate) resource_name: Option<Named>,
}

/// `google.protobuf.Any`. The type is a slice too: it is the same in every entry, and only compared.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Any {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) type_url: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub(crate) value: Bytes,
}

/// `google.protobuf.Duration`.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct Duration {
    #[prost(int64, tag = "1")]
    pub(crate) seconds: i64,
    #[prost(int32, tag = "2")]
    pub(crate) nanos: i32,
}

impl Duration {
    /// Nothing for a negative or absurd duration.
    pub(crate) fn checked(self) -> Option<std::time::Duration> {
        let seconds = u64::try_from(self.seconds).ok()?;
        let nanos = u32::try_from(self.nanos).ok().filter(|n| *n < 1_000_000_000)?;
        Some(std::time::Duration::new(seconds, nanos))
    }
}

/// Any message whose field 1 is its name. All xDS resource types are: `name`, or `cluster_name` for
/// `ClusterLoadAssignment`; so is `discovery.v3.ResourceName`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Named {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
}

/// The same for the body of a resource, without a copy of the name.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Body {
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) name: Bytes,
}

impl Status {
    /// `INTERNAL`, the code that Envoy gives to every rejection.
    pub(crate) fn internal(message: String) -> Self {
        Self { code: 13, message }
    }
}
