use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use remora_model::listener::InspectorScope;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::io::{Socket, Transport};

/// A ClientHello as rustls writes it, in one record.
fn hello(server_name: &str, alpn: &[&str]) -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let name = ServerName::try_from(server_name.to_owned()).unwrap();
    let mut connection = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let mut bytes = Vec::new();
    connection.write_tls(&mut bytes).unwrap();
    bytes
}

/// The same message in records of at most `size` bytes.
fn fragmented(record: &[u8], size: usize) -> Vec<u8> {
    record[5..]
        .chunks(size)
        .flat_map(|part| {
            let mut bytes = record[..3].to_vec();
            bytes.extend_from_slice(&(part.len() as u16).to_be_bytes());
            bytes.extend_from_slice(part);
            bytes
        })
        .collect()
}

fn at_once(inspectors: Inspectors, bytes: &[u8]) -> Verdict {
    Sniffer::new(inspectors).feed(bytes)
}

/// The verdict and how many bytes it took.
fn byte_by_byte(inspectors: Inspectors, bytes: &[u8]) -> (Verdict, usize) {
    let mut sniffer = Sniffer::new(inspectors);
    for (index, byte) in bytes.iter().enumerate() {
        let verdict = sniffer.feed(&[*byte]);
        if verdict != Verdict::More {
            return (verdict, index + 1);
        }
    }
    (Verdict::More, bytes.len())
}

fn decided(protocol: Protocol) -> Verdict {
    Verdict::Decided(protocol)
}

fn tls(server_name: Option<&str>, alpn: &[&str]) -> Verdict {
    decided(Protocol::Tls(Box::new(ClientHello {
        server_name: server_name.map(Into::into),
        alpn: alpn.iter().map(|name| name.as_bytes().into()).collect(),
    })))
}

#[test]
fn a_hello_gives_its_server_name_in_lower_case_and_its_protocols_in_order() {
    let bytes = hello("Web.Example.COM", &["istio-http/1.1", "istio", "http/1.1"]);
    let expected = tls(Some("web.example.com"), &["istio-http/1.1", "istio", "http/1.1"]);
    assert_eq!(at_once(Inspectors::Both, &bytes), expected);
    assert_eq!(at_once(Inspectors::Tls, &bytes), expected);
    assert_eq!(byte_by_byte(Inspectors::Both, &bytes), (expected, bytes.len()));
}

#[test]
fn a_hello_without_name_and_protocols_is_still_tls() {
    assert_eq!(at_once(Inspectors::Both, &hello("10.1.2.3", &[])), tls(None, &[]));
}

#[test]
fn a_hello_in_many_records_is_put_together() {
    let bytes = hello("a.example", &["h2"]);
    for size in [1, 2, 3, 4, 5, 63, 64, 200] {
        assert_eq!(
            at_once(Inspectors::Both, &fragmented(&bytes, size)),
            tls(Some("a.example"), &["h2"]),
            "{size}"
        );
    }
}

#[test]
fn tls_is_opaque_where_only_http_is_looked_for() {
    assert_eq!(
        byte_by_byte(Inspectors::Http, &hello("a", &[])),
        (decided(Protocol::Opaque), 1)
    );
    assert_eq!(
        byte_by_byte(Inspectors::Tls, b"GET / HTTP/1.1\r\n"),
        (decided(Protocol::Opaque), 1)
    );
}

#[test]
fn what_begins_like_tls_and_is_not_ends_at_the_first_wrong_byte() {
    let opaque = decided(Protocol::Opaque);
    for (bytes, needed) in [
        (b"\x16\x04".as_slice(), 2),
        (b"\x16\x03\x05", 3),
        (b"\x16\x03\x01\x41", 4),
        (b"\x16\x03\x01\x00\x00", 5),
        (b"\x16\x03\x01\x40\x01", 5),
        (b"\x16\x03\x01\x00\x05\x02", 6),
        (b"\x16\x03\x01\x10\x00\x01\x01\x00\x00", 9),
    ] {
        assert_eq!(
            byte_by_byte(Inspectors::Both, bytes),
            (opaque.clone(), needed),
            "{bytes:x?}"
        );
    }
    // A second record that is an alert.
    let mut cut = fragmented(&hello("a.example", &[]), 50);
    cut[55] = 0x15;
    assert_eq!(at_once(Inspectors::Both, &cut), opaque);
}

#[test]
fn a_hello_whose_lengths_do_not_add_up_is_not_tls() {
    let mut bytes = hello("a.example", &["h2"]);
    let session_id = 5 + 4 + 2 + 32;
    bytes[session_id] = 33;
    assert_eq!(at_once(Inspectors::Both, &bytes), decided(Protocol::Opaque));
}

