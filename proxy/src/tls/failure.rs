//! Why a handshake failed: which side refused, what was expected and what was found, in one sentence.
//!
//! Holds: every failure has one of Envoy's counters and a transport failure reason in Envoy's form.

use std::io;
use std::time::Duration;

use remora_model::snapshot::SecretId;
use rustls::{AlertDescription, CertificateError, Error};

use super::verify::Refusal;

/// A handshake that did not finish.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TlsFailure {
    /// A secret that the context names has not arrived.
    #[error("secret {0:?} has not arrived from the control plane")]
    SecretNotReady(SecretId),
    /// The context and its secrets do not make a configuration.
    #[error("our TLS context cannot be used: {0}")]
    Misconfigured(String),
    /// `require_sni`, and the client sent none.
    #[error("we refused: the client sent no server name, expected one (require_sni)")]
    NoServerName,
    /// A client without a certificate, where one is required.
    #[error("we refused: the peer showed no certificate, expected one")]
    NoPeerCertificate,
    /// The peer's certificate is not to be trusted.
    #[error("we refused: the peer's certificate is not valid: {0}")]
    Untrusted(String),
    /// The peer's certificate is valid and names somebody else.
    #[error("we refused: the peer's certificate names {found}; expected {expected}")]
    WrongName {
        /// Names of the leaf.
        found: String,
        /// The matchers.
        expected: String,
    },
    /// The peer refused with this alert.
    #[error("the peer refused with the alert {:?}{}", .0, blame(*.0))]
    PeerRefused(AlertDescription),
    /// What the peer sent is no TLS that we can speak.
    #[error("no common ground with the peer: {0}")]
    Protocol(String),
    /// The handshake took longer than it may.
    #[error("the handshake was not finished within {0:?}")]
    Timeout(Duration),
    /// The peer closed in the middle of it.
    #[error("the peer closed the connection during the handshake")]
    Closed,
    /// The socket failed.
    #[error("the connection failed during the handshake: {0}")]
    Io(io::ErrorKind),
}

/// Who ended a handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// We refused the peer, or could not begin.
    Us,
    /// The peer refused us.
    Peer,
    /// Neither: time or the network.
    Neither,
}

/// Envoy's counters below `ssl.`; `secrets_not_ready` counts below the context's own prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsStat {
    /// `connection_error`
    ConnectionError,
    /// `fail_verify_error`
    FailVerifyError,
    /// `fail_verify_no_cert`
    FailVerifyNoCert,
    /// `fail_verify_san`
    FailVerifySan,
    /// `downstream_context_secrets_not_ready` or `upstream_context_secrets_not_ready`
    SecretsNotReady,
}

impl TlsStat {
    /// The counter's last name part; `secrets_not_ready` without its side.
    pub fn name(self) -> &'static str {
        match self {
            Self::ConnectionError => "connection_error",
            Self::FailVerifyError => "fail_verify_error",
            Self::FailVerifyNoCert => "fail_verify_no_cert",
            Self::FailVerifySan => "fail_verify_san",
            Self::SecretsNotReady => "context_secrets_not_ready",
        }
    }
}

