//! What stands where in a dump: its sections, their repeated fields, and the elements of those.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::SystemTime;

use remora_model::Name;
use remora_proto::{Pool, WriteOptions};
use serde_json::{Map, Value, json};

use super::json_stream::JsonStream;
use super::{
    AcceptedVersion, DumpError, DumpInput, DumpOptions, ResourceKind, ResourceState, ResourceView, endpoints,
    inline_routes, mask,
};

const ADMIN: &str = "type.googleapis.com/envoy.admin.v3.";
const BOOTSTRAP: &str = "type.googleapis.com/envoy.config.bootstrap.v3.Bootstrap";

/// The version of a resource that was never accepted, in Envoy's words.
const UNINITIALIZED: &str = "uninitialized";

/// One `envoy.admin.v3.*ConfigDump`.
#[derive(Debug)]
pub(super) struct Section {
    message: &'static str,
    /// Its repeated fields, in order.
    fields: Vec<Field>,
}

/// A repeated field.
#[derive(Debug)]
struct Field {
    name: &'static str,
    /// The message of its elements, below the section's.
    element: &'static str,
    /// Which field of an element is an `Any`, and what is in it.
    any: Option<(&'static str, &'static str)>,
    elements: Vec<Element>,
}

/// Where an element comes from: an index into the input.
#[derive(Debug, Clone, Copy)]
enum Element {
    /// The newest version of a resource.
    Newest(usize),
    /// The version of a resource that serves while the newest one warms.
    Serving(usize),
    /// The endpoints of a cluster, and the resource that they came with.
    Endpoints(usize, Option<usize>),
}

impl Section {
    /// How many elements all its fields have.
    pub(super) fn elements(&self) -> usize {
        self.fields.iter().map(|field| field.elements.len()).sum()
    }
}

/// The sections that a request wants, in Envoy's order (by the names of its callbacks).
pub(super) fn sections(
    pool: &Pool,
    input: &mut DumpInput,
    options: &DumpOptions,
) -> Result<Vec<Section>, DumpError> {
    let inline = inline_routes::of(&input.resources);
    input.resources.extend(inline);
    let mut all = empty_sections(input.bootstrap.is_some(), options.include_eds);
    let wanted = |name: &str| {
        options
            .name_regex
            .as_ref()
            .is_none_or(|regex| regex.is_match(name))
    };
    for (index, view) in input.resources.iter().enumerate() {
        if wanted(&view.name) {
            for (field, element) in places(view, index) {
                enter(&mut all, field, element);
            }
        }
    }
    let of_eds = |(index, view): (usize, &ResourceView)| {
        (view.kind == ResourceKind::Endpoints).then(|| (Arc::clone(&view.name), index))
    };
    let assignments: HashMap<Name, usize> = input.resources.iter().enumerate().filter_map(of_eds).collect();
    for (index, (cluster, is_static)) in input.clusters.iter().enumerate() {
        if wanted(&cluster.config.name) {
            let field = if *is_static {
                "static_endpoint_configs"
            } else {
                "dynamic_endpoint_configs"
            };
            let view = assignments.get(endpoints::assignment_name(cluster)).copied();
            enter(&mut all, field, Element::Endpoints(index, view));
        }
    }
    match &options.resource {
        Some(resource) => one_field(pool, all, resource, options),
        None => whole_sections(pool, all, options),
    }
}

fn whole_sections(
    pool: &Pool,
    mut all: Vec<Section>,
    options: &DumpOptions,
) -> Result<Vec<Section>, DumpError> {
    let Some(said) = &options.mask else { return Ok(all) };
    let paths = mask::paths(Some(said));
    all.retain(|section| mask::fits(pool, &message_of(section.message), &paths));
    if all.is_empty() {
        return Err(DumpError::MaskOfAll(said.clone()));
    }
    for section in &mut all {
        let keeps = |field: &Field| paths.is_empty() || paths.iter().any(|path| path == field.name);
        section.fields.retain(keeps);
    }
    Ok(all)
}

