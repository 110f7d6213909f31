//! Detectors of one series: a metric of a zone, one value a minute, in the
//! order of time. Each looks back and never ahead, so that a series scored
//! value by value as it comes has the scores of the series as a whole.
//!
//! # Layout
//! `window`, `seasonal`, `profile` hold what the larger ones remember; the others
//! are here.
//!
//! Levels that move with the hour make [`EwmaDetector`] and [`CusumDetector`] raise alarms all
//! day: give them what a forecast left over. A missing value (NaN) scores 0
//! and changes nothing; how long a series is silent is for its owner to watch.

mod gaussian_window;
mod matrix_profile;
mod seasonal;

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::{FitError, ROWS_MIN, scaling::finite_median};
pub use gaussian_window::GaussianWindowState;
pub use matrix_profile::MatrixProfileState;
pub use seasonal::SeasonalState;

/// A way to learn what is usual of a series.
pub trait SeriesDetector: Send + Sync {
    /// Its name in leaderboards.
    fn name(&self) -> &'static str;

    /// Learns from `values`, in the order of time, NaN where missing, most of
    /// them usual.
    ///
    /// # Errors
    /// [`FitError::FewRows`] with fewer than 30 values that are there.
    fn fit(&self, values: &[f64]) -> Result<SeriesMonitor, FitError>;
}

/// Every detector of series.
#[must_use]
pub fn all_detectors() -> Vec<Box<dyn SeriesDetector>> {
    vec![
        Box::new(HampelDetector),
        Box::new(EwmaDetector),
        Box::new(CusumDetector),
        Box::new(FlatLineDetector),
        Box::new(StepDetector),
        Box::new(GaussianWindow),
        Box::new(AnomalyLikelihood),
        Box::new(SeasonalDetector::default()),
        Box::new(MatrixProfile),
    ]
}

/// The detector of series of that name.
#[must_use]
pub fn by_name(name: &str) -> Option<Box<dyn SeriesDetector>> {
    all_detectors().into_iter().find(|detector| detector.name() == name)
}

/// Distance from the median of the last 60 values, in their median absolute
/// deviations (at least a tenth of the usual one): the Hampel identifier over a
/// window that moves. F. R. Hampel, "The influence curve and its role in robust
/// estimation", JASA 69, 1974; R. K. Pearson, IEEE Trans. Control Syst. Technol.
/// 10(1), 2002. For spikes.
#[derive(Clone, Copy, Debug)]
pub struct HampelDetector;

/// Distance of an exponentially weighted mean (λ = 0.2) from the usual level,
/// in its own standard deviations: S. W. Roberts, "Control chart tests based on
/// geometric moving averages", Technometrics 1(3), 1959. For small shifts.
#[derive(Clone, Copy, Debug)]
pub struct EwmaDetector;

/// The larger of the two cumulative sums of deviations beyond half a spread
/// from the usual level, in spreads: E. S. Page, "Continuous inspection
/// schemes", Biometrika 41, 1954. It forgets beyond 100. For drifts.
#[derive(Clone, Copy, Debug)]
pub struct CusumDetector;

/// How long the value has been one and the same, in the longest usual run (of
/// all values, 99.9 % lie in runs as long or shorter): the flat line test of
/// the manual for real-time quality control of data, U.S. IOOS QARTOD. For
/// stuck sensors.
#[derive(Clone, Copy, Debug)]
pub struct FlatLineDetector;

/// The change since the last value, in the usual size of changes: the rate of
/// change test of the same manual. For steps and spikes.
#[derive(Clone, Copy, Debug)]
pub struct StepDetector;

/// Distance from the mean of the last 6,400 values, in their standard
/// deviations: the windowed Gaussian that the Numenta Anomaly Benchmark brings
/// along. For values far from all that were.
#[derive(Clone, Copy, Debug)]
pub struct GaussianWindow;

/// How far the mean size of the last 10 changes lies above that of the last
/// 6,400, in standard deviations: the anomaly likelihood of S. Ahmad et al.,
/// "Unsupervised real-time anomaly detection for streaming data",
/// Neurocomputing 262, 2017, with persistence for a forecast and without its
/// last step, which turns deviations into probabilities. For unrest.
#[derive(Clone, Copy, Debug)]
pub struct AnomalyLikelihood;

/// How rare the distance from the median of the same time of the last seven
/// days is among the last 2,000 such distances: a conformal p-value (R.
/// Laxhammar, G. Falkman, "Online learning and sequential anomaly detection in
/// trajectories", IEEE TPAMI 36(6), 2014). For values that are odd at their
/// hour.
#[derive(Clone, Copy, Debug)]
pub struct SeasonalDetector {
    /// Values of a day; of the default, a minute each.
    pub period: usize,
}

impl Default for SeasonalDetector {
    fn default() -> Self {
        Self { period: 1440 }
    }
}

