//! Messages by SMTP.

use std::{fmt::Write as _, time::Duration};

use jiff::Timestamp;
use lettre::{
    Message, SmtpTransport, Transport,
    message::{Mailbox, header::ContentType},
    transport::smtp::authentication::Credentials,
};

use super::{AlertNotification, AlertView, NotifyError};
use crate::settings::{EmailSettings, SmtpEncryption};

/// Longest subject, characters.
const SUBJECT_LETTERS_MAX: usize = 150;

/// Sends messages through one SMTP server.
#[derive(Debug)]
pub struct EmailSender {
    transport: SmtpTransport,
    from: Mailbox,
    to: Vec<Mailbox>,
}

impl EmailSender {
    /// Makes a sender, if there is a server.
    ///
    /// # Errors
    /// Where the settings do not make a client.
    pub fn new(settings: &EmailSettings) -> Result<Option<Self>, NotifyError> {
        let EmailSettings { host, port, encryption, user, password, .. } = settings;
        if host.is_empty() {
            return Ok(None);
        }
        let client = |error: lettre::transport::smtp::Error| NotifyError::Client(error.to_string());
        let builder = match encryption {
            SmtpEncryption::Starttls => SmtpTransport::starttls_relay(host).map_err(client)?,
            SmtpEncryption::Tls => SmtpTransport::relay(host).map_err(client)?,
            SmtpEncryption::None => SmtpTransport::builder_dangerous(host),
        };
        let mut builder =
            builder.port(*port).timeout(Some(Duration::from_secs_f64(settings.timeout_s)));
        if !user.is_empty() {
            let password = password.expose_secret().unwrap_or_default().to_owned();
            builder = builder.credentials(Credentials::new(user.clone(), password));
        }
        let mailbox = |text: &String| {
            text.parse::<Mailbox>().map_err(|error| NotifyError::Client(format!("{text}: {error}")))
        };
        let to = settings.to.iter().map(mailbox).collect::<Result<_, _>>()?;
        Ok(Some(Self { transport: builder.build(), from: mailbox(&settings.from)?, to }))
    }

    /// Sends a message.
    ///
    /// # Errors
    /// Says whether another attempt is worth it.
    pub async fn send(&self, message: &AlertNotification) -> Result<(), NotifyError> {
        let subject: String =
            message.title.chars().filter(|c| !c.is_control()).take(SUBJECT_LETTERS_MAX).collect();
        let builder = Message::builder().from(self.from.clone()).subject(subject);
        // Mail programs show the same message once, even if it was sent twice.
        let builder = builder.message_id(Some(format!("<{}@microclimate>", message.id)));
        let builder = self.to.iter().fold(builder, |builder, to| builder.to(to.clone()));
        let mail = builder
            .header(ContentType::TEXT_PLAIN)
            .body(format_body(message))
            .map_err(|error| NotifyError::Rejected(error.to_string()))?;
        let transport = self.transport.clone();
        let sent = tokio::task::spawn_blocking(move || transport.send(&mail)).await;
        match sent.map_err(|error| NotifyError::Client(error.to_string()))? {
            Ok(_) => Ok(()),
            Err(error) if error.is_permanent() => Err(NotifyError::Rejected(error.to_string())),
            Err(error) if error.is_transient() => Err(NotifyError::Refused(error.to_string())),
            Err(error) => Err(NotifyError::Unreachable(error.to_string())),
        }
    }
}

/// The text of a message: a paragraph for each event.
fn format_body(message: &AlertNotification) -> String {
    let mut text = String::new();
    for own in &message.events {
        let AlertView { rule, severity, summary, message, started_ms, .. } = &own.alert;
        let since = Timestamp::from_millisecond(*started_ms).unwrap_or_default();
        let _ = write!(
            text,
            "{} {} at {}: {message}\r\n{summary}\r\nSeverity {}, since {since:.0}, id {}\r\n\r\n",
            rule,
            own.event.as_str(),
            own.alert.place(),
            severity.as_str(),
            own.alert.id,
        );
    }
    text
}
