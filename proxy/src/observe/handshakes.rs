//! Counting TLS handshakes, under Envoy's names for what went wrong.

use super::metrics::TlsCounters;
use crate::tls::{Session, TlsFailure, TlsStat};

impl TlsCounters {
    /// Counts a handshake that succeeded.
    pub fn count_handshake(&self, session: &Session) {
        self.handshake.one();
        if session.resumed {
            self.session_reused.one();
        }
    }

    /// Counts a handshake that failed, under Envoy's name for its reason.
    pub fn count_failure(&self, failure: &TlsFailure) {
        match failure.stat() {
            Some(TlsStat::ConnectionError) => self.connection_error.one(),
            Some(TlsStat::FailVerifyNoCert) => self.fail_verify_no_cert.one(),
            Some(TlsStat::FailVerifyError) => self.fail_verify_error.one(),
            Some(TlsStat::FailVerifySan) => self.fail_verify_san.one(),
            // A missing secret is counted with the listener or cluster, an early end with the connection.
            Some(TlsStat::SecretsNotReady) | None => {}
        }
    }
}
