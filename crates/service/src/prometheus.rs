//! Metrics in the text format of Prometheus, version 0.0.4.

use std::{
    fmt::{Display, Write as _},
    fs,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use axum::{http::header, response::IntoResponse};

const CONTENT_TYPE: &str = "text/plain; version=0.0.4";

/// Builds the response to Prometheus from one or several concatenated [`MetricsPage`]s, and the
/// metrics of this process.
#[must_use]
pub fn metrics_response(pages: String) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], pages + &process_page())
}

/// Metrics of this process under the names that Prometheus' client libraries give them, and its
/// version. Figures that the system does not have (proc(5) of Linux) are left out.
fn process_page() -> String {
    let mut page = MetricsPage::new("process");
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The fields after the program's name, which may contain spaces: 14 and 15 are processor
    // times in ticks, 22 is the start in ticks since boot.
    let fields: Vec<u64> = stat
        .rsplit_once(')')
        .map_or("", |(_, fields)| fields)
        .split_whitespace()
        .map(|field| field.parse().unwrap_or_default())
        .collect();
    if let [Some(user), Some(system), Some(start)] =
        [11, 12, 19].map(|number| fields.get(number).copied())
    {
        let seconds = |ticks: u64| ticks as f64 / TICKS_PER_SECOND;
        page.add_metric(
            ("cpu_seconds_total", "counter", "Processor time of all threads"),
            seconds(user + system),
        );
        let booted_s = fs::read_to_string("/proc/stat").ok().and_then(|text| {
            let line = text.lines().find_map(|line| line.strip_prefix("btime "))?;
            line.trim().parse::<f64>().ok()
        });
        page.add_family(
            ("start_time_seconds", "gauge", "Start, seconds since 1970"),
            booted_s.map(|booted_s| (String::new(), booted_s + seconds(start))),
        );
    }
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let resident = status.lines().find_map(|line| {
        line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok()
    });
    page.add_family(
        ("resident_memory_bytes", "gauge", "Resident set"),
        resident.map(|kib| (String::new(), kib * 1024)),
    );
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        page.add_metric(("open_fds", "gauge", "Open files and sockets"), open.count());
    }
    let mut own = MetricsPage::new("microclimate");
    let version = format_label("version", env!("CARGO_PKG_VERSION"));
    own.add_family(("build_info", "gauge", "Version of the program"), [(version, 1)]);
    page.into_text() + &own.into_text()
}

/// Unit of times in proc(5): Linux has 100 on every architecture (`getconf CLK_TCK`).
const TICKS_PER_SECOND: f64 = 100.0;

/// Builder of a page of metrics.
///
/// ```
/// use microclimate_service::prometheus::{MetricsPage, format_label};
///
/// let mut page = MetricsPage::new("microclimate_store");
/// page.add_metric(("zones", "gauge", "Zones seen"), 3);
/// page.add_family(("rows_total", "counter", "Rows"), [(format_label("kind", "final"), 7)]);
/// assert!(page.into_text().ends_with("microclimate_store_rows_total{kind=\"final\"} 7
/// "));
/// ```
#[derive(Debug)]
pub struct MetricsPage {
    prefix: &'static str,
    text: String,
}

impl MetricsPage {
    /// Creates an empty page whose metric names all begin with `prefix`.
    #[must_use]
    pub const fn new(prefix: &'static str) -> Self {
        Self { prefix, text: String::new() }
    }

    /// Adds one metric: its name, kind and help, and its samples, each with labels.
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

    /// Adds a metric with one sample and no labels.
    pub fn add_metric(&mut self, about: (&str, &str, &str), value: impl Display) {
        self.add_family(about, [(String::new(), value)]);
    }

    /// Adds histograms, each with labels, as cumulative buckets, sum and count.
    pub fn add_histogram<'a>(
        &mut self,
        (name, help): (&str, &str),
        times: impl IntoIterator<Item = (String, &'a TimeHistogram)>,
    ) {
        let samples = times.into_iter().flat_map(|(labels, times)| times.to_samples(&labels));
        self.add_family((name, "histogram", help), samples);
    }

