//! What JSON shows of a message, what it hides, and that it can be read back.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking and says aloud what it skips"
)]

use proptest::prelude::*;
use std::sync::LazyLock;

use prost::Message;
use remora_proto::extra::OrcaLoadReport;
use remora_proto::{Document, Pool, ReadOptions, Redaction, WriteOptions};
use serde_json::{Value, json};

const SECRET: &str = "envoy.extensions.transport_sockets.tls.v3.Secret";
const OPEN: WriteOptions = WriteOptions {
    redaction: Redaction::Nothing,
};

fn read(pool: &Pool, value: &Value, message: &str) -> Document {
    pool.read(&value.to_string(), message, ReadOptions::default())
        .unwrap()
}

#[test]
fn secrets_are_hidden_and_the_rest_is_shown() {
    let pool = Pool::load().unwrap();
    let secret = json!({"name": "s", "tls_certificate": {
        "certificate_chain": {"inline_string": "CHAIN"},
        "private_key": {"inline_string": "KEY"},
        "password": {"inline_bytes": "UEFTUw=="},
    }});
    let shown = pool
        .write(
            &read(&pool, &secret, SECRET).bytes,
            SECRET,
            WriteOptions::default(),
        )
        .unwrap();
    let expected = json!({"name": "s", "tls_certificate": {
        "certificate_chain": {"inline_string": "CHAIN"},
        "private_key": {"inline_string": "[redacted]"},
        "password": {"inline_bytes": "W3JlZGFjdGVkXQ=="},
    }});
    assert_eq!(shown, expected);
    let generic = json!({"name": "g", "generic_secret": {"secret": {"inline_string": "TOKEN"}}});
    let shown = pool
        .write(
            &read(&pool, &generic, SECRET).bytes,
            SECRET,
            WriteOptions::default(),
        )
        .unwrap();
    assert!(!shown.to_string().contains("TOKEN"), "{shown}");
    let keys = json!({"name": "k", "session_ticket_keys": {"keys": [{"filename": "/ticket"}]}});
    let shown = pool
        .write(&read(&pool, &keys, SECRET).bytes, SECRET, WriteOptions::default())
        .unwrap();
    assert!(!shown.to_string().contains("/ticket"), "{shown}");
}

#[test]
fn secrets_in_an_any_and_in_free_json_are_hidden_too() {
    let pool = Pool::load().unwrap();
    let response = json!({"resources": [
        {"@type": format!("type.googleapis.com/{SECRET}"), "name": "s", "tls_certificate": {"private_key": {"inline_string": "KEY"}}},
        {"@type": "type.googleapis.com/xds.type.v3.TypedStruct", "type_url": "x/y", "value": {"list": [{"private_key": {"inline_string": "KEY"}}]}},
    ]});
    let name = "envoy.service.discovery.v3.DiscoveryResponse";
    let shown = pool
        .write(&read(&pool, &response, name).bytes, name, WriteOptions::default())
        .unwrap();
    assert!(!shown.to_string().contains("KEY"), "{shown}");
    assert_eq!(
        shown["resources"][1]["value"],
        json!({"list": [{"private_key": {"inline_string": "[redacted]"}}]})
    );
}

#[test]
fn an_any_of_an_unknown_type_is_shown_in_base64() {
    let pool = Pool::load().unwrap();
    let shown = pool.write_any(
        "type.googleapis.com/not.Known",
        b"\x01\x02",
        WriteOptions::default(),
    );
    assert_eq!(
        shown,
        json!({"@type": "type.googleapis.com/not.Known", "value": "AQI="})
    );
}

#[test]
fn the_added_messages_are_described_as_they_are_encoded() {
    let report = OrcaLoadReport {
        cpu_utilization: 0.5,
        mem_utilization: 0.25,
        rps: 7,
        request_cost: [("a".to_owned(), 1.5)].into(),
        utilization: [("b".to_owned(), 2.5)].into(),
        rps_fractional: 7.5,
        eps: 0.1,
        named_metrics: [("c".to_owned(), 3.5)].into(),
        application_utilization: 0.75,
    };
    let pool = Pool::load().unwrap();
    let shown = pool
        .write(&report.encode_to_vec(), "xds.data.orca.v3.OrcaLoadReport", OPEN)
        .unwrap();
    let expected = json!({"cpu_utilization": 0.5, "mem_utilization": 0.25, "rps": "7", "request_cost": {"a": 1.5},
        "utilization": {"b": 2.5}, "rps_fractional": 7.5, "eps": 0.1, "named_metrics": {"c": 3.5}, "application_utilization": 0.75});
    assert_eq!(shown, expected);
}

