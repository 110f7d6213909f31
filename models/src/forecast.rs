//! The course of one series over the next hours, with quantiles: a direct linear forecast for each
//! lead time, from the series alone.
//!
//! For a lead of h steps there are four candidates: the present value (persistence), the value of
//! 24 hours before the target (seasonal naive), and a regression of what each of the two misses on
//! four quantities known at t: how far the usual value at t + h (the mean of the same time of the
//! last days) and yesterday's value lie from y(t), and the changes of the last hour and of the last
//! six. One model for each lead is the "direct" strategy of S. Ben Taieb, G. Bontempi, A. F. Atiya,
//! A. Sorjamaa, "A review and comparison of strategies for multi-step ahead time series
//! forecasting", Expert Systems with Applications 39(8), 2012. Ridge regression with a fixed penalty
//! draws a regression towards its reference where there are few days.
//!
//! Candidates are compared by their errors on days that the fit had left out (with a day around
//! each, since neighbouring targets overlap). A regression is chosen if it is better than the better
//! of the two simple ones by more than one standard error, over days: L. Breiman, J. H. Friedman, R.
//! A. Olshen, C. J. Stone, "Classification and Regression Trees", 1984, section 3.4.3. Quantiles are those of the chosen
//! candidate's errors, as in the jackknife+ of R. F. Barber, E. J. Candès, A. Ramdas, R. J.
//! Tibshirani, "Predictive inference with the jackknife+", Annals of Statistics 49(1), 2021.

use std::ops::Range;

/// Number of regressors.
const INPUTS: usize = 4;
/// Index of the regressor that is yesterday's value less the present one.
const YESTERDAY: usize = 1;
/// Days whose same time makes up the usual value.
const USUAL_DAYS: usize = 7;
/// Ridge penalty, as a share of the mean square of each regressor over one day of rows.
const PENALTY: f64 = 0.3;
/// Fewest known changes over a lead, for that lead to be forecast.
const CHANGES_MIN: usize = 24;
/// Fewest days with rows for a choice between candidates; with fewer the path is persistence.
const DAYS_MIN: usize = 3;

/// A sampled series that ends now.
#[derive(Clone, Copy, Debug)]
pub struct SampledSeries<'a> {
    /// Values at equal distances, oldest first; NaN where there is none. The last one is the
    /// present one.
    pub values: &'a [f64],
    /// Number of values in a day, at least 2.
    pub day_steps: usize,
    /// Number of values in an hour, at least 1.
    pub hour_steps: usize,
}

/// How a point of the path was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathMethod {
    /// The present value.
    Persistence,
    /// The value of 24 hours before the target.
    Yesterday,
    /// The present value and a regression on the usual course and the recent changes.
    Regression,
    /// The value of 24 hours before the target and such a regression.
    YesterdayRegression,
}

impl PathMethod {
    const ALL: [Self; 4] =
        [Self::Persistence, Self::Yesterday, Self::Regression, Self::YesterdayRegression];

    /// The name in answers and reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Persistence => "persistence",
            Self::Yesterday => "yesterday",
            Self::Regression => "regression",
            Self::YesterdayRegression => "yesterday_regression",
        }
    }

    const fn is_from_yesterday(self) -> bool {
        matches!(self, Self::Yesterday | Self::YesterdayRegression)
    }

    const fn is_regression(self) -> bool {
        matches!(self, Self::Regression | Self::YesterdayRegression)
    }

    /// Change from the present value that the method starts from.
    const fn reference_change(self, inputs: &[f64; INPUTS]) -> f64 {
        if self.is_from_yesterday() { inputs[YESTERDAY] } else { 0.0 }
    }
}

/// The forecast of one time.
#[derive(Clone, Debug, PartialEq)]
pub struct PathPoint {
    /// Steps after the last value of the series, from 1.
    pub lead: usize,
    /// Point forecast, in the unit of the series.
    pub value: f64,
    /// Quantiles at the requested levels, rising, in the unit of the series.
    pub quantiles: Vec<f64>,
    /// How it was found.
    pub method: PathMethod,
}

