//! Is a part the same as before?
//!
//! Holds: a fingerprint is a hash over the bytes as they were received (maps of the generated types have a random
//! order, so nothing is encoded again), mixed with the contents of the files that were read for it. Equal means
//! unchanged; a control plane that shuffles its maps only loses the sharing.

use std::hash::{Hash, Hasher};

/// The hash of anything; never 0.
pub(crate) fn of(part: impl Hash) -> u64 {
    let mut hasher = rapidhash::quality::RapidHasher::default();
    part.hash(&mut hasher);
    hasher.finish().max(1)
}

/// The raw bytes of every occurrence of the length-delimited field `number` in a message, in order.
/// Stops at the first byte that is not protobuf; the message was decoded before, so there is none.
pub(crate) fn fields(message: &[u8], number: u32) -> impl Iterator<Item = &[u8]> {
    Fields { rest: message }.filter_map(move |(tag, bytes)| (tag == number).then_some(bytes))
}

/// A message without the length-delimited field `number`, still encoded. `None` where the bytes are not those of a
/// message (or hold a group, which no message of xDS does).
pub(crate) fn without(message: &[u8], number: u32) -> Option<Vec<u8>> {
    let mut others = Vec::new();
    let mut fields = Fields { rest: message };
    while !fields.rest.is_empty() {
        let before = fields.rest;
        match fields.one()? {
            (_, Wire::Group) => return None,
            (tag, Wire::Bytes(_)) if tag == number => {}
            _ => others.extend_from_slice(&before[..before.len() - fields.rest.len()]),
        }
    }
    Some(others)
}

struct Fields<'m> {
    rest: &'m [u8],
}

/// What stands behind a field's number.
enum Wire<'m> {
    /// A number of some form.
    Number,
    /// The begin or end of a group.
    Group,
    /// Anything with a length.
    Bytes(&'m [u8]),
}

impl<'m> Iterator for Fields<'m> {
    type Item = (u32, &'m [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let (number, Wire::Bytes(bytes)) = self.one()? {
                return Some((number, bytes));
            }
        }
    }
}

impl<'m> Fields<'m> {
    fn one(&mut self) -> Option<(u32, Wire<'m>)> {
        let key = self.varint()?;
        let wire = match key & 7 {
            0 => {
                self.varint()?;
                Wire::Number
            }
            1 => {
                self.take(8)?;
                Wire::Number
            }
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                Wire::Bytes(self.take(length)?)
            }
            3 | 4 => Wire::Group,
            5 => {
                self.take(4)?;
                Wire::Number
            }
            _ => return None,
        };
        Some((u32::try_from(key >> 3).ok()?, wire))
    }

    fn take(&mut self, length: usize) -> Option<&'m [u8]> {
        let (head, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(head)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.rest.split_first()?;
            self.rest = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::pb::envoy::config::route::v3::{RouteConfiguration, VirtualHost};

    #[test]
    fn sub_messages_are_found_in_order_as_they_were_written() {
        let host = |name: &str| VirtualHost {
            name: name.into(),
            ..VirtualHost::default()
        };
        let table = RouteConfiguration {
            name: "r".into(),
            virtual_hosts: vec![host("a"), host("b")],
            ignore_port_in_host_matching: true,
            ..RouteConfiguration::default()
        };
        let bytes = table.encode_to_vec();
        let found: Vec<_> = fields(&bytes, 2).collect();
        assert_eq!(found, [host("a").encode_to_vec(), host("b").encode_to_vec()]);
        assert_ne!(of(found[0]), of(found[1]));
    }

    #[test]
    fn a_message_without_one_field_is_still_that_message() {
        let table = RouteConfiguration {
            name: "r".into(),
            virtual_hosts: vec![VirtualHost::default(); 3],
            ignore_port_in_host_matching: true,
            ..RouteConfiguration::default()
        };
        let bytes = table.encode_to_vec();
        let rest = RouteConfiguration::decode(without(&bytes, 2).unwrap().as_slice()).unwrap();
        assert_eq!(
            rest,
            RouteConfiguration {
                virtual_hosts: Vec::new(),
                ..table
            }
        );
    }

    #[test]
    fn garbage_ends_the_search() {
        assert_eq!(fields(&[0xff; 20], 2).count(), 0);
        assert_eq!(fields(&[0x12, 0x7f, 1], 2).count(), 0);
        assert!(without(&[0x12, 0x7f, 1], 2).is_none());
        // A group that hides what looks like the field.
        assert!(without(&[0x0b, 0x12, 0x00, 0x0c], 2).is_none());
    }
}
