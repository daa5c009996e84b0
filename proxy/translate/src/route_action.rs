//! What a route does: forward, redirect, answer.
//!
//! Holds: clusters become ids, so a route needs no cluster to be there; a rewrite or redirect of a kind that is not
//! supported is refused, because the request would arrive somewhere else.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use remora_model::endpoint::Labels;
use remora_model::log::Format;
use remora_model::route::{
    Action, ClusterChoice, ConnectEnd, DirectResponse, EndpointChoice, Forward, HashPolicy, HashSource,
    HeaderRewrite, HostRewrite, PathMatch, PathRewrite, Rare, Redirect, RedirectPath, RouteMatch,
    StreamDuration, UriTemplate, WeightedCluster, WeightedClusters,
};

use crate::context::Work;
use crate::header_mutation::{self, header_lists};
use crate::pb::envoy::config::route::v3::{
    self as api, redirect_action, route, route_action, weighted_cluster,
};
use crate::route::Defaults;
use crate::{
    access_log, breakers, data_source, filter, internal_redirect, local_reply, matcher, mirror,
    proxy_protocol, retry, subsets, uri_template, value,
};

/// Envoy's default route timeout.
const TIMEOUT: Duration = Duration::from_secs(15);

pub(crate) fn action(
    work: &mut Work<'_, '_>,
    said: Option<&route::Action>,
    criteria: Option<&RouteMatch>,
    defaults: &Defaults,
) -> Option<Action> {
    match said {
        Some(route::Action::Route(said)) => work
            .at("route", |work| forward(work, said, criteria, defaults))
            .map(|forward| Action::Forward(Box::new(forward))),
        Some(route::Action::Redirect(said)) => work
            .at("redirect", |work| redirect(work, said, criteria))
            .map(|redirect| Action::Redirect(Box::new(redirect))),
        Some(route::Action::DirectResponse(said)) => work
            .at("direct_response", |work| {
                direct_response(work, said, defaults.body_limit)
            })
            .map(Action::Respond),
        Some(route::Action::FilterAction(_)) => {
            work.wrong_at(
                "filter_action",
                "is not supported: an action that a filter supplies",
            );
            None
        }
        Some(route::Action::NonForwardingAction(_)) => {
            work.wrong_at(
                "non_forwarding_action",
                "is not supported: routes of a gRPC server",
            );
            None
        }
        None => {
            work.wrong("expected one of route, redirect, direct_response; found none");
            None
        }
    }
}

fn direct_response(
    work: &mut Work<'_, '_>,
    said: &api::DirectResponseAction,
    limit: u32,
) -> Option<DirectResponse> {
    work.review(said);
    let status = u16::try_from(said.status)
        .ok()
        .filter(|status| (200..600).contains(status));
    if status.is_none() {
        work.wrong_at("status", format!("expected 200 to 599, found {}", said.status));
    }
    let body = match &said.body {
        Some(source) => work.at("body", |work| data_source::bytes(work, source, None)),
        None => Some(Vec::new()),
    };
    let (status, body) = (StatusCode::from_u16(status?).ok()?, body?);
    if body.len() > limit as usize {
        work.wrong_at(
            "body",
            format!("response body size is {} bytes; maximum is {limit}", body.len()),
        );
    }
    let format = match &said.body_format {
        Some(said) => Some(Arc::new(local_reply::body_format(work, "body_format", said)?)),
        None => None,
    };
    Some(DirectResponse {
        status,
        body: Bytes::from(body),
        format,
    })
}