/// Forecasts the next `horizon` steps of a series, at most a day, with the quantiles at `levels`
/// (rising, in (0, 1)). Returns fewer points, or none, where the series is too short for a lead, and
/// none where the present value is not known.
///
/// ```
/// use microclimate_models::forecast::{SampledSeries, forecast_path};
///
/// // Five days of a daily wave, every half hour.
/// let wave = |i: usize| 20.0 + 3.0 * (std::f64::consts::TAU * i as f64 / 48.0).sin();
/// let values: Vec<f64> = (0..5 * 48).map(wave).collect();
/// let series = SampledSeries { values: &values, day_steps: 48, hour_steps: 2 };
/// let path = forecast_path(series, 24, &[0.05, 0.95]);
/// assert_eq!(path.len(), 24);
/// assert!((path[11].value - wave(5 * 48 + 11)).abs() < 0.5);
/// assert!(path.iter().all(|point| point.quantiles[0] <= point.quantiles[1]));
/// ```
///
/// # Panics
/// A day has fewer than two steps, or an hour none.
#[must_use]
pub fn forecast_path(series: SampledSeries, horizon: usize, levels: &[f64]) -> Vec<PathPoint> {
    assert!(series.day_steps >= 2 && series.hour_steps >= 1, "steps of a day and of an hour");
    let Some(now) = series.values.last().copied().filter(|now| now.is_finite()) else {
        return Vec::new();
    };
    let usual = usual_course(&series);
    (1..=horizon.min(series.day_steps))
        .map_while(|lead| {
            let rows = LeadRows::collect(&series, &usual, lead);
            if rows.changes.len() < CHANGES_MIN {
                return None;
            }
            let (change, errors, method) = rows.forecast_change();
            Some(PathPoint {
                lead,
                value: now + change,
                quantiles: quantiles_of(errors, levels)
                    .into_iter()
                    .map(|error| now + change + error)
                    .collect(),
                method,
            })
        })
        .collect()
}

/// Mean of the same time of up to [`USUAL_DAYS`] days before, for each index of the series and of
/// the day after it; NaN where there is none. The value at i rests on nothing after i − a day.
fn usual_course(series: &SampledSeries) -> Vec<f64> {
    let SampledSeries { values, day_steps, .. } = *series;
    (0..values.len() + day_steps)
        .map(|index| {
            let days = (1..=USUAL_DAYS).filter_map(|day| index.checked_sub(day * day_steps));
            let known = days.filter_map(|at| values.get(at)).filter(|value| value.is_finite());
            let (sum, count) = known.fold((0.0, 0), |(sum, count), value| (sum + value, count + 1));
            if count == 0 { f64::NAN } else { sum / f64::from(count) }
        })
        .collect()
}

/// The rows of one lead: what was known at each origin, and the change that came.
struct LeadRows {
    /// Day, regressors (`None` where one is missing) and change of every origin with a known change.
    changes: Vec<(usize, Option<[f64; INPUTS]>, f64)>,
    /// Regressors of the present origin.
    now: Option<[f64; INPUTS]>,
    day_steps: usize,
}

impl LeadRows {
    fn collect(series: &SampledSeries, usual: &[f64], lead: usize) -> Self {
        let SampledSeries { values, day_steps, hour_steps } = *series;
        let last = values.len() - 1;
        let inputs_at = |origin: usize| {
            let now = values[origin];
            let target = origin + lead;
            let yesterday = target.checked_sub(day_steps).map_or(f64::NAN, |at| values[at]);
            let before = |steps: usize| origin.checked_sub(steps).map_or(f64::NAN, |at| values[at]);
            let inputs = [
                usual[target] - now,
                yesterday - now,
                now - before(hour_steps),
                now - before(6 * hour_steps),
            ];
            inputs.iter().all(|input| input.is_finite()).then_some(inputs)
        };
        let changes = (0..=last.saturating_sub(lead))
            .filter(|origin| origin + lead <= last)
            .filter_map(|origin| {
                let change = values[origin + lead] - values[origin];
                // Days are counted back from now, so that the newest is a whole one.
                let day = (last - origin) / day_steps;
                change.is_finite().then(|| (day, inputs_at(origin), change))
            })
            .collect();
        Self { changes, now: inputs_at(last), day_steps }
    }

