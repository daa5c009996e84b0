//! TLS contexts of both sides: which identity is shown, whom the peer must prove to be, with which protocol versions.
//!
//! Holds: certificates stand in the context or are subscribed to by SDS; `istio-peer-exchange` is never offered nor
//! selected, because its wire format (an in-band metadata prefix) is not spoken; versions, ciphers and curves are cut
//! to what the TLS library has, and nothing left is a problem.

use std::time::Duration;

use remora_model::identity::{
    CertificateSource, ClientTls, Prepared, SecretKind, ServerTls, TlsSettings, TlsVersion, ValidationSource,
};
use remora_model::snapshot::SecretId;

use crate::context::Work;
use crate::pb::envoy::extensions::transport_sockets::tls::v3::{
    self as api, common_tls_context::ValidationContextType, downstream_tls_context::OcspStaplePolicy,
    downstream_tls_context::SessionTicketKeysType, tls_parameters::TlsProtocol,
};
use crate::secret::{self, inline};
use crate::subscription::{Subscription, SubscriptionKind, note, subscribe};
use crate::{validation, value};

/// Istio's ALPN token for its in-band TCP metadata exchange.
pub(crate) const PEER_EXCHANGE: &str = "istio-peer-exchange";

/// Cipher suites of TLS 1.2 that the TLS library has: OpenSSL's name and the registry's.
const CIPHERS: [(&str, &str); 6] = [
    (
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    ),
    (
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    ),
    (
        "ECDHE-ECDSA-CHACHA20-POLY1305",
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    ),
    (
        "ECDHE-RSA-AES128-GCM-SHA256",
        "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    ),
    (
        "ECDHE-RSA-AES256-GCM-SHA384",
        "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    ),
    (
        "ECDHE-RSA-CHACHA20-POLY1305",
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
    ),
];

/// Cipher suites that Envoy knows and the TLS library does not have (CBC, static RSA, PSK, 3DES).
const OTHER_CIPHERS: [&str; 13] = [
    "ECDHE-ECDSA-AES128-SHA",
    "ECDHE-ECDSA-AES256-SHA",
    "ECDHE-RSA-AES128-SHA",
    "ECDHE-RSA-AES128-SHA256",
    "ECDHE-RSA-AES256-SHA",
    "ECDHE-PSK-AES128-CBC-SHA",
    "ECDHE-PSK-AES256-CBC-SHA",
    "ECDHE-PSK-CHACHA20-POLY1305",
    "AES128-GCM-SHA256",
    "AES256-GCM-SHA384",
    "AES128-SHA",
    "AES256-SHA",
    "DES-CBC3-SHA",
];

/// Key exchange groups that the TLS library has: BoringSSL's name and OpenSSL's.
const CURVES: [(&str, &str); 4] = [
    ("X25519", "x25519"),
    ("P-256", "prime256v1"),
    ("P-384", "secp384r1"),
    ("X25519MLKEM768", "X25519MLKEM768"),
];

/// Key exchange groups that Envoy knows and the TLS library does not have.
const OTHER_CURVES: [&str; 4] = ["P-224", "secp224r1", "P-521", "secp521r1"];

/// Which end of a connection a context is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Server,
    Client,
}

/// A `DownstreamTlsContext`.
pub(crate) fn server(work: &mut Work<'_, '_>, said: &api::DownstreamTlsContext) -> Option<ServerTls> {
    work.review(said);
    let settings = settings(work, said.common_tls_context.as_ref(), Side::Server);
    match value::known(work, "ocsp_staple_policy", said.ocsp_staple_policy)? {
        OcspStaplePolicy::LenientStapling => {}
        policy @ (OcspStaplePolicy::StrictStapling | OcspStaplePolicy::MustStaple) => {
            work.wrong_at(
                "ocsp_staple_policy",
                format!("is not supported: {}", policy.as_str_name()),
            );
        }
    }
    let disable_tickets = match &said.session_ticket_keys_type {
        Some(SessionTicketKeysType::DisableStatelessSessionResumption(disable)) => *disable,
        Some(
            SessionTicketKeysType::SessionTicketKeys(_)
            | SessionTicketKeysType::SessionTicketKeysSdsSecretConfig(_),
        ) => {
            work.ignored("DownstreamTlsContext.session_ticket_keys");
            false
        }
        None => false,
    };
    let timeout =
        value::duration(work, "session_timeout", said.session_timeout.as_ref()).unwrap_or(Duration::ZERO);
    Some(ServerTls {
        settings: settings?,
        require_client_certificate: value::bool_or(said.require_client_certificate.as_ref(), false),
        require_sni: value::bool_or(said.require_sni.as_ref(), false),
        disable_tickets,
        disable_session_cache: said.disable_stateful_session_resumption,
        session_timeout_seconds: timeout.as_secs(),
        prepared: Prepared::default(),
    })
}

/// An `UpstreamTlsContext`.
pub(crate) fn client(work: &mut Work<'_, '_>, said: &api::UpstreamTlsContext) -> Option<ClientTls> {
    work.review(said);
    let settings = settings(work, said.common_tls_context.as_ref(), Side::Client);
    if said.sni.len() > 255 {
        work.wrong_at(
            "sni",
            format!("expected at most 255 bytes, found {}", said.sni.len()),
        );
    }
    let max_session_keys = said.max_session_keys.as_ref().map_or(1, |keys| keys.value);
    Some(ClientTls {
        settings: settings?,
        sni: said.sni.as_str().into(),
        auto_host_sni: said.auto_host_sni,
        auto_sni_san_validation: said.auto_sni_san_validation || work.names_judged,
        max_session_keys,
        id: ClientTls::next_id(),
        fingerprint: 0,
        prepared: Prepared::default(),
    })
}

fn settings(
    work: &mut Work<'_, '_>,
    said: Option<&api::CommonTlsContext>,
    side: Side,
) -> Option<TlsSettings> {
    let empty = api::CommonTlsContext::default();
    let said = said.unwrap_or(&empty);
    work.at("common_tls_context", |work| {
        work.review(said);
        let certificates = certificates(work, said, side);
        let validation = validation_source(work, said);
        let alpn = work.each("alpn_protocols", &said.alpn_protocols, |work, token| {
            if token.is_empty() || token.len() > 255 {
                work.wrong(format!("expected 1 to 255 bytes, found {}", token.len()));
                return None;
            }
            (token != PEER_EXCHANGE).then(|| Box::from(token.as_bytes()))
        });
        let mut settings = TlsSettings {
            certificates,
            validation: validation?,
            alpn,
            minimum: TlsVersion::V1_2,
            maximum: TlsVersion::V1_3,
            ciphers: Vec::new(),
            curves: Vec::new(),
        };
        if let Some(said) = &said.tls_params {
            work.at("tls_params", |work| parameters(work, said, &mut settings));
        }
        Some(settings)
    })
}

fn certificates(work: &mut Work<'_, '_>, said: &api::CommonTlsContext, side: Side) -> Vec<CertificateSource> {
    let (inlined, by_sds) = (&said.tls_certificates, &said.tls_certificate_sds_secret_configs);
    let many = match side {
        Side::Server if inlined.is_empty() && by_sds.is_empty() => {
            Some("No TLS certificates found for server context")
        }
        Side::Server if !inlined.is_empty() && !by_sds.is_empty() => {
            Some("SDS and non-SDS TLS certificates may not be mixed in server contexts")
        }
        Side::Client if inlined.len() + by_sds.len() > 1 => {
            Some("Multiple TLS certificates are not supported for client contexts")
        }
        Side::Server | Side::Client => None,
    };
    if let Some(sentence) = many {
        work.wrong(sentence);
    }
    let mut sources = work.each("tls_certificates", inlined, |work, said| {
        let certificate = secret::certificate(work, said)?;
        Some(CertificateSource::Inline(inline(SecretKind::Certificate(
            certificate,
        ))))
    });
    sources.extend(
        work.each("tls_certificate_sds_secret_configs", by_sds, |work, said| {
            sds(work, said).map(CertificateSource::Sds)
        }),
    );
    sources
}

fn validation_source(work: &mut Work<'_, '_>, said: &api::CommonTlsContext) -> Option<ValidationSource> {
    let Some(kind) = &said.validation_context_type else {
        return Some(ValidationSource::default());
    };
    match kind {
        ValidationContextType::ValidationContext(context) => work.at("validation_context", |work| {
            let validation = validation::context(work, context)?;
            validation::alone(work, &validation);
            Some(ValidationSource {
                inline: Some(inline(SecretKind::Validation(validation))),
                sds: None,
            })
        }),
        ValidationContextType::ValidationContextSdsSecretConfig(config) => {
            let sds = work.at("validation_context_sds_secret_config", |work| sds(work, config))?;
            Some(ValidationSource {
                inline: None,
                sds: Some(sds),
            })
        }
        ValidationContextType::CombinedValidationContext(combined) => work
            .at("combined_validation_context", |work| {
                combined_source(work, combined)
            }),
        ValidationContextType::ValidationContextCertificateProvider(_)
        | ValidationContextType::ValidationContextCertificateProviderInstance(_) => {
            work.wrong("is not supported: validation contexts by provider plug-in");
            None
        }
    }
}

fn combined_source(
    work: &mut Work<'_, '_>,
    said: &api::common_tls_context::CombinedCertificateValidationContext,
) -> Option<ValidationSource> {
    if said.validation_context_certificate_provider.is_some()
        || said.validation_context_certificate_provider_instance.is_some()
    {
        work.wrong("is not supported: validation contexts by provider plug-in");
    }
    let Some(default) = &said.default_validation_context else {
        work.wrong_at(
            "default_validation_context",
            "expected a validation context, found none",
        );
        return None;
    };
    let validation = work.at("default_validation_context", |work| {
        validation::context(work, default)
    });
    let Some(config) = &said.validation_context_sds_secret_config else {
        work.wrong_at(
            "validation_context_sds_secret_config",
            "expected an SDS secret, found none",
        );
        return None;
    };
    let sds = work.at("validation_context_sds_secret_config", |work| sds(work, config));
    Some(ValidationSource {
        inline: Some(inline(SecretKind::Validation(validation?))),
        sds: Some(sds?),
    })
}

/// An `SdsSecretConfig`; without a source the secret stands in the bootstrap.
fn sds(work: &mut Work<'_, '_>, said: &api::SdsSecretConfig) -> Option<SecretId> {
    let name = value::required(work, "name", &said.name)?;
    if said.sds_config.is_some() {
        subscribe(
            work,
            SubscriptionKind::Secret,
            name,
            "sds_config",
            said.sds_config.as_ref(),
        )?;
    } else {
        let kind = SubscriptionKind::Secret;
        note(
            work,
            Subscription {
                kind,
                name: name.into(),
                source: None,
                initial_fetch_timeout: None,
            },
        );
    }
    Some(work.context.secrets.id(name))
}

fn parameters(work: &mut Work<'_, '_>, said: &api::TlsParameters, settings: &mut TlsSettings) {
    work.review(said);
    let minimum: Option<TlsProtocol> = value::known(
        work,
        "tls_minimum_protocol_version",
        said.tls_minimum_protocol_version,
    );
    let maximum = value::known(
        work,
        "tls_maximum_protocol_version",
        said.tls_maximum_protocol_version,
    );
    let (Some(minimum), Some(maximum)) = (minimum, maximum) else {
        return;
    };
    if minimum == TlsProtocol::TlSv13 {
        settings.minimum = TlsVersion::V1_3;
    }
    match maximum {
        TlsProtocol::TlSv10 | TlsProtocol::TlSv11 => {
            let found = maximum.as_str_name();
            work.wrong_at(
                "tls_maximum_protocol_version",
                format!("expected TLSv1_2 or TLSv1_3, found {found}"),
            );
        }
        TlsProtocol::TlSv12 => settings.maximum = TlsVersion::V1_2,
        TlsProtocol::TlsAuto | TlsProtocol::TlSv13 => {}
    }
    if settings.minimum > settings.maximum {
        work.wrong_at(
            "tls_minimum_protocol_version",
            "expected at most tls_maximum_protocol_version",
        );
    }
    settings.ciphers = ciphers(work, &said.cipher_suites, settings.minimum);
    settings.curves = curves(work, &said.ecdh_curves);
}

/// The suites that can be had; a name that nobody knows is a problem, as is a list of which nothing is left for TLS 1.2.
fn ciphers(work: &mut Work<'_, '_>, said: &[String], minimum: TlsVersion) -> Vec<Box<str>> {
    let names = said
        .iter()
        .flat_map(|entry| entry.trim_matches(['[', ']']).split('|'));
    let mut had = Vec::new();
    for name in names {
        if let Some((openssl, _)) = CIPHERS
            .iter()
            .find(|(openssl, registry)| *openssl == name || *registry == name)
        {
            had.push(Box::from(*openssl));
        } else if !OTHER_CIPHERS.contains(&name)
            && !name.starts_with("TLS_RSA_")
            && !name.starts_with("TLS_ECDHE_")
        {
            work.wrong_at(
                "cipher_suites",
                format!("Failed to initialize cipher suites: '{name}' is not known"),
            );
        }
    }
    if !said.is_empty() && had.is_empty() && minimum == TlsVersion::V1_2 {
        work.wrong_at(
            "cipher_suites",
            format!("none of {} is supported", said.join(", ")),
        );
    }
    had
}

/// The groups that can be had; a name that nobody knows is a problem, as is a list of which nothing is left.
fn curves(work: &mut Work<'_, '_>, said: &[String]) -> Vec<Box<str>> {
    let mut had = Vec::new();
    for name in said {
        if let Some((curve, _)) = CURVES
            .iter()
            .find(|(curve, other)| name == curve || name == other)
        {
            had.push(Box::from(*curve));
        } else if !OTHER_CURVES.contains(&name.as_str()) {
            work.wrong_at(
                "ecdh_curves",
                format!("Failed to initialize ECDH curves: '{name}' is not known"),
            );
        }
    }
    if !said.is_empty() && had.is_empty() {
        work.wrong_at("ecdh_curves", format!("none of {} is supported", said.join(", ")));
    }
    had
}
