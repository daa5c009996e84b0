//! `envoy.filters.http.fault`: only the empty filter, which Istio puts into every chain, may pass.

use super::{Outcome, left_out};
use crate::context::Work;
use crate::extension::Extension;
use crate::pb::envoy::extensions::filters::http::fault::v3::HttpFault;

pub(super) const KIND: &str = "envoy.extensions.filters.http.fault.v3.HTTPFault";

/// A filter that would delay, abort or slow down is refused: whoever asked for the fault must not believe it happens.
pub(super) fn check(work: &mut Work<'_, '_>, extension: &Extension<'_>) -> Outcome {
    let Some(said) = extension.decode::<HttpFault>(work) else {
        return Outcome::Refused;
    };
    let active = [
        ("delay", said.delay.is_some()),
        ("abort", said.abort.is_some()),
        ("response_rate_limit", said.response_rate_limit.is_some()),
    ];
    let mut outcome = Outcome::Nothing;
    for (field, _) in active.into_iter().filter(|(_, set)| *set) {
        work.wrong_at(field, "is not supported: fault injection");
        outcome = Outcome::Refused;
    }
    left_out(work, KIND);
    outcome
}