    /// Returns the change that is forecast, the errors of such forecasts, and the method.
    fn forecast_change(&self) -> (f64, Vec<f64>, PathMethod) {
        let persistence = || {
            let errors = self.changes.iter().map(|(.., change)| *change).collect();
            (0.0, errors, PathMethod::Persistence)
        };
        let Some(now) = self.now else { return persistence() };
        let days = self.changes.iter().map(|(day, ..)| day + 1).max().unwrap_or(0);
        let candidates: Vec<LeadCandidate> =
            PathMethod::ALL.iter().map(|method| self.evaluate(*method, days)).collect();
        let chosen = choose_candidate(&candidates).filter(|own| own.errors.len() >= CHANGES_MIN);
        let Some(LeadCandidate { method, weights, errors, .. }) = chosen else {
            return persistence();
        };
        let change = method.reference_change(&now) + dot(weights, &now);
        (change, errors.iter().map(|(_, error)| *error).collect(), *method)
    }

    /// Fits a candidate, and finds its errors on days that the fit had left out.
    fn evaluate(&self, method: PathMethod, days: usize) -> LeadCandidate {
        let rows = || {
            let known = self.changes.iter();
            known.filter_map(|(day, inputs, change)| Some((*day, inputs.as_ref()?, *change)))
        };
        let mut sums = vec![NormalEquations::default(); days];
        if method.is_regression() {
            for (day, inputs, change) in rows() {
                sums[day].add_row(inputs, change - method.reference_change(inputs));
            }
        }
        let penalty = PENALTY * self.day_steps as f64;
        let fit_without = |left_out: Range<usize>| {
            if !method.is_regression() {
                return Some([0.0; INPUTS]);
            }
            let kept = sums.iter().enumerate().filter(|(day, _)| !left_out.contains(day));
            kept.fold(NormalEquations::default(), |all, (_, day)| all.plus(day)).solve(penalty)
        };
        let by_day: Vec<Option<[f64; INPUTS]>> =
            (0..days).map(|day| fit_without(day.saturating_sub(1)..day + 2)).collect();
        let errors = rows().filter_map(|(day, inputs, change)| {
            let weights = by_day[day].as_ref()?;
            Some((day, change - method.reference_change(inputs) - dot(weights, inputs)))
        });
        LeadCandidate {
            method,
            errors: errors.collect(),
            weights: fit_without(0..0).unwrap_or([0.0; INPUTS]),
            days,
        }
    }
}

/// One way to forecast a lead, and how it did.
struct LeadCandidate {
    method: PathMethod,
    /// Fitted on all rows.
    weights: [f64; INPUTS],
    /// Day and error of each row whose day the fit had left out.
    errors: Vec<(usize, f64)>,
    days: usize,
}

impl LeadCandidate {
    /// Mean absolute error of each day, NaN where there is none.
    fn daily_errors(&self) -> Vec<f64> {
        let mut sums = vec![(0.0, 0.0); self.days];
        for (day, error) in &self.errors {
            sums[*day].0 += error.abs();
            sums[*day].1 += 1.0;
        }
        sums.into_iter().map(|(sum, count)| sum / count).collect()
    }
}

