//! How does what the control plane sent look as `envoy.admin.v3.ConfigDump`?
//!
//! Holds: the bytes of each resource as received are shown through the descriptors of Envoy's API, secrets redacted;
//! only endpoints are, as in Envoy, those that balancing uses. A dump is written piece by piece, so its size is not its
//! memory. Which resources there are, and in which state, is the caller's knowledge. What it shows beside Envoy's:
//! `client_status`, the reason of a refusal for every type, versions of endpoints.

mod endpoints;
mod inline_routes;
mod json_stream;
mod mask;
mod plan;
#[cfg(test)]
mod tests;

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::SystemTime;

use bytes::Bytes;
use remora_model::Name;
use remora_model::cluster::Cluster;
use remora_proto::{Pool, PoolError, TypeUrl};

use self::json_stream::JsonStream;
use self::plan::{Section, Writer};

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

impl ResourceKind {
    /// The type URL of its resources.
    pub fn type_url(self) -> &'static str {
        self.url().as_str()
    }

    fn url(self) -> TypeUrl {
        match self {
            Self::Cluster => TypeUrl::CLUSTER,
            Self::Endpoints => TypeUrl::CLUSTER_LOAD_ASSIGNMENT,
            Self::Listener => TypeUrl::LISTENER,
            Self::Routes => TypeUrl::ROUTE_CONFIGURATION,
            Self::Secret => TypeUrl::SECRET,
        }
    }
}

/// Where a resource stands in the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResourceState {
    /// From the bootstrap.
    Static,
    /// In use.
    Active,
    /// Not in use: what it refers to has not arrived, or it has not arrived itself.
    Warming,
}

/// What the client says of a resource (`envoy.admin.v3.ClientResourceStatus`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ClientStatus {
    /// Asked for, nothing heard.
    Requested,
    /// The server said so.
    DoesNotExist,
    /// The newest version was accepted.
    Acked,
    /// The newest version was refused.
    Nacked,
    /// The server sent an error in its place.
    ReceivedError,
    /// The fetch timeout passed; it may still come.
    Timeout,
}

impl ClientStatus {
    /// Envoy's word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Requested => "REQUESTED",
            Self::DoesNotExist => "DOES_NOT_EXIST",
            Self::Acked => "ACKED",
            Self::Nacked => "NACKED",
            Self::ReceivedError => "RECEIVED_ERROR",
            Self::Timeout => "TIMEOUT",
        }
    }
}

/// An update that was refused (`UpdateFailureState`).
#[derive(Debug, Clone)]
pub struct UpdateFailure {
    /// What is wrong with it.
    pub details: Arc<str>,
    /// Its version.
    pub version: Name,
    /// When it came.
    pub last_attempt: SystemTime,
}

/// A version that was accepted.
#[derive(Debug, Clone)]
pub struct AcceptedVersion {
    /// `version_info` (or the resource's own version, with delta); empty for static ones.
    pub version: Name,
    /// When it was accepted.
    pub updated: SystemTime,
    /// The encoded message.
    pub body: Bytes,
}

/// One resource as the admin port shows it.
#[derive(Debug, Clone)]
pub struct ResourceView {
    /// Kind.
    pub kind: ResourceKind,
    /// Name.
    pub name: Name,
    /// The newest accepted version, if there ever was one.
    pub accepted: Option<AcceptedVersion>,
    /// The version before it, as long as that serves because the newest one warms.
    pub serving: Option<AcceptedVersion>,
    /// A newer version that was refused.
    pub error: Option<UpdateFailure>,
    /// State.
    pub state: ResourceState,
    /// Status.
    pub status: ClientStatus,
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
    /// The clusters in use, for their endpoints, each with whether it is static. Looked at only with `include_eds`.
    pub clusters: Vec<(Arc<Cluster>, bool)>,
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
    /// `mask`: a field mask, paths with commas between; of each element with `resource`, else of each dump.
    pub mask: Option<String>,
    /// `name_regex`: only resources whose name this matches; it is to match whole names.
    pub name_regex: Option<regex::Regex>,
}

/// Why there is no dump. The texts are Envoy's.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    /// The descriptors do not load.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// `resource` names no field of any dump.
    #[error("{0} not found in config dump")]
    UnknownField(String),
    /// `resource` names a field that is not repeated.
    #[error("{0} is not a repeated field. Use ?mask={0} to get only this field")]
    NotRepeated(String),
    /// `mask` fits the elements of `resource` not.
    #[error("FieldMask {0} could not be successfully used.")]
    MaskOfElements(String),
    /// `mask` fits no dump.
    #[error("FieldMask {0} could not be successfully applied to any configs.")]
    MaskOfAll(String),
}

/// A dump that is ready to be written.
#[derive(Debug)]
pub struct Dump {
    pool: Arc<Pool>,
    input: DumpInput,
    sections: Vec<Section>,
    options: DumpOptions,
    time: fn(SystemTime) -> String,
}

/// The descriptors, shared by the dumps under way: a reader that takes its time holds 12 MB, ten of them no more.
static SHARED: Mutex<Weak<Pool>> = Mutex::new(Weak::new());

/// The descriptors of Envoy's API, loaded (20 to 45 ms) unless somebody uses them now.
///
/// # Errors
/// When they do not load.
pub(crate) fn shared_pool() -> Result<Arc<Pool>, PoolError> {
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(pool) = shared.upgrade() {
        return Ok(pool);
    }
    let pool = Arc::new(Pool::load()?);
    *shared = Arc::downgrade(&pool);
    Ok(pool)
}

impl Dump {
    /// Plans a dump: everything that may be wrong with a request is said here.
    ///
    /// # Errors
    /// See [`DumpError`].
    pub fn new(
        mut input: DumpInput,
        options: DumpOptions,
        time: fn(SystemTime) -> String,
    ) -> Result<Self, DumpError> {
        let pool = shared_pool()?;
        let sections = plan::sections(&pool, &mut input, &options)?;
        Ok(Self {
            pool,
            input,
            sections,
            options,
            time,
        })
    }

    /// Writes it as JSON, in pieces of about 16 KiB (or one resource, if that is more), until `out` breaks.
    ///
    /// # Errors
    /// The break.
    pub fn write(&self, out: &mut dyn FnMut(String) -> ControlFlow<()>) -> ControlFlow<()> {
        let writer = Writer {
            pool: &self.pool,
            input: &self.input,
            time: self.time,
            mask: mask::paths(self.options.mask.as_deref()),
        };
        let mut stream = JsonStream::new(out);
        stream.open('{')?;
        if self.sections.iter().any(|section| self.is_shown(section)) {
            stream.key("configs")?;
            stream.open('[')?;
            for section in &self.sections {
                if self.options.resource.is_some() {
                    writer.elements(section, &mut stream)?;
                } else {
                    writer.whole(section, &mut stream)?;
                }
            }
            stream.close(']')?;
        }
        stream.close('}')?;
        stream.end()
    }

    fn is_shown(&self, section: &Section) -> bool {
        self.options.resource.is_none() || section.elements() > 0
    }
}
