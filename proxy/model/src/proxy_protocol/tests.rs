//! Headers as others write them, as we write them, and as nobody should.

use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;

const ANY: Strictness = Strictness {
    v1: true,
    v2: true,
    optional: false,
};

fn ends(bytes: &[u8]) -> Option<(String, String)> {
    match parse(bytes, ANY) {
        Outcome::Header { said: Some(said), .. } => {
            Some((said.source.to_string(), said.destination.to_string()))
        }
        _ => None,
    }
}

#[test]
fn lines_that_the_specification_has_are_read() {
    let both = |from: &str, to: &str| Some((from.to_owned(), to.to_owned()));
    assert_eq!(
        ends(b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\nGET /"),
        both("192.0.2.1:56324", "198.51.100.2:443")
    );
    assert_eq!(
        ends(b"PROXY TCP6 2001:db8::1 2001:db8::2 0 65535\r\n"),
        both("[2001:db8::1]:0", "[2001:db8::2]:65535")
    );
    for line in ["PROXY UNKNOWN\r\n", "PROXY UNKNOWN ffff:: 1 2 3\r\n"] {
        let outcome = parse(line.as_bytes(), ANY);
        let Outcome::Header {
            said: None, length, ..
        } = outcome
        else {
            panic!("{line}: {outcome:?}")
        };
        assert_eq!(length, line.len());
    }
}

#[test]
fn lines_that_break_the_protocol_are_refused() {
    let long = format!("PROXY UNKNOWN {}\r\n", "a".repeat(92));
    for line in [
        "PROXY TCP4 1.2.3.4 5.6.7.8 1111 99999\r\n",
        "PROXY TCP4 1.2.3.444 5.6.7.8 1111 2222\r\n",
        "PROXY TCP4 01.2.3.4 5.6.7.8 1111 2222\r\n",
        "PROXY TCP4 ::1 ::2 1111 2222\r\n",
        "PROXY TCP6 1.2.3.4 5.6.7.8 1111 2222\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 1111\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 1111 2222 3\r\n",
        "PROXY  TCP4 1.2.3.4 5.6.7.8 1111 2222\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 +1111 2222\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 01111 2222\r\n",
        "PROXY TCP4 224.0.0.1 5.6.7.8 1111 2222\r\n",
        "PROXY TCP4 0.0.0.0 5.6.7.8 1111 2222\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 1111 2222\nhello\r\n",
        "PROXY UDP4 1.2.3.4 5.6.7.8 1111 2222\r\n",
        "PROXY UNKNOWNS\r\n",
        "PROXY \r\n",
        &long,
    ] {
        assert_eq!(
            parse(line.as_bytes(), ANY),
            Outcome::Wrong(Version::V1),
            "{line:?}"
        );
    }
}

fn binary(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = parse::V2.to_vec();
    bytes.extend([command, family]);
    bytes.extend((body.len() as u16).to_be_bytes());
    bytes.extend(body);
    bytes
}

#[test]
fn binary_headers_that_break_the_protocol_are_refused() {
    let ends = [1, 2, 3, 4, 5, 6, 7, 8, 4, 87, 8, 174];
    let cut = [&ends[..], &[0xea, 0, 9, b'a']].concat();
    for (what, header) in [
        ("version", binary(0x11, 0x11, &ends)),
        ("command", binary(0x22, 0x11, &ends)),
        ("family", binary(0x21, 0x41, &ends)),
        ("unspecified", binary(0x21, 0, b"abc")),
        ("unix", binary(0x21, 0x31, &[0; 216])),
        ("addresses", binary(0x21, 0x11, &ends[..11])),
        ("tlv", binary(0x21, 0x11, &cut)),
    ] {
        assert_eq!(parse(&header, ANY), Outcome::Wrong(Version::V2), "{what}");
    }
    let local = binary(0x20, 0, b"whatever");
    assert!(matches!(
        parse(&local, ANY),
        Outcome::Header {
            said: None,
            length: 24,
            ..
        }
    ));
}

#[test]
fn a_version_may_be_disallowed_and_a_header_optional() {
    let (text, binary) = (&b"PROXY UNKNOWN\r\n"[..], binary(0x20, 0, b""));
    let only = |v1, v2, optional| Strictness { v1, v2, optional };
    assert_eq!(
        parse(text, only(false, true, false)),
        Outcome::Disallowed(Version::V1)
    );
    assert_eq!(
        parse(&binary, only(true, false, false)),
        Outcome::Disallowed(Version::V2)
    );
    assert_eq!(parse(text, only(false, true, true)), Outcome::NoHeader);
    assert_eq!(parse(&binary, only(true, false, true)), Outcome::NoHeader);
    for (begin, expected) in [
        ("", Outcome::More),
        ("PROXY", Outcome::More),
        ("PROXYx", Outcome::NoHeader),
        ("\r\n\r\n", Outcome::More),
        ("\r\n\r\nx", Outcome::NoHeader),
        ("GET", Outcome::NoHeader),
    ] {
        assert_eq!(parse(begin.as_bytes(), ANY), expected, "{begin:?}");
    }
}

#[test]
fn rules_make_metadata_of_the_first_tlv_of_a_type() {
    let rule = |kind, key: &str, encoding| TlvRule {
        kind,
        namespace: "n".into(),
        key: key.into(),
        encoding,
    };
    let filter = ProxyFilter {
        scope: InspectorScope::default(),
        strictness: ANY,
        keep: Passing::None,
        rules: vec![
            rule(2, "text", TlvEncoding::Text),
            rule(3, "bytes", TlvEncoding::Base64),
            rule(4, "absent", TlvEncoding::Text),
        ],
        stat_name: "proxy_proto".into(),
    };
    let tlv = |kind, value: &'static [u8]| Tlv {
        kind,
        value: Bytes::from_static(value),
    };
    let tlvs = [tlv(2, b"a\xff\xc3b"), tlv(2, b"second"), tlv(3, b"x")];
    let made = filter.metadata(&tlvs, |bytes| format!("base64 of {bytes:?}"));
    let made: Vec<_> = made.iter().map(|(_, key, text)| (&**key, &**text)).collect();
    assert_eq!(made, [("text", "a!!b"), ("bytes", "base64 of [120]")]);
}