#[test]
fn bytes_that_are_no_message_are_refused() {
    let error = Pool::load().unwrap().write(&[0xff], SECRET, OPEN).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with(&format!("the bytes are no {SECRET}")),
        "{error}"
    );
}

/// Free JSON: what a `google.protobuf.Struct` can hold.
fn free_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        any::<f64>()
            .prop_filter("JSON has no others", |value| value.is_finite())
            .prop_map(Value::from),
        ".*".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(".*", inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn duration() -> impl Strategy<Value = Value> {
    (-1000_i64..1000, 0..1_000_000_000_u32)
        .prop_map(|(seconds, nanos)| json!(format!("{seconds}.{nanos:09}s")))
}

fn cluster() -> impl Strategy<Value = Value> {
    (".*", duration(), 0..7_i32, any::<Option<u32>>(), any::<f64>(), prop::collection::btree_map(".{0,3}", free_json(), 0..4), prop::collection::vec(any::<u8>(), 0..40))
        .prop_map(|(name, timeout, policy, limit, ratio, metadata, key)| {
            use base64::Engine;
            let metadata: serde_json::Map<_, _> = metadata.into_iter().map(|(key, value)| (key, json!({"inner": value}))).collect();
            let mut cluster = json!({"name": name, "connect_timeout": timeout, "lb_policy": policy,
                "metadata": {"filter_metadata": metadata},
                "slow_start": null,
                "transport_socket": {"name": "t", "typed_config": {
                    "@type": format!("type.googleapis.com/{SECRET}"),
                    "tls_certificate": {"private_key": {"inline_bytes": base64::engine::general_purpose::STANDARD.encode(key)}}}}});
            cluster.as_object_mut().unwrap().remove("slow_start");
            if let Some(limit) = limit {
                cluster["per_connection_buffer_limit_bytes"] = json!(limit);
            }
            if ratio.is_finite() {
                cluster["common_lb_config"] = json!({"healthy_panic_threshold": {"value": ratio}});
            }
            cluster
        })
}

/// Shared by the properties: they run many cases.
static POOL: LazyLock<Pool> = LazyLock::new(|| Pool::load().unwrap());

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn json_of_a_message_reads_back_to_the_same_bytes(clusters in prop::collection::vec(cluster(), 1..4)) {
        const NAME: &str = "envoy.config.cluster.v3.Cluster";
        let pool = &*POOL;
        for cluster in clusters {
            let first = read(pool, &cluster, NAME);
            let shown = pool.write(&first.bytes, NAME, OPEN).unwrap();
            let again = read(pool, &shown, NAME);
            prop_assert_eq!(&again.bytes, &first.bytes, "{}", shown);
            prop_assert_eq!(pool.write(&again.bytes, NAME, OPEN).unwrap(), shown);
        }
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in "[ -~\n]{0,200}") {
        let pool = &*POOL;
        let _ = pool.read(&text, "envoy.config.bootstrap.v3.Bootstrap", ReadOptions::default());
    }

    #[test]
    fn no_bytes_make_the_writer_or_the_rules_panic(bytes in prop::collection::vec(any::<u8>(), 0..60), cluster in cluster(), cut in any::<prop::sample::Index>()) {
        const NAME: &str = "envoy.config.cluster.v3.Cluster";
        let mut known = read(&POOL, &cluster, NAME).bytes;
        known.splice(cut.index(known.len().max(1)).., bytes.iter().copied());
        for bytes in [bytes, known] {
            // Both agree whether these are a cluster.
            prop_assert_eq!(POOL.write(&bytes, NAME, OPEN).is_ok(), POOL.validate(&bytes, NAME).is_ok());
        }
    }
}
