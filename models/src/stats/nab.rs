//! Score of the Numenta Anomaly Benchmark, by its published rules: A. Lavin, S. Ahmad, "Evaluating
//! real-time anomaly detection algorithms: the Numenta anomaly benchmark", ICMLA 2015, and by the
//! code of NAB 1.1 where the paper is silent.
//!
//! An alarm within a labelled window earns more the earlier it is; only the earliest counts. An
//! alarm outside costs more the further behind the last window it is. A window without an alarm
//! costs. The first 15 % of a series, 750 rows at most, is for fitting and is not scored. One
//! threshold, the best one, holds for all series. A detector that never raises an alarm scores 0. A
//! detector that raises one in the first row of each window, and no other, scores 100.

use std::ops::Range;

/// Gains and costs of alarms.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NabProfile {
    /// Name in NAB's configuration.
    pub name: &'static str,
    /// Gain for a window that is detected at once.
    pub true_positive: f64,
    /// Cost of a false alarm far from any window.
    pub false_positive: f64,
    /// Cost of a missed window.
    pub false_negative: f64,
}

/// NAB's three profiles, the standard one first.
pub const PROFILES: [NabProfile; 3] = [
    NabProfile { name: "standard", true_positive: 1.0, false_positive: 0.11, false_negative: 1.0 },
    NabProfile {
        name: "reward_low_FP_rate",
        true_positive: 1.0,
        false_positive: 0.22,
        false_negative: 1.0,
    },
    NabProfile {
        name: "reward_low_FN_rate",
        true_positive: 1.0,
        false_positive: 0.11,
        false_negative: 2.0,
    },
];

/// A series of the corpus with a detector's scores.
#[derive(Clone, Debug)]
pub struct NabSeries<'a> {
    /// Score of each row, higher is more unusual; NaN never raises an alarm.
    pub scores: &'a [f64],
    /// Labelled rows, in the order of time.
    pub windows: &'a [Range<usize>],
}

/// Score of a corpus.
#[derive(Clone, Debug, PartialEq)]
pub struct NabScore {
    /// 0 without alarms, 100 if perfect, negative if alarms do harm.
    pub normalised: f64,
    /// Threshold: rows with at least this score are alarms. Infinite where having no alarms is
    /// best.
    pub threshold: f64,
    /// Score of each series, before normalisation.
    pub of_series: Vec<f64>,
}

/// Share of a series that is for fitting. `PROBATION_ROWS_MAX` is the number of rows at which the
/// share stops growing.
const PROBATION: f64 = 0.15;
const PROBATION_ROWS_MAX: f64 = 5000.0;

/// Number of rows at the beginning of a series that are not scored.
#[must_use]
pub fn probation_rows(rows: usize) -> usize {
    // NAB rounds the share down, but not the limit that it is compared with.
    let limit = PROBATION * PROBATION_ROWS_MAX;
    (PROBATION * rows as f64).floor().min(limit).ceil() as usize
}

/// Score at the best threshold for a profile.
#[must_use]
pub fn best_score(corpus: &[NabSeries], profile: NabProfile) -> NabScore {
    let mut rows: Vec<(f64, usize, AlarmValue)> = Vec::new();
    for (number, series) in corpus.iter().enumerate() {
        let weighed = weigh_alarms(series, profile).into_iter().zip(series.scores);
        rows.extend(weighed.filter(|(_, s)| !s.is_nan()).map(|(row, s)| (*s, number, row)));
    }
    rows.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut tally = AlarmTally::new(corpus, profile);
    let (mut best, mut threshold) = (tally.total, f64::INFINITY);
    for equal in rows.chunk_by(|a, b| a.0 == b.0) {
        equal.iter().for_each(|(_, series, row)| tally.count_alarm(*series, *row));
        if tally.total > best {
            (best, threshold) = (tally.total, equal[0].0);
        }
    }
    score_at(corpus, profile, threshold)
}

/// Score at a given threshold.
#[must_use]
pub fn score_at(corpus: &[NabSeries], profile: NabProfile, threshold: f64) -> NabScore {
    let mut tally = AlarmTally::new(corpus, profile);
    for (number, series) in corpus.iter().enumerate() {
        for (row, score) in weigh_alarms(series, profile).into_iter().zip(series.scores) {
            if *score >= threshold {
                tally.count_alarm(number, row);
            }
        }
    }
    let windows = corpus.iter().map(|series| series.windows.len()).sum::<usize>() as f64;
    let (none, perfect) = (-profile.false_negative * windows, profile.true_positive * windows);
    let of_series = tally.series_scores();
    let total: f64 = of_series.iter().sum();
    NabScore { normalised: 100.0 * (total - none) / (perfect - none), threshold, of_series }
}

/// Meaning of an alarm in a row.
#[derive(Clone, Copy, Debug, PartialEq)]
enum AlarmValue {
    Probation,
    /// Index of the window, and the gain.
    Within(usize, f64),
    /// Cost, negative.
    Outside(f64),
}