/// Chooses among candidates by their mean errors over days: the better of those without a
/// regression, or the best regression if it is better than that by more than one standard error.
/// `None` with fewer than [`DAYS_MIN`] days.
fn choose_candidate(candidates: &[LeadCandidate]) -> Option<&LeadCandidate> {
    let daily: Vec<Vec<f64>> = candidates.iter().map(LeadCandidate::daily_errors).collect();
    let is_common = |day: &usize| daily.iter().all(|errors| errors[*day].is_finite());
    let common: Vec<usize> = (0..candidates.first()?.days).filter(is_common).collect();
    if common.len() < DAYS_MIN {
        return None;
    }
    let count = common.len() as f64;
    let mean = |index: &usize| common.iter().map(|day| daily[*index][*day]).sum::<f64>() / count;
    let best_of = |is_regression: bool| {
        let own = (0..candidates.len())
            .filter(move |index| candidates[*index].method.is_regression() == is_regression);
        own.min_by(|a, b| mean(a).total_cmp(&mean(b)))
    };
    let (simple, regression) = (best_of(false)?, best_of(true)?);
    let gains = common.iter().map(|day| daily[simple][*day] - daily[regression][*day]);
    let gain = gains.clone().sum::<f64>() / count;
    let squares: f64 = gains.map(|own| (own - gain).powi(2)).sum();
    let is_better = gain > (squares / (count - 1.0) / count).sqrt();
    Some(&candidates[if is_better { regression } else { simple }])
}

/// Sums of products of a least-squares fit without an intercept.
#[derive(Clone, Debug, Default)]
struct NormalEquations {
    products: [[f64; INPUTS]; INPUTS],
    by_target: [f64; INPUTS],
    count: f64,
}

impl NormalEquations {
    fn add_row(&mut self, inputs: &[f64; INPUTS], target: f64) {
        for (i, input) in inputs.iter().enumerate() {
            for (j, other) in inputs.iter().enumerate() {
                self.products[i][j] += input * other;
            }
            self.by_target[i] += input * target;
        }
        self.count += 1.0;
    }

    fn plus(mut self, other: &Self) -> Self {
        for i in 0..INPUTS {
            for j in 0..INPUTS {
                self.products[i][j] += other.products[i][j];
            }
            self.by_target[i] += other.by_target[i];
        }
        self.count += other.count;
        self
    }

    /// Solves the equations with a ridge penalty of so many rows of mean size; `None` without rows.
    fn solve(&self, penalty: f64) -> Option<[f64; INPUTS]> {
        if self.count <= 0.0 {
            return None;
        }
        let matrix = ndarray::Array2::from_shape_fn((INPUTS, INPUTS), |(i, j)| {
            let own = if i == j {
                self.products[i][i] * penalty / self.count + f64::MIN_POSITIVE.sqrt()
            } else {
                0.0
            };
            self.products[i][j] + own
        });
        let target = ndarray::Array1::from_vec(self.by_target.to_vec());
        let weights = crate::linalg::solve_positive_definite(matrix, target)?;
        let weights: [f64; INPUTS] = weights.to_vec().try_into().ok()?;
        weights.iter().all(|weight| weight.is_finite()).then_some(weights)
    }
}

