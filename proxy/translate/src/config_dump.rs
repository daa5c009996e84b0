//! How does what the control plane sent look as `envoy.admin.v3.ConfigDump`?
//!
//! Holds: the bytes of each resource as received are shown through the descriptors of Envoy's API, secrets redacted;
//! nothing is reconstructed from the model. The descriptors (12 MB, 20 to 45 ms) are loaded for one dump and dropped
//! with it. Which resources there are, and in which state, is the caller's knowledge.

use std::time::SystemTime;

use bytes::Bytes;
use remora_proto::{Pool, PoolError, WriteOptions};
use serde_json::{Map, Value, json};

/// Which dump a resource belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ResourceKind {
    /// CDS and static clusters.
    Cluster,
    /// EDS and the assignments of static clusters.
    Endpoints,
    /// LDS and static listeners.
    Listener,
    /// RDS and inline route configurations.
    Routes,
    /// SDS and static secrets.
    Secret,
}

/// Where a resource stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResourceState {
    /// From the bootstrap.
    Static,
    /// In use.
    Active,
    /// Accepted, but what it refers to has not arrived.
    Warming,
    /// On its way out.
    Draining,
}

/// An update that was refused (`UpdateFailureState`).
#[derive(Debug, Clone)]
pub struct UpdateFailure {
    /// What is wrong with it.
    pub details: String,
    /// Its version.
    pub version: String,
    /// When it came.
    pub last_attempt: SystemTime,
}

/// One resource as the admin port shows it.
#[derive(Debug, Clone)]
pub struct ResourceView {
    /// Kind.
    pub kind: ResourceKind,
    /// Name.
    pub name: String,
    /// `version_info` (or the resource's own version, with delta); empty for static ones.
    pub version: String,
    /// When it was accepted.
    pub last_updated: SystemTime,
    /// Type URL of `body`.
    pub type_url: String,
    /// The encoded message; empty if no version was ever accepted.
    pub body: Bytes,
    /// The newest update, if it was refused.
    pub error: Option<UpdateFailure>,
    /// State.
    pub state: ResourceState,
}

/// The bootstrap as it was read.
#[derive(Debug, Clone)]
pub struct BootstrapView {
    /// An encoded `envoy.config.bootstrap.v3.Bootstrap`.
    pub body: Bytes,
    /// When it was read.
    pub last_updated: SystemTime,
}

/// What a dump is made of.
#[derive(Debug, Clone, Default)]
pub struct DumpInput {
    /// The bootstrap.
    pub bootstrap: Option<BootstrapView>,
    /// Every resource.
    pub resources: Vec<ResourceView>,
    /// `version_info` of the newest accepted CDS response.
    pub clusters_version: String,
    /// The same of LDS.
    pub listeners_version: String,
}

/// What the request asks of a dump.
#[derive(Debug, Clone, Default)]
pub struct DumpOptions {
    /// `include_eds`: show endpoints too.
    pub include_eds: bool,
    /// `resource`: only the elements of this repeated field.
    pub resource: Option<String>,
    /// `mask`: only these field paths (dots between names); of each element with `resource`, else of each dump.
    pub mask: Vec<String>,
    /// `name_regex`: only resources whose whole name this matches.
    pub name_regex: Option<regex::Regex>,
}

/// Why there is no dump.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    /// The descriptors do not load.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// `resource` names no repeated field that has elements.
    #[error("{0} not found in config dump")]
    UnknownField(String),
}

const ADMIN: &str = "type.googleapis.com/envoy.admin.v3.";
const BOOTSTRAP: &str = "type.googleapis.com/envoy.config.bootstrap.v3.Bootstrap";

/// The dump as one JSON object.
///
/// # Errors
/// See [`DumpError`].
pub fn config_dump(
    input: &DumpInput,
    options: &DumpOptions,
    time: fn(SystemTime) -> String,
) -> Result<Value, DumpError> {
    let writer = Writer {
        pool: Pool::load()?,
        time,
        options,
    };
    let configs = match &options.resource {
        None => writer.all(input),
        Some(field) => writer.elements(input, field)?,
    };
    Ok(json!({ "configs": configs }))
}

struct Writer<'o> {
    pool: Pool,
    time: fn(SystemTime) -> String,
    options: &'o DumpOptions,
}

