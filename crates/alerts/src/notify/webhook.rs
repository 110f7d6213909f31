//! Signed JSON by HTTP.

use ring::hmac;

use super::{AlertNotification, NotifyError, build_http_client, send_request};
use crate::settings::WebhookSettings;

/// Header with the seconds since 1970 at which the message was signed.
pub const TIMESTAMP_HEADER: &str = "x-microclimate-timestamp";
/// Header with `sha256=` and the signature of `<timestamp>.<body>` in hexadecimal digits.
pub const SIGNATURE_HEADER: &str = "x-microclimate-signature";
/// Header with the message's identifier, the same at each attempt.
pub const DELIVERY_HEADER: &str = "x-microclimate-delivery";

/// Sends messages to one URL.
#[derive(Debug)]
pub struct WebhookSender {
    client: reqwest::Client,
    settings: WebhookSettings,
}

impl WebhookSender {
    /// Makes a sender, if there is a URL.
    ///
    /// # Errors
    /// Where no HTTP client can be made.
    pub fn new(settings: &WebhookSettings) -> Result<Option<Self>, NotifyError> {
        if settings.url.expose_secret().is_none() {
            return Ok(None);
        }
        let client = build_http_client(settings.timeout_s)?;
        Ok(Some(Self { client, settings: settings.clone() }))
    }

    /// Sends a message at `now_ms`, UTC ms.
    ///
    /// # Errors
    /// Says whether another attempt is worth it.
    pub async fn send(&self, message: &AlertNotification, now_ms: i64) -> Result<(), NotifyError> {
        let body = serde_json::to_vec(message).expect("a message has a JSON form");
        let timestamp = (now_ms / 1000).to_string();
        let url = self.settings.url.expose_secret().unwrap_or_default();
        let mut request = self
            .client
            .post(url)
            .header("content-type", "application/json")
            .header(DELIVERY_HEADER, &message.id)
            .header(TIMESTAMP_HEADER, &timestamp);
        if let Some(secret) = self.settings.secret.expose_secret() {
            request = request.header(SIGNATURE_HEADER, sign_body(secret, &timestamp, &body));
        }
        send_request(request.body(body)).await
    }
}

/// Signs a body, as receivers check it.
///
/// ```
/// use microclimate_alerts::notify::webhook::sign_body;
/// // printf '%s' '1764504000.{}' | openssl dgst -sha256 -hmac key
/// let expect = "sha256=c3bf4d0d2bd149b956f30321ad0357a154a74479faa7529846bd671ec6fbb84a";
/// assert_eq!(sign_body("key", "1764504000", b"{}"), expect);
/// ```
#[must_use]
pub fn sign_body(secret: &str, timestamp: &str, body: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let mut context = hmac::Context::with_key(&key);
    context.update(timestamp.as_bytes());
    context.update(b".");
    context.update(body);
    let digits: String = context.sign().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256={digits}")
}
