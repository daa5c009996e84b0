//! Which type URLs name the resources of xDS, and how is a message put into an `Any`?
//!
//! What always holds: a type URL is `type.googleapis.com/` and the full name of a message; only the part after the last
//! slash says which type it is (`google/protobuf/any.proto`). It does not say whether we support a type.

use std::fmt;

use envoy_types::pb::google::protobuf::Any;
use prost::Message;

/// The prefix that every type URL of xDS carries.
pub const PREFIX: &str = "type.googleapis.com/";

/// The type URL of a resource type, for example of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TypeUrl(&'static str);

impl TypeUrl {
    /// LDS: `envoy.config.listener.v3.Listener`.
    pub const LISTENER: Self = Self("type.googleapis.com/envoy.config.listener.v3.Listener");
    /// RDS: `envoy.config.route.v3.RouteConfiguration`.
    pub const ROUTE_CONFIGURATION: Self =
        Self("type.googleapis.com/envoy.config.route.v3.RouteConfiguration");
    /// SRDS: `envoy.config.route.v3.ScopedRouteConfiguration`.
    pub const SCOPED_ROUTE: Self = Self("type.googleapis.com/envoy.config.route.v3.ScopedRouteConfiguration");
    /// VHDS: `envoy.config.route.v3.VirtualHost`.
    pub const VIRTUAL_HOST: Self = Self("type.googleapis.com/envoy.config.route.v3.VirtualHost");
    /// CDS: `envoy.config.cluster.v3.Cluster`.
    pub const CLUSTER: Self = Self("type.googleapis.com/envoy.config.cluster.v3.Cluster");
    /// EDS: `envoy.config.endpoint.v3.ClusterLoadAssignment`.
    pub const CLUSTER_LOAD_ASSIGNMENT: Self =
        Self("type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment");
    /// LEDS: `envoy.config.endpoint.v3.LbEndpoint`.
    pub const LB_ENDPOINT: Self = Self("type.googleapis.com/envoy.config.endpoint.v3.LbEndpoint");
    /// SDS: `envoy.extensions.transport_sockets.tls.v3.Secret`.
    pub const SECRET: Self = Self("type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret");
    /// RTDS: `envoy.service.runtime.v3.Runtime`.
    pub const RUNTIME: Self = Self("type.googleapis.com/envoy.service.runtime.v3.Runtime");
    /// ECDS: `envoy.config.core.v3.TypedExtensionConfig`.
    pub const EXTENSION_CONFIG: Self = Self("type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig");
    /// A resource wrapped with its name and version: `envoy.service.discovery.v3.Resource`.
    pub const RESOURCE: Self = Self("type.googleapis.com/envoy.service.discovery.v3.Resource");

    /// Every resource type that xDS transports, in the order in which a client should apply them: what is referred to
    /// comes before what refers to it.
    pub const RESOURCES: [Self; 10] = [
        Self::RUNTIME,
        Self::SECRET,
        Self::CLUSTER,
        Self::CLUSTER_LOAD_ASSIGNMENT,
        Self::LB_ENDPOINT,
        Self::EXTENSION_CONFIG,
        Self::LISTENER,
        Self::SCOPED_ROUTE,
        Self::ROUTE_CONFIGURATION,
        Self::VIRTUAL_HOST,
    ];

    /// The whole URL.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.0
    }

    /// The full name of the message, for example `envoy.config.listener.v3.Listener`.
    #[must_use]
    pub fn message_name(self) -> &'static str {
        message_name(self.0)
    }

    /// The resource type that `url` names, whatever its prefix; `None` for other messages.
    #[must_use]
    pub fn of(url: &str) -> Option<Self> {
        let name = message_name(url);
        Self::RESOURCES
            .into_iter()
            .find(|resource| resource.message_name() == name)
    }
}

impl fmt::Display for TypeUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// The message name in a type URL: what follows its last slash, or all of it without one.
#[must_use]
pub fn message_name(type_url: &str) -> &str {
    type_url.rsplit('/').next().unwrap_or(type_url)
}

/// `message` in an `Any` of the given type URL.
pub fn encode_any<M: Message>(type_url: impl Into<String>, message: &M) -> Any {
    Any {
        type_url: type_url.into(),
        value: message.encode_to_vec(),
    }
}

impl From<TypeUrl> for String {
    fn from(url: TypeUrl) -> Self {
        url.0.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_is_known_by_its_name_whatever_the_prefix() {
        assert_eq!(
            TypeUrl::of("example.com/envoy.config.cluster.v3.Cluster"),
            Some(TypeUrl::CLUSTER)
        );
        assert_eq!(TypeUrl::of("type.googleapis.com/envoy.api.v2.Cluster"), None);
    }

    #[test]
    fn an_any_carries_the_encoded_message() {
        let any = encode_any(
            TypeUrl::CLUSTER,
            &crate::extra::TypedStruct {
                type_url: "x".into(),
                value: None,
            },
        );
        assert_eq!(
            any.type_url,
            "type.googleapis.com/envoy.config.cluster.v3.Cluster"
        );
        assert_eq!(any.value, [0x0a, 1, b'x']);
    }
}