/// The repeated field of a dump that a resource stands in, and the message name of its elements.
fn place(kind: ResourceKind, state: ResourceState) -> (&'static str, &'static str) {
    use ResourceKind as K;
    use ResourceState as S;
    match (kind, state) {
        (K::Cluster, S::Static) => ("static_clusters", "ClustersConfigDump.StaticCluster"),
        (K::Cluster, S::Warming) => ("dynamic_warming_clusters", "ClustersConfigDump.DynamicCluster"),
        (K::Cluster, _) => ("dynamic_active_clusters", "ClustersConfigDump.DynamicCluster"),
        (K::Listener, S::Static) => ("static_listeners", "ListenersConfigDump.StaticListener"),
        (K::Listener, _) => ("dynamic_listeners", "ListenersConfigDump.DynamicListener"),
        (K::Routes, S::Static) => ("static_route_configs", "RoutesConfigDump.StaticRouteConfig"),
        (K::Routes, _) => ("dynamic_route_configs", "RoutesConfigDump.DynamicRouteConfig"),
        (K::Secret, S::Static) => ("static_secrets", "SecretsConfigDump.StaticSecret"),
        (K::Secret, S::Warming) => ("dynamic_warming_secrets", "SecretsConfigDump.DynamicSecret"),
        (K::Secret, _) => ("dynamic_active_secrets", "SecretsConfigDump.DynamicSecret"),
        (K::Endpoints, S::Static) => (
            "static_endpoint_configs",
            "EndpointsConfigDump.StaticEndpointConfig",
        ),
        (K::Endpoints, _) => (
            "dynamic_endpoint_configs",
            "EndpointsConfigDump.DynamicEndpointConfig",
        ),
    }
}

impl Writer<'_> {
    /// Every dump, in Envoy's order.
    fn all(&self, input: &DumpInput) -> Vec<Value> {
        let mut configs = Vec::new();
        if let Some(bootstrap) = &input.bootstrap {
            configs.push(json!({
                "@type": format!("{ADMIN}BootstrapConfigDump"),
                "bootstrap": self.opened(BOOTSTRAP, &bootstrap.body, false),
                "last_updated": (self.time)(bootstrap.last_updated),
            }));
        }
        configs.push(self.dump(
            "ClustersConfigDump",
            ResourceKind::Cluster,
            input,
            &input.clusters_version,
        ));
        if self.options.include_eds {
            configs.push(self.dump("EndpointsConfigDump", ResourceKind::Endpoints, input, ""));
        }
        configs.push(self.dump(
            "ListenersConfigDump",
            ResourceKind::Listener,
            input,
            &input.listeners_version,
        ));
        configs.push(json!({ "@type": format!("{ADMIN}ScopedRoutesConfigDump") }));
        configs.push(self.dump("RoutesConfigDump", ResourceKind::Routes, input, ""));
        configs.push(self.dump("SecretsConfigDump", ResourceKind::Secret, input, ""));
        if !self.options.mask.is_empty() {
            configs
                .iter_mut()
                .for_each(|config| masked(config, &self.options.mask));
            configs.retain(|config| config.as_object().is_some_and(|config| config.len() > 1));
        }
        configs
    }

    fn dump(&self, name: &str, kind: ResourceKind, input: &DumpInput, version: &str) -> Value {
        let mut dump = Map::new();
        dump.insert("@type".into(), format!("{ADMIN}{name}").into());
        if !version.is_empty() {
            dump.insert("version_info".into(), version.into());
        }
        for resource in self.wanted(input).filter(|resource| resource.kind == kind) {
            let (field, _) = place(kind, resource.state);
            let elements = dump.entry(field).or_insert_with(|| Value::Array(Vec::new()));
            if let Value::Array(elements) = elements {
                elements.push(self.element(resource));
            }
        }
        Value::Object(dump)
    }

    /// The elements of one repeated field, each with its own `@type`.
    fn elements(&self, input: &DumpInput, field: &str) -> Result<Vec<Value>, DumpError> {
        let here = |resource: &&ResourceView| place(resource.kind, resource.state).0 == field;
        let mut found: Vec<Value> = self
            .wanted(input)
            .filter(here)
            .map(|resource| self.typed(resource))
            .collect();
        if let ("bootstrap", Some(bootstrap)) = (field, &input.bootstrap) {
            found.push(self.opened(BOOTSTRAP, &bootstrap.body, true));
        }
        if found.is_empty() && !is_field(field) {
            return Err(DumpError::UnknownField(field.into()));
        }
        if !self.options.mask.is_empty() {
            found
                .iter_mut()
                .for_each(|element| masked(element, &self.options.mask));
        }
        Ok(found)
    }

    fn typed(&self, resource: &ResourceView) -> Value {
        let mut element = self.element(resource);
        if let Value::Object(fields) = &mut element {
            let (_, message) = place(resource.kind, resource.state);
            fields.insert("@type".into(), format!("{ADMIN}{message}").into());
        }
        element
    }

    fn wanted<'i>(&'i self, input: &'i DumpInput) -> impl Iterator<Item = &'i ResourceView> {
        let matches = |name: &str, regex: &regex::Regex| {
            regex
                .find_iter(name)
                .any(|found| found.start() == 0 && found.end() == name.len())
        };
        let regex = self.options.name_regex.as_ref();
        input
            .resources
            .iter()
            .filter(move |resource| regex.is_none_or(|regex| matches(&resource.name, regex)))
    }

    fn element(&self, resource: &ResourceView) -> Value {
        let body = if resource.kind == ResourceKind::Listener && resource.state != ResourceState::Static {
            self.dynamic_listener(resource)
        } else {
            let field = match resource.kind {
                ResourceKind::Cluster => "cluster",
                ResourceKind::Endpoints => "endpoint_config",
                ResourceKind::Listener => "listener",
                ResourceKind::Routes => "route_config",
                ResourceKind::Secret => "secret",
            };
            self.versioned(resource, field)
        };
        let mut fields = body;
        if matches!(resource.kind, ResourceKind::Secret) {
            fields.insert("name".into(), resource.name.clone().into());
        }
        if let Some(error) = &resource.error {
            fields.insert("error_state".into(), self.error_state(error));
            fields.insert("client_status".into(), "NACKED".into());
        }
        Value::Object(fields)
    }

    /// `version_info`, the resource and `last_updated`; only what is there.
    fn versioned(&self, resource: &ResourceView, field: &str) -> Map<String, Value> {
        let mut fields = Map::new();
        if !resource.version.is_empty() {
            fields.insert("version_info".into(), resource.version.clone().into());
        }
        if !resource.body.is_empty() {
            fields.insert(
                field.into(),
                self.opened(&resource.type_url, &resource.body, true),
            );
            fields.insert("last_updated".into(), (self.time)(resource.last_updated).into());
        }
        fields
    }

    fn dynamic_listener(&self, resource: &ResourceView) -> Map<String, Value> {
        let mut fields = Map::new();
        fields.insert("name".into(), resource.name.clone().into());
        let state = match resource.state {
            ResourceState::Warming => "warming_state",
            ResourceState::Draining => "draining_state",
            ResourceState::Active | ResourceState::Static => "active_state",
        };
        let inner = self.versioned(resource, "listener");
        if inner.contains_key("listener") {
            fields.insert(state.into(), Value::Object(inner));
        }
        fields
    }

    fn error_state(&self, error: &UpdateFailure) -> Value {
        json!({
            "last_update_attempt": (self.time)(error.last_attempt),
            "details": error.details,
            "version_info": error.version,
        })
    }

    /// A message as JSON; with `typed`, as an `Any` with its `@type`.
    fn opened(&self, type_url: &str, bytes: &[u8], typed: bool) -> Value {
        let mut value = self.pool.write_any(type_url, bytes, WriteOptions::default());
        if let (false, Value::Object(fields)) = (typed, &mut value) {
            fields.remove("@type");
        }
        value
    }
}

