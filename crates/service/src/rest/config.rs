//! The settings of every HTTP server of the project, and when it refuses to listen.

use std::{
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{
    Secret,
    config::ConfigError,
    listen::{self, ListenError},
    tls::TlsServerFiles,
};

/// Default time limit for requests that run at shutdown.
const DRAIN_TIME: Duration = Duration::from_secs(5);
/// Default limit of simultaneous connections.
const CONNECTIONS_MAX: usize = 128;

/// The table `[rest]` of a service.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RestConfig {
    /// Address and port.
    pub listen: SocketAddr,
    /// Bearer token; empty for none, on loopback only.
    pub token: Secret,
    /// Whether the token may cross the network without TLS.
    pub allow_plaintext_token: bool,
    /// Further names under which browsers reach this server on a loopback address, beside
    /// `localhost` and the addresses themselves.
    pub host_names: Vec<String>,
    /// Largest number of simultaneous connections.
    pub connections_max: usize,
    /// The server's certificate.
    pub tls: RestTlsConfig,
}

/// The table `[rest.tls]`; files are PEM, empty for plain HTTP.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct RestTlsConfig {
    /// The certificate that is shown to clients, with its chain.
    pub cert_file: PathBuf,
    /// The certificate's private key.
    pub key_file: PathBuf,
}

impl RestTlsConfig {
    /// Whether TLS is used.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        !self.cert_file.as_os_str().is_empty()
    }

    /// Returns `https` or `http`.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        if self.is_enabled() { "https" } else { "http" }
    }
}

impl RestConfig {
    /// Refuses invalid values before anything is opened.
    ///
    /// # Errors
    /// Names the key, what was found and what was expected.
    pub fn check_values(&self) -> Result<(), ConfigError> {
        if self.connections_max == 0 {
            return Err(ConfigError::invalid("rest.connections_max", "0: expected at least 1"));
        }
        if self.tls.is_enabled() == self.tls.key_file.as_os_str().is_empty() {
            let what = "cert_file and key_file belong together: expected both or none";
            return Err(ConfigError::invalid("rest.tls", what));
        }
        Ok(())
    }

    /// Binds the address. An address that other machines can reach needs a token, and a token
    /// needs TLS, unless the configuration explicitly permits otherwise.
    ///
    /// # Errors
    /// See [`ListenError`]; each error states what to change.
    pub fn bind_listener(&self) -> Result<TcpListener, ListenError> {
        let Self { listen: address, token, allow_plaintext_token, tls, .. } = self;
        let socket = listen::bind_guarded("rest.listen", *address, "rest.token", token)?;
        if !address.ip().is_loopback() && !tls.is_enabled() && !allow_plaintext_token {
            return Err(ListenError::Plaintext {
                key: "rest.listen".to_owned(),
                address: *address,
                secret_key: "rest.token",
                tls_key: "rest.tls.cert_file and rest.tls.key_file",
                allow_key: "rest.allow_plaintext_token",
            });
        }
        Ok(socket)
    }
}

/// The options of one server.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    /// Bearer token; unset for none.
    pub token: Secret,
    /// See [`RestConfig::host_names`].
    pub host_names: Vec<String>,
    /// Largest number of simultaneous connections.
    pub connections_max: usize,
    /// Certificate and key; `None` for plain HTTP.
    pub tls: Option<TlsServerFiles>,
    /// Time limit for requests that run at shutdown.
    pub drain_time: Duration,
    /// Files of a page, which anybody may load; with them the server has sessions for browsers
    /// (`/v1/session`).
    pub page_paths: Vec<String>,
}

impl From<Secret> for ServeOptions {
    /// Plain HTTP with a token, and the defaults otherwise.
    fn from(token: Secret) -> Self {
        Self {
            token,
            host_names: Vec::new(),
            connections_max: CONNECTIONS_MAX,
            tls: None,
            drain_time: DRAIN_TIME,
            page_paths: Vec::new(),
        }
    }
}

impl From<&RestConfig> for ServeOptions {
    fn from(settings: &RestConfig) -> Self {
        let RestConfig { token, host_names, connections_max, tls, .. } = settings.clone();
        let files = tls.is_enabled().then(|| TlsServerFiles {
            cert_file: tls.cert_file,
            key_file: tls.key_file,
            ca_file: PathBuf::new(),
        });
        let page_paths = Vec::new();
        Self { token, host_names, connections_max, tls: files, drain_time: DRAIN_TIME, page_paths }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(listen: &str, token: &str, tls: bool, allow: bool) -> RestConfig {
        let file = PathBuf::from(if tls { "server.pem" } else { "" });
        RestConfig {
            listen: listen.parse().unwrap(),
            token: token.into(),
            allow_plaintext_token: allow,
            host_names: Vec::new(),
            connections_max: 1,
            tls: RestTlsConfig { cert_file: file.clone(), key_file: file },
        }
    }

    #[test]
    fn a_token_crosses_the_network_encrypted_or_by_permission() {
        let check = |listen, token, tls, allow, expect: &str| {
            let found = settings(listen, token, tls, allow).bind_listener();
            let found = found.map_or_else(|error| error.to_string(), |_| String::new());
            assert!(found.contains(expect) && found.is_empty() == expect.is_empty(), "{found}");
        };
        check("127.0.0.1:0", "", false, false, "");
        check("127.0.0.1:0", "s3cret", false, false, "");
        check("0.0.0.0:0", "", true, true, "no token is set");
        check("0.0.0.0:0", "s3cret", false, false, "rest.allow_plaintext_token = true");
        check("0.0.0.0:0", "s3cret", true, false, "");
        check("0.0.0.0:0", "s3cret", false, true, "");
    }

    #[test]
    fn a_key_without_a_certificate_is_refused() {
        let mut one = settings("127.0.0.1:0", "", true, false);
        assert!(one.check_values().is_ok());
        one.tls.key_file = PathBuf::new();
        assert!(one.check_values().is_err());
        one.tls = RestTlsConfig { key_file: "k.pem".into(), ..RestTlsConfig::default() };
        assert!(one.check_values().is_err());
    }
}
