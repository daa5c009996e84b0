//! What does a bootstrap say? (`envoy.config.bootstrap.v3.Bootstrap`)
//!
//! What always holds: a [`Bootstrap`] is complete and contradicts itself nowhere: every cluster that a stream goes to is
//! static, no name is there twice, `ads` has its `ads_config`. Static resources stay encoded, for the same translation as
//! dynamic ones. All problems of all texts are reported at once, with file, line, path, expectation and finding.
//! What we do not act on is listed in [`Bootstrap::ignored`]; where leaving it out would be unsafe, it is refused.
//! It reads no file: the caller brings names and contents.

mod admin;
pub(crate) mod extensions;
mod ignored;
mod node;
mod wire;

use std::collections::HashMap;
use std::fmt;

use remora_model::Name;
use remora_proto::pb::envoy::config::bootstrap::v3 as pb;
use remora_proto::pb::envoy::config::cluster::v3::Cluster;
use remora_proto::pb::envoy::config::cluster::v3::cluster::{ClusterDiscoveryType, DiscoveryType};
use remora_proto::{Document, Pool, Problem, ReadOptions, TypeUrl, UnknownFields};

use crate::config_source::{ConfigSource, GrpcSource, GrpcTarget, Source, config_source, grpc_source};

pub use admin::{Admin, AdminAddress};
pub use node::{Locality, Node, NodeFlags};

const BOOTSTRAP: &str = "envoy.config.bootstrap.v3.Bootstrap";

/// Texts to make a bootstrap from, and how to read them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Input<'a> {
    /// Name and content of the file given by `--config-path`. The name's ending says what it is: `.pb` for an encoded
    /// message, else YAML, of which JSON is a part.
    pub file: Option<(&'a str, &'a [u8])>,
    /// The text given by `--config-yaml`, which is merged over the file.
    pub inline: Option<&'a str>,
    /// Whether unknown fields are problems or warnings.
    pub unknown_fields: UnknownFields,
    /// What the command line says about the node.
    pub node: NodeFlags<'a>,
}

/// What the process is told at its start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bootstrap {
    /// Who we are to the control plane.
    pub node: Node,
    /// The administration endpoint, if there is to be one.
    pub admin: Option<Admin>,
    /// `static_resources.listeners`.
    pub listeners: Vec<StaticResource>,
    /// `static_resources.clusters`.
    pub clusters: Vec<StaticResource>,
    /// `static_resources.secrets`.
    pub secrets: Vec<StaticResource>,
    /// `dynamic_resources.ads_config`.
    pub ads: Option<GrpcSource>,
    /// `dynamic_resources.lds_config`.
    pub lds: Option<ConfigSource>,
    /// `dynamic_resources.cds_config`.
    pub cds: Option<ConfigSource>,
    /// `cluster_manager.local_cluster_name`: the cluster that we are a member of.
    pub local_cluster: Option<Name>,
    /// Paths of the fields that are set and have no effect here, in alphabetical order.
    pub ignored: Vec<String>,
    /// The whole as it was read, merged and encoded; for config dumps.
    pub encoded: Vec<u8>,
}

/// A resource that stands in the bootstrap, still encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaticResource {
    /// Its name; empty where the resource has none (an anonymous listener).
    pub name: Name,
    /// Its type.
    pub type_url: TypeUrl,
    /// The encoded message, byte for byte as it was written.
    pub bytes: Vec<u8>,
    /// Where it stands, for messages: file, line where known, and field path.
    pub place: String,
}

/// A bootstrap and what was odd about it without being wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// The bootstrap.
    pub bootstrap: Bootstrap,
    /// One line for each unknown field that was left out.
    pub warnings: Vec<String>,
}

/// Everything that is wrong with a bootstrap: one line per problem, with its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused(pub Vec<String>);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl std::error::Error for Refused {}

