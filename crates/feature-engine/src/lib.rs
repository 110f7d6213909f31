//! Exact rolling-window features of sensor readings.
//!
//! The engine takes decoded reports in the order of the log and returns feature rows. It reads no
//! clock, no file and no database: the rows are a function of the reports and their order. The
//! feature store runs it over its log, and any other host can run it over a table.
//!
//! # Layout
//! In the order in which data meets them:
//! - [`definitions`]: `features.toml`: windows, aggregates, joins
//! - [`settings`]: grid, lateness, time zone and place of a site
//! - [`engine`]: reports → quality flags and feature rows
//! - [`sql`]: the traits by which a host evaluates SQL expressions of definitions
//! - [`statistics`]: summaries of feature values over a span, and whether they drift
//!
//! ```
//! use microclimate_feature_engine::{EngineSettings, FeatureDefinitions, FeatureEngine, SqlExpressions};
//! use microclimate_feature_engine::engine::EngineOutput;
//! use telemetry::{MetricTable, ReportSource, SensorReading, SensorReport};
//!
//! let metrics = MetricTable::default();
//! let settings = EngineSettings::default();
//! let definitions = FeatureDefinitions::built_in();
//! let mut engine =
//!     FeatureEngine::new(&settings, definitions, metrics, &[], SqlExpressions::default()).unwrap();
//! let mut output = EngineOutput::default();
//! for minute in 0..10 {
//!     let event_ms = minute * 60_000;
//!     let reading = SensorReading { metric: "temperature".into(), event_ms, value: 21.0 };
//!     let report = SensorReport {
//!         zone: "farm/bay-1".parse().unwrap(),
//!         device: "probe".into(),
//!         boot: None,
//!         seq: None,
//!         arrival_ms: event_ms,
//!         source: ReportSource::Replay,
//!         readings: vec![reading],
//!     };
//!     engine.ingest_report(&report, event_ms, &mut output);
//! }
//! engine.finish_all(&mut output);
//! assert_eq!(output.rows.len(), 10);
//! ```

pub mod definitions;
pub mod engine;
pub mod settings;
pub mod sql;
pub mod statistics;

pub use definitions::FeatureDefinitions;
pub use engine::{FeatureEngine, FeatureRow};
pub use settings::{EngineSettings, WindowDuration};
pub use sql::SqlExpressions;