/// Distance of the last 24 values from the most similar 24 before, whatever
/// their level and size: the left matrix profile of C.-C. M. Yeh et al.,
/// "Matrix profile I", ICDM 2016, within 4,000 values. For odd shapes.
#[derive(Clone, Copy, Debug)]
pub struct MatrixProfile;

/// Makes the median absolute deviation of a normal distribution its standard
/// deviation: 1 / Φ⁻¹(3/4).
const NORMAL: f64 = 1.4826;
/// Values that the Hampel identifier looks back on.
const WINDOW: usize = 60;
/// Fewer values than this in the window tell no spread.
const WINDOW_MIN: usize = 10;
/// What the newest value counts in the weighted mean.
const WEIGHT: f64 = 0.2;
/// Deviations, in spreads, that a cumulative sum lets pass.
const SLACK: f64 = 0.5;
/// The largest cumulative sum, so that an alarm ends once its cause has.
const SUM_MAX: f64 = 100.0;

/// Changes whose mean size the likelihood looks at.
const CHANGES: usize = 10;

/// What is usual of a series, and the state of watching it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SeriesMonitor {
    /// See [`HampelDetector`].
    Hampel {
        /// The least spread, in the series' unit.
        spread_min: f64,
        /// The last values.
        window: VecDeque<f64>,
    },
    /// See [`EwmaDetector`].
    Ewma {
        /// The usual level.
        level: f64,
        /// Of single values around it.
        spread: f64,
        /// The weighted mean.
        mean: f64,
    },
    /// See [`CusumDetector`].
    Cusum {
        /// The usual level.
        level: f64,
        /// Of single values around it.
        spread: f64,
        /// The sums of deviations upwards and downwards.
        sums: (f64, f64),
    },
    /// See [`FlatLineDetector`].
    Unchanged {
        /// The longest usual run.
        usual: f64,
        /// The last value and its run.
        run: Option<(f64, f64)>,
    },
    /// See [`StepDetector`].
    Step {
        /// The usual size of changes.
        usual: f64,
        /// The last value.
        last: Option<f64>,
    },
    /// See [`GaussianWindow`].
    Gaussian(GaussianWindowState),
    /// See [`AnomalyLikelihood`].
    Likelihood {
        /// Of sizes of changes.
        window: GaussianWindowState,
        /// The last of them.
        changes: VecDeque<f64>,
        /// The last value.
        last: Option<f64>,
    },
    /// See [`SeasonalDetector`].
    Season(SeasonalState),
    /// See [`MatrixProfile`].
    Profile(MatrixProfileState),
}

impl SeriesMonitor {
    /// Takes the next value and says how unusual it is, 0 or more.
    pub fn push(&mut self, value: f64) -> f64 {
        if !value.is_finite() {
            return 0.0;
        }
        match self {
            Self::Hampel { spread_min, window } => {
                let score = if window.len() < WINDOW_MIN {
                    0.0
                } else {
                    let (middle, spread) = robust_level_and_spread(window.iter().copied());
                    (value - middle).abs() / spread.max(*spread_min)
                };
                if window.len() == WINDOW {
                    window.pop_front();
                }
                window.push_back(value);
                score
            }
            Self::Ewma { level, spread, mean } => {
                *mean += WEIGHT * (value - *mean);
                (*mean - *level).abs() / (*spread * (WEIGHT / (2.0 - WEIGHT)).sqrt())
            }
            Self::Cusum { level, spread, sums: (up, down) } => {
                let deviation = (value - *level) / *spread;
                *up = (*up + deviation - SLACK).clamp(0.0, SUM_MAX);
                *down = (*down - deviation - SLACK).clamp(0.0, SUM_MAX);
                up.max(*down)
            }
            Self::Unchanged { usual, run } => {
                let length = match run {
                    Some((last, length)) if *last == value => *length + 1.0,
                    _ => 1.0,
                };
                *run = Some((value, length));
                length / *usual
            }
            Self::Step { usual, last } => {
                let change = last.map_or(0.0, |last| (value - last).abs());
                *last = Some(value);
                change / *usual
            }
            Self::Gaussian(window) => {
                let score = window.deviation_from_mean(value).abs();
                window.push(value);
                score
            }
            Self::Likelihood { window, changes, last } => {
                let Some(before) = last.replace(value) else { return 0.0 };
                if changes.len() == CHANGES {
                    changes.pop_front();
                }
                changes.push_back((value - before).abs());
                let mean = changes.iter().sum::<f64>() / changes.len() as f64;
                let score = window.deviation_from_mean(mean).max(0.0);
                window.push((value - before).abs());
                score
            }
            Self::Season(season) => season.push(value),
            Self::Profile(profile) => profile.push(value),
        }
    }

    /// The scores of `values` that follow; the watch itself stays as it is.
    #[must_use]
    pub fn score_series(&self, values: &[f64]) -> Vec<f64> {
        let mut watch = self.clone();
        values.iter().map(|value| watch.push(*value)).collect()
    }
}