fn one_field(
    pool: &Pool,
    all: Vec<Section>,
    wanted: &str,
    options: &DumpOptions,
) -> Result<Vec<Section>, DumpError> {
    for mut section in all {
        if wanted.contains('.') || !pool.has_path(&message_of(section.message), wanted) {
            continue;
        }
        section.fields.retain(|field| field.name == wanted);
        let Some(field) = section.fields.first() else {
            return Err(DumpError::NotRepeated(wanted.to_owned()));
        };
        if let (Some(said), false) = (&options.mask, field.elements.is_empty()) {
            let message = format!("{}.{}", message_of(section.message), field.element);
            if !mask::fits_element(pool, &message, field.any, &mask::paths(Some(said))) {
                return Err(DumpError::MaskOfElements(mask::text_form(said)));
            }
        }
        return Ok(vec![section]);
    }
    Err(DumpError::UnknownField(wanted.to_owned()))
}

fn message_of(section: &str) -> String {
    format!("envoy.admin.v3.{section}")
}

fn enter(sections: &mut [Section], field: &str, element: Element) {
    let fields = sections.iter_mut().flat_map(|section| &mut section.fields);
    if let Some(field) = fields.into_iter().find(|candidate| candidate.name == field) {
        field.elements.push(element);
    }
}

fn empty_sections(with_bootstrap: bool, with_endpoints: bool) -> Vec<Section> {
    let section = |message, fields: &[(&'static str, &'static str, &'static str)]| Section {
        message,
        fields: fields
            .iter()
            .map(|(name, element, any)| Field {
                name,
                element,
                any: inside(any),
                elements: Vec::new(),
            })
            .collect(),
    };
    let mut all = Vec::new();
    if with_bootstrap {
        all.push(section("BootstrapConfigDump", &[]));
    }
    let clusters = [
        ("static_clusters", "StaticCluster", "cluster"),
        ("dynamic_active_clusters", "DynamicCluster", "cluster"),
        ("dynamic_warming_clusters", "DynamicCluster", "cluster"),
    ];
    all.push(section("ClustersConfigDump", &clusters));
    if with_endpoints {
        let endpoints = [
            (
                "static_endpoint_configs",
                "StaticEndpointConfig",
                "endpoint_config",
            ),
            (
                "dynamic_endpoint_configs",
                "DynamicEndpointConfig",
                "endpoint_config",
            ),
        ];
        all.push(section("EndpointsConfigDump", &endpoints));
    }
    let listeners = [
        ("static_listeners", "StaticListener", "listener"),
        ("dynamic_listeners", "DynamicListener", ""),
    ];
    all.push(section("ListenersConfigDump", &listeners));
    let scopes = [
        ("inline_scoped_route_configs", "InlineScopedRouteConfigs", ""),
        ("dynamic_scoped_route_configs", "DynamicScopedRouteConfigs", ""),
    ];
    all.push(section("ScopedRoutesConfigDump", &scopes));
    let routes = [
        ("static_route_configs", "StaticRouteConfig", "route_config"),
        ("dynamic_route_configs", "DynamicRouteConfig", "route_config"),
    ];
    all.push(section("RoutesConfigDump", &routes));
    let secrets = [
        ("static_secrets", "StaticSecret", "secret"),
        ("dynamic_active_secrets", "DynamicSecret", "secret"),
        ("dynamic_warming_secrets", "DynamicSecret", "secret"),
    ];
    all.push(section("SecretsConfigDump", &secrets));
    all
}

/// What the `Any` of this name holds.
fn inside(any: &'static str) -> Option<(&'static str, &'static str)> {
    let kinds = ResourceKind::ALL.into_iter();
    let kind = kinds.into_iter().find(|kind| any_field(*kind) == any)?;
    Some((any, kind.type_url()))
}

fn any_field(kind: ResourceKind) -> &'static str {
    match kind {
        ResourceKind::Cluster => "cluster",
        ResourceKind::Endpoints => "endpoint_config",
        ResourceKind::Listener => "listener",
        ResourceKind::Routes => "route_config",
        ResourceKind::Secret => "secret",
    }
}

