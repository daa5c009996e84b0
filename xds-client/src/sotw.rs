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
            if any.type_url == WRAPPER.as_bytes() {
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
    let mut target = subscription.target();
    let stale = answer
        .as_ref()
        .is_some_and(|answer| answer.nonce != subscription.nonce);
    if let Some(unheard) = subscription.withdrawals.unheard(&subscription.nonce) {
        target.retain(|name| !unheard.contains(name));
    }
    if answer.is_none() && !worth_saying(subscription, &target) {
        subscription.unsettled = false;
        return None;
    }
    let resource_names = names_of(&target, subscription.named);
    let named = !resource_names.is_empty();
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
    if !stale && subscription.dropped && told.is_some_and(|told| !target.is_subset(told)) {
        subscription.dropped = false;
        version = "".into();
    }
    let message = SotwRequest {
        version_info: version.to_string(),
        node,
        resource_names,
        type_url: subscription.type_url.to_string(),
        response_nonce: nonce,
        error_detail: rejected.map(Status::internal),
    };
    let message = message.encode_to_vec().into();
    // With any other nonce than the newest the server drops the request: nobody was told anything.
    let changes_interest = !stale && subscription.told.as_ref() != Some(&target);
    if !stale {
        subscription.named |= named;
        said(subscription, target, now);
    }
    Some(Request {
        type_url: subscription.type_url.clone(),
        message,
        changes_interest,
    })
}

/// The list as it is written. "*" alone is left unsaid as long as that can be understood, for servers that know no other
/// way.
fn names_of(target: &BTreeSet<Arc<str>>, named: bool) -> Vec<String> {
    let all = target.len() == 1 && target.contains(WILDCARD);
    if all && !named {
        return Vec::new();
    }
    target.iter().map(|name| name.to_string()).collect()
}

/// `target` goes out under the newest nonce.
fn said(subscription: &mut Subscription, target: BTreeSet<Arc<str>>, now: Instant) {
    let Subscription {
        withdrawals,
        told,
        nonce,
        ..
    } = subscription;
    withdrawals.said(told.as_ref(), &target, nonce);
    subscription.withdrawals_are_heard();
    subscription.tell(target, now);
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
