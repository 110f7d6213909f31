//! The names in a client's certificate.

use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// Returns the subject's common name, then the DNS names and mail addresses of the alternative
/// names, of a certificate that TLS has verified. They are compared with the users' names.
pub(super) fn certificate_names(der: &[u8]) -> Vec<String> {
    let Ok((_, certificate)) = X509Certificate::from_der(der) else { return Vec::new() };
    let common = certificate.subject().iter_common_name();
    let common = common.filter_map(|name| name.as_str().ok()).map(ToOwned::to_owned);
    let alternatives = certificate.subject_alternative_name().ok().flatten();
    let alternatives = alternatives.iter().flat_map(|extension| &extension.value.general_names);
    let alternatives = alternatives.filter_map(|name| match name {
        GeneralName::DNSName(name) | GeneralName::RFC822Name(name) => Some((*name).to_owned()),
        _ => None,
    });
    common.chain(alternatives).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, KeyPair};

    fn check(common: &str, alternatives: &[&str], expect: &[&str]) {
        let alternatives: Vec<String> = alternatives.iter().map(|s| (*s).to_owned()).collect();
        let mut params = CertificateParams::new(alternatives).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        if !common.is_empty() {
            params.distinguished_name.push(DnType::CommonName, common);
        }
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        assert_eq!(certificate_names(certificate.der()), expect);
    }

    #[test]
    fn common_and_alternative_names() {
        check("probe-7", &[], &["probe-7"]);
        check("probe-7", &["probe-7.farm.local"], &["probe-7", "probe-7.farm.local"]);
        check("", &["a", "b"], &["a", "b"]);
        check("", &[], &[]);
    }

    #[test]
    fn what_is_no_certificate_has_no_names() {
        assert!(certificate_names(b"").is_empty());
        assert!(certificate_names(b"\x30\x82\x01").is_empty());
    }
}