/// The repeated fields that a resource stands in. What was only asked for is shown for secrets, as Envoy does.
fn places(view: &ResourceView, index: usize) -> Vec<(&'static str, Element)> {
    use ResourceKind as K;
    use ResourceState as S;
    let newest = Element::Newest(index);
    let known = view.accepted.is_some() || view.error.is_some();
    let serving = view.serving.as_ref().map(|_| Element::Serving(index));
    let with_serving = |warming, active| {
        let serving = serving.map(|element| (active, element));
        serving.into_iter().chain([(warming, newest)]).collect()
    };
    match (view.kind, view.state) {
        (K::Endpoints, _) => Vec::new(),
        (K::Secret, S::Static) => vec![("static_secrets", newest)],
        (K::Secret, S::Active) => vec![("dynamic_active_secrets", newest)],
        (K::Secret, S::Warming) => vec![("dynamic_warming_secrets", newest)],
        _ if !known => Vec::new(),
        (K::Cluster, S::Static) => vec![("static_clusters", newest)],
        (K::Cluster, S::Active) => vec![("dynamic_active_clusters", newest)],
        (K::Cluster, S::Warming) => with_serving("dynamic_warming_clusters", "dynamic_active_clusters"),
        (K::Listener, S::Static) => vec![("static_listeners", newest)],
        (K::Listener, _) => vec![("dynamic_listeners", newest)],
        (K::Routes, S::Static) => vec![("static_route_configs", newest)],
        // There is no place for routes that wait: shown is what requests meet.
        (K::Routes, _) => vec![("dynamic_route_configs", serving.unwrap_or(newest))],
    }
}

/// Makes JSON of what was planned.
pub(super) struct Writer<'d> {
    pub(super) pool: &'d Pool,
    pub(super) input: &'d DumpInput,
    pub(super) time: fn(SystemTime) -> String,
    pub(super) mask: Vec<String>,
}

