//! What does a certificate say? Read with x509-parser, once per full handshake and on demand for logs.
//!
//! Verifies nothing; the chain and the signature are `webpki`'s part in `verify`.

use std::fmt::Write as _;
use std::net::IpAddr;

use remora_model::identity::SubjectAltName;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

/// The parts of a certificate that we ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Leaf {
    /// Subject alternative names in the order of the certificate, without kinds that no matcher knows.
    pub names: Vec<SubjectAltName>,
    /// `keyUsage`; `None` where absent.
    pub key_usage: Option<KeyUsage>,
    /// Subject in RFC 2253 form.
    pub subject: String,
    /// Issuer in RFC 2253 form.
    pub issuer: String,
    /// Serial number, lower-case hexadecimal.
    pub serial: String,
    /// `notBefore`, seconds since 1970.
    pub not_before: i64,
    /// `notAfter`, seconds since 1970.
    pub not_after: i64,
}

/// `keyUsage` (RFC 5280 section 4.2.1.3), as far as a leaf is judged by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct KeyUsage {
    pub digital_signature: bool,
    pub signs_certificates: bool,
}

impl Leaf {
    /// Reads a DER certificate.
    ///
    /// # Errors
    /// What is wrong with it. An extension that stands twice is wrong.
    pub(super) fn read(der: &[u8]) -> Result<Self, String> {
        let (rest, certificate) = X509Certificate::from_der(der).map_err(|error| error.to_string())?;
        if !rest.is_empty() {
            return Err(format!("{} bytes follow the certificate", rest.len()));
        }
        let names = certificate
            .subject_alternative_name()
            .map_err(|error| error.to_string())?;
        let usage = certificate.key_usage().map_err(|error| error.to_string())?;
        Ok(Self {
            names: names
                .iter()
                .flat_map(|names| &names.value.general_names)
                .filter_map(known_name)
                .collect(),
            key_usage: usage.map(|usage| KeyUsage {
                digital_signature: usage.value.digital_signature(),
                signs_certificates: usage.value.key_cert_sign() || usage.value.crl_sign(),
            }),
            subject: rfc2253(certificate.subject()),
            issuer: rfc2253(certificate.issuer()),
            serial: serial(certificate.raw_serial()),
            not_before: certificate.validity().not_before.timestamp(),
            not_after: certificate.validity().not_after.timestamp(),
        })
    }

    /// URI names.
    pub(super) fn uris(&self) -> impl Iterator<Item = &str> {
        self.names.iter().filter_map(|name| match name {
            SubjectAltName::Uri(uri) => Some(uri.as_str()),
            _ => None,
        })
    }

    /// The names for a sentence: the subject where there are none.
    pub(super) fn described(&self) -> String {
        match self.names.as_slice() {
            [] => format!("no name (subject {:?})", self.subject),
            names => names.iter().map(text).collect::<Vec<_>>().join(", "),
        }
    }
}

/// The DER of a certificate's `SubjectPublicKeyInfo`.
///
/// # Errors
/// What is wrong with the certificate.
pub(super) fn public_key(der: &[u8]) -> Result<&[u8], String> {
    let (_, certificate) = X509Certificate::from_der(der).map_err(|error| error.to_string())?;
    Ok(certificate.tbs_certificate.subject_pki.raw)
}

/// The text of a name.
pub(super) fn text(name: &SubjectAltName) -> &str {
    match name {
        SubjectAltName::Dns(text)
        | SubjectAltName::Uri(text)
        | SubjectAltName::Ip(text)
        | SubjectAltName::Email(text) => text,
    }
}

fn known_name(name: &GeneralName<'_>) -> Option<SubjectAltName> {
    match name {
        GeneralName::DNSName(text) => Some(SubjectAltName::Dns((*text).to_owned())),
        GeneralName::URI(text) => Some(SubjectAltName::Uri((*text).to_owned())),
        GeneralName::RFC822Name(text) => Some(SubjectAltName::Email((*text).to_owned())),
        GeneralName::IPAddress(bytes) => {
            let v4 = || <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
            let v6 = || <[u8; 16]>::try_from(*bytes).map(IpAddr::from);
            v4().or_else(|_| v6())
                .ok()
                .map(|address| SubjectAltName::Ip(address.to_string()))
        }
        _ => None,
    }
}

