//! `RouteConfiguration` to [`RouteTable`].
//!
//! Holds: a virtual host whose bytes did not change is the very one of the version before (same `Arc`), so a push that
//! changes one virtual host costs one; domains are unique over the table. Matches and actions have files of their own.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::sync::Arc;

use prost::Message;
use remora_model::filter::{FilterSettings, RouteFilter};
use remora_model::limit::MetadataKey;
use remora_model::retry::RetryPolicy;
use remora_model::route::{
    Action, DomainIndex, DuplicateDomain, Mirror, RareTable, RequireTls, Route, RouteTable, VirtualHost,
};

use crate::context::{Context, Work, undecodable};
use crate::filter::local_rate_limit::{of_table, of_virtual_host};
use crate::header_mutation::{self, header_lists};
use crate::pb::envoy::config::route::v3::{self as api, virtual_host::TlsRequirementType};
use crate::pb::google::protobuf::{Any, UInt32Value, UInt64Value};
use crate::rejection::Rejection;
use crate::{fallback, filter, fingerprint, mirror, rate_limits, retry, route_action, route_match, value};

/// Envoy's default `max_direct_response_body_size_bytes`.
const DIRECT_RESPONSE_BODY: u32 = 4096;
/// Field number of `RouteConfiguration.virtual_hosts`.
const VIRTUAL_HOSTS: u32 = 2;
/// Field number of `VirtualHost.name`.
const NAME: u32 = 1;

/// Translates one RDS resource.
///
/// # Errors
/// Everything that is wrong with it.
pub fn route_configuration(bytes: &[u8], context: &mut Context<'_>) -> Result<Arc<RouteTable>, Rejection> {
    // The virtual hosts, which may be thousands, are decoded one by one and only where they changed.
    let others = fingerprint::without(bytes, VIRTUAL_HOSTS);
    let others = others.as_deref().unwrap_or(bytes);
    let said =
        api::RouteConfiguration::decode(others).map_err(|error| undecodable("RouteConfiguration", &error))?;
    let previous = context
        .route_tables
        .known(&said.name)
        .and_then(|id| context.previous?.route_table(id))
        .cloned();
    let mut work = Work::new(context);
    value::required(&mut work, "name", &said.name);
    let table = table(&mut work, &said, bytes, previous.as_deref());
    work.verdict(&said.name, table)
}

/// A route configuration, dynamic or inline; `bytes` are its own, and its virtual hosts are read from them.
pub(crate) fn table(
    work: &mut Work<'_, '_>,
    said: &api::RouteConfiguration,
    bytes: &[u8],
    previous: Option<&RouteTable>,
) -> Option<Arc<RouteTable>> {
    work.review(said);
    for (index, plugin) in said.cluster_specifier_plugins.iter().enumerate() {
        if !plugin.is_optional {
            work.wrong_at(
                &format!("cluster_specifier_plugins[{index}]"),
                "is not supported: clusters chosen by a plug-in",
            );
        }
    }
    let headers = header_mutation::pair(work, &header_lists!(said));
    if let Some(previous) = previous {
        work.limits_before = of_table(previous);
    }
    let filters = filter::per_route(work, &said.typed_per_filter_config);
    let body_limit = said
        .max_direct_response_body_size_bytes
        .as_ref()
        .map_or(DIRECT_RESPONSE_BODY, |max| max.value);
    let inherited = Inherited {
        body_limit,
        mirrors: mirror::policies(work, &said.request_mirror_policies),
        mirrors_hash: mirror::hash(&said.request_mirror_policies),
    };
    let virtual_hosts = virtual_hosts(work, bytes, &inherited, previous);
    let domains = match domains(&virtual_hosts, &said.name, previous) {
        Ok(domains) => Some(domains),
        Err(duplicate) => {
            work.wrong_at("virtual_hosts", duplicate.to_string());
            None
        }
    };
    Some(Arc::new(RouteTable {
        name: said.name.as_str().into(),
        virtual_hosts,
        domains: domains?,
        ignore_port: said.ignore_port_in_host_matching,
        headers,
        most_specific_wins: said.most_specific_header_mutations_wins,
        filters,
        rare: rare(work, said),
        fingerprint: fingerprint::of((bytes, work.file_hash)),
    }))
}

fn rare(work: &mut Work<'_, '_>, said: &api::RouteConfiguration) -> Option<Box<RareTable>> {
    let rare = RareTable {
        internal_only: work.each(
            "internal_only_headers",
            &said.internal_only_headers,
            |work, name| value::header_name(work, "", name),
        ),
        host_header: match said.vhost_header.as_str() {
            "" => None,
            name => value::header_name(work, "vhost_header", name),
        },
        ignore_path_parameters: said.ignore_path_parameters_in_path_matching,
    };
    (!rare.is_empty()).then(|| Box::new(rare))
}