fn redirect(
    work: &mut Work<'_, '_>,
    said: &api::RedirectAction,
    criteria: Option<&RouteMatch>,
) -> Option<Redirect> {
    use redirect_action::{PathRewriteSpecifier, RedirectResponseCode, SchemeRewriteSpecifier};
    let some = |text: &str| (!text.is_empty()).then(|| Box::from(text));
    let scheme = match &said.scheme_rewrite_specifier {
        Some(SchemeRewriteSpecifier::HttpsRedirect(true)) => some("https"),
        Some(SchemeRewriteSpecifier::SchemeRedirect(scheme)) => some(scheme),
        Some(SchemeRewriteSpecifier::HttpsRedirect(false)) | None => None,
    };
    let path = match &said.path_rewrite_specifier {
        None => Some(RedirectPath::Keep),
        Some(PathRewriteSpecifier::PathRedirect(path)) => {
            Some(some(path).map_or(RedirectPath::Keep, RedirectPath::Whole))
        }
        Some(PathRewriteSpecifier::PrefixRewrite(prefix)) => {
            if template_of(criteria).is_some() {
                work.wrong("Cannot use redirect.prefix_rewrite with path_match_policy");
            }
            Some(RedirectPath::Prefix(prefix.as_str().into()))
        }
        Some(PathRewriteSpecifier::RegexRewrite(rewrite)) => {
            matcher::substitution(work, "regex_rewrite", rewrite)
                .map(|(regex, substitution)| RedirectPath::Regex(regex, substitution))
        }
        Some(PathRewriteSpecifier::PathRewrite(said)) => format(work, "path_rewrite", said, true)
            .map(|format| format.map_or(RedirectPath::Keep, RedirectPath::Format)),
    };
    let status = match value::known(work, "response_code", said.response_code)? {
        RedirectResponseCode::MovedPermanently => StatusCode::MOVED_PERMANENTLY,
        RedirectResponseCode::Found => StatusCode::FOUND,
        RedirectResponseCode::SeeOther => StatusCode::SEE_OTHER,
        RedirectResponseCode::TemporaryRedirect => StatusCode::TEMPORARY_REDIRECT,
        RedirectResponseCode::PermanentRedirect => StatusCode::PERMANENT_REDIRECT,
    };
    let port = value::port(work, "port_redirect", said.port_redirect)?;
    value::header_value(work, "host_redirect", said.host_redirect.as_bytes())?;
    Some(Redirect {
        scheme,
        host: some(&said.host_redirect),
        port: (port != 0).then_some(port),
        path: path?,
        status,
        strip_query: said.strip_query,
    })
}

fn forward(
    work: &mut Work<'_, '_>,
    said: &api::RouteAction,
    criteria: Option<&RouteMatch>,
    defaults: &Defaults,
) -> Option<Forward> {
    use route_action::ClusterNotFoundResponseCode as NotFound;
    work.review(said);
    let labels = subsets::wanted(said.metadata_match.as_ref());
    let cluster = cluster_choice(work, said, labels.as_ref());
    let path = path_rewrite(work, said, criteria);
    let host = host_rewrite(work, said);
    let not_found = match value::known(
        work,
        "cluster_not_found_response_code",
        said.cluster_not_found_response_code,
    )? {
        NotFound::ServiceUnavailable => StatusCode::SERVICE_UNAVAILABLE,
        NotFound::NotFound => StatusCode::NOT_FOUND,
        NotFound::InternalServerError => StatusCode::INTERNAL_SERVER_ERROR,
    };
    let timeout = value::limit_or(work, "timeout", said.timeout.as_ref(), TIMEOUT);
    let idle_timeout = said
        .idle_timeout
        .is_some()
        .then(|| value::limit(work, "idle_timeout", said.idle_timeout.as_ref()));
    let stream_duration = stream_duration(work, said);
    let hash_policies = work.each("hash_policy", &said.hash_policy, hash_policy);
    let upgrades = work.each("upgrade_configs", &said.upgrade_configs, upgrade);
    let mirrors = match said.request_mirror_policies.as_slice() {
        [] => Arc::clone(&defaults.mirrors),
        own => mirror::policies(work, own),
    };
    let hedge_on_per_try_timeout = match &said.hedge_policy {
        Some(said) => work.at("hedge_policy", |work| retry::hedges(work, said)),
        None => defaults.hedge_on_per_try_timeout,
    };
    let rare = Rare {
        mirrors,
        fallback: None,
        hedge_on_per_try_timeout,
        connect: connect_end(work, &said.upgrade_configs),
        internal_redirect: internal_redirect::policy(work, said),
    };
    let retry = match &said.retry_policy {
        Some(said) => Some(work.at("retry_policy", |work| retry::policy(work, said))?),
        None => defaults.retry.clone(),
    };
    Some(Forward {
        cluster: cluster?,
        cluster_not_found: not_found,
        path: path?,
        host: host?,
        append_x_forwarded_host: said.append_x_forwarded_host,
        priority: breakers::priority(work, said.priority).unwrap_or_default(),
        timeout,
        timeout_said: said.timeout.is_some(),
        idle_timeout,
        stream_duration: stream_duration.map(Box::new),
        endpoint: endpoint_choice(hash_policies, labels),
        upgrades,
        retry,
        buffer_limit: defaults.buffer_limit,
        rare: (!rare.is_empty()).then(|| Box::new(rare)),
    })
}

