//! What few HTTP connection managers say: replies of our own, what we say of ourselves.

use http::uri::Scheme;
use remora_model::listener::{ProxyName, ProxyStatus, RareManager};

use crate::context::Work;
use crate::extension::Extension;
use crate::pb::envoy::config::core::v3::scheme_header_transformation::Transformation;
use crate::pb::envoy::extensions::filters::http::router::v3::Router;
use crate::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    self as api, http_connection_manager as inner, http_filter::ConfigType,
};
use crate::{filter, local_reply, value};

pub(crate) fn translate(
    work: &mut Work<'_, '_>,
    said: &api::HttpConnectionManager,
) -> Option<Box<RareManager>> {
    let local_replies = said.local_reply_config.as_ref();
    let status = said.proxy_status_config.as_ref();
    let rare = RareManager {
        local_replies: local_replies
            .and_then(|said| work.at("local_reply_config", |work| local_reply::replies(work, said))),
        append_x_forwarded_port: said.append_x_forwarded_port,
        add_user_agent: value::bool_or(said.add_user_agent.as_ref(), false),
        scheme: scheme(work, said),
        proxy_status: status.and_then(|said| work.at("proxy_status_config", |work| proxy_status(work, said))),
        suppress_envoy_headers: said.http_filters.iter().any(suppresses),
    };
    (!rare.is_empty()).then(|| Box::new(rare))
}

fn scheme(work: &mut Work<'_, '_>, said: &api::HttpConnectionManager) -> Option<Scheme> {
    let said = said.scheme_header_transformation.as_ref()?;
    let Transformation::SchemeToOverwrite(scheme) = said.transformation.as_ref()?;
    match scheme.as_str() {
        "http" => Some(Scheme::HTTP),
        "https" => Some(Scheme::HTTPS),
        other => {
            let field = "scheme_header_transformation.scheme_to_overwrite";
            work.wrong_at(
                field,
                format!("value must be in list [http https], found '{other}'"),
            );
            None
        }
    }
}

fn proxy_status(work: &mut Work<'_, '_>, said: &inner::ProxyStatusConfig) -> Option<ProxyStatus> {
    use inner::proxy_status_config::ProxyName as Said;
    let name = match &said.proxy_name {
        Some(Said::LiteralProxyName(name)) => {
            value::header_value(work, "literal_proxy_name", name.as_bytes())?;
            ProxyName::Literal(name.as_str().into())
        }
        Some(Said::UseNodeId(_)) => ProxyName::Node,
        None => ProxyName::Server,
    };
    Some(ProxyStatus {
        name,
        details: !said.remove_details,
        flags: !said.remove_response_flags,
        recommended_status: said.set_recommended_response_code,
    })
}

/// Whether the filter is a router that says nothing of itself.
fn suppresses(said: &api::HttpFilter) -> bool {
    let Some(ConfigType::TypedConfig(any)) = &said.config_type else {
        return false;
    };
    let extension = Extension::open(any);
    let router = extension.kind == filter::ROUTER;
    router
        && extension
            .peek::<Router>()
            .is_some_and(|router| router.suppress_envoy_headers)
}