impl Writer<'_> {
    /// A whole section.
    pub(super) fn whole(&self, section: &Section, out: &mut JsonStream<'_>) -> ControlFlow<()> {
        out.open('{')?;
        out.key("@type")?;
        out.value(&format!("{ADMIN}{}", section.message).into())?;
        for (name, value) in self.head(section) {
            out.key(&name)?;
            out.value(&value)?;
        }
        for field in section.fields.iter().filter(|field| !field.elements.is_empty()) {
            out.key(field.name)?;
            out.open('[')?;
            for element in &field.elements {
                out.value(&Value::Object(self.element(*element)))?;
            }
            out.close(']')?;
        }
        out.close('}')
    }

    /// The elements of a section's fields, each with its own `@type`.
    pub(super) fn elements(&self, section: &Section, out: &mut JsonStream<'_>) -> ControlFlow<()> {
        for field in &section.fields {
            for element in &field.elements {
                let mut fields = self.element(*element);
                let type_url = format!("{ADMIN}{}.{}", section.message, field.element);
                fields.insert("@type".into(), type_url.into());
                let mut value = Value::Object(fields);
                mask::apply(&mut value, &self.mask);
                out.value(&value)?;
            }
        }
        ControlFlow::Continue(())
    }

    /// The fields of a section that are not repeated.
    fn head(&self, section: &Section) -> Map<String, Value> {
        let mut fields = Map::new();
        let version = match section.message {
            "ClustersConfigDump" => &*self.input.clusters_version,
            "ListenersConfigDump" => &*self.input.listeners_version,
            _ => "",
        };
        if !version.is_empty() {
            fields.insert("version_info".into(), version.into());
        }
        if let ("BootstrapConfigDump", Some(bootstrap)) = (section.message, &self.input.bootstrap) {
            let mut shown = self.opened(BOOTSTRAP, &bootstrap.body);
            if let Value::Object(fields) = &mut shown {
                fields.remove("@type");
            }
            fields.insert("bootstrap".into(), shown);
            fields.insert("last_updated".into(), (self.time)(bootstrap.last_updated).into());
        }
        let mut head = Value::Object(fields);
        mask::apply(&mut head, &self.mask);
        match head {
            Value::Object(fields) => fields,
            _ => Map::new(),
        }
    }

    fn element(&self, element: Element) -> Map<String, Value> {
        match element {
            Element::Newest(index) => self.resource(&self.input.resources[index]),
            Element::Serving(index) => {
                let view = &self.input.resources[index];
                let mut fields = Map::new();
                if let Some(serving) = &view.serving {
                    self.version(view.kind, serving, &mut fields);
                }
                fields
            }
            Element::Endpoints(index, view) => self.endpoints(index, view),
        }
    }

    fn resource(&self, view: &ResourceView) -> Map<String, Value> {
        let mut fields = Map::new();
        let dynamic_listener = view.kind == ResourceKind::Listener && view.state != ResourceState::Static;
        if matches!(view.kind, ResourceKind::Secret) || dynamic_listener {
            fields.insert("name".into(), Value::from(&*view.name));
        }
        match &view.accepted {
            Some(accepted) if dynamic_listener => self.states(view, accepted, &mut fields),
            Some(accepted) => self.version(view.kind, accepted, &mut fields),
            None if dynamic_listener => {}
            None => self.placeholder(view.kind, &view.name, &mut fields),
        }
        self.standing(view, &mut fields);
        fields
    }

    /// `active_state` and `warming_state` of a listener.
    fn states(&self, view: &ResourceView, accepted: &AcceptedVersion, fields: &mut Map<String, Value>) {
        let newest = if view.state == ResourceState::Warming {
            "warming_state"
        } else {
            "active_state"
        };
        let serving = view.serving.iter().map(|serving| ("active_state", serving));
        for (state, version) in serving.chain([(newest, accepted)]) {
            let mut inner = Map::new();
            self.version(view.kind, version, &mut inner);
            fields.insert(state.into(), Value::Object(inner));
        }
    }

    /// `version_info`, the resource and `last_updated`; only what is there.
    fn version(&self, kind: ResourceKind, version: &AcceptedVersion, fields: &mut Map<String, Value>) {
        if !version.version.is_empty() {
            fields.insert("version_info".into(), Value::from(&*version.version));
        }
        let body = self.opened(kind.type_url(), &version.body);
        fields.insert(any_field(kind).into(), body);
        fields.insert("last_updated".into(), (self.time)(version.updated).into());
    }

    /// A resource that is not there yet has its name and nothing else, so that readers find what they expect.
    fn placeholder(&self, kind: ResourceKind, name: &Name, fields: &mut Map<String, Value>) {
        let body = json!({ "@type": kind.type_url(), "name": &**name });
        fields.insert(any_field(kind).into(), body);
        fields.insert("version_info".into(), UNINITIALIZED.into());
    }

    /// `error_state` and `client_status`.
    fn standing(&self, view: &ResourceView, fields: &mut Map<String, Value>) {
        if view.state == ResourceState::Static {
            return;
        }
        if let Some(error) = &view.error {
            let mut state = Map::new();
            let attempt = (self.time)(error.last_attempt);
            state.insert("last_update_attempt".into(), attempt.into());
            state.insert("details".into(), Value::from(&*error.details));
            if !error.version.is_empty() {
                state.insert("version_info".into(), Value::from(&*error.version));
            }
            fields.insert("error_state".into(), Value::Object(state));
        }
        fields.insert("client_status".into(), view.status.name().into());
    }

    fn endpoints(&self, index: usize, view: Option<usize>) -> Map<String, Value> {
        let (cluster, _) = &self.input.clusters[index];
        let mut fields = Map::new();
        if let Some(view) = view.map(|view| &self.input.resources[view]) {
            if let Some(accepted) = &view.accepted {
                fields.insert("version_info".into(), Value::from(&*accepted.version));
                fields.insert("last_updated".into(), (self.time)(accepted.updated).into());
            }
            self.standing(view, &mut fields);
        }
        fields.insert("endpoint_config".into(), endpoints::assignment(cluster));
        fields
    }

    fn opened(&self, type_url: &str, bytes: &[u8]) -> Value {
        self.pool.write_any(type_url, bytes, WriteOptions::default())
    }
}
