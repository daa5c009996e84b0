//! Roots and revocation lists as the verifier wants them, read once per generation of a secret.

use rustls::pki_types::{CertificateDer, TrustAnchor};
use webpki::{CertRevocationList, OwnedCertRevocationList};

/// Roots ready for path building.
pub(super) type Anchors = Vec<TrustAnchor<'static>>;

/// Roots from DER.
///
/// # Errors
/// Which one cannot be read, and why.
pub(super) fn anchors(roots: &[Vec<u8>]) -> Result<Anchors, String> {
    let anchor = |(index, der): (usize, &Vec<u8>)| {
        let der = CertificateDer::from(der.as_slice());
        webpki::anchor_from_trusted_cert(&der)
            .map(|anchor| anchor.to_owned())
            .map_err(|error| format!("certificate {index}: {error}"))
    };
    roots.iter().enumerate().map(anchor).collect()
}

/// CRLs from DER.
///
/// # Errors
/// Which one cannot be read, and why.
pub(super) fn revocations(lists: &[Vec<u8>]) -> Result<Vec<CertRevocationList<'static>>, String> {
    let list = |(index, der): (usize, &Vec<u8>)| {
        OwnedCertRevocationList::from_der(der)
            .map(CertRevocationList::from)
            .map_err(|error| format!("crl: list {index}: {error}"))
    };
    lists.iter().enumerate().map(list).collect()
}
