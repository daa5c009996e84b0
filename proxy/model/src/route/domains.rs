//! Which virtual host is an authority for?
//!
//! Exact name, then the longest matching `*suffix`, then the longest matching `prefix*`, then `*`; case does not matter
//! (`VirtualHost.domains`). A wildcard stands for at least one character.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use super::VirtualHost;
use crate::Name;

/// Two virtual hosts claim the same domain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DuplicateDomain {
    /// A name or a partial wildcard.
    #[error(
        "Only unique values for domains are permitted. Duplicate entry of domain {domain} in route {route}"
    )]
    Name {
        /// In lower case.
        domain: String,
        /// Name of the route configuration.
        route: String,
    },
    /// `*`.
    #[error("Only a single wildcard domain is permitted in route {route}")]
    Wildcard {
        /// Name of the route configuration.
        route: String,
    },
}

type ByName = HashMap<Name, u32, rapidhash::fast::RandomState>;

/// Domains of a route configuration to positions in its list of virtual hosts.
#[derive(Clone, Default)]
pub struct DomainIndex {
    exact: ByName,
    /// By the part after `*`, longest first.
    suffixes: Vec<(usize, ByName)>,
    /// By the part before `*`, longest first.
    prefixes: Vec<(usize, ByName)>,
    default: Option<u32>,
}

impl fmt::Debug for DomainIndex {
    /// Nothing but the name: it is made from the virtual hosts, and its tables have no order.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DomainIndex")
    }
}

impl DomainIndex {
    /// Indexes the virtual hosts of the route configuration named `route`.
    ///
    /// # Errors
    /// A domain that occurs twice.
    pub fn new(virtual_hosts: &[Arc<VirtualHost>], route: &str) -> Result<Self, DuplicateDomain> {
        let mut index = Self::default();
        for (position, host) in virtual_hosts.iter().enumerate() {
            for domain in &host.domains {
                index.insert(&lower(domain), position as u32, route)?;
            }
        }
        index
            .suffixes
            .sort_by_key(|(length, _)| std::cmp::Reverse(*length));
        index
            .prefixes
            .sort_by_key(|(length, _)| std::cmp::Reverse(*length));
        Ok(index)
    }

    fn insert(&mut self, domain: &Name, position: u32, route: &str) -> Result<(), DuplicateDomain> {
        if **domain == *"*" {
            return match self.default.replace(position) {
                Some(_) => Err(DuplicateDomain::Wildcard { route: route.into() }),
                None => Ok(()),
            };
        }
        let (names, literal) = if let Some(suffix) = domain.strip_prefix('*') {
            (of_length(&mut self.suffixes, suffix.len()), suffix.into())
        } else if let Some(prefix) = domain.strip_suffix('*') {
            (of_length(&mut self.prefixes, prefix.len()), prefix.into())
        } else {
            (&mut self.exact, Arc::clone(domain))
        };
        match names.insert(literal, position) {
            Some(_) => Err(DuplicateDomain::Name {
                domain: domain.to_string(),
                route: route.into(),
            }),
            None => Ok(()),
        }
    }

    /// The position of the virtual host for this authority; with `ignore_port` the port in it does not count.
    pub fn find(&self, authority: &str, ignore_port: bool) -> Option<usize> {
        let host = if ignore_port {
            without_port(authority)
        } else {
            authority
        };
        // Lower case on the stack: authorities are short, and most are lower case already.
        let mut lower = smallvec::SmallVec::<[u8; 128]>::new();
        let host = if host.bytes().any(|b| b.is_ascii_uppercase()) {
            lower.extend(host.bytes().map(|b| b.to_ascii_lowercase()));
            std::str::from_utf8(&lower).unwrap_or(host)
        } else {
            host
        };
        self.find_lower(host).map(|position| position as usize)
    }

    fn find_lower(&self, host: &str) -> Option<u32> {
        if let Some(position) = self.exact.get(host) {
            return Some(*position);
        }
        for (length, names) in &self.suffixes {
            if let Some(start) = host.len().checked_sub(*length).filter(|start| *start > 0)
                && let Some(position) = host.get(start..).and_then(|suffix| names.get(suffix))
            {
                return Some(*position);
            }
        }
        for (length, names) in &self.prefixes {
            if *length < host.len()
                && let Some(position) = host.get(..*length).and_then(|prefix| names.get(prefix))
            {
                return Some(*position);
            }
        }
        self.default
    }
}

/// The domain in lower case: itself where it is so already.
fn lower(domain: &Name) -> Name {
    if domain.bytes().any(|byte| byte.is_ascii_uppercase()) {
        domain.to_ascii_lowercase().into()
    } else {
        Arc::clone(domain)
    }
}

fn of_length(groups: &mut Vec<(usize, ByName)>, length: usize) -> &mut ByName {
    let at = groups
        .iter()
        .position(|(of, _)| *of == length)
        .unwrap_or_else(|| {
            groups.push((length, ByName::default()));
            groups.len() - 1
        });
    &mut groups[at].1
}

/// The authority without `:port`; an IPv6 literal keeps its brackets.
pub(crate) fn without_port(authority: &str) -> &str {
    match authority.rfind(':') {
        Some(colon) if authority.rfind(']').is_none_or(|bracket| bracket < colon) => &authority[..colon],
        _ => authority,
    }
}