/// Reads, merges, checks and translates.
///
/// # Errors
/// Every problem of every text: first those of reading; where everything could be read, those of broken field rules and
/// of meaning.
pub fn load(pool: &Pool, input: &Input<'_>) -> Result<Loaded, Refused> {
    let options = ReadOptions {
        unknown_fields: input.unknown_fields,
        ..ReadOptions::default()
    };
    let file = input
        .file
        .map(|(name, content)| (name, pool.read_file(name, content, BOOTSTRAP, options)));
    let inline = input
        .inline
        .map(|text| ("--config-yaml", pool.read(text, BOOTSTRAP, options)));
    let mut refused = Vec::new();
    let mut warnings = Vec::new();
    let mut whole: Option<Document> = None;
    for (name, read) in file.into_iter().chain(inline) {
        match read {
            Err(problems) => refused.extend(problems.0.iter().map(|problem| problem.in_file(name))),
            Ok(mut document) => {
                warnings.extend(document.warnings.drain(..).map(|problem| problem.in_file(name)));
                whole = Some(match whole {
                    None => document,
                    Some(below) => below.merge(document),
                });
            }
        }
    }
    if !refused.is_empty() {
        return Err(Refused(refused));
    }
    let name = input.file.map_or("--config-yaml", |(name, _)| name);
    let document = whole.ok_or_else(|| {
        Refused(vec![
            "expected --config-path or --config-yaml, found neither".into(),
        ])
    })?;
    let bootstrap = translate(pool, &document, name, input.node)?;
    Ok(Loaded { bootstrap, warnings })
}

fn translate(
    pool: &Pool,
    document: &Document,
    file: &str,
    flags: NodeFlags<'_>,
) -> Result<Bootstrap, Refused> {
    let undecodable =
        |error: &dyn fmt::Display| Refused(vec![format!("{file}: expected a {BOOTSTRAP}, found {error}")]);
    let said: pb::Bootstrap = document.decode().map_err(|error| undecodable(&error))?;
    let mut problems = pool
        .validate(&document.bytes, BOOTSTRAP)
        .map_err(|error| undecodable(&error))?;
    let place = |path: &str| match document.locate(path) {
        Some(at) => format!("{file}:{at}: {path}"),
        None => format!("{file}: {path}"),
    };
    let ignored = ignored::fields(pool, document, &said, &mut problems);
    let dynamic = said.dynamic_resources.clone().unwrap_or_default();
    let resources = |kind| wire::static_resources(&document.bytes, kind, &place);
    let bootstrap = Bootstrap {
        node: node::node(said.node.clone(), wire::node_metadata(&document.bytes), flags),
        admin: said
            .admin
            .as_ref()
            .and_then(|admin| admin::admin(admin, &mut problems)),
        listeners: resources(wire::Kind::Listener),
        clusters: resources(wire::Kind::Cluster),
        secrets: resources(wire::Kind::Secret),
        ads: dynamic
            .ads_config
            .and_then(|from| grpc_source(&from, "dynamic_resources.ads_config", &mut problems)),
        lds: dynamic
            .lds_config
            .and_then(|from| config_source(&from, "dynamic_resources.lds_config", &mut problems)),
        cds: dynamic
            .cds_config
            .and_then(|from| config_source(&from, "dynamic_resources.cds_config", &mut problems)),
        local_cluster: said
            .cluster_manager
            .as_ref()
            .map(|manager| Name::from(manager.local_cluster_name.as_str()))
            .filter(|name| !name.is_empty()),
        ignored,
        encoded: document.bytes.clone(),
    };
    coherent(&bootstrap, &said, &mut problems);
    // Where a field rule is broken, the rule says enough.
    let ruled: Vec<String> = problems
        .iter()
        .filter(|problem| problem.rule.is_some())
        .map(|problem| problem.path.clone())
        .collect();
    problems.retain(|problem| problem.rule.is_some() || !ruled.contains(&problem.path));
    if problems.is_empty() {
        return Ok(bootstrap);
    }
    let mut placed: Vec<Problem> = problems
        .into_iter()
        .map(|problem| {
            let at = document.locate(&problem.path);
            problem.with_position(at)
        })
        .collect();
    placed.sort_by_key(|problem| problem.at);
    Err(Refused(
        placed.iter().map(|problem| problem.in_file(file)).collect(),
    ))
}