#[test]
fn own_tlvs_meet_those_of_the_connection_by_policy() {
    let tlv = |kind, value: &'static str| Tlv {
        kind,
        value: value.into(),
    };
    let theirs = [tlv(1, "theirs"), tlv(2, "theirs")];
    let merged = |merge, theirs: Option<&[Tlv]>| {
        let own = OwnTlvs {
            tlvs: vec![tlv(2, "own")],
            merge,
        };
        let all = own.over(theirs);
        all.iter()
            .map(|tlv| format!("{}{}", tlv.kind, String::from_utf8_lossy(&tlv.value)))
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(merged(Merge::AddIfAbsent, None), "2own");
    assert_eq!(merged(Merge::AddIfAbsent, Some(&theirs)), "1theirs 2theirs");
    assert_eq!(merged(Merge::Overwrite, Some(&theirs)), "1theirs 2own");
    assert_eq!(merged(Merge::Append, Some(&theirs)), "1theirs 2theirs 2own");
}

fn address() -> impl Strategy<Value = (SocketAddr, SocketAddr)> {
    let four = (1u32..0xe000_0000, any::<u16>()).prop_map(|(ip, port)| (Ipv4Addr::from(ip), port).into());
    // Neither unspecified, nor multicast, nor IPv4 in disguise.
    let six =
        (1u128..1 << 120, any::<u16>()).prop_map(|(ip, port)| (Ipv6Addr::from(ip | 1 << 124), port).into());
    prop_oneof![(four.clone(), four), (six.clone(), six)]
}

fn tlvs() -> impl Strategy<Value = Vec<Tlv>> {
    let tlv = (any::<u8>(), proptest::collection::vec(any::<u8>(), 0..20)).prop_map(|(kind, value)| Tlv {
        kind,
        value: value.into(),
    });
    proptest::collection::vec(tlv, 0..5)
}

proptest! {
    #[test]
    fn what_is_written_is_read_however_it_is_cut(
        (source, destination) in address(), tlvs in tlvs(), text in any::<bool>(), rest in any::<[u8; 3]>()
    ) {
        let version = if text { Version::V1 } else { Version::V2 };
        let config = UpstreamHeader { version, pass: Passing::All, added: Vec::new() };
        let said = Announced { source, destination, tlvs };
        let mut bytes = write(&config, Some(&said));
        let length = bytes.len();
        for cut in 0..length {
            prop_assert_eq!(parse(&bytes[..cut], ANY), Outcome::More, "cut at {}", cut);
        }
        bytes.extend(rest);
        let expected = Announced { tlvs: if text { Vec::new() } else { said.tlvs.clone() }, ..said };
        prop_assert_eq!(parse(&bytes, ANY), Outcome::Header { version, length, said: Some(Box::new(expected)) });
    }

    #[test]
    fn no_bytes_panic_and_no_header_is_longer_than_they_are(
        signature in 0usize..3, bytes in proptest::collection::vec(any::<u8>(), 0..200)
    ) {
        let begin = [&b"PROXY "[..], &parse::V2[..], b""][signature];
        let bytes = [begin, &bytes].concat();
        if let Outcome::Header { length, .. } = parse(&bytes, ANY) {
            prop_assert!(length <= bytes.len() && length <= LONGEST);
        }
    }
}