/// Gain or cost of an alarm in each row.
fn weigh_alarms(series: &NabSeries, profile: NabProfile) -> Vec<AlarmValue> {
    let probation = probation_rows(series.scores.len());
    let mut window = 0;
    let row_value = |row: usize| {
        while series.windows.get(window).is_some_and(|window| window.end <= row) {
            window += 1;
        }
        let within = series.windows.get(window).filter(|window| window.contains(&row));
        let last = window.checked_sub(1).map(|last| &series.windows[last]);
        match (within, last) {
            _ if row < probation => AlarmValue::Probation,
            (Some(current), _) => {
                let position = -((current.end - row) as f64) / current.len() as f64;
                let earned = profile.true_positive * sigmoid(position) / sigmoid(-1.0);
                AlarmValue::Within(window, earned)
            }
            (None, Some(last)) => {
                let position = (row + 1 - last.end) as f64 / (last.len() - 1).max(1) as f64;
                AlarmValue::Outside(profile.false_positive * sigmoid(position))
            }
            (None, None) => AlarmValue::Outside(-profile.false_positive),
        }
    };
    (0..series.scores.len()).map(row_value).collect()
}

/// Sigmoid from 1 far before the end of a window to −1 far behind it. A position of −1 is the
/// beginning of the window.
fn sigmoid(position: f64) -> f64 {
    if position >= 3.0 { -1.0 } else { 2.0 / (1.0 + (5.0 * position).exp()) - 1.0 }
}

/// Tally of the alarms so far.
struct AlarmTally {
    /// Gain of each window of each series.
    windows: Vec<Vec<f64>>,
    /// Sum over the false alarms of each series.
    outside: Vec<f64>,
    total: f64,
}

impl AlarmTally {
    fn new(corpus: &[NabSeries], profile: NabProfile) -> Self {
        let missed = |series: &NabSeries| vec![-profile.false_negative; series.windows.len()];
        let windows: Vec<Vec<f64>> = corpus.iter().map(missed).collect();
        let total = windows.iter().flatten().sum();
        Self { windows, outside: vec![0.0; corpus.len()], total }
    }

    fn count_alarm(&mut self, series: usize, row: AlarmValue) {
        let gain = match row {
            AlarmValue::Probation => 0.0,
            AlarmValue::Within(window, earned) => {
                let window_gain = &mut self.windows[series][window];
                let gain = (earned - *window_gain).max(0.0);
                *window_gain += gain;
                gain
            }
            AlarmValue::Outside(cost) => {
                self.outside[series] += cost;
                cost
            }
        };
        self.total += gain;
    }

    fn series_scores(&self) -> Vec<f64> {
        let each = self.windows.iter().zip(&self.outside);
        each.map(|(windows, outside)| windows.iter().sum::<f64>() + outside).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STANDARD: NabProfile = PROFILES[0];

    /// Scores that are 1 in these rows of 1,000, and 0 elsewhere.
    fn alarms(rows: &[usize]) -> Vec<f64> {
        (0..1000).map(|row| f64::from(u8::from(rows.contains(&row)))).collect()
    }

    fn check(windows: &[Range<usize>], rows: &[usize], expect: f64) {
        let scores = alarms(rows);
        let series = [NabSeries { scores: &scores, windows }];
        let got = score_at(&series, STANDARD, 1.0).of_series[0];
        assert!((got - expect).abs() < 1e-9, "{rows:?}: {got} is not {expect}");
    }

    #[test]
    fn alarms_earn_and_cost_as_in_nab() {
        // NAB 1.1: Sweeper(0.15, standard).calcSweepScore and calcScoreByThreshold
        let windows = [300..400, 700..751];
        check(&windows, &[], -2.0);
        check(&windows, &[300, 700], 2.0);
        check(&windows, &[300, 350, 399], 1.0 - 1.0);
        check(&windows, &[350], 0.859_792_566_9 - 1.0);
        check(&windows, &[200], -2.0 - 0.11);
        check(&windows, &[149], -2.0);
        check(&windows, &[150], -2.0 - 0.11);
        // As far behind the first window as it is wide, minus one row.
        check(&windows, &[498], -2.0 - 0.11 * 0.986_614_298);
        check(&windows, &[900], -2.0 - 0.11);
        check(&[], &[200, 500], -0.22);
    }

    #[test]
    fn nothing_is_0_and_all_at_once_is_100() {
        let windows = [300..400, 700..751];
        for profile in PROFILES {
            let say =
                |scores: &[f64]| best_score(&[NabSeries { scores, windows: &windows }], profile);
            let never = say(&[0.5; 1000]);
            assert_eq!((never.normalised, never.threshold), (0.0, f64::INFINITY));
            let perfect = say(&alarms(&[300, 700]));
            assert_eq!((perfect.normalised, perfect.threshold), (100.0, 1.0));
            assert_eq!(say(&[f64::NAN; 1000]).normalised, 0.0);
        }
    }

    #[test]
    fn one_threshold_for_all_series() {
        let mut good = alarms(&[300]);
        good[300] = 0.9;
        let mut bad = alarms(&[]);
        // A false alarm above the true one, and many below.
        bad[800] = 1.0;
        bad[200..250].fill(0.5);
        let window = [300..400, 700..751];
        let corpus = [
            NabSeries { scores: &good, windows: &window[..1] },
            NabSeries { scores: &bad, windows: &window[..1] },
        ];
        let best = best_score(&corpus, STANDARD);
        assert_eq!((best.threshold, best.of_series[0]), (0.9, 1.0));
        assert!((best.of_series[1] + 1.11).abs() < 1e-12, "{best:?}");
        assert!((best.normalised - 100.0 * 1.89 / 4.0).abs() < 1e-9);
    }

    #[test]
    fn probation_is_a_share_up_to_a_limit() {
        let check = |rows, expect| assert_eq!(probation_rows(rows), expect, "{rows}");
        check(100, 15);
        check(1882, 282);
        check(5000, 750);
        check(22_695, 750);
    }
}
