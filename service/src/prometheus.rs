//! Counts in the text format of Prometheus, version 0.0.4.

use std::fmt::{Display, Write as _};

/// The content type of a [`Page`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4";

/// A page of metrics as it grows.
///
/// ```
/// use service::prometheus::{Page, label};
///
/// let mut page = Page::new("microclimate_store");
/// page.one(("zones", "gauge", "Zones seen"), 3);
/// page.family(("rows_total", "counter", "Rows"), [(label("kind", "final"), 7)]);
/// assert!(page.finish().ends_with("microclimate_store_rows_total{kind=\"final\"} 7\n"));
/// ```
#[derive(Debug)]
pub struct Page {
    prefix: &'static str,
    text: String,
}

impl Page {
    /// An empty page, all of whose names begin with `prefix`.
    #[must_use]
    pub const fn new(prefix: &'static str) -> Self {
        Self { prefix, text: String::new() }
    }

    /// One metric: its name, kind and help, and its samples, each with labels.
    pub fn family<V: Display>(
        &mut self,
        (name, kind, help): (&str, &str, &str),
        samples: impl IntoIterator<Item = (String, V)>,
    ) {
        let Self { prefix, text } = self;
        // Writing to a string does not fail.
        let _ = writeln!(text, "# HELP {prefix}_{name} {help}\n# TYPE {prefix}_{name} {kind}");
        for (labels, value) in samples {
            let _ = writeln!(text, "{prefix}_{name}{labels} {value}");
        }
    }

    /// A metric of one sample without labels.
    pub fn one(&mut self, about: (&str, &str, &str), value: impl Display) {
        self.family(about, [(String::new(), value)]);
    }

    /// The page as text.
    #[must_use]
    pub fn finish(self) -> String {
        self.text
    }
}

/// One label as samples have it.
#[must_use]
pub fn label(name: &str, value: impl Display) -> String {
    let value = value.to_string();
    let value = value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n");
    format!("{{{name}=\"{value}\"}}")
}