/// The virtual hosts in order: those of before where their bytes did not change, decoded and translated where they did.
fn virtual_hosts(
    work: &mut Work<'_, '_>,
    bytes: &[u8],
    inherited: &Inherited,
    previous: Option<&RouteTable>,
) -> Vec<Arc<VirtualHost>> {
    let before = previous.map_or(&[][..], |table| &table.virtual_hosts);
    let by_name: OnceCell<HashMap<&str, &Arc<VirtualHost>>> = OnceCell::new();
    let mut elsewhere: Option<HashMap<u64, &Arc<VirtualHost>>> = None;
    let mut hosts = Vec::with_capacity(before.len());
    for (index, raw) in fingerprint::fields(bytes, VIRTUAL_HOSTS).enumerate() {
        let fingerprint = fingerprint::of((raw, inherited.body_limit, inherited.mirrors_hash));
        let is_same = |host: &Arc<VirtualHost>| {
            host.fingerprint == fingerprint
                && fingerprint::fields(raw, NAME).next() == Some(host.name.as_bytes())
        };
        // Most stand where they stood; only when one does not is it looked for.
        let same = before.get(index).filter(|host| is_same(host)).or_else(|| {
            let moved =
                elsewhere.get_or_insert_with(|| before.iter().map(|host| (host.fingerprint, host)).collect());
            moved.get(&fingerprint).copied().filter(|host| is_same(host))
        });
        let host = match same {
            Some(same) => Some(Arc::clone(same)),
            None => work.at(&format!("virtual_hosts[{index}]"), |work| {
                let said = api::VirtualHost::decode(raw)
                    .map_err(|error| work.wrong(format!("cannot be decoded as VirtualHost: {error}")))
                    .ok()?;
                let named = by_name.get_or_init(|| before.iter().map(|host| (&*host.name, host)).collect());
                let earlier = named.get(said.name.as_str());
                work.limits_before = earlier.map(|host| of_virtual_host(host)).unwrap_or_default();
                virtual_host(work, &said, fingerprint, inherited).map(Arc::new)
            }),
        };
        hosts.extend(host);
    }
    hosts
}

/// The index of all domains: that of before where every virtual host still stands for the same ones.
fn domains(
    virtual_hosts: &[Arc<VirtualHost>],
    name: &str,
    previous: Option<&RouteTable>,
) -> Result<Arc<DomainIndex>, DuplicateDomain> {
    let same = previous.filter(|table| {
        let before = &table.virtual_hosts;
        let same =
            |(a, b): (&Arc<VirtualHost>, &Arc<VirtualHost>)| Arc::ptr_eq(a, b) || a.domains == b.domains;
        before.len() == virtual_hosts.len() && before.iter().zip(virtual_hosts).all(same)
    });
    match same {
        Some(table) => Ok(Arc::clone(&table.domains)),
        None => DomainIndex::new(virtual_hosts, name).map(Arc::new),
    }
}

fn virtual_host(
    work: &mut Work<'_, '_>,
    said: &api::VirtualHost,
    fingerprint: u64,
    inherited: &Inherited,
) -> Option<VirtualHost> {
    work.review(said);
    let name = value::required(work, "name", &said.name);
    if said.domains.is_empty() {
        work.wrong_at("domains", "expected at least one domain, found none");
    }
    let headers = header_mutation::pair(work, &header_lists!(said));
    let mut filters = filter_settings(work, &said.typed_per_filter_config, said.cors.as_ref());
    let mirrors = match said.request_mirror_policies.as_slice() {
        [] => Arc::clone(&inherited.mirrors),
        own => mirror::policies(work, own),
    };
    let limits = rate_limits::of_host(work, &said.rate_limits);
    let defaults = Defaults {
        body_limit: inherited.body_limit,
        mirrors,
        retry: match &said.retry_policy {
            Some(said) => work.at("retry_policy", |work| retry::policy(work, said)),
            None => None,
        },
        hedge_on_per_try_timeout: match &said.hedge_policy {
            Some(said) => work.at("hedge_policy", |work| retry::hedges(work, said)),
            None => false,
        },
        buffer_limit: buffer_limit(
            said.per_request_buffer_limit_bytes.as_ref(),
            said.request_body_buffer_limit.as_ref(),
        ),
        limit_keys: rate_limits::keys(&limits.rules).into(),
    };
    filters.limit_rates(limits);
    let (routes, files) = work.with_files(|work| {
        work.each("routes", &said.routes, |work, said| {
            route(work, said, &defaults).map(Arc::new)
        })
    });
    let require_tls = match value::known(work, "require_tls", said.require_tls)? {
        TlsRequirementType::None => RequireTls::None,
        TlsRequirementType::ExternalOnly => RequireTls::ExternalOnly,
        TlsRequirementType::All => RequireTls::All,
    };
    // What came from files is not in the bytes: such a virtual host is translated anew each time.
    Some(VirtualHost {
        name: name?.into(),
        domains: said.domains.iter().map(|domain| domain.as_str().into()).collect(),
        routes: routes.into(),
        headers,
        include_attempt_count: said.include_request_attempt_count,
        attempt_count_in_response: said.include_attempt_count_in_response,
        include_is_timeout_retry: said.include_is_timeout_retry_header,
        require_tls,
        filters,
        fingerprint: if files == 0 {
            fingerprint
        } else {
            fingerprint::of((fingerprint, files))
        },
    })
}

