//! The state-of-the-world variant: every request lists everything that is wanted, and every answer is such a request.
//!
//! What holds: while a response waits for its verdict nothing else is said for its type, because a request that
//! carries the newest nonce *is* the answer; a change of interest rides on it. A first request never has an empty
//! list of names unless all resources are meant.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};

use crate::reading::{Reading, bare, decode, wrapped};
use crate::resource_type::WRAPPER;
use crate::session::{Request, Variant};
use crate::subscription::{Answer, Subscription, WILDCARD};
use crate::wire::{Any, ResponseBody, SotwRequest, Status};

/// Field number of `DiscoveryRequest.resource_names`.
const RESOURCE_NAMES: u32 = 3;

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
    if subscription.is_said() {
        return subscription
            .answers
            .pop_front()
            .map(|answer| once_more(subscription, node, answer));
    }
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

/// An answer while everything that is wanted is what was said last: the same names again, which may be thousands for
/// each small response, so they are written from where they are.
fn once_more(subscription: &mut Subscription, node: Bytes, answer: Answer) -> Request {
    let head = SotwRequest {
        version_info: answer.version.to_string(),
        node,
        ..SotwRequest::default()
    };
    let tail = SotwRequest {
        type_url: subscription.type_url.to_string(),
        response_nonce: answer.nonce,
        error_detail: answer.rejected.map(Status::internal),
        ..SotwRequest::default()
    };
    let names = subscription.told.iter().flatten();
    let room: usize = names.clone().map(|name| name.len() + 4).sum();
    let mut message = BytesMut::with_capacity(head.encoded_len() + room + tail.encoded_len());
    head.encode_raw(&mut message);
    for name in names {
        encode_key(RESOURCE_NAMES, WireType::LengthDelimited, &mut message);
        encode_varint(name.len() as u64, &mut message);
        message.put_slice(name.as_bytes());
    }
    tail.encode_raw(&mut message);
    subscription.nonce.clone_into(&mut subscription.withdrawals.under);
    Request {
        type_url: subscription.type_url.clone(),
        message: message.freeze(),
        changes_interest: false,
    }
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