fn dot(a: &[f64; INPUTS], b: &[f64; INPUTS]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Quantiles of errors, widened for their finite number as in split conformal prediction: the
/// ⌈(n + 1) p⌉-th of n sorted errors, and mirrored below one half.
fn quantiles_of(mut errors: Vec<f64>, levels: &[f64]) -> Vec<f64> {
    errors.sort_unstable_by(f64::total_cmp);
    let count = errors.len();
    let rank_above = |level: f64| (((count + 1) as f64 * level).ceil() as usize).clamp(1, count);
    levels
        .iter()
        .map(|level| {
            let rank = if *level >= 0.5 {
                rank_above(*level)
            } else {
                count + 1 - rank_above(1.0 - level)
            };
            errors[rank - 1]
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::{RngExt, SeedableRng, rngs::StdRng};

    const DAY: usize = 144;

    fn series(values: &[f64]) -> SampledSeries<'_> {
        SampledSeries { values, day_steps: DAY, hour_steps: 6 }
    }

    /// A daily wave with noise that lasts for hours.
    fn room(days: usize, seed: u64) -> Vec<f64> {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut slow = 0.0;
        (0..days * DAY)
            .map(|i| {
                slow = 0.98 * slow + 0.1 * rng.random_range(-1.0..1.0);
                21.0 + 2.0 * (std::f64::consts::TAU * i as f64 / DAY as f64).sin() + slow
            })
            .collect()
    }

    #[test]
    fn a_daily_course_is_followed_and_its_interval_holds() {
        let (mut own, mut persistent, mut inside, mut count) = (0.0, 0.0, 0, 0);
        for seed in 0..30 {
            let all = room(9, seed);
            let known = 8 * DAY - seed as usize * 5;
            for point in forecast_path(series(&all[..known]), DAY, &[0.05, 0.95]) {
                let actual = all[known - 1 + point.lead];
                own += (actual - point.value).abs();
                persistent += (actual - all[known - 1]).abs();
                inside += usize::from(point.quantiles[0] <= actual && actual <= point.quantiles[1]);
                count += 1;
            }
        }
        assert_eq!(count, 30 * DAY);
        assert!(own < 0.6 * persistent, "{own} of {persistent}");
        let coverage = inside as f64 / count as f64;
        assert!((0.82..=0.97).contains(&coverage), "{coverage}");
    }

    #[test]
    fn a_random_walk_stays_where_it_is() {
        let mut rng = StdRng::seed_from_u64(7);
        let mut at = 0.0;
        let walk: Vec<f64> = (0..10 * DAY)
            .map(|_| {
                at += rng.random_range(-1.0..1.0);
                at
            })
            .collect();
        let path = forecast_path(series(&walk), 12, &[0.05, 0.95]);
        let by_persistence =
            path.iter().filter(|point| point.method == PathMethod::Persistence).count();
        assert!(by_persistence >= 9, "{by_persistence} of 12");
        // The interval of a random walk grows with the root of the lead.
        let width = |lead: usize| path[lead - 1].quantiles[1] - path[lead - 1].quantiles[0];
        assert!((1.5..3.0).contains(&(width(12) / width(3))), "{}", width(12) / width(3));
    }

    #[test]
    fn short_or_unknown_series_have_short_paths_or_none() {
        assert!(forecast_path(series(&[]), DAY, &[0.5]).is_empty());
        assert!(forecast_path(series(&[20.0; 10]), DAY, &[0.5]).is_empty());
        let mut known = room(2, 1);
        assert_eq!(forecast_path(series(&known[..60]), DAY, &[0.5]).len(), 60 - CHANGES_MIN);
        *known.last_mut().unwrap() = f64::NAN;
        assert!(forecast_path(series(&known), DAY, &[0.5]).is_empty());
    }

    #[test]
    fn a_constant_series_is_forecast_as_itself() {
        for point in forecast_path(series(&[20.0; 5 * DAY]), DAY, &[0.05, 0.5, 0.95]) {
            assert_eq!((point.value, &point.quantiles[..]), (20.0, &[20.0, 20.0, 20.0][..]));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn what_comes_later_changes_nothing_and_quantiles_rise(
            seed in 0..1000_u64, known in 1..4 * DAY, gaps in prop::collection::vec(0..4 * DAY, 0..200),
        ) {
            let mut all = room(4, seed);
            gaps.iter().for_each(|at| all[*at] = f64::NAN);
            let path = forecast_path(series(&all[..known]), 40, &[0.05, 0.25, 0.5, 0.75, 0.95]);
            for point in &path {
                prop_assert!(point.value.is_finite());
                prop_assert!(point.quantiles.windows(2).all(|pair| pair[0] <= pair[1]));
            }
            all[known..].iter_mut().for_each(|value| *value = 1e6);
            prop_assert_eq!(
                path, forecast_path(series(&all[..known]), 40, &[0.05, 0.25, 0.5, 0.75, 0.95])
            );
        }
    }
}
