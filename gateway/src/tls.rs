//! The TLS configurations of the listener and of the bridge.

use std::sync::Arc;

use rustls::{ClientConfig, ServerConfig};
use service::tls::{TlsClientFiles, TlsServerFiles};

use crate::{GatewayError, settings::MqttTlsSettings};

/// Builds the listener's configuration. Clients must show certificates if an authority is
/// configured to check them.
pub(crate) fn load_server_tls(tls: &MqttTlsSettings) -> Result<Arc<ServerConfig>, GatewayError> {
    let MqttTlsSettings { cert_file, key_file, ca_file, .. } = tls.clone();
    Ok(TlsServerFiles { cert_file, key_file, ca_file }.load_config()?)
}

/// Builds the configuration of the connection to the broker.
pub(crate) fn load_client_tls(tls: &MqttTlsSettings) -> Result<Arc<ClientConfig>, GatewayError> {
    let MqttTlsSettings { cert_file, key_file, ca_file, .. } = tls.clone();
    Ok(TlsClientFiles { ca_file, cert_file, key_file }.load_config()?)
}
