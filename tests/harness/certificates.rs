//! Who signs the test's certificates? A throw-away authority, made afresh for every test.
//!
//! Leaves are P-256 with URI SANs (SPIFFE ids) and serve both as server and as client certificate.
//! [`CertificateFolder`] keeps a leaf on disk and replaces it the way a kubelet does: by one rename of a symbolic
//! link, so that a watcher never sees a certificate beside another certificate's key.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber,
};
use rustls_pki_types::CertificateDer;

/// A certificate authority that lives as long as the test.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    der: CertificateDer<'static>,
}

/// What a leaf certificate is to say.
#[derive(Clone, Debug, Default)]
pub struct LeafRequest {
    /// URI SANs, for SPIFFE exactly one.
    pub uris: Vec<String>,
    /// DNS SANs.
    pub dns_names: Vec<String>,
    /// Last valid day as (year, month, day); far in the future when absent.
    pub not_after: Option<(i32, u8, u8)>,
    /// How long it is valid from now on; wins over `not_after`.
    pub valid_for: Option<Duration>,
}

/// A certificate with its key.
#[derive(Clone, Debug)]
pub struct Leaf {
    /// The certificate, PEM.
    pub certificate_pem: String,
    /// The private key, PKCS#8 PEM.
    pub key_pem: String,
    /// The certificate, DER: what a peer sees of us.
    pub der: CertificateDer<'static>,
    serial: SerialNumber,
}

impl Authority {
    /// A new authority with the given common name.
    pub fn new(common_name: &str) -> Result<Self> {
        let mut params = CertificateParams::new(Vec::<String>::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, common_name);
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let certificate = params.self_signed(&key)?;
        let (pem, der) = (certificate.pem(), certificate.der().clone());
        Ok(Self {
            issuer: Issuer::new(params, key),
            pem,
            der,
        })
    }

    /// The authority's own certificate, PEM: the trusted root.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// The authority's own certificate, DER.
    pub fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    /// A leaf with one URI SAN, for example `spiffe://demo.local/ns/default/sa/web`.
    pub fn spiffe(&self, id: &str) -> Result<Leaf> {
        self.leaf(&LeafRequest {
            uris: vec![id.to_owned()],
            ..LeafRequest::default()
        })
    }

    /// A list (CRL, PEM) that revokes these leaves.
    pub fn revokes(&self, leaves: &[&Leaf]) -> Result<String> {
        let day = rcgen::date_time_ymd(2024, 1, 1);
        let revoked = |leaf: &&Leaf| RevokedCertParams {
            serial_number: leaf.serial.clone(),
            revocation_time: day,
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: day,
            next_update: rcgen::date_time_ymd(3000, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: leaves.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        Ok(list.signed_by(&self.issuer)?.pem()?)
    }

    /// A leaf with exactly the names of `request`.
    pub fn leaf(&self, request: &LeafRequest) -> Result<Leaf> {
        let mut params = CertificateParams::new(request.dns_names.clone())?;
        for uri in &request.uris {
            params
                .subject_alt_names
                .push(SanType::URI(uri.as_str().try_into()?));
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        params.use_authority_key_identifier_extension = true;
        if let Some((year, month, day)) = request.not_after {
            params.not_after = rcgen::date_time_ymd(year, month, day);
        }
        if let Some(time) = request.valid_for {
            params.not_after = (SystemTime::now() + time).into();
        }
        static SERIAL: AtomicU64 = AtomicU64::new(1);
        let serial = SerialNumber::from(SERIAL.fetch_add(1, Ordering::Relaxed));
        params.serial_number = Some(serial.clone());
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Leaf {
            serial,
            certificate_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
            der: certificate.der().clone(),
        })
    }
}

/// `cert.pem`, `key.pem` and `ca.pem` in a folder, replaced together.
#[derive(Debug)]
pub struct CertificateFolder {
    root: tempfile::TempDir,
    generation: AtomicU64,
}

impl CertificateFolder {
    /// Writes the first generation.
    pub fn new(authority_pem: &str, leaf: &Leaf) -> Result<Self> {
        let folder = Self {
            root: tempfile::tempdir()?,
            generation: AtomicU64::new(0),
        };
        folder.rotate(authority_pem, leaf)?;
        Ok(folder)
    }

    /// The folder to name in `watched_directory`.
    pub fn path(&self) -> &Path {
        self.root.path()
    }

    /// The leaf's certificate file.
    pub fn certificate(&self) -> PathBuf {
        self.current().join("cert.pem")
    }

    /// The leaf's key file.
    pub fn key(&self) -> PathBuf {
        self.current().join("key.pem")
    }

    /// The trusted roots file.
    pub fn authority(&self) -> PathBuf {
        self.current().join("ca.pem")
    }

    /// Replaces all three files at once: readers see the old set or the new one.
    pub fn rotate(&self, authority_pem: &str, leaf: &Leaf) -> Result<()> {
        let generation = self.generation.fetch_add(1, Ordering::Relaxed);
        let name = format!("..{generation}");
        let folder = self.root.path().join(&name);
        std::fs::create_dir(&folder)?;
        std::fs::write(folder.join("cert.pem"), &leaf.certificate_pem)?;
        std::fs::write(folder.join("key.pem"), &leaf.key_pem)?;
        std::fs::write(folder.join("ca.pem"), authority_pem)?;
        let staged = self.root.path().join("..data_tmp");
        std::os::unix::fs::symlink(&name, &staged)?;
        std::fs::rename(&staged, self.current())?;
        Ok(())
    }

    fn current(&self) -> PathBuf {
        self.root.path().join("..data")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rotated_folder_shows_the_new_leaf_under_the_old_paths() {
        let authority = Authority::new("test root").unwrap();
        let first = authority.spiffe("spiffe://test.local/a").unwrap();
        let second = authority.spiffe("spiffe://test.local/b").unwrap();
        let folder = CertificateFolder::new(authority.pem(), &first).unwrap();
        assert_eq!(
            std::fs::read_to_string(folder.certificate()).unwrap(),
            first.certificate_pem
        );
        folder.rotate(authority.pem(), &second).unwrap();
        assert_eq!(
            std::fs::read_to_string(folder.certificate()).unwrap(),
            second.certificate_pem
        );
        assert_eq!(std::fs::read_to_string(folder.key()).unwrap(), second.key_pem);
    }
}