fn endpoint_choice(hash_policies: Vec<HashPolicy>, labels: Option<Labels>) -> Option<Box<EndpointChoice>> {
    let said = !hash_policies.is_empty() || labels.is_some();
    said.then(|| {
        Box::new(EndpointChoice {
            hash_policies,
            labels,
        })
    })
}

fn cluster_choice(
    work: &mut Work<'_, '_>,
    said: &api::RouteAction,
    labels: Option<&Labels>,
) -> Option<ClusterChoice> {
    use route_action::ClusterSpecifier;
    match &said.cluster_specifier {
        Some(ClusterSpecifier::Cluster(name)) => {
            let name = value::required(work, "cluster", name)?;
            Some(ClusterChoice::One(work.routed_cluster("cluster", name)))
        }
        Some(ClusterSpecifier::ClusterHeader(name)) => {
            value::header_name(work, "cluster_header", name).map(ClusterChoice::Header)
        }
        Some(ClusterSpecifier::WeightedClusters(clusters)) => work
            .at("weighted_clusters", |work| weighted(work, clusters, labels))
            .map(|clusters| ClusterChoice::Weighted(Arc::new(clusters))),
        Some(
            ClusterSpecifier::ClusterSpecifierPlugin(_) | ClusterSpecifier::InlineClusterSpecifierPlugin(_),
        ) => {
            work.wrong("is not supported: clusters chosen by a plug-in");
            None
        }
        None => {
            work.wrong("expected one of cluster, cluster_header, weighted_clusters; found none");
            None
        }
    }
}

fn weighted(
    work: &mut Work<'_, '_>,
    said: &api::WeightedCluster,
    labels: Option<&Labels>,
) -> Option<WeightedClusters> {
    work.review(said);
    if said.clusters.is_empty() {
        work.wrong_at("clusters", "expected at least one cluster, found none");
        return None;
    }
    let entries = work.each("clusters", &said.clusters, |work, said| {
        weighted_entry(work, said, labels)
    });
    let total: u64 = entries.iter().map(|entry| u64::from(entry.weight)).sum();
    if total == 0 && entries.len() == said.clusters.len() {
        work.wrong("Sum of weights in the weighted_cluster must be greater than 0.");
    }
    let Ok(total) = u32::try_from(total) else {
        work.wrong("The sum of weights of all weighted clusters exceeds 4294967295");
        return None;
    };
    Some(WeightedClusters {
        entries,
        total: total.max(1),
    })
}

fn weighted_entry(
    work: &mut Work<'_, '_>,
    said: &weighted_cluster::ClusterWeight,
    labels: Option<&Labels>,
) -> Option<WeightedCluster> {
    use weighted_cluster::cluster_weight::HostRewriteSpecifier;
    work.review(said);
    let filters = filter::per_route(work, &said.typed_per_filter_config);
    let headers = header_mutation::pair(work, &header_lists!(said));
    let host_rewrite = match &said.host_rewrite_specifier {
        Some(HostRewriteSpecifier::HostRewriteLiteral(host)) => Some(value::header_value(
            work,
            "host_rewrite_literal",
            host.as_bytes(),
        )?),
        None => None,
    };
    let Some(weight) = &said.weight else {
        work.wrong_at("weight", "expected a weight, found none");
        return None;
    };
    let name = value::required(work, "name", &said.name)?;
    Some(WeightedCluster {
        cluster: work.routed_cluster("weighted cluster", name),
        weight: weight.value,
        host_rewrite,
        headers,
        filters,
        labels: subsets::wanted(said.metadata_match.as_ref())
            .map(|own| Box::new(labels.map_or_else(|| own.clone(), |route| route.merged(&own)))),
    })
}

