//! `RouteMatch`: when a route is taken.

use remora_model::matching::Pattern;
use remora_model::metadata::NotedMatch;
use remora_model::route::{ClientMatch, CookieMatch, PathMatch, RouteMatch};

use crate::context::Work;
use crate::pb::envoy::config::route::v3::{self as api, route_match::PathSpecifier};
use crate::{matcher, metadata, uri_template, value};

/// Longest name of a cookie in a matcher, bytes (the rule of its message).
const LONGEST_COOKIE_NAME: usize = 1024;

pub(crate) fn criteria(work: &mut Work<'_, '_>, said: &api::RouteMatch) -> Option<RouteMatch> {
    work.review(said);
    let path = path(work, said);
    let fraction = said
        .runtime_fraction
        .as_ref()
        .map(|fraction| match &fraction.default_value {
            Some(default) => value::per_million(work, "runtime_fraction.default_value.denominator", default),
            None => {
                work.wrong_at(
                    "runtime_fraction.default_value",
                    "expected a fraction, found none",
                );
                None
            }
        });
    Some(RouteMatch {
        headers: work.each("headers", &said.headers, matcher::header),
        query: work.each("query_parameters", &said.query_parameters, matcher::query),
        path: path?,
        grpc: said.grpc.is_some(),
        fraction_per_million: match fraction {
            Some(fraction) => Some(fraction?),
            None => None,
        },
        noted: noted(work, said),
        client: client(work, said),
    })
}

/// Conditions on cookies and the certificate.
fn client(work: &mut Work<'_, '_>, said: &api::RouteMatch) -> Option<Box<ClientMatch>> {
    let certificate = said.tls_context.as_ref();
    let client = ClientMatch {
        cookies: work.each("cookies", &said.cookies, cookie),
        presented: certificate.and_then(|said| Some(said.presented?.value)),
        validated: certificate.and_then(|said| Some(said.validated?.value)),
    };
    (!client.is_empty()).then(|| Box::new(client))
}

fn cookie(work: &mut Work<'_, '_>, said: &api::CookieMatcher) -> Option<CookieMatch> {
    let name = value::required(work, "name", &said.name)?;
    if name.len() > LONGEST_COOKIE_NAME {
        work.wrong_at(
            "name",
            format!(
                "expected at most {LONGEST_COOKIE_NAME} bytes, found {}",
                name.len()
            ),
        );
    }
    let Some(value) = &said.string_match else {
        work.wrong_at("string_match", "expected a matcher, found none");
        return None;
    };
    Some(CookieMatch {
        name: name.into(),
        value: work.at("string_match", |work| matcher::string(work, value))?,
        invert: said.invert_match,
    })
}

/// What filters must have noted, if anything.
fn noted(work: &mut Work<'_, '_>, said: &api::RouteMatch) -> Option<Box<NotedMatch>> {
    if said.dynamic_metadata.is_empty() && said.filter_state.is_empty() {
        return None;
    }
    Some(Box::new(NotedMatch {
        metadata: work
            .each("dynamic_metadata", &said.dynamic_metadata, metadata::matcher)
            .into(),
        state: work
            .each("filter_state", &said.filter_state, metadata::state_matcher)
            .into(),
    }))
}

fn path(work: &mut Work<'_, '_>, said: &api::RouteMatch) -> Option<PathMatch> {
    let ignore_case = !value::bool_or(said.case_sensitive.as_ref(), true);
    let pattern = |literal: &str| Pattern::new(literal, ignore_case);
    match &said.path_specifier {
        Some(PathSpecifier::Prefix(prefix)) => Some(PathMatch::Prefix(pattern(prefix))),
        Some(PathSpecifier::Path(path)) => Some(PathMatch::Exact(pattern(path))),
        Some(PathSpecifier::SafeRegex(expression)) => {
            matcher::regex(work, "safe_regex", expression).map(PathMatch::Regex)
        }
        Some(PathSpecifier::PathSeparatedPrefix(prefix)) => {
            if prefix.len() < 2 || prefix.ends_with('/') || prefix.contains(['?', '#']) {
                let rule = "expected a path without '?' and '#' that does not end with '/'";
                work.wrong_at("path_separated_prefix", format!("{rule}, found '{prefix}'"));
                return None;
            }
            Some(PathMatch::SeparatedPrefix(pattern(prefix)))
        }
        Some(PathSpecifier::ConnectMatcher(_)) => Some(PathMatch::Connect),
        Some(PathSpecifier::PathMatchPolicy(said)) => work
            .at("path_match_policy", |work| uri_template::matching(work, said))
            .map(|template| PathMatch::Template(Box::new(template))),
        None => {
            let kinds = "prefix, path, safe_regex, connect_matcher, path_separated_prefix, path_match_policy";
            work.wrong(format!("expected one of {kinds}; found none"));
            None
        }
    }
}
