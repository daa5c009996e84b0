//! Sessions that stay with their endpoint (`envoy.filters.http.stateful_session`).

use std::rc::Rc;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use remora_model::cluster::{Cluster, NotThere};
use remora_model::endpoint::{Endpoint, EndpointAddress};
use remora_model::filter::{RouteFilter, SessionState, StatefulSession};

use super::OnResponse;
use crate::data_path::request::Exchange;
use crate::exchange::{Downstream, RequestHead};
use crate::failure::{Denial, Failure};
use crate::observe::ExchangeRecord;
use crate::observe::time_text::unix_seconds;

/// The session of a request.
#[derive(Debug)]
pub struct Session {
    /// The endpoint that it belongs to, if it has one.
    pub endpoint: Option<Box<str>>,
    /// What holds for it.
    pub settings: Arc<StatefulSession>,
}

impl Session {
    /// The endpoint that the session wants; `None` where it has none, or where another will do as well.
    ///
    /// # Errors
    /// It may go to no other, and that one is not there or not to be used.
    pub fn chosen(&self, cluster: &Cluster) -> Result<Option<Arc<Endpoint>>, Failure> {
        let Some(wanted) = &self.endpoint else {
            return Ok(None);
        };
        match cluster.wanted(wanted) {
            Ok(Some(endpoint)) => Ok(Some(Arc::clone(endpoint))),
            _ if !self.settings.strict => Ok(None),
            Ok(None) => Err(Failure::NoHealthyUpstream),
            Err(NotThere) if self.settings.not_found == StatusCode::SERVICE_UNAVAILABLE => {
                Err(Failure::NoHealthyUpstream)
            }
            Err(NotThere) => {
                let status = self.settings.not_found;
                let denial = Denial {
                    flag: "UH",
                    ..Denial::new(status, "no_healthy_upstream", "no healthy upstream")
                };
                Err(denial.into())
            }
        }
    }
}

impl<D: Downstream> Exchange<'_, D> {
    /// Reads which endpoint the request's session belongs to.
    pub(super) fn join_session(
        &mut self,
        own: &Arc<StatefulSession>,
        said: Option<&RouteFilter>,
        head: &RequestHead,
    ) {
        let settings = match said {
            Some(RouteFilter::StatefulSession(settings)) => settings,
            _ => own,
        };
        let Some(state) = settings
            .state
            .as_ref()
            .filter(|state| state.concerns(head.path.as_str()))
        else {
            return;
        };
        let said = state
            .said(&head.headers)
            .and_then(|said| STANDARD.decode(said).ok());
        let session = Session {
            endpoint: said.and_then(|said| state.endpoint(&said, unix_seconds())),
            settings: Arc::clone(settings),
        };
        self.on_response.push(OnResponse::Session(Rc::new(session)));
    }
}

/// The session of a request with these filters.
pub fn session(filters: &[OnResponse]) -> Option<&Rc<Session>> {
    filters.iter().find_map(|filter| match filter {
        OnResponse::Session(session) => Some(session),
        _ => None,
    })
}

/// Tells the client which endpoint its session belongs to now, if that is another one.
pub(super) fn tell(session: &Session, headers: &mut HeaderMap, record: &ExchangeRecord) {
    let (Some(state), Some(upstream)) = (&session.settings.state, &record.upstream) else {
        return;
    };
    let address = text(&upstream.endpoint.spec.address);
    if session.endpoint.as_deref() == Some(&*address) {
        return;
    }
    let told = STANDARD.encode(state.told(&address, unix_seconds()));
    let (name, value) = state.header(&told);
    let Ok(value) = HeaderValue::try_from(value) else {
        return;
    };
    match state {
        SessionState::Cookie(_) => {
            headers.append(header::SET_COOKIE, value);
        }
        SessionState::Header(_) => {
            headers.insert(name, value);
        }
    }
}

/// An address as sessions name it.
fn text(address: &EndpointAddress) -> String {
    match address {
        EndpointAddress::Socket(address) => address.to_string(),
        EndpointAddress::Pipe(path) => path.to_string(),
        EndpointAddress::Host(name, port) => format!("{name}:{port}"),
    }
}