fn path_rewrite(
    work: &mut Work<'_, '_>,
    said: &api::RouteAction,
    criteria: Option<&RouteMatch>,
) -> Option<PathRewrite> {
    let (regex, policy) = (&said.regex_rewrite, &said.path_rewrite_policy);
    match (
        said.prefix_rewrite.as_str(),
        regex,
        policy,
        said.path_rewrite.as_str(),
    ) {
        ("", None, None, text) => format(work, "path_rewrite", text, true)
            .map(|format| format.map_or(PathRewrite::Keep, PathRewrite::Format)),
        (_, None, None, "") if template_of(criteria).is_some() => {
            work.wrong("Cannot use prefix_rewrite with matcher extension");
            None
        }
        (prefix, None, None, "") => value::header_value(work, "prefix_rewrite", prefix.as_bytes())
            .map(|_| PathRewrite::Prefix(prefix.into())),
        ("", Some(rewrite), None, "") => matcher::substitution(work, "regex_rewrite", rewrite)
            .map(|rule| PathRewrite::Regex(Box::new(rule))),
        ("", None, Some(said), "") => work
            .at("path_rewrite_policy", |work| {
                uri_template::rewrite(work, said, template_of(criteria))
            })
            .map(|rewrite| PathRewrite::Template(Box::new(rewrite))),
        _ => {
            work.wrong("Specify only one of prefix_rewrite, regex_rewrite or path_rewrite_policy");
            None
        }
    }
}

/// The template by which the route is found, if it is.
fn template_of(criteria: Option<&RouteMatch>) -> Option<&UriTemplate> {
    match &criteria?.path {
        PathMatch::Template(template) => Some(template),
        _ => None,
    }
}

/// A format of the access log's language; `Some(None)` where nothing is said.
#[expect(
    clippy::option_option,
    reason = "nothing said and wrongly said are different things"
)]
fn format(work: &mut Work<'_, '_>, field: &str, said: &str, omit_empty: bool) -> Option<Option<Box<Format>>> {
    if said.is_empty() {
        return Some(None);
    }
    let pieces = access_log::pieces(work, field, said)?;
    Some(Some(Box::new(Format::Text { pieces, omit_empty })))
}

fn host_rewrite(work: &mut Work<'_, '_>, said: &api::RouteAction) -> Option<HostRewrite> {
    use route_action::HostRewriteSpecifier;
    match &said.host_rewrite_specifier {
        None => Some(HostRewrite::Keep),
        Some(HostRewriteSpecifier::HostRewriteLiteral(host)) if host.is_empty() => Some(HostRewrite::Keep),
        Some(HostRewriteSpecifier::HostRewriteLiteral(host)) => {
            value::header_value(work, "host_rewrite_literal", host.as_bytes()).map(HostRewrite::Literal)
        }
        Some(HostRewriteSpecifier::AutoHostRewrite(auto)) => Some(if auto.value {
            HostRewrite::Endpoint
        } else {
            HostRewrite::Keep
        }),
        Some(HostRewriteSpecifier::HostRewriteHeader(name)) => {
            value::header_name(work, "host_rewrite_header", name).map(HostRewrite::Header)
        }
        Some(HostRewriteSpecifier::HostRewritePathRegex(rewrite)) => {
            matcher::substitution(work, "host_rewrite_path_regex", rewrite)
                .map(|rule| HostRewrite::PathRegex(Box::new(rule)))
        }
        Some(HostRewriteSpecifier::HostRewrite(said)) => format(work, "host_rewrite", said, false)
            .map(|format| format.map_or(HostRewrite::Keep, HostRewrite::Format)),
    }
}

