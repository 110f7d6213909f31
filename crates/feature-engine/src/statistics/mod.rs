//! What a feature's values look like over a span, and whether they have moved.
//!
//! # Layout
//! - `summary`: count, moments, quantiles; `histogram`: bins of equal width
//! - `drift`: a span beside a baseline: population stability index,
//!   Kolmogorov–Smirnov, Wasserstein

mod drift;
mod histogram;
mod summary;

pub use drift::{
    DriftVerdict, FeatureDrift, KsTestResult, ks_test, population_stability_index,
    wasserstein_distance,
};
pub use histogram::FeatureHistogram;
pub use summary::{FeatureValueSummary, quantile};
