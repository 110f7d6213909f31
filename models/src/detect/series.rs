//! Detectors of one series: a metric of a zone, one value a minute, in the
//! order of time. Each looks back and never ahead, so that a series scored
//! value by value as it comes has the scores of the series as a whole.
//!
//! Levels that move with the hour make [`Ewma`] and [`Cusum`] raise alarms all
//! day: give them what a forecast left over. A missing value (NaN) scores 0
//! and changes nothing; how long a series is silent is for its owner to watch.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::{FitError, ROWS_MIN, fill::median};

/// A way to learn what is usual of a series.
pub trait SeriesDetector: Send + Sync {
    /// Its name in leaderboards.
    fn name(&self) -> &'static str;

    /// Learns from `values`, in the order of time, NaN where missing, most of
    /// them usual.
    ///
    /// # Errors
    /// [`FitError::FewRows`] with fewer than 30 values that are there.
    fn fit(&self, values: &[f64]) -> Result<Watch, FitError>;
}

/// Every detector of series.
#[must_use]
pub fn detectors() -> Vec<Box<dyn SeriesDetector>> {
    vec![Box::new(Hampel), Box::new(Ewma), Box::new(Cusum), Box::new(Unchanged), Box::new(Step)]
}

/// The detector of series of that name.
#[must_use]
pub fn by_name(name: &str) -> Option<Box<dyn SeriesDetector>> {
    detectors().into_iter().find(|detector| detector.name() == name)
}

/// Distance from the median of the last 60 values, in their median absolute
/// deviations (at least a tenth of the usual one): the Hampel identifier over a
/// window that moves. F. R. Hampel, "The influence curve and its role in robust
/// estimation", JASA 69, 1974; R. K. Pearson, IEEE Trans. Control Syst. Technol.
/// 10(1), 2002. For spikes.
#[derive(Clone, Copy, Debug)]
pub struct Hampel;

/// Distance of an exponentially weighted mean (λ = 0.2) from the usual level,
/// in its own standard deviations: S. W. Roberts, "Control chart tests based on
/// geometric moving averages", Technometrics 1(3), 1959. For small shifts.
#[derive(Clone, Copy, Debug)]
pub struct Ewma;

/// The larger of the two cumulative sums of deviations beyond half a spread
/// from the usual level, in spreads: E. S. Page, "Continuous inspection
/// schemes", Biometrika 41, 1954. It forgets beyond 100. For drifts.
#[derive(Clone, Copy, Debug)]
pub struct Cusum;

/// How long the value has been one and the same, in the longest usual run (of
/// all values, 99.9 % lie in runs as long or shorter): the flat line test of
/// the manual for real-time quality control of data, U.S. IOOS QARTOD. For
/// stuck sensors.
#[derive(Clone, Copy, Debug)]
pub struct Unchanged;

/// The change since the last value, in the usual size of changes: the rate of
/// change test of the same manual. For steps and spikes.
#[derive(Clone, Copy, Debug)]
pub struct Step;

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

/// What is usual of a series, and the state of watching it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Watch {
    /// See [`Hampel`].
    Hampel {
        /// The least spread, in the series' unit.
        spread_min: f64,
        /// The last values.
        window: VecDeque<f64>,
    },
    /// See [`Ewma`].
    Ewma {
        /// The usual level.
        level: f64,
        /// Of single values around it.
        spread: f64,
        /// The weighted mean.
        mean: f64,
    },
    /// See [`Cusum`].
    Cusum {
        /// The usual level.
        level: f64,
        /// Of single values around it.
        spread: f64,
        /// The sums of deviations upwards and downwards.
        sums: (f64, f64),
    },
    /// See [`Unchanged`].
    Unchanged {
        /// The longest usual run.
        usual: f64,
        /// The last value and its run.
        run: Option<(f64, f64)>,
    },
    /// See [`Step`].
    Step {
        /// The usual size of changes.
        usual: f64,
        /// The last value.
        last: Option<f64>,
    },
}

impl Watch {
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
                    let (middle, spread) = robust(window.iter().copied());
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
        }
    }

    /// The scores of `values` that follow; the watch itself stays as it is.
    #[must_use]
    pub fn scores(&self, values: &[f64]) -> Vec<f64> {
        let mut watch = self.clone();
        values.iter().map(|value| watch.push(*value)).collect()
    }
}

/// The median and the median absolute deviation, as a standard deviation.
fn robust(values: impl Iterator<Item = f64> + Clone) -> (f64, f64) {
    let middle = median(values.clone());
    (middle, NORMAL * median(values.map(|value| (value - middle).abs())))
}

/// The values that are there; their robust level and spread, which is above 0.
fn usual(values: &[f64]) -> Result<(Vec<f64>, f64, f64), FitError> {
    let there: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
    if there.len() < ROWS_MIN {
        return Err(FitError::FewRows { rows: there.len() });
    }
    let (level, spread) = robust(there.iter().copied());
    Ok((there, level, spread.max(1e-9)))
}

impl SeriesDetector for Hampel {
    fn name(&self) -> &'static str {
        "hampel"
    }

    fn fit(&self, values: &[f64]) -> Result<Watch, FitError> {
        let (there, ..) = usual(values)?;
        let spreads = there.chunks(WINDOW).map(|chunk| robust(chunk.iter().copied()).1);
        let spread_min = (median(spreads) / 10.0).max(1e-9);
        Ok(Watch::Hampel { spread_min, window: VecDeque::new() })
    }
}

impl SeriesDetector for Ewma {
    fn name(&self) -> &'static str {
        "ewma"
    }

    fn fit(&self, values: &[f64]) -> Result<Watch, FitError> {
        let (_, level, spread) = usual(values)?;
        Ok(Watch::Ewma { level, spread, mean: level })
    }
}

impl SeriesDetector for Cusum {
    fn name(&self) -> &'static str {
        "cusum"
    }

    fn fit(&self, values: &[f64]) -> Result<Watch, FitError> {
        let (_, level, spread) = usual(values)?;
        Ok(Watch::Cusum { level, spread, sums: (0.0, 0.0) })
    }
}

impl SeriesDetector for Unchanged {
    fn name(&self) -> &'static str {
        "unchanged"
    }

    fn fit(&self, values: &[f64]) -> Result<Watch, FitError> {
        let (there, ..) = usual(values)?;
        let mut runs: Vec<usize> = there.chunk_by(|a, b| a == b).map(<[f64]>::len).collect();
        runs.sort_unstable();
        let most = 0.999 * there.len() as f64;
        let mut passed = 0;
        let longest = runs.iter().find(|run| {
            passed += **run;
            passed as f64 >= most
        });
        let usual = longest.copied().unwrap_or(1) as f64;
        Ok(Watch::Unchanged { usual, run: None })
    }
}

impl SeriesDetector for Step {
    fn name(&self) -> &'static str {
        "step"
    }

    fn fit(&self, values: &[f64]) -> Result<Watch, FitError> {
        let (there, ..) = usual(values)?;
        // Where most values are as before, the others tell the size.
        let changes = there.windows(2).map(|pair| (pair[1] - pair[0]).abs());
        let usual = NORMAL * median(changes.filter(|change| *change > 0.0));
        Ok(Watch::Step { usual: usual.max(1e-9), last: None })
    }
}
