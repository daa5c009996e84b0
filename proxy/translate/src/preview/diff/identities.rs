//! Identities: who we are, whom we trust and whom a peer must be.
//!
//! Holds: certificates are told by their names, serial numbers and ends, keys never; whether a key changed is all that
//! is said of it. Where a certificate stands inside a TLS context, the context is compared like a secret.

use std::collections::BTreeMap;

use remora_model::identity::{CertificateSource, Secret, SecretKind, TlsSettings, Validation};
use x509_parser::extensions::GeneralName;

use super::{Change, Kind, Section, Side, Sides, words};
use crate::config_dump::ResourceKind;
use crate::preview::Part;
use crate::preview::check::is_hidden;
use crate::{certificate_facts, fingerprint};

/// What can be said of an identity: each fact by its name, with its values.
type Facts = BTreeMap<&'static str, Vec<String>>;

pub(super) fn compare(sides: &Sides, changes: &mut Vec<Change>) {
    let (before, after) = (all(sides, &sides.before), all(sides, &sides.after));
    for (name, new) in &after {
        match before.get(name) {
            None if name.starts_with("secret ") => changes.push(change(name, Kind::Added, told(new))),
            None => {}
            Some(old) => {
                let sentences = differences(old, new);
                if !sentences.is_empty() {
                    changes.push(change(name, Kind::Changed, sentences));
                }
            }
        }
    }
    for (name, old) in &before {
        let is_secret = name.starts_with("secret ");
        let kept =
            sides.after.rejected.keys().any(|(kind, rejected)| {
                *kind == ResourceKind::Secret && *name == format!("secret '{rejected}'")
            });
        if is_secret && !kept && !after.contains_key(name) {
            let mut sentences = told(old);
            sentences.push("what refers to it keeps the last one that it had".to_owned());
            changes.push(change(name, Kind::Removed, sentences));
        }
    }
}

fn change(name: &str, kind: Kind, sentences: Vec<String>) -> Change {
    Change {
        section: Section::Identities,
        kind,
        name: name.to_owned(),
        sentences,
        fields: Vec::new(),
    }
}

/// Every secret, and every TLS context of a listener or a cluster.
fn all(sides: &Sides, side: &Side) -> BTreeMap<String, Facts> {
    let mut found = BTreeMap::new();
    for (name, item) in side.items.iter().map(|((_, name), item)| (name, item)) {
        match &item.part {
            Part::Secret(translated) => {
                found.insert(format!("secret '{name}'"), secret(&translated.secret));
            }
            Part::Listener(listener, _) => {
                for (index, chain) in listener.chains.iter().chain(&listener.default_chain).enumerate() {
                    let Some(tls) = &chain.tls else { continue };
                    let mut facts = context(sides, &tls.settings);
                    facts.insert(
                        "requires a client certificate",
                        vec![tls.require_client_certificate.to_string()],
                    );
                    let chain = match &*chain.name {
                        "" => format!("{index}"),
                        name => format!("'{name}'"),
                    };
                    found.insert(format!("listener '{name}' chain {chain}"), facts);
                }
            }
            Part::Cluster(cluster) => {
                let sockets = &cluster.config.transport;
                let matches = sockets
                    .matches
                    .iter()
                    .map(|entry| (format!("cluster '{name}' match '{}'", entry.name), &entry.socket));
                for (label, socket) in matches.chain([(format!("cluster '{name}'"), &sockets.fallback)]) {
                    let facts = match socket.tls() {
                        None => Facts::from([("transport", vec!["plaintext".to_owned()])]),
                        Some(tls) => {
                            let mut facts = context(sides, &tls.settings);
                            facts.insert("transport", vec!["TLS".to_owned()]);
                            facts.insert("SNI", vec![tls.sni.to_string()]);
                            facts
                        }
                    };
                    found.insert(label, facts);
                }
            }
            Part::Endpoints(_) | Part::Routes(_) => {}
        }
    }
    found
}

fn context(sides: &Sides, settings: &TlsSettings) -> Facts {
    let mut facts = Facts::new();
    let by_sds = |id| {
        let name = sides.world.secrets.name(id);
        format!("secret '{}'", name.map_or("?", |name| name))
    };
    for certificate in &settings.certificates {
        match certificate {
            CertificateSource::Sds(id) => facts.entry("shows").or_default().push(by_sds(*id)),
            CertificateSource::Inline(inline) => merge(&mut facts, secret(inline)),
        }
    }
    if let Some(id) = settings.validation.sds {
        facts.entry("trusts").or_default().push(by_sds(id));
    }
    if let Some(inline) = &settings.validation.inline {
        merge(&mut facts, secret(inline));
    }
    let alpn = settings
        .alpn
        .iter()
        .map(|token| String::from_utf8_lossy(token).into_owned());
    facts.insert("ALPN", alpn.collect());
    facts.insert(
        "TLS versions",
        vec![format!("{:?} to {:?}", settings.minimum, settings.maximum)],
    );
    facts
}

fn merge(facts: &mut Facts, more: Facts) {
    for (name, values) in more {
        facts.entry(name).or_default().extend(values);
    }
}

