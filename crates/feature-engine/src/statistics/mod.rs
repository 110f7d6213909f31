//! Statistics of a feature's values over a span, and their drift from a baseline.
//!
//! # Layout
//! - `summary`: count, moments, quantiles; `histogram`: bins of equal width
//! - `drift`: a span compared with a baseline: population stability index, Kolmogorov–Smirnov,
//!   Wasserstein

mod drift;
mod histogram;
mod summary;

pub use drift::{
    DriftVerdict, FeatureDrift, KsTestResult, ks_test, population_stability_index,
    wasserstein_distance,
};
pub use histogram::FeatureHistogram;
pub use summary::{FeatureValueSummary, quantile};