#[test]
fn a_hello_longer_than_the_bound_is_not_waited_for() {
    let mut sniffer = Sniffer::new(Inspectors::Both);
    let length = MAX_HELLO - 4;
    let head = [0x16, 3, 1, 0x40, 0, 1, 0, (length >> 8) as u8, length as u8];
    assert_eq!(sniffer.feed(&head), Verdict::More);
    assert_eq!(sniffer.feed(&vec![0; length - 1]), Verdict::More);
    let length = length + 1;
    let head = [0x16, 3, 1, 0x40, 0, 1, 0, (length >> 8) as u8, length as u8];
    assert_eq!(at_once(Inspectors::Both, &head), decided(Protocol::Opaque));
}

#[test]
fn a_hello_in_endless_tiny_records_is_not_waited_for() {
    let mut bytes = vec![0x16, 3, 1, 0, 1, 1, 0x16, 3, 1, 0, 3, 0, 0x3f, 0];
    for _ in 0..2000 {
        bytes.extend_from_slice(&[0x16, 3, 1, 0, 1, 0]);
    }
    assert_eq!(at_once(Inspectors::Both, &bytes), decided(Protocol::Opaque));
}

#[test]
fn the_request_line_says_the_version() {
    for (line, protocol) in [
        ("GET / HTTP/1.1\r", Protocol::Http11),
        ("GET / HTTP/1.0\r", Protocol::Http10),
        ("GET /x?y=z HTTP/1.1\n", Protocol::Http11),
        ("\r\nPOST /x HTTP/1.1\r", Protocol::Http11),
        ("PURGE-ALL http://a/b HTTP/1.1\r", Protocol::Http11),
        ("PRIVATE * HTTP/1.1\r", Protocol::Http11),
        ("CONNECT a:443 HTTP/1.1\r", Protocol::Http11),
        ("OPTIONS * HTTP/1.0\r", Protocol::Http10),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Protocol::H2c),
    ] {
        assert_eq!(
            byte_by_byte(Inspectors::Both, line.as_bytes()),
            (decided(protocol), line.len()),
            "{line:?}"
        );
    }
}

#[test]
fn other_protocols_are_opaque_at_the_first_byte_that_says_so() {
    for (bytes, needed) in [
        (b"\0\0\0\x08\x04\xd2\x16\x2f".as_slice(), 1), // PostgreSQL's SSLRequest
        (b"*1\r\n$4\r\nPING\r\n", 3),                  // Redis
        (b"get key\r\n", 8),                           // memcached
        (b"set key 0 0 5\r\n", 9),
        (b"GET /\r\n", 6), // HTTP/0.9
        (b"GET / HTTP/2.0\r\n", 12),
        (b"GET / HTTP/1.2\r\n", 14),
        (b"GET / HTTP/1.10\r\n", 15),
        (b"GET  / HTTP/1.1\r\n", 5),
        (b"PRI * HTTP/2.0\r\n\r\nXX", 19),
        (b"SSH-2.0-OpenSSH_9\r\n", 18),
        (b"\x80\x2e\x01\x00\x02", 1), // SSLv2 hello
    ] {
        assert_eq!(
            byte_by_byte(Inspectors::Both, bytes),
            (decided(Protocol::Opaque), needed),
            "{bytes:?}"
        );
    }
}

#[test]
fn a_beginning_that_fits_waits() {
    for bytes in [
        b"".as_slice(),
        b"G",
        b"GET / HTTP/1.1",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r",
        b"\x16\x03\x01",
    ] {
        assert_eq!(at_once(Inspectors::Both, bytes), Verdict::More, "{bytes:?}");
    }
}

#[test]
fn an_endless_request_line_is_not_waited_for() {
    let mut sniffer = Sniffer::new(Inspectors::Both);
    assert_eq!(sniffer.feed(b"GET /"), Verdict::More);
    assert_eq!(sniffer.feed(&vec![b'a'; MAX_REQUEST_LINE - 6]), Verdict::More);
    assert_eq!(sniffer.feed(b"a"), decided(Protocol::Opaque));
}

fn samples() -> Vec<Vec<u8>> {
    vec![
        hello("web.example", &["h2", "http/1.1"]),
        fragmented(&hello("web.example", &["istio"]), 37),
        b"GET /index HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04".to_vec(),
        b"GET /index HTTP/1.0\r\n\r\n".to_vec(),
        b"HELO mail\r\n".to_vec(),
    ]
}

