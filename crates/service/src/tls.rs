//! TLS certificates and keys from PEM files. A server's files are read again at SIGHUP.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig,
    SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{self, CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
    server::WebPkiClientVerifier,
};

/// The error for a certificate or key that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {what}\nhint: expected a PEM file; `openssl x509 -in FILE -text` shows a certificate", file.display())]
pub struct TlsError {
    /// The file.
    pub file: PathBuf,
    /// The mistake in it.
    pub what: String,
}

impl TlsError {
    /// Creates an error about `file`.
    pub fn new(file: &Path, what: impl std::fmt::Display) -> Self {
        Self { file: file.to_owned(), what: what.to_string() }
    }
}

/// The files of a TLS server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsServerFiles {
    /// The certificate that is shown to clients, with its chain.
    pub cert_file: PathBuf,
    /// The certificate's private key.
    pub key_file: PathBuf,
    /// The authority of client certificates; empty if clients need none.
    pub ca_file: PathBuf,
}

impl TlsServerFiles {
    /// Reads the files.
    ///
    /// # Errors
    /// Names the file that cannot be used.
    pub fn load_config(&self) -> Result<Arc<ServerConfig>, TlsError> {
        let builder = ServerConfig::builder_with_provider(crypto_provider())
            .with_safe_default_protocol_versions()
            .map_err(|e| TlsError::new(&self.cert_file, e))?;
        let builder = if self.ca_file.as_os_str().is_empty() {
            builder.with_no_client_auth()
        } else {
            let roots = Arc::new(load_authorities(&self.ca_file)?);
            let verifier =
                WebPkiClientVerifier::builder_with_provider(roots, crypto_provider()).build();
            builder
                .with_client_cert_verifier(verifier.map_err(|e| TlsError::new(&self.ca_file, e))?)
        };
        let (chain, key) = load_identity(&self.cert_file, &self.key_file)?;
        let config =
            builder.with_single_cert(chain, key).map_err(|e| TlsError::new(&self.key_file, e))?;
        Ok(Arc::new(config))
    }
}

/// The configuration of new connections. It can be replaced while a server runs.
#[derive(Clone, Debug)]
pub struct CurrentTls(Arc<RwLock<Arc<ServerConfig>>>);

impl CurrentTls {
    /// Creates it with a first configuration.
    #[must_use]
    pub fn new(config: Arc<ServerConfig>) -> Self {
        Self(Arc::new(RwLock::new(config)))
    }

    /// Returns the configuration for a new connection.
    #[must_use]
    pub fn get(&self) -> Arc<ServerConfig> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces the configuration. Open connections keep theirs.
    pub fn replace_config(&self, config: Arc<ServerConfig>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = config;
    }
}

/// The files of a TLS client. An empty path means that the file is not given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsClientFiles {
    /// The authority of the server's certificate; empty for the system's authorities.
    pub ca_file: PathBuf,
    /// The certificate that is shown to the server, with its chain; empty for none.
    pub cert_file: PathBuf,
    /// The certificate's private key.
    pub key_file: PathBuf,
}

impl TlsClientFiles {
    /// Reads the files.
    ///
    /// # Errors
    /// Names the file that cannot be used, or states that the system has no authorities.
    pub fn load_config(&self) -> Result<Arc<ClientConfig>, TlsError> {
        let Self { ca_file, cert_file, key_file } = self;
        let builder = ClientConfig::builder_with_provider(crypto_provider())
            .with_safe_default_protocol_versions()
            .map_err(|e| TlsError::new(ca_file, e))?;
        let is_set = |file: &Path| !file.as_os_str().is_empty();
        let roots =
            if is_set(ca_file) { load_authorities(ca_file)? } else { load_system_authorities()? };
        let rooted_builder = builder.with_root_certificates(roots);
        let config = if is_set(cert_file) {
            let (chain, key) = load_identity(cert_file, key_file)?;
            let config = rooted_builder.with_client_auth_cert(chain, key);
            config.map_err(|e| TlsError::new(key_file, e))?
        } else {
            rooted_builder.with_no_client_auth()
        };
        Ok(Arc::new(config))
    }
}

/// Builds a client that accepts a server only if it shows exactly the certificate of `cert_file`,
/// whoever signed it and whatever names it contains. It is for commands that query a server of
/// this machine, whose file they can read.
///
/// # Errors
/// Names the file that cannot be used.
pub fn pinned_client(cert_file: &Path) -> Result<ClientConfig, TlsError> {
    let failed = |what: &dyn std::fmt::Display| TlsError::new(cert_file, what);
    let first = CertificateDer::pem_file_iter(cert_file).map_err(|e| failed(&e))?.next();
    let certificate = first.ok_or_else(|| failed(&"no certificate in it"))?;
    let verifier = PinnedCertificate {
        certificate: certificate.map_err(|e| failed(&e))?,
        provider: crypto_provider(),
    };
    let builder = ClientConfig::builder_with_provider(crypto_provider())
        .with_safe_default_protocol_versions()
        .map_err(|e| failed(&e))?;
    let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
    Ok(builder.with_no_client_auth())
}

/// Accepts one certificate and no other. Whether the server has its key is verified as usual.
#[derive(Debug)]
struct PinnedCertificate {
    certificate: CertificateDer<'static>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for PinnedCertificate {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if *end_entity == self.certificate {
            return Ok(ServerCertVerified::assertion());
        }
        Err(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

fn load_system_authorities() -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        let what = "\"\", and this system has no authorities; name the server's";
        return Err(TlsError::new(Path::new("mqtt.tls.ca_file"), what));
    }
    Ok(roots)
}

/// A certificate with its chain, and its key.
pub type TlsIdentity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// Reads a certificate with its chain, and its key.
///
/// # Errors
/// Names the file that cannot be used.
pub fn load_identity(cert_file: &Path, key_file: &Path) -> Result<TlsIdentity, TlsError> {
    let chain = CertificateDer::pem_file_iter(cert_file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|e| TlsError::new(cert_file, e))?;
    if chain.is_empty() {
        return Err(TlsError::new(cert_file, "no certificate in it"));
    }
    let key = PrivateKeyDer::from_pem_file(key_file).map_err(|e| TlsError::new(key_file, e))?;
    Ok((chain, key))
}

/// Reads the certificates of authorities.
///
/// # Errors
/// Names the file that cannot be used.
pub fn load_authorities(file: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for parsed in CertificateDer::pem_file_iter(file).map_err(|e| TlsError::new(file, e))? {
        let certificate = parsed.map_err(|e| TlsError::new(file, e))?;
        roots.add(certificate).map_err(|e| TlsError::new(file, e))?;
    }
    if roots.is_empty() {
        return Err(TlsError::new(file, "no certificate in it"));
    }
    Ok(roots)
}

fn crypto_provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}