fn secret(secret: &Secret) -> Facts {
    let mut facts = Facts::new();
    match &secret.kind {
        SecretKind::Certificate(certificate) => {
            let mut chain = certificate.chain.iter();
            if let Some(leaf) = chain.next() {
                facts.insert("certificate", vec![described(leaf)]);
                facts.insert("names in the certificate", names(leaf));
            }
            facts.insert("issued through", chain.map(|der| described(der)).collect());
            // What a dump hides cannot be compared.
            if !is_hidden(secret) {
                facts.insert(
                    "private key",
                    vec![fingerprint::of(&certificate.key.der).to_string()],
                );
            }
        }
        SecretKind::Validation(validation) => trust(validation, &mut facts),
        SecretKind::TicketKeys(keys) => {
            let keys = keys.iter().map(|key| fingerprint::of(key).to_string());
            facts.insert("session ticket keys", keys.collect());
        }
        SecretKind::Generic(bytes) => {
            facts.insert("secret value", vec![fingerprint::of(bytes).to_string()]);
        }
    }
    facts
}

fn trust(validation: &Validation, facts: &mut Facts) {
    facts.insert(
        "trusted roots",
        validation.roots.iter().map(|der| described(der)).collect(),
    );
    let accepted = validation
        .names
        .iter()
        .map(|name| format!("{:?} {}", name.kind, words::text(&name.matcher)));
    facts.insert("accepted names", accepted.collect());
    let domains = validation.trust_domains.iter().flat_map(|(domain, roots)| {
        roots
            .iter()
            .map(move |der| format!("{domain}: {}", described(der)))
    });
    facts.insert("trust domains", domains.collect());
    let revoked = validation
        .revocations
        .iter()
        .map(|crl| format!("{:016x}", fingerprint::of(crl)));
    facts.insert("revocation lists", revoked.collect());
    let flags = [
        ("accepts expired certificates", validation.allow_expired),
        ("accepts untrusted chains", validation.accept_untrusted),
        (
            "looks for revocation of the leaf only",
            validation.revocations_leaf_only,
        ),
    ];
    for (flag, set) in flags {
        facts.insert(flag, vec![set.to_string()]);
    }
}

/// `CN=a (serial 01ab, until 2026-11-20)`.
fn described(der: &[u8]) -> String {
    match certificate_facts(der) {
        Some(facts) => {
            let until = x509_parser::time::ASN1Time::from_timestamp(facts.not_after);
            let until = until.map_or_else(|_| facts.not_after.to_string(), |time| time.to_string());
            format!("{} (serial {}, until {until})", facts.subject, facts.serial)
        }
        None => "a certificate that cannot be read".to_owned(),
    }
}

/// The subject alternative names of a certificate.
fn names(der: &[u8]) -> Vec<String> {
    let Ok((_, certificate)) = x509_parser::parse_x509_certificate(der) else {
        return Vec::new();
    };
    let Ok(Some(extension)) = certificate.subject_alternative_name() else {
        return Vec::new();
    };
    let names = extension.value.general_names.iter().map(|name| match name {
        GeneralName::DNSName(name) => format!("DNS {name}"),
        GeneralName::URI(name) => format!("URI {name}"),
        GeneralName::RFC822Name(name) => format!("e-mail {name}"),
        other => other.to_string(),
    });
    names.collect()
}

/// Facts whose values are digests: that they differ is all that is said.
const SILENT: [&str; 3] = ["private key", "session ticket keys", "secret value"];

fn told(facts: &Facts) -> Vec<String> {
    facts
        .iter()
        .filter(|(name, values)| !SILENT.contains(name) && !values.is_empty() && *values != &["false"])
        .map(|(name, values)| format!("{name}: {}", values.join(", ")))
        .collect()
}

fn differences(old: &Facts, new: &Facts) -> Vec<String> {
    let none = Vec::new();
    let all: std::collections::BTreeSet<&&str> = old.keys().chain(new.keys()).collect();
    let mut sentences = Vec::new();
    for name in all {
        let (was, is) = (old.get(*name).unwrap_or(&none), new.get(*name).unwrap_or(&none));
        if was == is {
            continue;
        }
        if SILENT.contains(name) {
            if was.is_empty() || is.is_empty() {
                continue;
            }
            sentences.push(format!("{name}: changes"));
            continue;
        }
        if let ([was], [is]) = (was.as_slice(), is.as_slice()) {
            sentences.push(format!("{name}: {was} -> {is}"));
            continue;
        }
        let gone: Vec<&str> = was
            .iter()
            .filter(|value| !is.contains(value))
            .map(String::as_str)
            .collect();
        let come: Vec<&str> = is
            .iter()
            .filter(|value| !was.contains(value))
            .map(String::as_str)
            .collect();
        let mut parts = Vec::new();
        if !come.is_empty() {
            parts.push(format!("added {}", come.join(", ")));
        }
        if !gone.is_empty() {
            parts.push(format!("removed {}", gone.join(", ")));
        }
        if parts.is_empty() {
            parts.push("another order".to_owned());
        }
        sentences.push(format!("{name}: {}", parts.join("; ")));
    }
    sentences
}