/// `max_stream_duration`, and the deprecated `max_grpc_timeout` and `grpc_timeout_offset` in its terms.
fn stream_duration(work: &mut Work<'_, '_>, said: &api::RouteAction) -> Option<StreamDuration> {
    if let Some(said) = &said.max_stream_duration {
        return work.at("max_stream_duration", |work| {
            let offset = said.grpc_timeout_header_offset.as_ref();
            Some(StreamDuration {
                max: value::limit(work, "max_stream_duration", said.max_stream_duration.as_ref()),
                grpc_timeout_max: value::duration(
                    work,
                    "grpc_timeout_header_max",
                    said.grpc_timeout_header_max.as_ref(),
                ),
                grpc_timeout_offset: value::duration(work, "grpc_timeout_header_offset", offset)
                    .unwrap_or_default(),
            })
        });
    }
    let max = value::duration(work, "max_grpc_timeout", said.max_grpc_timeout.as_ref())?;
    let offset = value::duration(work, "grpc_timeout_offset", said.grpc_timeout_offset.as_ref());
    Some(StreamDuration {
        max: None,
        grpc_timeout_max: Some(max),
        grpc_timeout_offset: offset.unwrap_or_default(),
    })
}

pub(crate) fn hash_policy(work: &mut Work<'_, '_>, said: &route_action::HashPolicy) -> Option<HashPolicy> {
    use route_action::hash_policy::PolicySpecifier;
    let source = match &said.policy_specifier {
        Some(PolicySpecifier::Header(header)) => {
            let name = value::header_name(work, "header.header_name", &header.header_name);
            match &header.regex_rewrite {
                None => name.map(HashSource::Header),
                Some(said) => {
                    let (regex, substitution) = matcher::substitution(work, "header.regex_rewrite", said)?;
                    Some(HashSource::RewrittenHeader(Box::new(HeaderRewrite {
                        name: name?,
                        regex,
                        substitution,
                    })))
                }
            }
        }
        Some(PolicySpecifier::Cookie(cookie)) => {
            if !cookie.attributes.is_empty() {
                work.ignored("RouteAction.HashPolicy.Cookie.attributes");
            }
            let name = value::required(work, "cookie.name", &cookie.name)?;
            let ttl = value::duration(work, "cookie.ttl", cookie.ttl.as_ref());
            Some(HashSource::Cookie {
                name: name.into(),
                ttl,
                path: cookie.path.as_str().into(),
            })
        }
        Some(PolicySpecifier::ConnectionProperties(properties)) if properties.source_ip => {
            Some(HashSource::SourceAddress)
        }
        Some(PolicySpecifier::ConnectionProperties(_)) => return None,
        Some(PolicySpecifier::QueryParameter(query)) => {
            value::required(work, "query_parameter.name", &query.name)
                .map(|name| HashSource::Query(name.into()))
        }
        Some(PolicySpecifier::FilterState(state)) => {
            value::required(work, "filter_state.key", &state.key).map(|key| HashSource::State(key.into()))
        }
        None => {
            let kinds = "header, cookie, connection_properties, query_parameter, filter_state";
            work.wrong(format!("expected one of {kinds}; found none"));
            None
        }
    };
    Some(HashPolicy {
        source: source?,
        terminal: said.terminal,
    })
}

/// Whether CONNECT requests end here: the last upgrade that says so.
fn connect_end(work: &mut Work<'_, '_>, said: &[route_action::UpgradeConfig]) -> Option<ConnectEnd> {
    let index = said.iter().rposition(|said| said.connect_config.is_some())?;
    let said = said.get(index)?.connect_config.as_ref()?;
    let header = said.proxy_protocol_config.as_ref();
    let field = format!("upgrade_configs[{index}].connect_config.proxy_protocol_config");
    Some(ConnectEnd {
        post: said.allow_post,
        header: match header {
            Some(_) => Some(work.at(&field, |work| proxy_protocol::header(work, header))?),
            None => None,
        },
    })
}

fn upgrade(work: &mut Work<'_, '_>, said: &route_action::UpgradeConfig) -> Option<(Box<str>, bool)> {
    if said.connect_config.is_some() && !said.upgrade_type.eq_ignore_ascii_case("connect") {
        let kind = &said.upgrade_type;
        work.wrong_at(
            "connect_config",
            format!("Non-CONNECT upgrade type {kind} has ConnectConfig"),
        );
    }
    let kind = value::required(work, "upgrade_type", &said.upgrade_type)?;
    Some((
        kind.to_ascii_lowercase().into(),
        value::bool_or(said.enabled.as_ref(), true),
    ))
}