/// What a table says for its virtual hosts.
struct Inherited {
    /// `max_direct_response_body_size_bytes`.
    body_limit: u32,
    /// `request_mirror_policies`.
    mirrors: Arc<[Mirror]>,
    /// Their hash.
    mirrors_hash: u64,
}

/// What a virtual host says for its routes.
pub(crate) struct Defaults {
    /// `request_mirror_policies`.
    pub(crate) mirrors: Arc<[Mirror]>,
    /// `max_direct_response_body_size_bytes`.
    pub(crate) body_limit: u32,
    /// `retry_policy`.
    pub(crate) retry: Option<Arc<RetryPolicy>>,
    /// `hedge_policy`.
    pub(crate) hedge_on_per_try_timeout: bool,
    /// `per_request_buffer_limit_bytes` or `request_body_buffer_limit`.
    pub(crate) buffer_limit: Option<u64>,
    /// What its `rate_limits` read of a route's metadata.
    pub(crate) limit_keys: Arc<[MetadataKey]>,
}

fn buffer_limit(bytes: Option<&UInt32Value>, body: Option<&UInt64Value>) -> Option<u64> {
    body.map(|limit| limit.value)
        .or(bytes.map(|limit| u64::from(limit.value)))
}

fn route(work: &mut Work<'_, '_>, said: &api::Route, defaults: &Defaults) -> Option<Route> {
    work.review(said);
    let criteria = match &said.r#match {
        Some(criteria) => work.at("match", |work| route_match::criteria(work, criteria)),
        None => {
            work.wrong_at("match", "expected a match, found none");
            None
        }
    };
    let headers = header_mutation::pair(work, &header_lists!(said));
    let cors = match &said.action {
        Some(api::route::Action::Route(action)) => action.cors.as_ref(),
        _ => None,
    };
    let mut filters = filter_settings(work, &said.typed_per_filter_config, cors);
    filters.limit_rates(rate_limits::of_route(work, said, &defaults.limit_keys));
    let own_limit = buffer_limit(
        said.per_request_buffer_limit_bytes.as_ref(),
        said.request_body_buffer_limit.as_ref(),
    );
    let defaults = Defaults {
        retry: defaults.retry.clone(),
        mirrors: Arc::clone(&defaults.mirrors),
        buffer_limit: own_limit.or(defaults.buffer_limit),
        limit_keys: Arc::clone(&defaults.limit_keys),
        ..*defaults
    };
    let fallback = fallback::of_route(work, said);
    let mut action = route_action::action(work, said.action.as_ref(), criteria.as_ref(), &defaults);
    if let (Some(Action::Forward(forward)), Some(fallback)) = (&mut action, fallback) {
        forward.rare.get_or_insert_default().fallback = Some(fallback);
    }
    Some(Route {
        name: work.context.repeated.word(&said.name),
        criteria: criteria?,
        action: action?,
        headers,
        filters,
    })
}

/// What a level says of filters; the deprecated `cors` holds where the filter is not spoken to by name.
fn filter_settings(
    work: &mut Work<'_, '_>,
    said: &HashMap<String, Any>,
    cors: Option<&api::CorsPolicy>,
) -> FilterSettings {
    let mut settings = filter::per_route(work, said);
    if let Some(cors) = cors
        && let Some(policy) = filter::cors::deprecated(work, cors)
        && settings.of(filter::cors::NAME).is_none()
    {
        settings.add(filter::cors::NAME.into(), RouteFilter::Cors(policy));
    }
    settings
}
