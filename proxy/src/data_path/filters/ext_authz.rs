//! Asks an authorization service (`envoy.filters.http.ext_authz`), and does what it says.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, StatusCode, header};
use remora_model::filter::{
    AskedBody, Authorization, BufferFilter, ExternalAuthorization, Granted, HeaderOperation, Refused,
    RouteAuthorization, RouteFilter,
};
use remora_model::route::{Decision, HeaderTemplate, HeaderValueTemplate};

use super::OnResponse;
use crate::data_path::ask::{Unanswered, Unary};
use crate::data_path::forward::Cut;
use crate::data_path::request::{Exchange, facts};
use crate::exchange::{BodyLength, Downstream, RequestHead};
use crate::failure::{Denial, Failure};
use crate::services::{self, Question, Side};
use crate::tls::PeerCertificate;

const SERVICE: HeaderName = HeaderName::from_static("x-envoy-downstream-service-cluster");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const FAILED: HeaderName = HeaderName::from_static("x-envoy-auth-failure-mode-allowed");
const PARTIAL: &str = "x-envoy-auth-partial-body";

/// Where its dynamic metadata is noted.
const NAMESPACE: &str = "envoy.filters.http.ext_authz";
const FLAG: &str = "UAEX";

impl<D: Downstream> Exchange<'_, D> {
    /// Asks whether the request may go on.
    ///
    /// # Errors
    /// It may not, or nobody can say and that is a reason to refuse it.
    pub(super) async fn ask_authorization(
        &mut self,
        own: &Arc<ExternalAuthorization>,
        name: &str,
        decision: Option<&Decision<'_>>,
        head: &mut RequestHead,
    ) -> Result<(), Cut> {
        if decision.is_none() {
            return Ok(());
        }
        let noted = self.record.metadata.as_deref();
        if !self.context.worker.with_rng(|rng| own.is_enabled(noted, rng)) {
            if own.denies_disabled {
                return Err(error(own, "the filter is disabled").into());
            }
            return Ok(());
        }
        let said = super::said(decision, name).find_map(|said| match said {
            RouteFilter::ExternalAuthorization(said) => Some(&**said),
            _ => None,
        });
        let body = own.body(said);
        if let Some(body) = body {
            let within = BufferFilter {
                max_request_bytes: body.longest,
            };
            self.collect(&within, head).await?;
        }
        let message = self.question(own, said, body, head);
        let wanted = Unary {
            service: &own.service,
            path: services::CHECK,
            message,
            limit: own.timeout,
        };
        let answer = self.asked(wanted, head, services::authorization).await?;
        self.obey(own, answer, head)
    }

    /// What the service is asked, as bytes.
    fn question(
        &self,
        own: &ExternalAuthorization,
        said: Option<&RouteAuthorization>,
        body: Option<AskedBody>,
        head: &RequestHead,
    ) -> Vec<u8> {
        let connection = &*self.record.connection;
        let session = connection.tls.as_ref();
        let peer = session.and_then(|session| session.peer.as_deref());
        let text = |name: &HeaderName| head.headers.get(name).and_then(|value| value.to_str().ok());
        let seen = facts(head, &self.record);
        let whole = body.filter(|_| head.body != BodyLength::None).map(|body| {
            let held = self.request_stages.as_ref().map(|stages| stages.held());
            (held.unwrap_or_default(), body.as_bytes)
        });
        let noted = self.record.metadata.as_deref();
        let namespaces = own.namespaces.iter();
        let age = self.record.started.elapsed();
        let began = SystemTime::now().checked_sub(age).unwrap_or(UNIX_EPOCH);
        services::check_request(Question {
            source: Side {
                address: Some(self.record.client),
                service: text(&SERVICE).unwrap_or_default(),
                principal: peer.map_or("", principal),
                certificate: peer
                    .filter(|_| own.tells_certificate)
                    .map(PeerCertificate::url_encoded_pem)
                    .unwrap_or_default(),
            },
            destination: Side {
                address: Some(connection.local),
                principal: session
                    .and_then(|session| session.own.as_deref())
                    .map_or("", principal),
                ..Side::default()
            },
            time: began.duration_since(UNIX_EPOCH).unwrap_or_default(),
            id: text(&REQUEST_ID).unwrap_or_default(),
            method: seen.method.as_str(),
            path: seen.path_and_query,
            host: seen.authority,
            scheme: seen.scheme,
            protocol: protocol(head.version),
            headers: told(own, &seen, whole.is_some()),
            size: i64::try_from(whole.as_ref().map_or(0, |(body, _)| body.len())).unwrap_or(0),
            body: whole,
            extensions: said.map_or(&[], |said| &said.extensions),
            metadata: namespaces
                .filter_map(|name| Some((&**name, noted?.of(name)?)))
                .collect(),
            server_name: connection.server_name.as_deref().filter(|_| own.tells_session),
        })
    }

    /// Carries out the answer.
    fn obey(
        &mut self,
        own: &ExternalAuthorization,
        answer: Result<Authorization, Unanswered>,
        head: &mut RequestHead,
    ) -> Result<(), Cut> {
        let cluster = self.cluster_config(head);
        let worker = &self.context.worker;
        let cells = cluster.map(|cluster| {
            worker
                .counters
                .service(&cluster.stat_name, "ext_authz", &own.stat_prefix)
        });
        let cells = cells.unwrap_or_default();
        match answer {
            Err(why) => {
                cells.authorization.error.one();
                tracing::debug!(%why, "the authorization service gave no answer");
                if !own.failure_allows {
                    return Err(error(own, &why.to_string()).into());
                }
                cells.authorization.failure_mode_allowed.one();
                if own.tells_failure {
                    head.headers.insert(FAILED, HeaderValue::from_static("true"));
                }
                Ok(())
            }
            Ok(answer) if own.validates && answer.is_invalid() => {
                cells.authorization.invalid.one();
                Err(invalid().into())
            }
            Ok(Authorization::Denied(refused)) => {
                cells.authorization.denied.one();
                Err(self.denied(own, *refused).into())
            }
            Ok(Authorization::Granted(granted)) => {
                cells.authorization.ok.one();
                self.granted(own, *granted, head)
            }
        }
    }

    /// The request goes on as the service changed it.
    fn granted(
        &mut self,
        own: &ExternalAuthorization,
        granted: Granted,
        head: &mut RequestHead,
    ) -> Result<(), Cut> {
        let changed = granted.path(head.path.as_str()).map(PathAndQuery::try_from);
        match changed {
            Some(Ok(path)) => head.path = path,
            Some(Err(_)) if own.validates => return Err(invalid().into()),
            Some(Err(_)) | None => {}
        }
        granted.apply(&mut head.headers);
        if own.takes_metadata && !granted.metadata.is_empty() {
            self.record.note(NAMESPACE, granted.metadata.clone());
        }
        if own.clear_route_cache && granted.changes_request() {
            self.choose_again(head)?;
        }
        if !granted.response.is_empty() {
            let operations = granted.response.into_iter().map(|(name, value, action)| {
                HeaderOperation::Set(HeaderTemplate {
                    name,
                    value: HeaderValueTemplate::Constant(value),
                    action,
                    keep_empty: true,
                })
            });
            self.on_response.push(OnResponse::Mutate(operations.collect()));
        }
        Ok(())
    }

    /// The refusal.
    fn denied(&mut self, own: &ExternalAuthorization, refused: Refused) -> Failure {
        if own.takes_metadata && !refused.metadata.is_empty() {
            self.record.note(NAMESPACE, refused.metadata);
        }
        let denial = Denial {
            flag: FLAG,
            headers: refused.headers,
            raw: Some(refused.body),
            ..Denial::new(refused.status, "ext_authz_denied", "")
        };
        denial.into()
    }
}

