//! Counts in the text format of Prometheus, version 0.0.4.

use std::{
    fmt::{Display, Write as _},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use axum::{http::header, response::IntoResponse};

const CONTENT_TYPE: &str = "text/plain; version=0.0.4";

/// The answer to Prometheus: one [`MetricsPage`] or several after another.
#[must_use]
pub fn metrics_response(pages: String) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], pages)
}

/// A page of metrics as it grows.
///
/// ```
/// use microclimate_service::prometheus::{MetricsPage, label};
///
/// let mut page = MetricsPage::new("microclimate_store");
/// page.one(("zones", "gauge", "Zones seen"), 3);
/// page.family(("rows_total", "counter", "Rows"), [(label("kind", "final"), 7)]);
/// assert!(page.finish().ends_with("microclimate_store_rows_total{kind=\"final\"} 7\n"));
/// ```
#[derive(Debug)]
pub struct MetricsPage {
    prefix: &'static str,
    text: String,
}

impl MetricsPage {
    /// An empty page, all of whose names begin with `prefix`.
    #[must_use]
    pub const fn new(prefix: &'static str) -> Self {
        Self { prefix, text: String::new() }
    }

    /// One metric: its name, kind and help, and its samples, each with labels.
    pub fn add_family<V: Display>(
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
    pub fn add_metric(&mut self, about: (&str, &str, &str), value: impl Display) {
        self.add_family(about, [(String::new(), value)]);
    }

    /// Times, each with labels, as cumulative buckets, sum and count.
    pub fn add_histogram<'a>(
        &mut self,
        (name, help): (&str, &str),
        times: impl IntoIterator<Item = (String, &'a TimeHistogram)>,
    ) {
        let samples = times.into_iter().flat_map(|(labels, times)| times.to_samples(&labels));
        self.add_family((name, "histogram", help), samples);
    }

    /// The page as text.
    #[must_use]
    pub fn into_text(self) -> String {
        self.text
    }
}

/// How long something took, each time: counted by upper bounds.
///
/// ```
/// use std::time::Duration;
/// use microclimate_service::prometheus::{TimeHistogram, MetricsPage, label};
///
/// let times = TimeHistogram::new(&[0.001, 0.01]);
/// times.note(Duration::from_millis(5));
/// let mut page = MetricsPage::new("microclimate_store");
/// page.histogram(("read_seconds", "Time of a read"), [(label("of", "rows"), &times)]);
/// let text = page.finish();
/// assert!(text.contains("microclimate_store_read_seconds_bucket{of=\"rows\",le=\"0.01\"} 1\n"));
/// assert!(text.contains("microclimate_store_read_seconds_count{of=\"rows\"} 1\n"));
/// ```
#[derive(Debug)]
pub struct TimeHistogram {
    bounds_s: &'static [f64],
    /// Of each bound, and one more that is open.
    buckets: Vec<AtomicU64>,
    sum_ns: AtomicU64,
}

impl TimeHistogram {
    /// An empty one with these upper bounds, seconds, ascending.
    #[must_use]
    pub fn new(bounds_s: &'static [f64]) -> Self {
        let buckets = (0..=bounds_s.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds_s, buckets, sum_ns: AtomicU64::new(0) }
    }

    /// Counts a time in the first bucket that holds it.
    pub fn observe_duration(&self, took: Duration) {
        let took_s = took.as_secs_f64();
        self.buckets[self.bounds_s.partition_point(|bound| *bound < took_s)].fetch_add(1, Relaxed);
        let took_ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.sum_ns.fetch_add(took_ns, Relaxed);
    }

    /// What follows the name, with its value.
    fn to_samples(&self, labels: &str) -> Vec<(String, String)> {
        let own = labels.strip_prefix('{').and_then(|labels| labels.strip_suffix('}'));
        let own = own.map_or(String::new(), |own| format!("{own},"));
        let bounds = self.bounds_s.iter().map(f64::to_string).chain(["+Inf".to_owned()]);
        let mut sum = 0;
        let mut samples: Vec<(String, String)> = bounds
            .zip(&self.buckets)
            .map(|(bound, bucket)| {
                sum += bucket.load(Relaxed);
                (format!("_bucket{{{own}le=\"{bound}\"}}"), sum.to_string())
            })
            .collect();
        let sum_s = self.sum_ns.load(Relaxed) as f64 / 1e9;
        samples.push((format!("_sum{labels}"), sum_s.to_string()));
        samples.push((format!("_count{labels}"), sum.to_string()));
        samples
    }
}

/// One label as samples have it.
#[must_use]
pub fn format_label(name: &str, value: impl Display) -> String {
    format_labels([(name, &value)])
}

/// Several labels as samples have them.
#[must_use]
pub fn format_labels<const N: usize>(all: [(&str, &dyn Display); N]) -> String {
    let each = all.map(|(name, value)| {
        let value = value.to_string();
        let value = value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n");
        format!("{name}=\"{value}\"")
    });
    format!("{{{}}}", each.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_counted_in_the_first_bucket_that_holds_it() {
        let times = TimeHistogram::new(&[0.001, 0.002, 0.05]);
        for ms in [0, 1, 2, 26, 50, 120_000] {
            times.observe_duration(Duration::from_millis(ms));
        }
        let samples = times.to_samples("");
        let text = |(name, value): &(String, String)| format!("{name} {value}");
        let found: Vec<String> = samples.iter().map(text).collect();
        let expect = [
            "_bucket{le=\"0.001\"} 2",
            "_bucket{le=\"0.002\"} 3",
            "_bucket{le=\"0.05\"} 5",
            "_bucket{le=\"+Inf\"} 6",
            "_sum 120.079",
            "_count 6",
        ];
        assert_eq!(found, expect);
    }

    #[test]
    fn values_of_labels_are_escaped() {
        let text = format_labels([("a", &"x\"y\\z\n"), ("n", &3)]);
        assert_eq!(text, r#"{a="x\"y\\z\n",n="3"}"#);
    }
}
