//! `internal_redirect_policy` of a route, and the deprecated `internal_redirect_action` in its terms.

use http::StatusCode;
use remora_model::route::{InternalRedirect, RedirectPredicate};

use crate::context::Work;
use crate::extension::Extension;
use crate::pb::envoy::config::core::v3::TypedExtensionConfig;
use crate::pb::envoy::config::route::v3::{self as api, route_action::InternalRedirectAction};
use crate::pb::envoy::extensions::internal_redirect::allow_listed_routes::v3::AllowListedRoutesConfig;
use crate::value;

const PREVIOUS_ROUTES: &str = "envoy.extensions.internal_redirect.previous_routes.v3.PreviousRoutesConfig";
const ALLOW_LISTED: &str =
    "envoy.extensions.internal_redirect.allow_listed_routes.v3.AllowListedRoutesConfig";
const SAFE_CROSS_SCHEME: &str =
    "envoy.extensions.internal_redirect.safe_cross_scheme.v3.SafeCrossSchemeConfig";
/// What a policy may speak of; other codes are left out, as in Envoy.
const CODES: [u32; 5] = [301, 302, 303, 307, 308];

pub(crate) fn policy(work: &mut Work<'_, '_>, said: &api::RouteAction) -> Option<InternalRedirect> {
    if let Some(said) = &said.internal_redirect_policy {
        return work.at("internal_redirect_policy", |work| Some(read(work, said)));
    }
    #[expect(deprecated, reason = "control planes may still send it")]
    let (action, max) = (said.internal_redirect_action, &said.max_internal_redirects);
    let action: InternalRedirectAction = value::known(work, "internal_redirect_action", action)?;
    (action == InternalRedirectAction::HandleInternalRedirect).then(|| InternalRedirect {
        max: max.as_ref().map_or(1, |max| max.value),
        codes: vec![StatusCode::FOUND],
        predicates: Vec::new(),
        cross_scheme: false,
        copied: Vec::new(),
    })
}

fn read(work: &mut Work<'_, '_>, said: &api::InternalRedirectPolicy) -> InternalRedirect {
    let known = said
        .redirect_response_codes
        .iter()
        .filter(|code| CODES.contains(code));
    let codes = known.filter_map(|code| StatusCode::from_u16(u16::try_from(*code).ok()?).ok());
    let mut codes: Vec<StatusCode> = codes.collect();
    if said.redirect_response_codes.is_empty() {
        codes.push(StatusCode::FOUND);
    }
    InternalRedirect {
        max: said.max_internal_redirects.as_ref().map_or(1, |max| max.value),
        codes,
        predicates: work.each("predicates", &said.predicates, predicate),
        cross_scheme: said.allow_cross_scheme_redirect,
        copied: work.each(
            "response_headers_to_copy",
            &said.response_headers_to_copy,
            |work, name| {
                if name.starts_with(':') || name.eq_ignore_ascii_case("host") {
                    work.wrong(format!(
                        ":-prefixed headers or Hosts may not be specified here, found '{name}'"
                    ));
                    return None;
                }
                value::header_name(work, "", name)
            },
        ),
    }
}

fn predicate(work: &mut Work<'_, '_>, said: &TypedExtensionConfig) -> Option<RedirectPredicate> {
    let Some(any) = &said.typed_config else {
        work.wrong_at("typed_config", "expected a predicate, found none");
        return None;
    };
    let extension = Extension::open(any);
    match extension.kind.as_str() {
        PREVIOUS_ROUTES => Some(RedirectPredicate::PreviousRoutes),
        SAFE_CROSS_SCHEME => Some(RedirectPredicate::SafeCrossScheme),
        ALLOW_LISTED => {
            let said: AllowListedRoutesConfig = extension.decode(work)?;
            let names = said.allowed_route_names.iter().map(|name| name.as_str().into());
            Some(RedirectPredicate::AllowListed(names.collect()))
        }
        kind => {
            work.wrong_at(
                "typed_config",
                format!(
                    "Didn't find a registered implementation for '{}' with type URL: '{kind}'",
                    said.name
                ),
            );
            None
        }
    }
}
