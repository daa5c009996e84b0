//! One xDS stream, told by the test: what did the client say, and what is said to it?

use std::collections::VecDeque;

use anyhow::{Context, Result, bail, ensure};
use envoy_types::pb::envoy::config::core::v3::Node;
use http::HeaderMap;
use prost::Message;

use super::variant::Variant;
use super::{Call, Heard};
use crate::control_plane::Resource;

/// One open stream of the variant `V`. Dropping it resets the stream.
#[derive(Debug)]
pub struct Conversation<V: Variant> {
    call: Call,
    /// What was heard and not asked for yet, in the order in which it came.
    heard: VecDeque<V::Request>,
    nonces: u64,
}

impl<V: Variant> Conversation<V> {
    pub(super) fn new(call: Call) -> Self {
        Self {
            call,
            heard: VecDeque::new(),
            nonces: 0,
        }
    }

    /// The headers of the call.
    pub fn metadata(&self) -> &HeaderMap {
        &self.call.metadata
    }

    /// The call below, for bytes that are no xDS.
    pub fn call(&mut self) -> &mut Call {
        &mut self.call
    }

    /// The next request, of whatever type.
    ///
    /// # Errors
    /// When none comes in time, the stream ends, or it is no request of this variant, byte for byte.
    pub async fn next(&mut self) -> Result<V::Request> {
        match self.heard.pop_front() {
            Some(request) => Ok(request),
            None => self.hear().await,
        }
    }

    /// The next request about `type_url`; those about other types wait until they are asked for.
    ///
    /// # Errors
    /// As [`Self::next`]; the message lists what else was heard.
    pub async fn expect(&mut self, type_url: &str) -> Result<V::Request> {
        let mut from = 0;
        loop {
            let found = (from..self.heard.len()).find(|at| V::type_url(&self.heard[*at]) == type_url);
            if let Some(request) = found.and_then(|at| self.heard.remove(at)) {
                return Ok(request);
            }
            from = self.heard.len();
            let heard = self.hear().await;
            let heard =
                heard.with_context(|| format!("expected {type_url}; also heard {:#?}", self.heard))?;
            self.heard.push_back(heard);
        }
    }

    /// The next request about `type_url` must be `wanted`, in every field.
    ///
    /// # Errors
    /// As [`Self::expect`], and when it is another one.
    pub async fn expect_exactly(&mut self, wanted: &V::Request) -> Result<()> {
        let request = self.expect(V::type_url(wanted)).await?;
        ensure!(
            request == *wanted,
            "expected the request\n{wanted:#?}\nfound\n{request:#?}"
        );
        Ok(())
    }

    /// The next request about the type must be the first of this stream, with its node, and otherwise be `wanted`.
    ///
    /// # Errors
    /// As [`Self::expect_exactly`], and without a node.
    pub async fn expect_introduction(&mut self, wanted: &V::Request) -> Result<Node> {
        let mut request = self.expect(V::type_url(wanted)).await?;
        let node = V::take_node(&mut request).context("the first request names no node")?;
        ensure!(
            request == *wanted,
            "expected the request\n{wanted:#?}\nfound\n{request:#?}"
        );
        Ok(node)
    }

    /// What was heard about `type_url` and not asked for yet, without waiting. To say that something does *not* come,
    /// let something come that the client says later, and look then.
    pub fn unasked(&mut self, type_url: &str) -> Result<Vec<V::Request>> {
        while let Some(heard) = self.call.heard_already() {
            let Heard::Message(bytes) = heard else {
                break;
            };
            self.heard.push_back(decode::<V>(&bytes)?);
        }
        let of_type = self
            .heard
            .iter()
            .filter(|request| V::type_url(request) == type_url);
        Ok(of_type.cloned().collect())
    }

    /// The same, and they count as asked for.
    pub fn take_unasked(&mut self, type_url: &str) -> Result<Vec<V::Request>> {
        let taken = self.unasked(type_url)?;
        self.heard.retain(|request| V::type_url(request) != type_url);
        Ok(taken)
    }

    /// A response with a new nonce, which is returned.
    pub fn send(&mut self, type_url: &str, version: &str, resources: &[Resource]) -> Result<String> {
        self.send_with_removals(type_url, version, resources, &[])
    }

    /// The same with `removed_resources`, which only delta has.
    pub fn send_with_removals(
        &mut self,
        type_url: &str,
        version: &str,
        resources: &[Resource],
        removed: &[&str],
    ) -> Result<String> {
        let nonce = self.new_nonce();
        self.say(&V::response(type_url, version, &nonce, resources, removed))?;
        Ok(nonce)
    }

    /// A response to the letter.
    pub fn say(&mut self, response: &V::Response) -> Result<()> {
        self.call.say(&response.encode_to_vec())
    }

    /// A nonce that was not used on this stream.
    pub fn new_nonce(&mut self) -> String {
        self.nonces += 1;
        format!("nonce-{}", self.nonces)
    }

    /// Sends resources and takes their ACK, which must be one to the letter while `names` are subscribed to.
    ///
    /// # Errors
    /// As [`Self::expect_exactly`].
    pub async fn serve(
        &mut self,
        type_url: &str,
        version: &str,
        resources: &[Resource],
        names: &[&str],
    ) -> Result<String> {
        let nonce = self.send(type_url, version, resources)?;
        self.expect_exactly(&V::ack(type_url, version, &nonce, names))
            .await?;
        Ok(nonce)
    }

    /// Ends the stream with a gRPC status (14 is UNAVAILABLE, 0 is OK).
    pub fn close(&mut self, code: u32, message: &str) -> Result<()> {
        self.call.close(code, message)
    }

    /// Waits until the client ends the stream, and returns what it still said.
    ///
    /// # Errors
    /// When it does not in time.
    pub async fn ended(mut self) -> Result<Vec<V::Request>> {
        loop {
            match self.call.heard().await? {
                Heard::Message(bytes) => self.heard.push_back(decode::<V>(&bytes)?),
                Heard::End | Heard::Broken(_) => return Ok(self.heard.into()),
            }
        }
    }

    async fn hear(&mut self) -> Result<V::Request> {
        match self.call.heard().await? {
            Heard::Message(bytes) => decode::<V>(&bytes),
            other => bail!("the client ended the stream: {other:?}"),
        }
    }
}

/// Reads a request; what has another length when it is written again said something that Envoy's API does not know.
fn decode<V: Variant>(bytes: &[u8]) -> Result<V::Request> {
    let request = V::Request::decode(bytes)?;
    let known = request.encoded_len();
    ensure!(
        known == bytes.len(),
        "{} of {} bytes are known of {request:#?}",
        known,
        bytes.len()
    );
    Ok(request)
}
