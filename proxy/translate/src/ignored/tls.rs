//! Verdicts on TLS contexts and secrets.

use crate::pb::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, CommonTlsContext, DownstreamTlsContext, TlsCertificate, TlsParameters,
    UpstreamTlsContext,
};
use crate::reviewed::reviewed;

reviewed! { DownstreamTlsContext as "DownstreamTlsContext" {
    honoured: [
        common_tls_context, require_client_certificate, require_sni, disable_stateful_session_resumption,
        session_timeout, ocsp_staple_policy, session_ticket_keys_type,
    ]
    ignored: {
        full_scan_certs_on_sni_mismatch: "the first certificate is used where no name fits",
        prefer_client_ciphers: "tuning: the order of cipher suites",
    }
    refused: {}
} }

reviewed! { UpstreamTlsContext as "UpstreamTlsContext" {
    honoured: [common_tls_context, sni, auto_host_sni, auto_sni_san_validation, max_session_keys]
    ignored: {
        allow_renegotiation: "renegotiation is never done, which is the strict side",
        enforce_rsa_key_usage: "it guards RSA key exchange, which is never offered",
    }
    refused: {}
} }

reviewed! { CommonTlsContext as "CommonTlsContext" {
    honoured: [
        tls_params, tls_certificates, tls_certificate_sds_secret_configs, alpn_protocols, validation_context_type,
    ]
    ignored: { key_log: "session keys are never written to disk" }
    refused: {
        tls_certificate_provider_instance: "certificates by provider plug-in",
        custom_tls_certificate_selector: "it decides which identity is shown",
        tls_certificate_certificate_provider: "certificates by provider plug-in",
        tls_certificate_certificate_provider_instance: "certificates by provider plug-in",
        custom_handshaker: "TLS handshakes of a custom kind",
    }
} }

reviewed! { TlsParameters as "TlsParameters" {
    honoured: [tls_minimum_protocol_version, tls_maximum_protocol_version, cipher_suites, ecdh_curves]
    ignored: { signature_algorithms: "only ECDSA, Ed25519 and RSA with SHA-2 are ever offered or accepted" }
    refused: { compliance_policies: "compliance policies (FIPS, CNSA)" }
} }

reviewed! { TlsCertificate as "TlsCertificate" {
    honoured: [certificate_chain, private_key, watched_directory, password]
    ignored: {
        ocsp_staple: "stapling is not supported yet; clients that must have a staple refuse the handshake",
        signed_certificate_timestamp: "clients that must have a timestamp refuse the handshake",
    }
    refused: {
        pkcs12: "PKCS#12 containers; use certificate_chain and private_key",
        private_key_provider: "private keys held by a provider",
        tls_params: "TLS parameters of one certificate",
    }
} }

reviewed! { CertificateValidationContext as "CertificateValidationContext" {
    honoured: [
        trusted_ca, watched_directory, match_typed_subject_alt_names, match_subject_alt_names,
        require_signed_certificate_timestamp, crl, allow_expired_certificate, trust_chain_verification,
        custom_validator_config, only_verify_leaf_cert_crl, verify_certificate_hash,
        verify_certificate_spki, max_verify_depth,
    ]
    ignored: { suppress_client_ca_list: "a hint to clients only" }
    refused: {
        ca_certificate_provider_instance: "trust roots by provider plug-in",
        system_root_certs: "the system's trust roots",
    }
} }
