//! A world to translate into, and resources written as YAML.

use std::collections::HashMap;
use std::io;

use remora_model::snapshot::{ClusterMark, Interner, RouteTableMark, SecretMark, Snapshot};
use remora_proto::{Pool, ReadOptions};
use remora_translate::{Context, Files, IgnoredFields, Repeated};

/// The three kinds of names, what was ignored, and files that exist in memory only.
#[derive(Default)]
pub(crate) struct World {
    pub(crate) clusters: Interner<ClusterMark>,
    pub(crate) route_tables: Interner<RouteTableMark>,
    pub(crate) secrets: Interner<SecretMark>,
    pub(crate) previous: Option<Snapshot>,
    pub(crate) ignored: IgnoredFields,
    pub(crate) repeated: Repeated,
    pub(crate) files: Memory,
}

/// Files and variables by name.
#[derive(Default)]
pub(crate) struct Memory {
    pub(crate) files: HashMap<String, Vec<u8>>,
    pub(crate) variables: HashMap<String, String>,
}

impl Files for Memory {
    fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        self.files
            .get(path)
            .cloned()
            .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    fn variable(&self, name: &str) -> Option<String> {
        self.variables.get(name).cloned()
    }
}

impl World {
    pub(crate) fn context(&mut self) -> Context<'_> {
        Context {
            clusters: &mut self.clusters,
            route_tables: &mut self.route_tables,
            secrets: &mut self.secrets,
            previous: self.previous.as_ref(),
            ignored: &mut self.ignored,
            repeated: &mut self.repeated,
            files: &self.files,
        }
    }

    /// Names of the fields that were set and ignored so far.
    pub(crate) fn ignored_names(&self) -> Vec<&'static str> {
        self.ignored.iter().map(|(name, _)| name).collect()
    }
}

thread_local! {
    static POOL: Pool = Pool::load().expect("the pinned descriptors load");
}

/// The bytes of a message that is written as YAML.
pub(crate) fn bytes(message: &str, yaml: &str) -> Vec<u8> {
    POOL.with(|pool| match pool.read(yaml, message, ReadOptions::default()) {
        Ok(document) => document.bytes,
        Err(problems) => panic!("the test's own YAML is wrong: {problems}\n{yaml}"),
    })
}

/// Does something with the descriptors.
pub(crate) fn with_pool<T>(step: impl FnOnce(&Pool) -> T) -> T {
    POOL.with(step)
}

pub(crate) const LISTENER: &str = "envoy.config.listener.v3.Listener";
pub(crate) const ROUTES: &str = "envoy.config.route.v3.RouteConfiguration";
pub(crate) const CLUSTER: &str = "envoy.config.cluster.v3.Cluster";
pub(crate) const ENDPOINTS: &str = "envoy.config.endpoint.v3.ClusterLoadAssignment";
pub(crate) const SECRET: &str = "envoy.extensions.transport_sockets.tls.v3.Secret";

/// Why a resource of this type is refused, or `"accepted"`.
pub(crate) fn reason(message: &str, yaml: &str) -> String {
    let bytes = bytes(message, yaml);
    let mut world = World::default();
    let context = &mut world.context();
    let refused = match message {
        LISTENER => remora_translate::listener(&bytes, context).err(),
        ROUTES => remora_translate::route_configuration(&bytes, context).err(),
        CLUSTER => remora_translate::cluster(&bytes, context).err(),
        ENDPOINTS => remora_translate::endpoints(&bytes, context).err(),
        SECRET => remora_translate::secret(&bytes, context).err(),
        other => panic!("no translation of {other}"),
    };
    refused.map_or_else(|| "accepted".to_owned(), |refused| refused.to_string())
}

/// A throw-away certificate with a DNS name, and its key, in PEM.
pub(crate) fn identity(name: &str) -> (String, String) {
    let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}

/// Text as a YAML string on one line.
pub(crate) fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap()
}