/// What the parts must be to each other.
fn coherent(bootstrap: &Bootstrap, said: &pb::Bootstrap, problems: &mut Vec<Problem>) {
    for (list, resources) in [
        ("listeners", &bootstrap.listeners),
        ("clusters", &bootstrap.clusters),
        ("secrets", &bootstrap.secrets),
    ] {
        let mut seen: HashMap<&str, usize> = HashMap::new();
        for (index, resource) in resources
            .iter()
            .enumerate()
            .filter(|(_, resource)| !resource.name.is_empty())
        {
            if let Some(first) = seen.insert(&resource.name, index) {
                let found = format!("{:?}, which {list}[{first}] has too", resource.name);
                let path = format!("static_resources.{list}[{index}].name");
                problems.push(Problem::new(path, "a name of its own", found));
            }
        }
    }
    if let Some(local) = &bootstrap.local_cluster
        && !bootstrap.clusters.iter().any(|cluster| cluster.name == *local)
    {
        let path = "cluster_manager.local_cluster_name";
        let found = format!("{local:?}: local cluster '{local}' must be defined");
        problems.push(Problem::new(path, "a static cluster", found));
    }
    let dynamic = "dynamic_resources";
    let sources = [("lds_config", &bootstrap.lds), ("cds_config", &bootstrap.cds)];
    for (field, source) in sources
        .into_iter()
        .filter_map(|(field, source)| Some((field, source.as_ref()?)))
    {
        let path = format!("{dynamic}.{field}");
        match &source.source {
            Source::Ads
                if said
                    .dynamic_resources
                    .as_ref()
                    .is_none_or(|dynamic| dynamic.ads_config.is_none()) =>
            {
                problems.push(Problem::new(
                    format!("{path}.ads"),
                    format!("{dynamic}.ads_config beside ads"),
                    "none",
                ));
            }
            Source::Grpc(source) => reachable(source, &format!("{path}.api_config_source"), said, problems),
            Source::Ads | Source::Path(_) => {}
        }
    }
    if let Some(source) = &bootstrap.ads {
        reachable(source, &format!("{dynamic}.ads_config"), said, problems);
    }
    let asks = bootstrap.ads.is_some() || sources.iter().any(|(_, source)| source.is_some());
    if asks && bootstrap.node.id.is_empty() {
        let expected = "an id, by which the control plane knows this proxy (or --service-node)";
        problems.push(Problem::new("node.id", expected, "none"));
    }
}

/// A stream can only go to a cluster that is known before any stream stands: static and not itself discovered.
fn reachable(source: &GrpcSource, path: &str, said: &pb::Bootstrap, problems: &mut Vec<Problem>) {
    let clusters = said
        .static_resources
        .as_ref()
        .map(|resources| resources.clusters.as_slice())
        .unwrap_or_default();
    for (index, service) in source.services.iter().enumerate() {
        let GrpcTarget::Cluster(name) = &service.target else {
            continue;
        };
        let path = format!("{path}.grpc_services[{index}].envoy_grpc.cluster_name");
        match clusters.iter().find(|cluster| cluster.name == **name) {
            None => {
                let known: Vec<_> = clusters
                    .iter()
                    .map(|cluster| format!("{:?}", cluster.name))
                    .collect();
                let found = format!("{name:?} where there are [{}]", known.join(", "));
                problems.push(Problem::new(
                    path,
                    "the name of a cluster in static_resources.clusters",
                    found,
                ));
            }
            Some(cluster) if is_discovered(cluster) => {
                let found = format!("{name:?}, whose type is EDS and would wait for this very stream");
                problems.push(Problem::new(
                    path,
                    "a cluster that has its endpoints from the start",
                    found,
                ));
            }
            Some(_) => {}
        }
    }
}

/// Whether the endpoints come by a stream (a file is no stream).
#[expect(deprecated, reason = "a file may be named by the deprecated field too")]
fn is_discovered(cluster: &Cluster) -> bool {
    use remora_proto::pb::envoy::config::core::v3::config_source::ConfigSourceSpecifier as Specifier;
    let is_eds = matches!(cluster.cluster_discovery_type, Some(ClusterDiscoveryType::Type(kind)) if kind == DiscoveryType::Eds as i32);
    let source = cluster
        .eds_cluster_config
        .as_ref()
        .and_then(|config| config.eds_config.as_ref());
    let by_file = source.is_some_and(|source| {
        matches!(
            source.config_source_specifier,
            Some(Specifier::Path(_) | Specifier::PathConfigSource(_))
        )
    });
    is_eds && !by_file
}