/// Lower-case hexadecimal.
pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

/// A serial number as Envoy writes it: without the zero byte that keeps a DER integer positive.
fn serial(der: &[u8]) -> String {
    match der {
        [0, rest @ ..] if !rest.is_empty() => hexadecimal(rest),
        all => hexadecimal(all),
    }
}

/// A distinguished name as RFC 2253 writes it: last part first, separated by commas, as Envoy logs subjects.
fn rfc2253(name: &X509Name<'_>) -> String {
    let mut parts: Vec<String> = name
        .iter_rdn()
        .map(|part| part.iter().map(attribute).collect::<Vec<_>>().join("+"))
        .collect();
    parts.reverse();
    parts.join(",")
}

fn attribute(attribute: &AttributeTypeAndValue<'_>) -> String {
    let oid = attribute.attr_type().to_id_string();
    let name = match oid.as_str() {
        "2.5.4.3" => "CN",
        "2.5.4.4" => "SN",
        "2.5.4.5" => "serialNumber",
        "2.5.4.6" => "C",
        "2.5.4.7" => "L",
        "2.5.4.8" => "ST",
        "2.5.4.9" => "street",
        "2.5.4.10" => "O",
        "2.5.4.11" => "OU",
        "2.5.4.12" => "title",
        "2.5.4.42" => "GN",
        "0.9.2342.19200300.100.1.1" => "UID",
        "0.9.2342.19200300.100.1.25" => "DC",
        "1.2.840.113549.1.9.1" => "emailAddress",
        other => other,
    };
    match attribute.as_str() {
        Ok(value) => format!("{name}={}", escaped(value)),
        Err(_) => format!("{name}=#{}", hexadecimal(attribute.as_slice())),
    }
}

/// RFC 2253 section 2.4.
fn escaped(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    let last = value.chars().count().saturating_sub(1);
    for (index, character) in value.chars().enumerate() {
        let edge = (index == 0 && matches!(character, ' ' | '#')) || (index == last && character == ' ');
        if edge || matches!(character, ',' | '+' | '"' | '\\' | '<' | '>' | ';') {
            text.push('\\');
        }
        if character.is_ascii_control() {
            let _ = write!(text, "\\{:02X}", u32::from(character));
        } else {
            text.push(character);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    #[test]
    fn a_certificate_says_its_names_usage_and_subject() {
        let mut params = CertificateParams::new(vec!["a.example".to_owned(), "10.0.0.1".to_owned()]).unwrap();
        params
            .subject_alt_names
            .push(SanType::URI("spiffe://td/x".try_into().unwrap()));
        params
            .subject_alt_names
            .push(SanType::Rfc822Name("a@b.example".try_into().unwrap()));
        params.distinguished_name = rcgen::DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::OrganizationName, "Example, Inc.");
        params.distinguished_name.push(DnType::CommonName, "web");
        params.key_usages = vec![rcgen::KeyUsagePurpose::DigitalSignature];
        params.serial_number = Some(vec![0xf1, 0xab].into());
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();

        let leaf = Leaf::read(certificate.der()).unwrap();

        assert_eq!(
            leaf.described(),
            "a.example, 10.0.0.1, spiffe://td/x, a@b.example"
        );
        assert_eq!(leaf.subject, "CN=web,O=Example\\, Inc.");
        assert_eq!(leaf.serial, "f1ab");
        assert_eq!(
            leaf.key_usage,
            Some(KeyUsage {
                digital_signature: true,
                signs_certificates: false
            })
        );
        assert!(Leaf::read(&[certificate.der(), b"x".as_slice()].concat()).is_err());
    }
}