/// Nobody can say, and that is a reason to refuse.
fn error(own: &ExternalAuthorization, why: &str) -> Failure {
    let denial = Denial {
        flag: FLAG,
        because: Some(why.to_owned()),
        ..Denial::new(own.status_on_error, "ext_authz_error", "")
    };
    denial.into()
}

/// The answer has something that cannot stand in a message.
fn invalid() -> Failure {
    let denial = Denial {
        flag: FLAG,
        ..Denial::new(StatusCode::INTERNAL_SERVER_ERROR, "ext_authz_invalid", "")
    };
    denial.into()
}

/// Whom a certificate names: a URI, else a DNS name, else its subject.
fn principal(certificate: &PeerCertificate) -> &str {
    let named = certificate
        .uri_sans()
        .next()
        .or_else(|| certificate.dns_sans().next());
    named.unwrap_or_else(|| certificate.subject())
}

fn protocol(version: http::Version) -> &'static str {
    match version {
        http::Version::HTTP_10 => "HTTP/1.0",
        http::Version::HTTP_2 => "HTTP/2",
        _ => "HTTP/1.1",
    }
}

/// The headers that the service is told, pseudo-headers too; several values of a name are joined by commas.
fn told<'a>(
    own: &ExternalAuthorization,
    seen: &remora_model::route::RequestFacts<'a>,
    with_body: bool,
) -> Vec<(&'a str, String)> {
    let pseudo = [
        (":authority", seen.authority),
        (":method", seen.method.as_str()),
        (":path", seen.path_and_query),
        (":scheme", seen.scheme),
    ];
    let mut all: Vec<(&str, String)> = pseudo
        .into_iter()
        .filter(|(name, _)| own.tells(name))
        .map(|(name, value)| (name, value.to_owned()))
        .collect();
    for name in seen.headers.keys().filter(|name| own.tells(name.as_str())) {
        // Its length is that of what the client sent, and the service reads the body beside it.
        debug_assert!(*name != header::HOST, "the host is the authority");
        let values = seen.headers.get_all(name).iter();
        let values: Vec<_> = values
            .map(|value| String::from_utf8_lossy(value.as_bytes()))
            .collect();
        all.push((name.as_str(), values.join(",")));
    }
    if with_body {
        all.push((PARTIAL, "false".to_owned()));
    }
    all
}
