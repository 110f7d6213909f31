//! TLS of the listener and of the bridge, as rustls wants it.

use std::sync::Arc;

use rustls::{ClientConfig, ServerConfig};
use service::tls::{ClientFiles, ServerFiles};

use crate::{GatewayError, settings::Tls};

/// How devices are met: with the certificate, and with the wish for theirs
/// where there is an authority to check it.
pub(crate) fn server(tls: &Tls) -> Result<Arc<ServerConfig>, GatewayError> {
    let Tls { cert_file, key_file, ca_file, .. } = tls.clone();
    Ok(ServerFiles { cert_file, key_file, ca_file }.load()?)
}

/// How the broker is met.
pub(crate) fn client(tls: &Tls) -> Result<Arc<ClientConfig>, GatewayError> {
    let Tls { cert_file, key_file, ca_file, .. } = tls.clone();
    Ok(ClientFiles { ca_file, cert_file, key_file }.load()?)
}
