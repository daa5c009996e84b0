//! The state-of-the-world variant: every request lists everything that is wanted, and every answer is such a request.
//!
//! What holds: while a response waits for its verdict nothing else is said for its type, because a request that
//! carries the newest nonce *is* the answer; a change of interest rides on it. A first request never has an empty
//! list of names unless all resources are meant.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use prost::Message;

use crate::reading::{Reading, bare, decode, wrapped};
use crate::resource_type::WRAPPER;
use crate::session::{Request, Variant};
use crate::subscription::{Answer, Subscription, WILDCARD};
use crate::wire::{Any, ResponseBody, SotwRequest, Status};

/// Reads the resources of a `DiscoveryResponse`. Fails only if the list itself cannot be read.
pub(crate) fn read(response: Bytes, type_url: &str, version: &Arc<str>) -> Result<Reading, String> {
    let body =
        ResponseBody::decode(response).map_err(|error| format!("the response cannot be decoded: {error}"))?;
    let mut reading = Reading::default();
    for (index, resource) in body.resources.into_iter().enumerate() {
        let entry = decode::<Any>(resource, "google.protobuf.Any").and_then(|any| {
            if any.type_url == WRAPPER {
                let wrapper = decode(any.value, "envoy.service.discovery.v3.Resource")?;
                wrapped(wrapper, type_url, version)
            } else {
                bare(any, type_url, version)
            }
        });
        reading.push(index, entry);
    }
    reading.push_errors(body.resource_errors);
    Ok(reading)
}

/// The next request of this type, if there is something to say.
pub(crate) fn next_request(subscription: &mut Subscription, node: Bytes, now: Instant) -> Option<Request> {
    let answer = subscription.answers.pop_front();
    if answer.is_none() && !subscription.has_request(Variant::StateOfTheWorld) {
        return None;
    }
    let target = subscription.target();
    if answer.is_none() && !worth_saying(subscription, &target) {
        subscription.unsettled = false;
        return None;
    }
    let wildcard = target.contains(WILDCARD);
    let resource_names = if wildcard && !subscription.named {
        Vec::new()
    } else {
        target.iter().map(|name| name.to_string()).collect()
    };
    let Answer {
        nonce,
        mut version,
        rejected,
    } = answer.unwrap_or_else(|| Answer {
        nonce: subscription.nonce.clone(),
        version: subscription.version.clone(),
        rejected: None,
    });
    let told = subscription.told.as_ref();
    if subscription.dropped && told.is_some_and(|told| !target.is_subset(told)) {
        subscription.dropped = false;
        version = "".into();
    }
    if nonce == subscription.nonce {
        // With any other nonce the server drops the request as stale.
        subscription.withdrawals_are_heard();
    }
    let message = SotwRequest {
        version_info: version.to_string(),
        node,
        resource_names,
        type_url: subscription.type_url.to_string(),
        response_nonce: nonce,
        error_detail: rejected.map(Status::internal),
    };
    let changes_interest = subscription.told.as_ref() != Some(&target);
    subscription.named |= !wildcard && !target.is_empty();
    subscription.tell(target, now);
    Some(Request {
        type_url: subscription.type_url.clone(),
        message: message.encode_to_vec().into(),
        changes_interest,
    })
}

/// Without an answer to give: does the server need to hear of `target`? An empty list ends a subscription by names
/// and would start one for everything, so it is sent in the former case only.
fn worth_saying(subscription: &Subscription, target: &BTreeSet<Arc<str>>) -> bool {
    match &subscription.told {
        None => !target.is_empty(),
        Some(told) if told == target => false,
        Some(_) => !target.is_empty() || subscription.named,
    }
}
