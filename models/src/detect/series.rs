//! Detectors for one series: a metric of a zone, with one value a minute, in the order of time.
//! Each uses past values only, so that a series scored value by value has the same scores as the
//! whole series.
//!
//! # Layout
//! `gaussian_window`, `seasonal` and `matrix_profile` hold the states of the larger detectors; the
//! others are in this file.
//!
//! Where the level follows the hour of the day, [`EwmaDetector`] and [`CusumDetector`] raise alarms
//! all day: give them the residuals of a forecast. A missing value (NaN) scores 0 and changes
//! nothing. The owner of a series must watch for silence.

mod gaussian_window;
mod matrix_profile;
mod seasonal;

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::{FitError, ROWS_MIN, scaling::finite_median};
pub use gaussian_window::GaussianWindowState;
pub use matrix_profile::MatrixProfileState;
pub use seasonal::SeasonalState;

/// Method that learns the normal behaviour of a series.
pub trait SeriesDetector: Send + Sync {
    /// Name in leaderboards.
    fn name(&self) -> &'static str;

    /// Fits to `values`, in the order of time, NaN where missing. Most of them must be normal.
    ///
    /// # Errors
    /// [`FitError::FewRows`] with fewer than 30 finite values.
    fn fit(&self, values: &[f64]) -> Result<SeriesMonitor, FitError>;
}

/// All detectors of series.
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

/// Finds a detector of series by its name.
#[must_use]
pub fn by_name(name: &str) -> Option<Box<dyn SeriesDetector>> {
    all_detectors().into_iter().find(|detector| detector.name() == name)
}

/// Distance from the median of the last 60 values, in their median absolute deviations (at least a
/// tenth of the usual one): the Hampel identifier over a moving window. F. R. Hampel, "The
/// influence curve and its role in robust estimation", JASA 69, 1974; R. K. Pearson, IEEE Trans.
/// Control Syst. Technol. 10(1), 2002. Detects spikes.
#[derive(Clone, Copy, Debug)]
pub struct HampelDetector;

/// Distance of an exponentially weighted mean (λ = 0.2) from the usual level, in its own standard
/// deviations: S. W. Roberts, "Control chart tests based on geometric moving averages",
/// Technometrics 1(3), 1959. Detects small shifts.
#[derive(Clone, Copy, Debug)]
pub struct EwmaDetector;

/// The larger of the two cumulative sums of deviations of more than half a spread from the usual
/// level, in spreads: E. S. Page, "Continuous inspection schemes", Biometrika 41, 1954. A sum stops
/// at 100. Detects drifts.
#[derive(Clone, Copy, Debug)]
pub struct CusumDetector;

/// Length of the current run of equal values, in lengths of the longest usual run (99.9 % of all
/// values lie in runs of that length or shorter): the flat line test of the manual for real-time
/// quality control of data, U.S. IOOS QARTOD. Detects stuck sensors.
#[derive(Clone, Copy, Debug)]
pub struct FlatLineDetector;

/// Change since the last value, in the usual size of changes: the rate of change test of the same
/// manual. Detects steps and spikes.
#[derive(Clone, Copy, Debug)]
pub struct StepDetector;

/// Distance from the mean of the last 6,400 values, in their standard deviations: the windowed
/// Gaussian of the Numenta Anomaly Benchmark. Detects values far from all earlier ones.
#[derive(Clone, Copy, Debug)]
pub struct GaussianWindow;

/// Distance of the mean size of the last 10 changes above that of the last 6,400, in standard
/// deviations: the anomaly likelihood of S. Ahmad et al., "Unsupervised real-time anomaly detection
/// for streaming data", Neurocomputing 262, 2017. It uses persistence as the forecast, and omits
/// the last step, which turns deviations into probabilities. Detects unrest.
#[derive(Clone, Copy, Debug)]
pub struct AnomalyLikelihood;

/// Rarity of the distance from the median of the same time on the last seven days, among the last
/// 2,000 such distances: a conformal p-value (R. Laxhammar, G. Falkman, "Online learning and
/// sequential anomaly detection in trajectories", IEEE TPAMI 36(6), 2014). Detects values that are
/// unusual at their time of day.
#[derive(Clone, Copy, Debug)]
pub struct SeasonalDetector {
    /// Number of values per day; the default is one a minute.
    pub period: usize,
}

impl Default for SeasonalDetector {
    fn default() -> Self {
        Self { period: 1440 }
    }
}

