//! Listeners by name and by address.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use super::{ListenAddress, Listener};
use crate::Name;

/// All listeners of one version of the world.
#[derive(Debug, Clone, Default)]
pub struct ListenerTable {
    by_name: BTreeMap<Name, Arc<Listener>>,
    by_address: HashMap<ListenAddress, Arc<Listener>, rapidhash::fast::RandomState>,
}

impl ListenerTable {
    /// The listener of this name.
    pub fn named(&self, name: &str) -> Option<&Arc<Listener>> {
        self.by_name.get(name)
    }

    /// All listeners in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Listener>> {
        self.by_name.values()
    }

    /// How many listeners there are.
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// The listener with exactly this configured address, whether it is bound or not.
    pub fn bound(&self, address: &ListenAddress) -> Option<&Arc<Listener>> {
        self.by_address.get(address)
    }

    /// The listener that takes over a connection with a restored destination from `accepting`: the one with exactly
    /// this address, else the one with the family's wildcard address and this port, else `accepting` itself.
    pub fn hand_off<'a>(
        &'a self,
        accepting: &'a Arc<Listener>,
        destination: SocketAddr,
    ) -> &'a Arc<Listener> {
        if !accepting.use_original_dst {
            return accepting;
        }
        let ip = destination.ip().to_canonical();
        let wildcard: IpAddr = if ip.is_ipv4() {
            Ipv4Addr::UNSPECIFIED.into()
        } else {
            Ipv6Addr::UNSPECIFIED.into()
        };
        let at = |ip| self.bound(&ListenAddress::Socket(SocketAddr::new(ip, destination.port())));
        at(ip).or_else(|| at(wildcard)).unwrap_or(accepting)
    }

    /// Another listener that already has one of this listener's addresses (port 0 never collides).
    pub fn conflict(&self, listener: &Listener) -> Option<&Arc<Listener>> {
        listener
            .addresses
            .iter()
            .filter(|address| !matches!(address, ListenAddress::Socket(socket) if socket.port() == 0))
            .filter_map(|address| self.by_address.get(address))
            .find(|other| other.name != listener.name)
    }

    /// This table with `listener` in it, in the place of the one with the same name.
    pub fn with(&self, listener: Arc<Listener>) -> Self {
        let mut by_name = self.by_name.clone();
        by_name.insert(listener.name.clone(), listener);
        Self::indexed(by_name)
    }

    /// This table without the listener of this name; `None` if there is no such listener.
    pub fn without(&self, name: &str) -> Option<Self> {
        let mut by_name = self.by_name.clone();
        by_name.remove(name)?;
        Some(Self::indexed(by_name))
    }

    fn indexed(by_name: BTreeMap<Name, Arc<Listener>>) -> Self {
        let mut table = Self {
            by_name,
            ..Self::default()
        };
        for listener in table.by_name.values() {
            for address in &listener.addresses {
                table
                    .by_address
                    .entry(address.clone())
                    .or_insert_with(|| listener.clone());
            }
        }
        table
    }
}
