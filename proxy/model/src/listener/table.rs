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

    /// Adds a listener, in the place of the one with the same name, which is returned.
    pub fn insert(&mut self, listener: Arc<Listener>) -> Option<Arc<Listener>> {
        let before = self.by_name.insert(listener.name.clone(), listener.clone());
        if let Some(before) = &before {
            self.release(before);
        }
        for address in &listener.addresses {
            self.by_address
                .entry(address.clone())
                .or_insert_with(|| listener.clone());
        }
        before
    }

    /// Removes and returns the listener of this name.
    pub fn remove(&mut self, name: &str) -> Option<Arc<Listener>> {
        let before = self.by_name.remove(name)?;
        self.release(&before);
        Some(before)
    }

    /// Gives the addresses of a listener that is no more to whoever else has them.
    fn release(&mut self, gone: &Arc<Listener>) {
        for address in &gone.addresses {
            if !self
                .by_address
                .get(address)
                .is_some_and(|holder| Arc::ptr_eq(holder, gone))
            {
                continue;
            }
            match self
                .by_name
                .values()
                .find(|other| other.addresses.contains(address))
            {
                Some(other) => self.by_address.insert(address.clone(), other.clone()),
                None => self.by_address.remove(address),
            };
        }
    }
}
