//! `/certs`: the certificates in use, with their names and how long they hold.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use remora_model::identity::{CertificateSource, Secret, SecretKind, TlsSettings};
use remora_model::snapshot::Snapshot;
use serde_json::{Value, json};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::AdminContext;
use super::body::{Answer, json as json_answer};
use crate::observe::time_text::rfc3339;

/// `envoy.admin.v3.Certificates`: an entry for each secret that stands in the world.
pub(super) fn certs(context: &AdminContext) -> Answer {
    let now = SystemTime::now();
    let secrets = secrets(&context.operator.snapshot());
    let certificates: Vec<Value> = secrets.iter().filter_map(|secret| entry(secret, now)).collect();
    json_answer(&json!({ "certificates": certificates }))
}

/// Every secret once: those that SDS delivered, then those inside of contexts.
fn secrets(snapshot: &Snapshot) -> Vec<Arc<Secret>> {
    let mut found: Vec<Arc<Secret>> = snapshot
        .secrets
        .iter()
        .map(|(_, secret)| Arc::clone(secret))
        .collect();
    found.extend(snapshot.server_contexts().flat_map(|tls| inline(&tls.settings)));
    found.extend(snapshot.client_contexts().flat_map(|tls| inline(&tls.settings)));
    let mut seen = HashSet::new();
    found.retain(|secret| seen.insert(secret.generation));
    found
}

fn inline(settings: &TlsSettings) -> Vec<Arc<Secret>> {
    let certificates = settings.certificates.iter().filter_map(|source| match source {
        CertificateSource::Inline(secret) => Some(Arc::clone(secret)),
        CertificateSource::Sds(_) => None,
    });
    certificates
        .chain(settings.validation.inline.iter().map(Arc::clone))
        .collect()
}

fn entry(secret: &Secret, now: SystemTime) -> Option<Value> {
    let path = if secret.name.is_empty() {
        "<inline>"
    } else {
        &*secret.name
    };
    match &secret.kind {
        SecretKind::Certificate(certificate) => {
            let leaf = certificate.chain.first().and_then(|der| details(der, path, now));
            Some(json!({ "ca_cert": [], "cert_chain": leaf.into_iter().collect::<Vec<_>>() }))
        }
        SecretKind::Validation(validation) => {
            let of_domains = validation.trust_domains.iter().flat_map(|(_, roots)| roots);
            let roots: Vec<Value> = validation
                .roots
                .iter()
                .chain(of_domains)
                .filter_map(|der| details(der, path, now))
                .collect();
            (!roots.is_empty()).then(|| json!({ "ca_cert": roots, "cert_chain": [] }))
        }
        SecretKind::TicketKeys(_) | SecretKind::Generic(_) => None,
    }
}

/// `envoy.admin.v3.CertificateDetails`; `None` for bytes that are no certificate.
fn details(der: &[u8], path: &str, now: SystemTime) -> Option<Value> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let validity = certificate.validity();
    let at = |seconds: i64| UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    let (from, until) = (
        at(validity.not_before.timestamp()),
        at(validity.not_after.timestamp()),
    );
    let days = until
        .duration_since(now)
        .map_or(0, |left| left.as_secs() / 86_400);
    let names = certificate.subject_alternative_name().ok().flatten();
    let names: Vec<Value> = names
        .iter()
        .flat_map(|extension| &extension.value.general_names)
        .filter_map(name_json)
        .collect();
    Some(json!({
        "path": path,
        "serial_number": hexadecimal(certificate.raw_serial()),
        "subject_alt_names": names,
        "days_until_expiration": days.to_string(),
        "valid_from": whole_seconds(from),
        "expiration_time": whole_seconds(until),
    }))
}

fn name_json(name: &GeneralName<'_>) -> Option<Value> {
    match name {
        GeneralName::DNSName(name) => Some(json!({ "dns": name })),
        GeneralName::URI(uri) => Some(json!({ "uri": uri })),
        GeneralName::IPAddress(octets) => {
            let ip = match octets.len() {
                4 => <[u8; 4]>::try_from(*octets)
                    .ok()
                    .map(|octets| std::net::IpAddr::from(octets).to_string()),
                _ => <[u8; 16]>::try_from(*octets)
                    .ok()
                    .map(|octets| std::net::IpAddr::from(octets).to_string()),
            };
            Some(json!({ "ip_address": ip? }))
        }
        _ => None,
    }
}

/// Lower-case, without the zero that keeps the number positive.
fn hexadecimal(serial: &[u8]) -> String {
    let digits = match serial {
        [0, rest @ ..] if !rest.is_empty() => rest,
        all => all,
    };
    digits.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// As protobuf's JSON writes a time without fraction.
fn whole_seconds(time: SystemTime) -> String {
    rfc3339(time).replace(".000Z", "Z")
}
