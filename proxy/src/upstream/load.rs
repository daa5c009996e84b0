//! What does an answer tell of its endpoint's load: how long it took, or what it says itself (`endpoint-load-metrics`)?
//!
//! Holds: asked only where the cluster's balancing policy wants to know; the report of a head counts before that of
//! trailers, as in Envoy.

use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use http::HeaderMap;
use remora_model::balance::{LoadReport, LoadWatch, NotAReport};
use remora_model::cluster::Cluster;
use remora_model::endpoint::Endpoint;
use serde_json::Value;

const REPORT: &str = "endpoint-load-metrics";
const BINARY: &str = "endpoint-load-metrics-bin";

/// Base64 with and without padding: gRPC leaves it out.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What was seen of an endpoint's load in one attempt.
#[derive(Debug)]
pub struct Seen {
    /// When the attempt began.
    pub begun: Instant,
    /// The head of its response held a report.
    pub reported: bool,
}

impl Seen {
    /// Nothing yet.
    pub fn since(begun: Instant) -> Self {
        Self {
            begun,
            reported: false,
        }
    }
}

fn wanted(cluster: &Cluster) -> Option<&LoadWatch> {
    cluster.config.health.as_deref()?.load.as_ref()
}

/// Whether trailers may hold a report that matters.
pub fn wants_reports(cluster: &Cluster) -> bool {
    matches!(wanted(cluster), Some(LoadWatch::Reports(_)))
}

/// A head came after `took`, where that is known, when the process ran for `now`. Whether it held a report.
pub fn answered(
    cluster: &Cluster,
    endpoint: &Arc<Endpoint>,
    headers: &HeaderMap,
    (took, now): (Option<Duration>, Duration),
) -> bool {
    match wanted(cluster) {
        None => false,
        Some(LoadWatch::Times(settings)) => {
            if let Some(took) = took {
                settings.answered(&endpoint.live().watch().latency, took, now);
            }
            false
        }
        Some(LoadWatch::Reports(_)) => reported(cluster, endpoint, headers, now),
    }
}

/// An attempt ended without an answer.
pub fn failed(cluster: &Cluster, endpoint: &Arc<Endpoint>, now: Duration) {
    if let Some(LoadWatch::Times(settings)) = wanted(cluster) {
        settings.failed(&endpoint.live().watch().latency, now);
    }
}

/// Takes in the report of a head or of trailers, if there is one.
pub fn reported(cluster: &Cluster, endpoint: &Arc<Endpoint>, fields: &HeaderMap, now: Duration) -> bool {
    let Some(LoadWatch::Reports(settings)) = wanted(cluster) else {
        return false;
    };
    let Some(Ok(report)) = report_of(fields) else {
        return false;
    };
    if let Some(weight) = settings.weight(&report) {
        endpoint.live().watch().load.note(weight, now);
    }
    true
}

/// The report in these fields, in any form that Envoy reads.
fn report_of(fields: &HeaderMap) -> Option<Result<LoadReport, NotAReport>> {
    if let Some(value) = fields.get(BINARY) {
        return Some(binary(value.as_bytes()));
    }
    let value = fields.get(REPORT)?.to_str().ok()?;
    let (form, said) = value.split_once(' ')?;
    match form {
        "TEXT" => Some(LoadReport::from_text(said)),
        "JSON" => Some(json(said)),
        "BIN" => Some(binary(said.as_bytes())),
        _ => None,
    }
}

fn binary(value: &[u8]) -> Result<LoadReport, NotAReport> {
    LoadReport::from_bytes(&BASE64.decode(value).map_err(|_| NotAReport)?)
}

/// The message in protobuf's JSON.
fn json(text: &str) -> Result<LoadReport, NotAReport> {
    let Ok(Value::Object(fields)) = serde_json::from_str(text) else {
        return Err(NotAReport);
    };
    let mut report = LoadReport::default();
    for (name, value) in &fields {
        match value {
            Value::Null => {}
            Value::Object(entries) => {
                for (key, value) in entries {
                    report.set_in(name, key, number(value)?)?;
                }
            }
            value => report.set(name, number(value)?)?,
        }
    }
    Ok(report)
}

/// A number, or a number in quotes.
fn number(value: &Value) -> Result<f64, NotAReport> {
    match value {
        Value::String(text) => text.parse().map_err(|_| NotAReport),
        value => value.as_f64().ok_or(NotAReport),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &'static str, value: &str) -> Option<Option<f64>> {
        let mut fields = HeaderMap::new();
        fields.insert(name, value.parse().unwrap());
        let report = report_of(&fields)?.ok()?;
        Some(report.at("rps_fractional"))
    }

    #[test]
    fn every_form_that_envoy_reads_is_read() {
        let bytes = [&[6 << 3 | 1][..], &300f64.to_le_bytes()].concat();
        let padded = base64::engine::general_purpose::STANDARD.encode(&bytes);
        let bare = base64::engine::general_purpose::STANDARD_NO_PAD.encode(&bytes);
        let forms = [
            (REPORT, "TEXT cpu_utilization=0.5,rps_fractional=300".to_owned()),
            (
                REPORT,
                r#"JSON {"cpu_utilization":0.5,"rpsFractional":300,"namedMetrics":{"a":1}}"#.to_owned(),
            ),
            (REPORT, format!("BIN {padded}")),
            (BINARY, padded),
            (BINARY, bare),
        ];
        for (name, value) in &forms {
            assert_eq!(of(name, value), Some(Some(300.0)), "{name}: {value}");
        }
        let wrong = [
            (REPORT, "rps_fractional=300"),
            (REPORT, "XML <a/>"),
            (REPORT, r#"JSON {"rps_fractional":300,"zz":1}"#),
            (REPORT, r#"JSON {"rps_fractional":[300]}"#),
            (BINARY, "!!"),
        ];
        for (name, value) in wrong {
            assert_eq!(of(name, value), None, "{name}: {value}");
        }
    }
}
