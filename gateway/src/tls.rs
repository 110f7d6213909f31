//! Certificates and keys from PEM files, as rustls wants them.

use std::{path::Path, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};

use crate::{GatewayError, settings::Tls};

/// How devices are met: with the certificate, and with the wish for theirs
/// where there is an authority to check it.
pub(crate) fn server(tls: &Tls) -> Result<Arc<ServerConfig>, GatewayError> {
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| failed(&tls.cert_file, e))?;
    let builder = if is_set(&tls.ca_file) {
        let provider = Arc::new(ring::default_provider());
        let roots = Arc::new(roots(&tls.ca_file)?);
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider).build();
        builder.with_client_cert_verifier(verifier.map_err(|e| failed(&tls.ca_file, e))?)
    } else {
        builder.with_no_client_auth()
    };
    let (chain, key) = identity(tls)?;
    let config = builder.with_single_cert(chain, key).map_err(|e| failed(&tls.key_file, e))?;
    Ok(Arc::new(config))
}

/// How the broker is met.
pub(crate) fn client(tls: &Tls) -> Result<Arc<ClientConfig>, GatewayError> {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| failed(&tls.ca_file, e))?;
    let roots = if is_set(&tls.ca_file) { roots(&tls.ca_file)? } else { system_roots()? };
    let builder = builder.with_root_certificates(roots);
    let config = if is_set(&tls.cert_file) {
        let (chain, key) = identity(tls)?;
        builder.with_client_auth_cert(chain, key).map_err(|e| failed(&tls.key_file, e))?
    } else {
        builder.with_no_client_auth()
    };
    Ok(Arc::new(config))
}

fn identity(
    tls: &Tls,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), GatewayError> {
    let chain = CertificateDer::pem_file_iter(&tls.cert_file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|e| failed(&tls.cert_file, e))?;
    if chain.is_empty() {
        return Err(failed(&tls.cert_file, "no certificate in it"));
    }
    let key = PrivateKeyDer::from_pem_file(&tls.key_file).map_err(|e| failed(&tls.key_file, e))?;
    Ok((chain, key))
}

fn roots(file: &Path) -> Result<RootCertStore, GatewayError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).map_err(|e| failed(file, e))? {
        let certificate = certificate.map_err(|e| failed(file, e))?;
        roots.add(certificate).map_err(|e| failed(file, e))?;
    }
    if roots.is_empty() {
        return Err(failed(file, "no certificate in it"));
    }
    Ok(roots)
}

fn system_roots() -> Result<RootCertStore, GatewayError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        let what = "\"\", and this system knows no authorities; name the broker's";
        return Err(failed(Path::new("mqtt.tls.ca_file"), what));
    }
    Ok(roots)
}

fn is_set(file: &Path) -> bool {
    !file.as_os_str().is_empty()
}

fn failed(file: &Path, what: impl std::fmt::Display) -> GatewayError {
    GatewayError::Tls { file: file.to_owned(), what: what.to_string() }
}