/// Whether some dump has a repeated field of this name.
fn is_field(name: &str) -> bool {
    use ResourceKind as K;
    use ResourceState as S;
    let kinds = [K::Cluster, K::Endpoints, K::Listener, K::Routes, K::Secret];
    kinds.into_iter().any(|kind| {
        [S::Static, S::Active, S::Warming]
            .into_iter()
            .any(|state| place(kind, state).0 == name)
    })
}

/// Leaves of an object only what the paths name, and `@type`.
fn masked(value: &mut Value, paths: &[String]) {
    let Value::Object(fields) = value else { return };
    fields.retain(|key, field| {
        if key == "@type" || paths.iter().any(|path| path == key) {
            return true;
        }
        let deeper: Vec<String> = paths
            .iter()
            .filter_map(|path| {
                path.strip_prefix(key.as_str())?
                    .strip_prefix('.')
                    .map(str::to_owned)
            })
            .collect();
        if deeper.is_empty() {
            return false;
        }
        masked(field, &deeper);
        true
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message;
    use remora_proto::pb::envoy::config::cluster::v3::Cluster;
    use remora_proto::pb::envoy::config::listener::v3::Listener;
    use remora_proto::pb::envoy::extensions::transport_sockets::tls::v3::{Secret, TlsCertificate, secret};

    fn time(_: SystemTime) -> String {
        "2026-11-20T09:32:26.408Z".into()
    }

    fn view(
        kind: ResourceKind,
        name: &str,
        state: ResourceState,
        type_name: &str,
        body: Vec<u8>,
    ) -> ResourceView {
        ResourceView {
            kind,
            name: name.into(),
            version: if state == ResourceState::Static {
                String::new()
            } else {
                "v7".into()
            },
            last_updated: SystemTime::UNIX_EPOCH,
            type_url: format!("type.googleapis.com/{type_name}"),
            body: body.into(),
            error: None,
            state,
        }
    }

    fn cluster(name: &str, state: ResourceState) -> ResourceView {
        let message = Cluster {
            name: name.into(),
            ..Cluster::default()
        };
        view(
            ResourceKind::Cluster,
            name,
            state,
            "envoy.config.cluster.v3.Cluster",
            message.encode_to_vec(),
        )
    }

    fn dumped(resources: Vec<ResourceView>, options: &DumpOptions) -> Value {
        let input = DumpInput {
            resources,
            clusters_version: "v7".into(),
            ..DumpInput::default()
        };
        config_dump(&input, options, time).unwrap()
    }

    #[test]
    fn static_and_dynamic_clusters_stand_in_envoys_fields() {
        let dump = dumped(
            vec![
                cluster("a", ResourceState::Static),
                cluster("b", ResourceState::Active),
            ],
            &DumpOptions::default(),
        );
        let clusters = &dump["configs"][0];
        assert_eq!(
            clusters["@type"],
            "type.googleapis.com/envoy.admin.v3.ClustersConfigDump"
        );
        assert_eq!(clusters["version_info"], "v7");
        assert_eq!(clusters["static_clusters"][0]["cluster"]["name"], "a");
        let dynamic = &clusters["dynamic_active_clusters"][0];
        assert_eq!(
            dynamic["cluster"]["@type"],
            "type.googleapis.com/envoy.config.cluster.v3.Cluster"
        );
        assert_eq!(
            (&dynamic["version_info"], &dynamic["last_updated"]),
            (&json!("v7"), &json!(time(SystemTime::now())))
        );
    }

    #[test]
    fn a_refused_listener_says_why_beside_its_last_good_version() {
        let message = Listener {
            name: "in".into(),
            ..Listener::default()
        };
        let mut listener = view(
            ResourceKind::Listener,
            "in",
            ResourceState::Active,
            "envoy.config.listener.v3.Listener",
            message.encode_to_vec(),
        );
        listener.error = Some(UpdateFailure {
            details: "filter_chains[0]: no filters".into(),
            version: "v8".into(),
            last_attempt: SystemTime::UNIX_EPOCH,
        });
        let dump = dumped(vec![listener], &DumpOptions::default());
        let listener = &dump["configs"][1]["dynamic_listeners"][0];
        assert_eq!(listener["name"], "in");
        assert_eq!(listener["active_state"]["listener"]["name"], "in");
        assert_eq!(listener["error_state"]["version_info"], "v8");
        assert_eq!(listener["error_state"]["details"], "filter_chains[0]: no filters");
    }

    #[test]
    fn a_private_key_is_not_shown() {
        use remora_proto::pb::envoy::config::core::v3::{DataSource, data_source::Specifier};
        let source = |text: &str| DataSource {
            specifier: Some(Specifier::InlineString(text.into())),
            ..DataSource::default()
        };
        let certificate = TlsCertificate {
            certificate_chain: Some(source("CHAIN")),
            private_key: Some(source("TOPSECRET")),
            ..TlsCertificate::default()
        };
        let message = Secret {
            name: "default".into(),
            r#type: Some(secret::Type::TlsCertificate(certificate)),
        };
        let name = "envoy.extensions.transport_sockets.tls.v3.Secret";
        let secret = view(
            ResourceKind::Secret,
            "default",
            ResourceState::Active,
            name,
            message.encode_to_vec(),
        );
        let input = DumpInput {
            resources: vec![secret],
            ..DumpInput::default()
        };
        let text = config_dump(&input, &DumpOptions::default(), time)
            .unwrap()
            .to_string();
        assert!(
            text.contains("CHAIN") && text.contains("dynamic_active_secrets") && !text.contains("TOPSECRET"),
            "{text}"
        );
    }

    #[test]
    fn resource_mask_and_name_narrow_the_dump() {
        let resources = vec![
            cluster("a", ResourceState::Static),
            cluster("ab", ResourceState::Static),
        ];
        let options = DumpOptions {
            resource: Some("static_clusters".into()),
            mask: vec!["cluster.name".into()],
            name_regex: Some(regex::Regex::new("a.*").unwrap()),
            ..DumpOptions::default()
        };
        let dump = dumped(resources.clone(), &options);
        assert_eq!(dump["configs"].as_array().unwrap().len(), 2);
        assert_eq!(dump["configs"][1]["cluster"]["name"], "ab");
        assert_eq!(dump["configs"][1].get("last_updated"), None);
        let options = DumpOptions {
            resource: Some("nope".into()),
            ..DumpOptions::default()
        };
        let error = config_dump(
            &DumpInput {
                resources,
                ..DumpInput::default()
            },
            &options,
            time,
        )
        .unwrap_err();
        assert_eq!(error.to_string(), "nope not found in config dump");
    }
}
