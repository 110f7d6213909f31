//! TLS of the listener and of the bridge, as rustls wants it.

use std::sync::Arc;

use rustls::{ClientConfig, ServerConfig};
use service::tls::{TlsClientFiles, TlsServerFiles};

use crate::{GatewayError, settings::MqttTlsSettings};

/// How devices are met: with the certificate, and with the wish for theirs
/// where there is an authority to check it.
pub(crate) fn load_server_tls(tls: &MqttTlsSettings) -> Result<Arc<ServerConfig>, GatewayError> {
    let MqttTlsSettings { cert_file, key_file, ca_file, .. } = tls.clone();
    Ok(TlsServerFiles { cert_file, key_file, ca_file }.load_config()?)
}

/// How the broker is met.
pub(crate) fn load_client_tls(tls: &MqttTlsSettings) -> Result<Arc<ClientConfig>, GatewayError> {
    let MqttTlsSettings { cert_file, key_file, ca_file, .. } = tls.clone();
    Ok(TlsClientFiles { ca_file, cert_file, key_file }.load_config()?)
}