/// The median and the median absolute deviation, as a standard deviation.
fn robust_level_and_spread(values: impl Iterator<Item = f64> + Clone) -> (f64, f64) {
    let middle = finite_median(values.clone());
    (middle, NORMAL * finite_median(values.map(|value| (value - middle).abs())))
}

/// The values that are there; their robust level and spread, which is above 0.
fn robust_baseline(values: &[f64]) -> Result<(Vec<f64>, f64, f64), FitError> {
    let there: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
    if there.len() < ROWS_MIN {
        return Err(FitError::FewRows { rows: there.len() });
    }
    let (level, spread) = robust_level_and_spread(there.iter().copied());
    Ok((there, level, spread.max(1e-9)))
}

impl SeriesDetector for HampelDetector {
    fn name(&self) -> &'static str {
        "hampel"
    }

    fn fit(&self, values: &[f64]) -> Result<SeriesMonitor, FitError> {
        let (there, ..) = robust_baseline(values)?;
        let spreads =
            there.chunks(WINDOW).map(|chunk| robust_level_and_spread(chunk.iter().copied()).1);
        let spread_min = (finite_median(spreads) / 10.0).max(1e-9);
        Ok(SeriesMonitor::Hampel { spread_min, window: VecDeque::new() })
    }
}

impl SeriesDetector for EwmaDetector {
    fn name(&self) -> &'static str {
        "ewma"
    }

    fn fit(&self, values: &[f64]) -> Result<SeriesMonitor, FitError> {
        let (_, level, spread) = robust_baseline(values)?;
        Ok(SeriesMonitor::Ewma { level, spread, mean: level })
    }
}

impl SeriesDetector for CusumDetector {
    fn name(&self) -> &'static str {
        "cusum"
    }

    fn fit(&self, values: &[f64]) -> Result<SeriesMonitor, FitError> {
        let (_, level, spread) = robust_baseline(values)?;
        Ok(SeriesMonitor::Cusum { level, spread, sums: (0.0, 0.0) })
    }
}

impl SeriesDetector for FlatLineDetector {
    fn name(&self) -> &'static str {
        "unchanged"
    }

    fn fit(&self, values: &[f64]) -> Result<SeriesMonitor, FitError> {
        let (there, ..) = robust_baseline(values)?;
        let mut runs: Vec<usize> = there.chunk_by(|a, b| a == b).map(<[f64]>::len).collect();
        runs.sort_unstable();
        let most = 0.999 * there.len() as f64;
        let mut passed = 0;
        let longest = runs.iter().find(|run| {
            passed += **run;
            passed as f64 >= most
        });
        let usual = longest.copied().unwrap_or(1) as f64;
        Ok(SeriesMonitor::Unchanged { usual, run: None })
    }
}

impl SeriesDetector for StepDetector {
    fn name(&self) -> &'static str {
        "step"
    }

    fn fit(&self, values: &[f64]) -> Result<SeriesMonitor, FitError> {
        let (there, ..) = robust_baseline(values)?;
        // Where most values are as before, the others tell the size.
        let changes = there.windows(2).map(|pair| (pair[1] - pair[0]).abs());
        let usual = NORMAL * finite_median(changes.filter(|change| *change > 0.0));
        Ok(SeriesMonitor::Step { usual: usual.max(1e-9), last: None })
    }
}

impl SeriesDetector for GaussianWindow {
    fn name(&self) -> &'static str {
        "gaussian window"
    }

    fn fit(&self, values: &[f64]) -> Result<SeriesMonitor, FitError> {
        robust_baseline(values)?;
        Ok(SeriesMonitor::Gaussian(GaussianWindowState::default()))
    }
}

impl SeriesDetector for AnomalyLikelihood {
    fn name(&self) -> &'static str {
        "anomaly likelihood"
    }

    fn fit(&self, values: &[f64]) -> Result<SeriesMonitor, FitError> {
        robust_baseline(values)?;
        let window = GaussianWindowState::default();
        Ok(SeriesMonitor::Likelihood { window, changes: VecDeque::new(), last: None })
    }
}

impl SeriesDetector for SeasonalDetector {
    fn name(&self) -> &'static str {
        "seasonal residual"
    }

    fn fit(&self, values: &[f64]) -> Result<SeriesMonitor, FitError> {
        robust_baseline(values)?;
        Ok(SeriesMonitor::Season(SeasonalState::new(self.period)))
    }
}

impl SeriesDetector for MatrixProfile {
    fn name(&self) -> &'static str {
        "matrix profile"
    }

    fn fit(&self, values: &[f64]) -> Result<SeriesMonitor, FitError> {
        let (_, _, spread) = robust_baseline(values)?;
        Ok(SeriesMonitor::Profile(MatrixProfileState::new(spread / 10.0)))
    }
}