impl TlsFailure {
    /// What a handshake's or a read's IO error means. In TLS 1.3 a client learns from its first read that the server
    /// refused its certificate.
    pub fn from_io(error: &io::Error) -> Self {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
            Some(tls) => Self::from_tls(tls),
            None => match error.kind() {
                io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
                    Self::Closed
                }
                kind => Self::Io(kind),
            },
        }
    }

    /// What the library refused.
    pub(super) fn from_tls(error: &Error) -> Self {
        match error {
            Error::NoCertificatesPresented => Self::NoPeerCertificate,
            Error::AlertReceived(alert) => Self::PeerRefused(*alert),
            Error::InvalidCertificate(CertificateError::Other(other)) => {
                match other.0.downcast_ref::<Refusal>() {
                    Some(Refusal::WrongName { found, expected }) => Self::WrongName {
                        found: found.clone(),
                        expected: expected.clone(),
                    },
                    Some(Refusal::Unfit(what)) => Self::Untrusted(what.clone()),
                    None => Self::Untrusted(other.0.to_string()),
                }
            }
            Error::InvalidCertificate(certificate) => Self::Untrusted(untrusted(certificate)),
            Error::InvalidCertRevocationList(list) => {
                Self::Untrusted(format!("its CRL cannot be used: {list:?}"))
            }
            other => Self::Protocol(other.to_string()),
        }
    }

    /// Who ended it.
    pub fn side(&self) -> Side {
        match self {
            Self::PeerRefused(_) | Self::Closed => Side::Peer,
            Self::Timeout(_) | Self::Io(_) => Side::Neither,
            _ => Side::Us,
        }
    }

    /// The counter to raise; `None` where Envoy counts no TLS error (it counts the connection then).
    pub fn stat(&self) -> Option<TlsStat> {
        match self {
            Self::SecretNotReady(_) => Some(TlsStat::SecretsNotReady),
            Self::NoPeerCertificate => Some(TlsStat::FailVerifyNoCert),
            Self::Untrusted(_) => Some(TlsStat::FailVerifyError),
            Self::WrongName { .. } => Some(TlsStat::FailVerifySan),
            Self::Misconfigured(_) | Self::NoServerName | Self::PeerRefused(_) | Self::Protocol(_) => {
                Some(TlsStat::ConnectionError)
            }
            Self::Timeout(_) | Self::Closed | Self::Io(_) => None,
        }
    }

    /// `%DOWNSTREAM_TRANSPORT_FAILURE_REASON%`, `%UPSTREAM_TRANSPORT_FAILURE_REASON%`: Envoy's form, so that what looks
    /// for its words finds them, with our sentence after them. Access logs replace its spaces by `_`, as Envoy's do.
    pub fn transport_failure_reason(&self) -> String {
        let (code, reason) = match self {
            Self::Untrusted(_) | Self::WrongName { .. } => (125, "CERTIFICATE_VERIFY_FAILED".to_owned()),
            Self::NoPeerCertificate => (192, "PEER_DID_NOT_RETURN_A_CERTIFICATE".to_owned()),
            Self::PeerRefused(alert) => (1000 + u32::from(u8::from(*alert)), alert_name(*alert)),
            Self::SecretNotReady(_) => return format!("TLS error: Secret is not supplied by SDS: {self}"),
            other => return format!("TLS_error: {other}:TLS_error_end"),
        };
        // Reasons of BoringSSL's SSL library (number 16).
        const LIBRARY: u32 = 16 << 24;
        format!(
            "TLS_error:|{}:SSL routines:OPENSSL_internal:{reason}:{self}:TLS_error_end",
            LIBRARY + code
        )
    }
}

/// What is wrong with a certificate, as the end of a sentence that named it.
fn untrusted(error: &CertificateError) -> String {
    match error {
        CertificateError::UnknownIssuer => "it is not issued by any of the trusted roots".into(),
        CertificateError::Revoked => "it has been revoked".into(),
        CertificateError::UnknownRevocationStatus => "no CRL says whether it has been revoked".into(),
        CertificateError::BadEncoding => "it cannot be read".into(),
        CertificateError::BadSignature => "its signature, or the one made with its key, is wrong".into(),
        other => other.to_string(),
    }
}

/// BoringSSL's name of an alert.
fn alert_name(alert: AlertDescription) -> String {
    let debug = format!("{alert:?}");
    let mut words = String::new();
    let mut before = ' ';
    for character in debug.chars() {
        if character.is_ascii_uppercase() && before.is_ascii_lowercase() {
            words.push('_');
        }
        words.push(character.to_ascii_uppercase());
        before = character;
    }
    let prefix = match u8::from(alert) {
        10 | 20 | 30 | 40..=47 => "SSLV3_ALERT",
        _ => "TLSV1_ALERT",
    };
    format!("{prefix}_{words}")
}

/// What a peer most likely means by an alert about certificates.
fn blame(alert: AlertDescription) -> &'static str {
    match alert {
        AlertDescription::UnknownCA => " (it does not trust the issuer of our certificate)",
        AlertDescription::CertificateExpired => " (our certificate has expired by its clock)",
        AlertDescription::CertificateRequired => " (it requires a certificate, and we showed none)",
        AlertDescription::BadCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::AccessDenied => " (our certificate is not one that it accepts)",
        AlertDescription::UnrecognisedName => " (it serves no such name)",
        AlertDescription::NoApplicationProtocol => " (it speaks none of the protocols offered)",
        AlertDescription::ProtocolVersion => " (no common TLS version)",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_have_envoys_form() {
        let reason = TlsFailure::PeerRefused(AlertDescription::CertificateUnknown).transport_failure_reason();
        let expected = "TLS_error:|268436502:SSL routines:OPENSSL_internal:SSLV3_ALERT_CERTIFICATE_UNKNOWN:";
        assert!(reason.starts_with(expected), "{reason}");
        let reason = TlsFailure::PeerRefused(AlertDescription::UnknownCA).transport_failure_reason();
        assert!(
            reason.starts_with("TLS_error:|268436504:SSL routines:OPENSSL_internal:TLSV1_ALERT_UNKNOWN_CA:")
        );
        let reason = TlsFailure::Untrusted("x".into()).transport_failure_reason();
        assert!(
            reason.contains("|268435581:SSL routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED:"),
            "{reason}"
        );
    }
}
