//! Scores of predicted times, where some actual times are only known to be later (`censored`),
//! because someone watered or the recording ended.

/// Concordance index: the share of comparable pairs whose predicted times are in the order of the
/// actual ones, ties counting half; 0.5 is chance. A pair is comparable where the earlier of the
/// two times is not censored. NaN without such a pair. Takes rows² steps. F. E. Harrell, K. L. Lee,
/// D. B. Mark, Statistics in Medicine 15(4), 1996.
///
/// ```
/// let concordance = microclimate_models::stats::survival::concordance_index;
/// // The second is censored at 5: it came later than the first, nothing else is known.
/// assert_eq!(concordance(&[1.0, 4.0, 9.0], &[2.0, 5.0, 8.0], &[false, true, false]), 1.0);
/// assert_eq!(concordance(&[9.0, 4.0, 1.0], &[2.0, 5.0, 8.0], &[false, true, false]), 0.0);
/// ```
#[must_use]
pub fn concordance_index(predicted: &[f64], time: &[f64], censored: &[bool]) -> f64 {
    let (mut agreeing, mut pairs) = (0.0, 0.0);
    for early in (0..time.len()).filter(|row| !censored[*row]) {
        for late in 0..time.len() {
            let later = time[early] < time[late];
            let outlasts = time[early] == time[late] && censored[late];
            if !later && !outlasts {
                continue;
            }
            pairs += 1.0;
            agreeing += match predicted[early].partial_cmp(&predicted[late]) {
                Some(std::cmp::Ordering::Less) => 1.0,
                Some(std::cmp::Ordering::Equal) => 0.5,
                _ => 0.0,
            };
        }
    }
    agreeing / pairs
}

/// Mean squared error of `lasting`, the predicted probabilities that the event has not happened by
/// `until`, 0 to 1; less is better. Rows that are censored earlier do not count. The others weigh
/// more where censoring is likely (by the Kaplan–Meier estimate of being censored later, from these
/// rows). E. Graf, C. Schmoor, W. Sauerbrei, M. Schumacher, Statistics in Medicine 18, 1999.
#[must_use]
pub fn survival_brier_score(lasting: &[f64], time: &[f64], censored: &[bool], until: f64) -> f64 {
    let uncensored = CensoringCurve::from_censoring(time, censored);
    let each = lasting.iter().zip(time).zip(censored).map(|((p, time), censored)| {
        if *time <= until && !censored {
            p * p / uncensored.probability_at(*time)
        } else if *time > until {
            (1.0 - p) * (1.0 - p) / uncensored.probability_at(until)
        } else {
            0.0
        }
    });
    each.sum::<f64>() / time.len() as f64
}

/// Probability of being censored later than a time: E. L. Kaplan, P. Meier, JASA 53, 1958.
struct CensoringCurve(Vec<(f64, f64)>);

impl CensoringCurve {
    fn from_censoring(time: &[f64], censored: &[bool]) -> Self {
        let mut rows: Vec<(f64, bool)> =
            time.iter().copied().zip(censored.iter().copied()).collect();
        rows.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (mut left, mut share, mut steps) = (rows.len() as f64, 1.0, Vec::new());
        for equal in rows.chunk_by(|a, b| a.0 == b.0) {
            let lost = equal.iter().filter(|(_, censored)| *censored).count() as f64;
            // Events at the time of a censoring count as earlier.
            let happened = equal.len() as f64 - lost;
            if lost > 0.0 {
                share *= 1.0 - lost / (left - happened);
                steps.push((equal[0].0, share));
            }
            left -= equal.len() as f64;
        }
        Self(steps)
    }

    fn probability_at(&self, time: f64) -> f64 {
        let passed = self.0.partition_point(|(step, _)| *step <= time);
        passed.checked_sub(1).map_or(1.0, |last| self.0[last].1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> (Vec<f64>, Vec<f64>, Vec<bool>) {
        let time = (0..40).map(|i| f64::from(1 + (i * 7) % 23)).collect();
        let predicted = (0..40).map(|i| f64::from(1 + (i * 7) % 23 + (i * 5) % 11)).collect();
        (predicted, time, (0..40).map(|i| i % 3 == 1).collect())
    }

    #[test]
    fn scores_are_those_of_scikit_survival() {
        let (predicted, time, censored) = rows();
        // scikit-survival 0.28.0: concordance_index_censored(~censored, time, -predicted)[0]
        let got = concordance_index(&predicted, &time, &censored);
        assert!((got - 0.888_675_623_800_384).abs() < 1e-12, "{got}");
        // scikit-survival 0.28.0: brier_score(rows, rows, exp(-until / predicted), until)[1][0]
        let check = |until: f64, expect: f64| {
            let lasting: Vec<f64> = predicted.iter().map(|p| (-until / p).exp()).collect();
            let got = survival_brier_score(&lasting, &time, &censored, until);
            assert!((got - expect).abs() < 1e-12, "{until}: {got} is not {expect}");
        };
        check(4.5, 0.067_571_476_710_289);
        check(10.0, 0.142_007_172_618_297);
        check(17.0, 0.166_447_812_371_381);
    }

    #[test]
    fn without_censoring_it_is_the_plain_score() {
        let got = survival_brier_score(&[0.9, 0.2, 0.5], &[5.0, 1.0, 2.0], &[false; 3], 3.0);
        assert!((got - (0.01 + 0.04 + 0.25) / 3.0).abs() < 1e-15);
        assert!(concordance_index(&[1.0, 2.0], &[1.0, 2.0], &[true, true]).is_nan());
    }
}
