//! What does one response say? The part that both wire variants read alike: entries, wrapped or not.
//!
//! What holds: every resource of the response is either an entry or an unreadable one; nothing is applied here.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prost::Message;

use crate::update::Rejection;
use crate::wire::{Any, Body, ResourceError, ResourceWrapper, Status};

/// Names of one response.
type Names<'a> = HashSet<&'a Arc<str>, rapidhash::fast::RandomState>;

/// A response, read but not judged.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    pub(crate) entries: Vec<Entry>,
    pub(crate) unreadable: Vec<Rejection>,
    /// An unreadable resource has no known name, so absence of a name proves nothing.
    pub(crate) nameless: bool,
    pub(crate) removed: Vec<Arc<str>>,
    /// Resources that the server says it cannot give, and why.
    pub(crate) errors: Vec<(Arc<str>, Status)>,
}

/// One resource of a response.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) name: Arc<str>,
    pub(crate) version: Arc<str>,
    /// Nothing in a heartbeat.
    pub(crate) body: Option<Bytes>,
    pub(crate) ttl: Option<Duration>,
}

impl Reading {
    pub(crate) fn push(&mut self, index: usize, entry: Result<Entry, Unreadable>) {
        match entry {
            Ok(entry) => self.entries.push(entry),
            Err(Unreadable { name, reason }) => {
                self.nameless |= name.is_none();
                let name = name.unwrap_or_else(|| format!("resource #{index}").into());
                self.unreadable.push(Rejection { name, reason });
            }
        }
    }

    /// `resource_errors`; an entry that says nothing about a resource is nobody's loss.
    pub(crate) fn push_errors(&mut self, errors: Vec<Bytes>) {
        let errors = errors
            .into_iter()
            .filter_map(|error| ResourceError::decode(error).ok());
        let errors = errors.filter_map(|error| {
            let name = error.resource_name.filter(|named| !named.name.is_empty())?.name;
            Some((name.into(), error.error_detail.unwrap_or_default()))
        });
        self.errors.extend(errors);
    }

    /// A name that stands twice in the response (xDS protocol, "Duplicate Resource Names"), removals included.
    pub(crate) fn duplicate(&self) -> Option<&Arc<str>> {
        let mut seen = self.names_with_room();
        let unreadable = self.unreadable.iter().map(|rejection| &rejection.name);
        self.entries
            .iter()
            .map(|entry| &entry.name)
            .chain(unreadable)
            .chain(&self.removed)
            .find(|name| !seen.insert(*name))
    }

    /// What the response speaks of, so that it is not absent: what is in error is not gone.
    pub(crate) fn present(&self) -> Names<'_> {
        let mut present = self.names_with_room();
        present.extend(self.entries.iter().map(|entry| &entry.name));
        present.extend(self.unreadable.iter().map(|bad| &bad.name));
        present.extend(self.errors.iter().map(|(name, _)| name));
        present
    }

    fn names_with_room(&self) -> Names<'_> {
        let room = self.entries.len() + self.unreadable.len() + self.removed.len() + self.errors.len();
        Names::with_capacity_and_hasher(room, rapidhash::fast::RandomState::new())
    }
}

/// Why a resource could not become an entry.
#[derive(Debug)]
pub(crate) struct Unreadable {
    name: Option<Arc<str>>,
    reason: String,
}

/// An entry from a wrapper: all of delta, and state-of-the-world where the server wraps.
pub(crate) fn wrapped(
    wrapper: ResourceWrapper,
    type_url: &str,
    default_version: &Arc<str>,
) -> Result<Entry, Unreadable> {
    let outer = Some(wrapper.name)
        .filter(|name| !name.is_empty())
        .or_else(|| {
            wrapper
                .resource_name
                .map(|named| named.name)
                .filter(|name| !name.is_empty())
        })
        .map(Arc::<str>::from);
    let body = match wrapper.resource {
        None => None,
        Some(any) => Some(body_of(any, type_url).map_err(|reason| Unreadable {
            name: outer.clone(),
            reason,
        })?),
    };
    let name = match (outer, &body) {
        (Some(name), _) => name,
        (None, Some(body)) => name_in(body)?,
        (None, None) => {
            return Err(Unreadable {
                name: None,
                reason: "expected a name or a resource, found neither".into(),
            });
        }
    };
    let version = if wrapper.version.is_empty() {
        default_version.clone()
    } else {
        wrapper.version.into()
    };
    Ok(Entry {
        name,
        version,
        body,
        ttl: wrapper.ttl.and_then(crate::wire::Duration::checked),
    })
}

/// An entry from a bare `Any`.
pub(crate) fn bare(any: Any, type_url: &str, version: &Arc<str>) -> Result<Entry, Unreadable> {
    let body = body_of(any, type_url).map_err(|reason| Unreadable { name: None, reason })?;
    Ok(Entry {
        name: name_in(&body)?,
        version: version.clone(),
        body: Some(body),
        ttl: None,
    })
}

/// Decodes one repeated element.
pub(crate) fn decode<M: Message + Default>(bytes: Bytes, what: &str) -> Result<M, Unreadable> {
    M::decode(bytes).map_err(|error| Unreadable {
        name: None,
        reason: format!("expected {what}: {error}"),
    })
}

fn body_of(any: Any, type_url: &str) -> Result<Bytes, String> {
    if any.type_url == type_url.as_bytes() {
        Ok(any.value)
    } else {
        let found = String::from_utf8_lossy(&any.type_url);
        Err(format!("expected type '{type_url}', found '{found}'"))
    }
}

fn name_in(body: &Bytes) -> Result<Arc<str>, Unreadable> {
    let unreadable = |reason: String| Unreadable { name: None, reason };
    let Body { name } =
        Body::decode(body.clone()).map_err(|error| unreadable(format!("cannot be decoded: {error}")))?;
    match std::str::from_utf8(&name) {
        Ok("") => Err(unreadable("expected a name in field 1, found none".into())),
        Ok(name) => Ok(name.into()),
        Err(error) => Err(unreadable(format!("expected a name in field 1: {error}"))),
    }
}