proptest! {
    #[test]
    fn every_cut_gives_the_same_verdict(sample in 0_usize..6, cuts in prop::collection::vec(0_usize..700, 0..6)) {
        let bytes = &samples()[sample];
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
        cuts.push(bytes.len());
        cuts.sort_unstable();
        let mut sniffer = Sniffer::new(Inspectors::Both);
        let (mut from, mut verdict) = (0, Verdict::More);
        for to in cuts {
            if verdict == Verdict::More {
                verdict = sniffer.feed(&bytes[from..to]);
            }
            from = to;
        }
        prop_assert_eq!(verdict, at_once(Inspectors::Both, bytes));
    }

    #[test]
    fn random_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..600), start in 0_usize..4) {
        let prefix: &[u8] = [b"".as_slice(), b"\x16\x03\x01", b"\x16\x03\x01\x01\x00\x01\x00\x00\xfc\x03\x03", b"GET "][start];
        let bytes = [prefix, &bytes].concat();
        prop_assert_eq!(at_once(Inspectors::Both, &bytes), byte_by_byte(Inspectors::Both, &bytes).0);
    }

    #[test]
    fn a_damaged_hello_does_no_harm(at in 0_usize..300, byte in any::<u8>()) {
        let mut bytes = hello("web.example", &["h2"]);
        let at = at.min(bytes.len() - 1);
        bytes[at] = byte;
        prop_assert_eq!(at_once(Inspectors::Both, &bytes), byte_by_byte(Inspectors::Both, &bytes).0);
    }
}

fn inspection(timeout: Option<Duration>, continue_on_timeout: bool) -> Inspection {
    Inspection {
        proxy: None,
        original_destination: false,
        tls: Some(InspectorScope::default()),
        http: Some(InspectorScope {
            disabled_ports: vec![(3000, 3999)],
        }),
        timeout,
        continue_on_timeout,
    }
}

#[test]
fn ports_say_which_inspectors_run() {
    let mut inspection = inspection(None, false);
    assert_eq!(Inspectors::of(&inspection, 80), Some(Inspectors::Both));
    assert_eq!(Inspectors::of(&inspection, 3306), Some(Inspectors::Tls));
    inspection.tls = None;
    assert_eq!(Inspectors::of(&inspection, 80), Some(Inspectors::Http));
    assert_eq!(Inspectors::of(&inspection, 3306), None);
}

#[tokio::test(start_paused = true)]
async fn the_bytes_come_again_after_the_sniff() {
    let (mut client, server) = tokio::io::duplex(7);
    let mut socket = Socket::new(Transport::Memory(server));
    let sent = b"GET /a HTTP/1.1\r\nHost: b\r\n\r\n";
    let writing = tokio::spawn(async move { client.write_all(sent).await });
    let found = sniff(&mut socket, Inspectors::Both, &inspection(None, false))
        .await
        .unwrap();
    assert_eq!(found, Protocol::Http11);
    assert_eq!(found.application_protocols(), [b"http/1.1".as_slice().into()]);
    let mut received = Vec::new();
    socket.read_to_end(&mut received).await.unwrap();
    assert_eq!(received, sent);
    writing.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_silent_client_ends_at_the_timeout() {
    let limit = Duration::from_secs(15);
    let (mut client, server) = tokio::io::duplex(64);
    let mut socket = Socket::new(Transport::Memory(server));
    client.write_all(b"GE").await.unwrap();
    let begun = tokio::time::Instant::now();
    let failure = sniff(&mut socket, Inspectors::Both, &inspection(Some(limit), false))
        .await
        .unwrap_err();
    assert!(matches!(failure, SniffFailure::Timeout(_)), "{failure}");
    assert_eq!(begun.elapsed(), limit);
}

#[tokio::test(start_paused = true)]
async fn with_continue_on_timeout_a_silent_client_is_opaque_and_loses_nothing() {
    let (mut client, server) = tokio::io::duplex(64);
    let mut socket = Socket::new(Transport::Memory(server));
    client.write_all(b"GE").await.unwrap();
    let inspection = inspection(Some(Duration::from_secs(1)), true);
    assert_eq!(
        sniff(&mut socket, Inspectors::Both, &inspection).await.unwrap(),
        Protocol::Opaque
    );
    drop(client);
    let mut received = Vec::new();
    socket.read_to_end(&mut received).await.unwrap();
    assert_eq!(received, b"GE");
}

#[tokio::test(start_paused = true)]
async fn an_end_after_some_bytes_is_opaque_and_before_them_closed() {
    let (mut client, server) = tokio::io::duplex(64);
    client.write_all(b"hi").await.unwrap();
    client.shutdown().await.unwrap();
    let mut socket = Socket::new(Transport::Memory(server));
    let found = sniff(&mut socket, Inspectors::Both, &inspection(None, false)).await;
    assert_eq!(found.unwrap(), Protocol::Opaque);

    let (client, server) = tokio::io::duplex(64);
    drop(client);
    let mut socket = Socket::new(Transport::Memory(server));
    let failure = sniff(&mut socket, Inspectors::Both, &inspection(None, false))
        .await
        .unwrap_err();
    assert!(matches!(failure, SniffFailure::Closed), "{failure}");
}
