//! In which order are the addresses of one endpoint tried (RFC 8305 section 4)?

use std::net::SocketAddr;

/// A family of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// `HappyEyeballsConfig`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressOrder {
    /// `first_address_family_version`; `None`: that of the first address.
    pub first: Option<Family>,
    /// `first_address_family_count`, at least 1: so many of the first family come before one of the other.
    pub count: usize,
}

impl Default for AddressOrder {
    fn default() -> Self {
        Self {
            first: None,
            count: 1,
        }
    }
}

impl AddressOrder {
    /// All addresses in the order in which they are tried.
    pub fn arrange(self, address: SocketAddr, others: &[SocketAddr]) -> Vec<SocketAddr> {
        let v4_first = self
            .first
            .map_or(address.is_ipv4(), |family| family == Family::V4);
        let all = std::iter::once(&address).chain(others).copied();
        let (first, second): (Vec<_>, Vec<_>) = all.partition(|address| address.is_ipv4() == v4_first);
        let (mut first, mut second) = (first.into_iter(), second.into_iter());
        let mut order = Vec::with_capacity(1 + others.len());
        while order.len() <= others.len() {
            order.extend(first.by_ref().take(self.count.max(1)));
            order.extend(second.next());
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(order: AddressOrder, addresses: &str) -> String {
        // The port is the name, 4 and 6 the family.
        let of = |name: &str| {
            let ip = if name.starts_with('4') {
                "10.0.0.1"
            } else {
                "[::1]"
            };
            format!("{ip}:{name}").parse().unwrap()
        };
        let all: Vec<SocketAddr> = addresses.split(' ').map(of).collect();
        let order = order.arrange(all[0], &all[1..]);
        order
            .iter()
            .map(|address| address.port().to_string())
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn families_alternate_from_that_of_the_first_address() {
        let default = AddressOrder::default();
        assert_eq!(order(default, "41 42 43 61 62"), "41 61 42 62 43");
        assert_eq!(order(default, "61 62 41"), "61 41 62");
        assert_eq!(order(default, "41"), "41");
        assert_eq!(order(default, "41 42"), "41 42");
    }

    #[test]
    fn the_first_family_and_its_share_may_be_said() {
        let two = AddressOrder {
            first: Some(Family::V6),
            count: 2,
        };
        assert_eq!(order(two, "41 42 61 62 63"), "61 62 41 63 42");
        assert_eq!(order(two, "41 42"), "41 42");
        let v4 = AddressOrder {
            first: Some(Family::V4),
            count: 0,
        };
        assert_eq!(order(v4, "61 41 62"), "41 61 62");
    }
}
