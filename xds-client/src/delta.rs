//! The delta variant: requests carry changes of interest or an answer, never both.
//!
//! What holds: the first request of a type on a stream lists all that is wanted, with the versions of what is held;
//! later ones list only changes and carry no nonce. An answer carries a nonce and no change, because istiod takes a
//! request with both for a broken client.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use prost::Message;

use crate::reading::{Reading, decode, wrapped};
use crate::session::{Request, Variant};
use crate::subscription::{Answer, Subscription, WILDCARD};
use crate::wire::{DeltaBody, DeltaRequest, Status};

/// Reads the resources and removals of a `DeltaDiscoveryResponse`. Fails only if the lists cannot be read.
pub(crate) fn read(response: Bytes, type_url: &str, version: &Arc<str>) -> Result<Reading, String> {
    let body =
        DeltaBody::decode(response).map_err(|error| format!("the response cannot be decoded: {error}"))?;
    let mut reading = Reading::default();
    // Most servers give all resources of a response the same version: one copy of it is enough.
    let mut last = version.clone();
    for (index, resource) in body.resources.into_iter().enumerate() {
        let mut entry = decode(resource, "envoy.service.discovery.v3.Resource")
            .and_then(|wrapper| wrapped(wrapper, type_url, version));
        if let Ok(entry) = &mut entry {
            if entry.version == last {
                entry.version = last;
            }
            last = entry.version.clone();
        }
        reading.push(index, entry);
    }
    let by_name = body.removed_resource_names.into_iter().map(|named| named.name);
    let removed: BTreeSet<Arc<str>> = body
        .removed_resources
        .into_iter()
        .chain(by_name)
        .map(Into::into)
        .collect();
    reading.removed = removed.into_iter().collect();
    reading.push_errors(body.resource_errors);
    Ok(reading)
}

/// The next request of this type, if there is something to say.
pub(crate) fn next_request(subscription: &mut Subscription, node: Bytes, now: Instant) -> Option<Request> {
    if !subscription.has_request(Variant::Delta) {
        return None;
    }
    let mut message = DeltaRequest {
        node,
        type_url: subscription.type_url.to_string(),
        ..DeltaRequest::default()
    };
    let changes_interest = if subscription.told.is_none() {
        first(subscription, &mut message, now)?
    } else if let Some(Answer { nonce, rejected, .. }) = subscription.answers.pop_front() {
        message.response_nonce = nonce;
        message.error_detail = rejected.map(Status::internal);
        false
    } else {
        change(subscription, &mut message, now)?
    };
    Some(Request {
        type_url: subscription.type_url.clone(),
        message: message.encode_to_vec().into(),
        changes_interest,
    })
}

fn first(subscription: &mut Subscription, message: &mut DeltaRequest, now: Instant) -> Option<bool> {
    let target = subscription.target();
    subscription.unsettled = false;
    if target.is_empty() {
        return None;
    }
    // "*" alone is left unsaid, for servers that know no other way.
    if target.len() > 1 || !target.contains(WILDCARD) {
        message.resource_names_subscribe = strings(target.iter());
    }
    message.initial_resource_versions = held_versions(subscription);
    subscription.withdrawals_are_heard();
    subscription.tell(target, now);
    Some(true)
}

fn held_versions(subscription: &Subscription) -> BTreeMap<String, String> {
    subscription
        .held
        .iter()
        .map(|(name, held)| (name.to_string(), held.version.to_string()))
        .collect()
}

fn change(subscription: &mut Subscription, message: &mut DeltaRequest, now: Instant) -> Option<bool> {
    let target = subscription.target();
    let nothing = BTreeSet::new();
    let told = subscription.told.as_ref().unwrap_or(&nothing);
    message.resource_names_subscribe = strings(target.difference(told));
    message.resource_names_unsubscribe = strings(told.difference(&target));
    let changed = &target != told;
    subscription.withdrawals_are_heard();
    subscription.tell(target, now);
    changed.then_some(true)
}

fn strings<'a>(names: impl Iterator<Item = &'a Arc<str>>) -> Vec<String> {
    names.map(|name| name.to_string()).collect()
}