    /// Returns the page as text.
    #[must_use]
    pub fn into_text(self) -> String {
        self.text
    }
}

/// Histogram of durations, counted by upper bounds.
///
/// ```
/// use std::time::Duration;
/// use microclimate_service::prometheus::{MetricsPage, TimeHistogram, format_label};
///
/// let times = TimeHistogram::new(&[0.001, 0.01]);
/// times.observe_duration(Duration::from_millis(5));
/// let mut page = MetricsPage::new("microclimate_store");
/// page.add_histogram(("read_seconds", "Time of a read"), [(format_label("of", "rows"), &times)]);
/// let text = page.into_text();
/// assert!(text.contains("microclimate_store_read_seconds_bucket{of=\"rows\",le=\"0.01\"} 1\n"));
/// assert!(text.contains("microclimate_store_read_seconds_count{of=\"rows\"} 1\n"));
/// ```
#[derive(Debug)]
pub struct TimeHistogram {
    bounds_s: &'static [f64],
    /// One counter for each bound, and one more without an upper bound.
    buckets: Vec<AtomicU64>,
    sum_ns: AtomicU64,
}

impl TimeHistogram {
    /// Creates an empty histogram with these upper bounds, seconds, ascending.
    #[must_use]
    pub fn new(bounds_s: &'static [f64]) -> Self {
        let buckets = (0..=bounds_s.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds_s, buckets, sum_ns: AtomicU64::new(0) }
    }

    /// Counts a duration in the first bucket that holds it.
    pub fn observe_duration(&self, took: Duration) {
        let took_s = took.as_secs_f64();
        self.buckets[self.bounds_s.partition_point(|bound| *bound < took_s)].fetch_add(1, Relaxed);
        let took_ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.sum_ns.fetch_add(took_ns, Relaxed);
    }

    /// Returns the samples as the suffix of the name with labels, and the value.
    fn to_samples(&self, labels: &str) -> Vec<(String, String)> {
        let inner_labels = labels.strip_prefix('{').and_then(|labels| labels.strip_suffix('}'));
        let label_prefix = inner_labels.map_or(String::new(), |labels| format!("{labels},"));
        let bounds = self.bounds_s.iter().map(f64::to_string).chain(["+Inf".to_owned()]);
        let mut sum = 0;
        let mut samples: Vec<(String, String)> = bounds
            .zip(&self.buckets)
            .map(|(bound, bucket)| {
                sum += bucket.load(Relaxed);
                (format!("_bucket{{{label_prefix}le=\"{bound}\"}}"), sum.to_string())
            })
            .collect();
        let sum_s = self.sum_ns.load(Relaxed) as f64 / 1e9;
        samples.push((format!("_sum{labels}"), sum_s.to_string()));
        samples.push((format!("_count{labels}"), sum.to_string()));
        samples
    }
}

/// Formats one label as it stands in a sample.
#[must_use]
pub fn format_label(name: &str, value: impl Display) -> String {
    format_labels([(name, &value)])
}

/// Formats several labels as they stand in a sample.
#[must_use]
pub fn format_labels<const N: usize>(all: [(&str, &dyn Display); N]) -> String {
    let each = all.map(|(name, value)| {
        let text = value.to_string();
        let escaped = text.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n");
        format!("{name}=\"{escaped}\"")
    });
    format!("{{{}}}", each.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn a_process_says_what_it_uses() {
        let page = process_page();
        let value = |name: &str| -> f64 {
            let line = page.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim().parse().unwrap()
        };
        let megabytes = value("process_resident_memory_bytes ") / 1e6;
        assert!((1.0..10_000.0).contains(&megabytes), "{page}");
        let now_s = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let age_s = now_s.as_secs_f64() - value("process_start_time_seconds ");
        assert!((-2.0..3600.0).contains(&age_s), "{age_s}");
        assert!(value("process_open_fds ") >= 3.0 && value("process_cpu_seconds_total ") >= 0.0);
        assert!(page.contains("microclimate_build_info{version=\""), "{page}");
    }

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
