//! What is said to a server, and what do its responses change? The protocol as a state machine without IO or clock.
//!
//! The driver reports streams, messages and time, sends what [`Session::poll_request`] gives, and passes
//! [`Session::poll_event`] on. The caller says what it [wants](Session::want) and [judges](Session::verdict) updates.
//!
//! What holds: requests go out in the order in which the types were first used; the first one of each stream carries
//! the node, the others do not; a response for a type that was not asked for on this stream is ignored. It does not
//! decide when to reconnect.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use prost::Message;

use crate::status::{Detail, StreamEnd, StreamStatus, TypeStatus};
use crate::subscription::{Received, Subscription};
use crate::update::{Event, Interest, Rejection, ResponseToken};
use crate::wire::ResponseHead;
use crate::{delta, sotw};

/// Responses and events that a session keeps before it asks its driver to stop reading.
const BACKLOG: usize = 16;

/// The two wire variants (xDS protocol, "Four Variants"; the other axis is which stream is used).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// `DiscoveryRequest` and `DiscoveryResponse`: `GRPC` in a bootstrap.
    StateOfTheWorld,
    /// `DeltaDiscoveryRequest` and `DeltaDiscoveryResponse`: `DELTA_GRPC`.
    Delta,
}

/// What a session is told once.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How the server speaks.
    pub variant: Variant,
    /// An encoded `envoy.config.core.v3.Node`, sent verbatim.
    pub node: Bytes,
    /// On a stream that serves one type only, that type: responses may then leave it out.
    pub only_type: Option<Arc<str>>,
    /// A larger response is answered by a NACK without being read. Bytes.
    pub max_response_size: usize,
    /// `initial_fetch_timeout` where [`Session::set_fetch_timeout`] says nothing else; nothing waits for ever.
    pub fetch_timeout: Option<Duration>,
}

impl Settings {
    /// Envoy's defaults: 15 seconds of fetch timeout, responses of any size.
    #[must_use]
    pub fn new(variant: Variant, node: Bytes) -> Self {
        let fetch_timeout = Some(Duration::from_secs(15));
        Self {
            variant,
            node,
            only_type: None,
            max_response_size: usize::MAX,
            fetch_timeout,
        }
    }
}

/// A message to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The type that it is about, for the log.
    pub type_url: Arc<str>,
    /// The encoded `DiscoveryRequest` or `DeltaDiscoveryRequest`.
    pub message: Bytes,
    /// Whether it changes what the server knows to be wanted; a mere answer does not.
    pub changes_interest: bool,
}

/// A message that is no response at all, so that nothing could be answered: the stream is of no use any more.
#[derive(Debug, thiserror::Error)]
#[error("expected a discovery response: {0}")]
pub struct Malformed(#[from] prost::DecodeError);

/// One client of one control plane, across reconnects.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub struct Session {
    settings: Settings,
    fetch_timeouts: HashMap<Arc<str>, Option<Duration>>,
    stream: StreamStatus,
    open: bool,
    /// The node was sent on this stream.
    introduced: bool,
    /// The first `used` ones stand in the order of their first request.
    subscriptions: Vec<Subscription>,
    used: usize,
    serial: u64,
    events: VecDeque<Event>,
}