/// Distance of the last 24 values from the most similar 24 earlier ones, whatever their level and
/// size: the left matrix profile of C.-C. M. Yeh et al., "Matrix profile I", ICDM 2016, within
/// 4,000 values. Detects unusual shapes.
#[derive(Clone, Copy, Debug)]
pub struct MatrixProfile;

/// Factor that makes the median absolute deviation of a normal distribution its standard deviation:
/// 1 / Φ⁻¹(3/4).
const NORMAL: f64 = 1.4826;
/// Number of values in the window of the Hampel identifier.
const WINDOW: usize = 60;
/// Fewest values in the window from which a spread is computed.
const WINDOW_MIN: usize = 10;
/// Weight of the latest value in the exponentially weighted mean.
const WEIGHT: f64 = 0.2;
/// Deviation, in spreads, that a cumulative sum ignores.
const SLACK: f64 = 0.5;
/// Largest cumulative sum, so that an alarm ends after its cause has ended.
const SUM_MAX: f64 = 100.0;

/// Number of changes whose mean size the likelihood uses.
const CHANGES: usize = 10;

/// Normal behaviour of a series, and the state of monitoring it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SeriesMonitor {
    /// See [`HampelDetector`].
    Hampel {
        /// Smallest spread, in the series' unit.
        spread_min: f64,
        /// The last values.
        window: VecDeque<f64>,
    },
    /// See [`EwmaDetector`].
    Ewma {
        /// The usual level.
        level: f64,
        /// Spread of single values around the level.
        spread: f64,
        /// The weighted mean.
        mean: f64,
    },
    /// See [`CusumDetector`].
    Cusum {
        /// The usual level.
        level: f64,
        /// Spread of single values around the level.
        spread: f64,
        /// Sums of upward and downward deviations.
        sums: (f64, f64),
    },
    /// See [`FlatLineDetector`].
    Unchanged {
        /// Length of the longest usual run.
        usual: f64,
        /// Last value and the length of its run.
        run: Option<(f64, f64)>,
    },
    /// See [`StepDetector`].
    Step {
        /// Usual size of changes.
        usual: f64,
        /// The last value.
        last: Option<f64>,
    },
    /// See [`GaussianWindow`].
    Gaussian(GaussianWindowState),
    /// See [`AnomalyLikelihood`].
    Likelihood {
        /// Window over sizes of changes.
        window: GaussianWindowState,
        /// Last sizes of changes.
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
    /// Adds the next value and returns its anomaly score, 0 or more.
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

    /// Scores of the `values` that would follow. The monitor itself stays as it is.
    #[must_use]
    pub fn score_series(&self, values: &[f64]) -> Vec<f64> {
        let mut monitor = self.clone();
        values.iter().map(|value| monitor.push(*value)).collect()
    }
}

/// Median, and the median absolute deviation as a standard deviation.
fn robust_level_and_spread(values: impl Iterator<Item = f64> + Clone) -> (f64, f64) {
    let middle = finite_median(values.clone());
    (middle, NORMAL * finite_median(values.map(|value| (value - middle).abs())))
}

/// Finite values with their robust level and spread, which is above 0.
fn robust_baseline(values: &[f64]) -> Result<(Vec<f64>, f64, f64), FitError> {
    let finite: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
    if finite.len() < ROWS_MIN {
        return Err(FitError::FewRows { rows: finite.len() });
    }
    let (level, spread) = robust_level_and_spread(finite.iter().copied());
    Ok((finite, level, spread.max(1e-9)))
}

impl SeriesDetector for HampelDetector {
    fn name(&self) -> &'static str {
        "hampel"
    }

    fn fit(&self, values: &[f64]) -> Result<SeriesMonitor, FitError> {
        let (finite, ..) = robust_baseline(values)?;
        let spreads =
            finite.chunks(WINDOW).map(|chunk| robust_level_and_spread(chunk.iter().copied()).1);
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
        let (finite, ..) = robust_baseline(values)?;
        let mut runs: Vec<usize> = finite.chunk_by(|a, b| a == b).map(<[f64]>::len).collect();
        runs.sort_unstable();
        let most = 0.999 * finite.len() as f64;
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
        let (finite, ..) = robust_baseline(values)?;
        // Most changes may be 0; the others determine the size.
        let changes = finite.windows(2).map(|pair| (pair[1] - pair[0]).abs());
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
