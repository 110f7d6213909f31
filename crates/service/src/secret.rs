//! A text that is never logged.

use std::fmt;

use serde::{Deserialize, Serialize, Serializer};

/// A token or password. `Debug` and serialisation show only `***`. An empty one means that none
/// is set.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Returns the text for the one place that needs it; `None` if it is not set.
    #[must_use]
    pub fn expose_secret(&self) -> Option<&str> {
        (!self.0.is_empty()).then_some(self.0.as_str())
    }

    /// Whether `other` is this secret. The time that this takes does not depend on where they
    /// differ. Nothing matches a secret that is not set.
    #[must_use]
    pub fn matches(&self, other: &str) -> bool {
        let (mine, theirs) = (self.0.as_bytes(), other.as_bytes());
        let difference = mine.iter().zip(theirs).fold(0, |acc, (a, b)| acc | (a ^ b));
        !mine.is_empty() && mine.len() == theirs.len() && difference == 0
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "unset" } else { "***" })
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(if self.0.is_empty() { "" } else { "***" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_text_matches_and_nothing_matches_no_secret() {
        assert!(Secret::from("abc").matches("abc"));
        assert!(!Secret::from("abc").matches("abd"));
        assert!(!Secret::from("abc").matches("abcd"));
        assert!(!Secret::default().matches(""));
    }

    #[test]
    fn is_not_shown() {
        let secret = Secret::from("hunter2");
        assert_eq!(format!("{secret:?}"), "***");
        assert_eq!(serde_json::to_string(&secret).unwrap(), r#""***""#);
    }
}