impl Session {
    /// A session without a stream and without interests.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            fetch_timeouts: HashMap::new(),
            stream: StreamStatus::default(),
            open: false,
            introduced: false,
            subscriptions: Vec::new(),
            used: 0,
            serial: 0,
            events: VecDeque::new(),
        }
    }

    /// From now on, exactly these resources of the type are wanted. Say all names at once: each change costs a
    /// request. What is not wanted any more is forgotten here and must be forgotten by the caller: when wanted again
    /// it comes again. A wildcard given up in the state-of-the-world variant for no names at all is only heard by the
    /// server on the next stream; the wire has no word for it.
    pub fn want(&mut self, type_url: &str, interest: Interest) {
        if let Some(subscription) = self.subscription(type_url) {
            return subscription.want(interest);
        }
        let fetch_timeout = self
            .fetch_timeouts
            .get(type_url)
            .copied()
            .unwrap_or(self.settings.fetch_timeout);
        let mut subscription = Subscription::new(type_url.into(), fetch_timeout);
        subscription.want(interest);
        self.subscriptions.push(subscription);
    }

    /// `initial_fetch_timeout` of one type, for what is requested after this; nothing waits for ever.
    pub fn set_fetch_timeout(&mut self, type_url: &str, timeout: Option<Duration>) {
        self.fetch_timeouts.insert(type_url.into(), timeout);
        if let Some(subscription) = self.subscription(type_url) {
            subscription.fetch_timeout = timeout;
        }
    }

    /// The caller applied an update, except for what it lists here; none is an ACK.
    pub fn verdict(&mut self, response: ResponseToken, rejections: Vec<Rejection>, now: Instant) {
        let ResponseToken { type_url, serial } = response;
        if let Some(subscription) = self.subscription(&type_url) {
            subscription.verdict(serial, rejections, now);
        }
        self.review(&type_url, now);
    }

    /// A stream is open: everything that is wanted will be requested on it.
    pub fn on_stream_open(&mut self) {
        self.on_stream_end();
        self.open = true;
        self.introduced = false;
        self.subscriptions
            .iter_mut()
            .for_each(Subscription::on_stream_open);
    }

    /// The stream is gone, with everything unanswered on it. Accepted resources and interests stay.
    pub fn on_stream_end(&mut self) {
        self.open = false;
        self.subscriptions
            .iter_mut()
            .for_each(Subscription::on_stream_end);
    }

    /// A message arrived on the stream.
    ///
    /// # Errors
    /// It is no response; the driver should end the stream.
    pub fn on_message(&mut self, message: Bytes, now: Instant) -> Result<(), Malformed> {
        self.stream.last_message = Some(now);
        let ResponseHead {
            version,
            mut type_url,
            nonce,
        } = ResponseHead::decode(message.clone())?;
        if let Some(only) = self.settings.only_type.as_deref().filter(|_| type_url.is_empty()) {
            type_url = only.to_owned();
        }
        let (size, limit) = (message.len(), self.settings.max_response_size);
        let content = if size > limit {
            Err(format!(
                "expected at most {limit} bytes in a response, found {size}"
            ))
        } else {
            Ok(message)
        };
        match self
            .subscription(&type_url)
            .filter(|subscription| subscription.told.is_some())
        {
            Some(subscription) => {
                let version = version.into();
                subscription.receive(
                    Received {
                        nonce,
                        version,
                        content,
                    },
                    now,
                );
            }
            None => tracing::debug!(type_url, "ignored a response for a type that was not asked for"),
        }
        self.review(&type_url, now);
        Ok(())
    }

    /// Time passed: reports what timed out.
    pub fn on_time(&mut self, now: Instant) {
        let events = self
            .subscriptions
            .iter_mut()
            .flat_map(|subscription| subscription.on_time(now));
        self.events.extend(events.flatten());
    }

    /// When [`Session::on_time`] has something to do; earlier calls do no harm.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.subscriptions
            .iter()
            .filter_map(Subscription::next_deadline)
            .min()
    }

    /// Whether [`Session::poll_request`] is worth a call.
    #[must_use]
    pub fn has_request(&self) -> bool {
        self.open
            && self
                .subscriptions
                .iter()
                .any(|subscription| subscription.has_request(self.settings.variant))
    }

    /// The next message to send on the stream. Say everything that changed before asking, so that it goes out in one
    /// request per type.
    pub fn poll_request(&mut self, now: Instant) -> Option<Request> {
        if !self.open {
            return None;
        }
        for index in 0..self.subscriptions.len() {
            let node = if self.introduced {
                Bytes::new()
            } else {
                self.settings.node.clone()
            };
            let subscription = &mut self.subscriptions[index];
            let request = match self.settings.variant {
                Variant::StateOfTheWorld => sotw::next_request(subscription, node, now),
                Variant::Delta => delta::next_request(subscription, node, now),
            };
            if request.is_some() {
                self.introduced = true;
                if index >= self.used {
                    self.subscriptions[self.used..=index].rotate_right(1);
                    self.used += 1;
                }
                return request;
            }
        }
        None
    }

    /// Whether there is an event.
    #[must_use]
    pub fn has_event(&self) -> bool {
        !self.events.is_empty()
    }

    /// The next event for the caller.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Whether the driver should read on. Not while the caller is behind: the server then feels the backpressure.
    #[must_use]
    pub fn wants_messages(&self) -> bool {
        let waiting: usize = self.subscriptions.iter().map(Subscription::waiting).sum();
        waiting + self.events.len() < BACKLOG
    }

    /// What is known of one type.
    #[must_use]
    pub fn status(&self, type_url: &str) -> Option<TypeStatus> {
        self.subscriptions
            .iter()
            .find(|subscription| &*subscription.type_url == type_url)
            .map(|subscription| TypeStatus::of(subscription, Detail::Resources))
    }

    /// What is known of every type, in the order first used.
    #[must_use]
    pub fn statuses(&self) -> Vec<TypeStatus> {
        self.statuses_with(Detail::Resources)
    }

    /// The same without the list of resources, for metrics.
    #[must_use]
    pub fn overview(&self) -> Vec<TypeStatus> {
        self.statuses_with(Detail::CountsOnly)
    }

    fn statuses_with(&self, detail: Detail) -> Vec<TypeStatus> {
        let of = |subscription| TypeStatus::of(subscription, detail);
        self.subscriptions.iter().map(of).collect()
    }

    /// What is known of the stream.
    #[must_use]
    pub fn stream_status(&self) -> &StreamStatus {
        &self.stream
    }

    /// Whether a stream stands.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// The driver has a stream to `server`.
    pub(crate) fn connected(&mut self, server: Arc<str>, now: Instant) {
        self.on_stream_open();
        self.stream.connected_to = Some(server.clone());
        self.stream.since = Some(now);
        self.stream.opened += 1;
        self.events.push_back(Event::Connected { server });
    }

    /// The stream ended, or could not be opened.
    pub(crate) fn disconnected(&mut self, end: StreamEnd, retry_in: Duration) {
        self.on_stream_end();
        self.events.push_back(Event::Disconnected {
            server: end.server.clone(),
            reason: end.reason.clone(),
            had_response: end.had_response,
            retry_in,
        });
        self.stream.connected_to = None;
        self.stream.since = Some(end.at);
        self.stream.failures += u64::from(!end.had_response);
        self.stream.last_end = Some(end);
    }

    /// Whether an interest in the type was ever stated.
    pub(crate) fn knows(&self, type_url: &str) -> bool {
        self.subscriptions
            .iter()
            .any(|subscription| &*subscription.type_url == type_url)
    }

    /// A source that cannot be answered has something unreadable for the type.
    pub(crate) fn refuse(&mut self, type_url: &str, reason: String, now: Instant) {
        let event = self
            .subscription(type_url)
            .map(|subscription| subscription.refuse(reason, now));
        self.events.extend(event);
    }

    fn subscription(&mut self, type_url: &str) -> Option<&mut Subscription> {
        self.subscriptions
            .iter_mut()
            .find(|subscription| &*subscription.type_url == type_url)
    }

    /// Looks at the waiting responses of the type until one is with the caller.
    fn review(&mut self, type_url: &str, now: Instant) {
        let variant = self.settings.variant;
        loop {
            let serial = self.serial + 1;
            let events = self
                .subscription(type_url)
                .map(|it| it.review_next(variant, serial, now))
                .unwrap_or_default();
            if events.is_empty() {
                return;
            }
            self.serial = serial;
            self.events.extend(events);
        }
    }
}

#[cfg(test)]
mod tests;
