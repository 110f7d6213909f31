//! Listening sockets. An address that other machines can reach needs a token that nobody on the
//! network can read.

use std::{
    io::ErrorKind,
    net::{SocketAddr, TcpListener},
};

use crate::Secret;

/// The reasons why no socket could be opened.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Another program uses the port.
    #[error(
        "{key} = {address}: the port is in use by another program\n\
         hint: end that program (`ss -ltnp 'sport = :{port}'` names it) or choose another port with `--set {key}={ip}:0` (0 takes any free one)",
        ip = address.ip(), port = address.port()
    )]
    InUse {
        /// The configuration key.
        key: String,
        /// The requested address.
        address: SocketAddr,
    },
    /// Other machines could reach the address, and no token is set.
    #[error(
        "{key} = {address} is reachable from other machines, and no token is set\n\
         hint: set one, as in `{token_key}` = the output of `openssl rand -hex 24`, or listen on 127.0.0.1"
    )]
    MissingToken {
        /// The configuration key.
        key: String,
        /// The requested address.
        address: SocketAddr,
        /// The configuration key of the token.
        token_key: String,
    },
    /// A password or token would cross the network in plain text.
    #[error(
        "{key} = {address} is reachable from other machines, and {secret_key} would cross the network without encryption\n\
         hint: set {tls_key}, or listen on 127.0.0.1 behind a proxy that speaks TLS, or, where the network itself is trusted, set {allow_key} = true"
    )]
    Plaintext {
        /// The configuration key.
        key: String,
        /// The requested address.
        address: SocketAddr,
        /// The configuration key of the password or token.
        secret_key: &'static str,
        /// The configuration key that would encrypt it.
        tls_key: &'static str,
        /// The configuration key that permits it nevertheless.
        allow_key: &'static str,
    },
    /// Any other error of the system.
    #[error("{key} = {address}: cannot listen: {source}")]
    Io {
        /// The configuration key.
        key: String,
        /// The requested address.
        address: SocketAddr,
        /// The system's error.
        source: std::io::Error,
    },
}

/// Binds `address`, configured as `key`. Refuses an address that other machines can reach if
/// `token`, configured as `token_key`, is not set.
///
/// # Errors
/// See [`ListenError`]; each error states what to change.
pub fn bind_guarded(
    key: &str,
    address: SocketAddr,
    token_key: &str,
    token: &Secret,
) -> Result<TcpListener, ListenError> {
    if !address.ip().is_loopback() && token.expose_secret().is_none() {
        let (key, token_key) = (key.to_owned(), token_key.to_owned());
        return Err(ListenError::MissingToken { key, address, token_key });
    }
    bind_unguarded(key, address)
}

/// Binds `address`, configured as `key`, whoever can reach it. The caller has already checked who
/// is admitted.
///
/// # Errors
/// [`ListenError::InUse`] or [`ListenError::Io`].
pub fn bind_unguarded(key: &str, address: SocketAddr) -> Result<TcpListener, ListenError> {
    let key = key.to_owned();
    let listener = TcpListener::bind(address).and_then(|l| l.set_nonblocking(true).map(|()| l));
    listener.map_err(|source| match source.kind() {
        ErrorKind::AddrInUse => ListenError::InUse { key, address },
        _ => ListenError::Io { key, address, source },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_in_use_names_the_key_and_the_way_out() {
        let first = bind_guarded(
            "rest.listen",
            "127.0.0.1:0".parse().unwrap(),
            "rest.token",
            &Secret::default(),
        );
        let address = first.as_ref().unwrap().local_addr().unwrap();
        let second =
            bind_guarded("rest.listen", address, "rest.token", &Secret::default()).unwrap_err();
        let text = second.to_string();
        assert!(
            text.contains("in use") && text.contains("--set rest.listen=127.0.0.1:0"),
            "{text}"
        );
    }

    #[test]
    fn other_machines_need_a_token() {
        let everywhere = "0.0.0.0:0".parse().unwrap();
        let refused = bind_guarded("rest.listen", everywhere, "rest.token", &Secret::default());
        assert!(matches!(refused, Err(ListenError::MissingToken { .. })));
        assert!(
            bind_guarded("rest.listen", everywhere, "rest.token", &Secret::from("s3cret")).is_ok()
        );
    }
}
