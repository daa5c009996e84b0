//! `envoy.filters.http.stateful_session`, of a chain and of a route.

use std::sync::Arc;

use http::StatusCode;
use remora_model::filter::{RouteFilter, SessionCookie, SessionState, StatefulSession};

use crate::context::Work;
use crate::extension::{Extension, unknown};
use crate::pb::envoy::config::core::v3::TypedExtensionConfig;
use crate::pb::envoy::extensions::filters::http::stateful_session::v3::{
    self as api, stateful_session_per_route,
};
use crate::pb::envoy::extensions::http::stateful_session::{cookie, header};
use crate::value;

pub(super) const KIND: &str = "envoy.extensions.filters.http.stateful_session.v3.StatefulSession";
pub(super) const PER_ROUTE: &str =
    "envoy.extensions.filters.http.stateful_session.v3.StatefulSessionPerRoute";
const STATES: &str = "envoy.extensions.http.stateful_session.";

pub(super) fn translate(work: &mut Work<'_, '_>, extension: &Extension<'_>) -> Option<Arc<StatefulSession>> {
    let said: api::StatefulSession = extension.decode(work)?;
    settings(work, &said)
}

pub(super) fn per_route(work: &mut Work<'_, '_>, extension: &Extension<'_>) -> Option<RouteFilter> {
    use stateful_session_per_route::Override;
    let said: api::StatefulSessionPerRoute = extension.decode(work)?;
    match &said.r#override {
        Some(Override::Disabled(true)) => Some(RouteFilter::Disabled),
        Some(Override::Disabled(false)) => {
            work.wrong_at("disabled", "expected true, found false");
            None
        }
        Some(Override::StatefulSession(said)) => work
            .at("stateful_session", |work| settings(work, said))
            .map(RouteFilter::StatefulSession),
        None => {
            work.wrong("expected one of disabled, stateful_session; found none");
            None
        }
    }
}

fn settings(work: &mut Work<'_, '_>, said: &api::StatefulSession) -> Option<Arc<StatefulSession>> {
    work.review(said);
    let state = match &said.session_state {
        Some(said) => Some(work.at("session_state", |work| state(work, said))?),
        None => None,
    };
    let status = match said.status_on_strict_destination_not_found {
        0 => Some(StatusCode::SERVICE_UNAVAILABLE),
        said => u16::try_from(said)
            .ok()
            .and_then(|status| StatusCode::from_u16(status).ok())
            .filter(|status| (200..600).contains(&status.as_u16())),
    };
    if status.is_none() {
        let found = said.status_on_strict_destination_not_found;
        work.wrong_at(
            "status_on_strict_destination_not_found",
            format!("expected 200 to 599, found {found}"),
        );
    }
    Some(Arc::new(StatefulSession {
        state,
        strict: said.strict,
        not_found: status?,
    }))
}

fn state(work: &mut Work<'_, '_>, said: &TypedExtensionConfig) -> Option<SessionState> {
    let Some(any) = &said.typed_config else {
        work.wrong(unknown(&said.name, ""));
        return None;
    };
    let extension = Extension::open(any);
    match extension.kind.strip_prefix(STATES) {
        Some("cookie.v3.CookieBasedSessionState") => {
            let said: cookie::v3::CookieBasedSessionState = extension.decode(work)?;
            let Some(said) = &said.cookie else {
                work.wrong_at("cookie", "expected a cookie, found none");
                return None;
            };
            work.at("cookie", |work| {
                let name = value::required(work, "name", &said.name)?;
                let attributes = said.attributes.iter();
                Some(SessionState::Cookie(SessionCookie {
                    name: name.into(),
                    ttl: value::limit(work, "ttl", said.ttl.as_ref()),
                    path: said.path.as_str().into(),
                    attributes: attributes
                        .map(|said| (said.name.as_str().into(), said.value.as_str().into()))
                        .collect(),
                }))
            })
        }
        Some("header.v3.HeaderBasedSessionState") => {
            let said: header::v3::HeaderBasedSessionState = extension.decode(work)?;
            value::header_name(work, "name", &said.name).map(SessionState::Header)
        }
        Some(_) => {
            work.wrong(format!(
                "is not supported: session state of type {}",
                extension.kind
            ));
            None
        }
        None => {
            work.wrong(unknown(&said.name, &extension.kind));
            None
        }
    }
}
