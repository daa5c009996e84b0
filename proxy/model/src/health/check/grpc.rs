//! What does an encoded `grpc.health.v1.HealthCheckResponse` say?
//!
//! One field of one message is no reason for the model to know protobuf; fields that it does not know are skipped.

/// `ServingStatus.SERVING`.
const SERVING: u64 = 1;

/// Whether the service serves; `None` where these bytes are no such message.
pub fn says_serving(mut message: &[u8]) -> Option<bool> {
    let mut status = 0;
    while !message.is_empty() {
        let tag = varint(&mut message)?;
        let skipped = match tag & 7 {
            0 => {
                let value = varint(&mut message)?;
                if tag >> 3 == 1 {
                    status = value;
                }
                0
            }
            1 => 8,
            2 => usize::try_from(varint(&mut message)?).ok()?,
            5 => 4,
            _ => return None,
        };
        message = message.get(skipped..)?;
    }
    Some(status == SERVING)
}

/// Seven bits a byte, the lowest first, ten bytes at most.
fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for place in 0..10 {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_status_counts_and_unknown_fields_do_not() {
        assert_eq!(says_serving(&[]), Some(false));
        assert_eq!(says_serving(&[8, 1]), Some(true));
        assert_eq!(says_serving(&[8, 1, 8, 2]), Some(false));
        assert_eq!(
            says_serving(&[18, 2, 8, 2, 8, 1, 21, 0, 0, 0, 0, 25, 0, 0, 0, 0, 0, 0, 0, 0]),
            Some(true)
        );
        assert_eq!(says_serving(&[8, 0x81, 0]), Some(true));
    }

    #[test]
    fn what_is_cut_or_no_message_says_nothing() {
        for broken in [
            &[8][..],
            &[18, 5, 0],
            &[11],
            &[25, 0],
            &[8, 0x80],
            &[0x80; 12],
            &[8, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255],
        ] {
            assert_eq!(says_serving(broken), None, "{broken:?}");
        }
    }
}
