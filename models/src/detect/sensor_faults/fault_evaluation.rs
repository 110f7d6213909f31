use std::ops::Range;

use ndarray::{Array2, ArrayView1, Axis, Slice};

use super::{FaultKind, InjectedFault, NormalProfile, PAST_MIN, inject_faults};
use crate::{
    metrics::average_precision,
    stats::events::{EventRecall, ScoredSeries, recall_at, vus_pr},
};

/// Part of a series with injected faults.
#[derive(Clone, Debug)]
pub struct FaultedSeries {
    /// Rarities, minutes × channels, as from [`NormalProfile::rarity_rows`].
    pub rows: Array2<f64>,
    /// Injected faults; their minutes are counted from the beginning of the part.
    pub faults: Vec<InjectedFault>,
    /// Whether the recording has a value in each minute. A minute without one looks like an
    /// injected dropout, so such minutes are not evaluated.
    pub known: Vec<bool>,
}

/// Quality of a detector's scores on such parts.
#[derive(Clone, Debug)]
pub struct FaultEvaluation {
    /// Area under the precision-recall curve of minutes, as average precision.
    pub pr_auc: f64,
    /// [`vus_pr`] with windows of up to an hour.
    pub vus_pr: f64,
    /// Recall of faults with one false alarm per day and series.
    pub daily: Option<EventRecall>,
    /// Recall of faults with one false alarm per week and series.
    pub weekly: Option<EventRecall>,
    /// Scores by kind, in the order of [`FaultKind::ALL`].
    pub kinds: Vec<FaultKindScore>,
}

/// Score of one kind of fault among minutes without faults.
#[derive(Clone, Debug, PartialEq)]
pub struct FaultKindScore {
    /// Kind of the fault.
    pub kind: FaultKind,
    /// Area under the precision-recall curve of minutes.
    pub pr_auc: f64,
    /// Number of faults.
    pub faults: usize,
    /// Number of faults with an alarm, at one false alarm per day and series.
    pub found: usize,
    /// Median time to the first alarm, minutes.
    pub delay_min: f64,
    /// Number of detected faults by the kind that the detector named, in the order of
    /// [`FaultKind::ALL`].
    pub called: [usize; FaultKind::ALL.len()],
}

const MINUTES_A_DAY: f64 = 1440.0;
const WINDOW_MAX: usize = 60;

impl FaultedSeries {
    /// Takes the minutes of `values` in `part`, with injected faults where there is a seed. Earlier
    /// minutes are used as history and stay as they are.
    #[must_use]
    pub fn from_series(
        values: &[f64],
        part: Range<usize>,
        usual: &NormalProfile,
        seed: Option<u64>,
    ) -> Self {
        let from = part.start.saturating_sub(PAST_MIN);
        let before = part.start - from;
        let mut copy = values[from..part.end].to_vec();
        let faults = seed
            .map_or_else(Vec::new, |seed| inject_faults(&mut copy[before..], usual.spread(), seed));
        let mut rows = usual.rarity_rows(&copy);
        rows.slice_axis_inplace(Axis(0), Slice::from(before..));
        let known = values[part].iter().map(|value| value.is_finite()).collect();
        Self { rows, faults, known }
    }

    /// Rows of the minutes that have a value and no fault, for fitting detectors.
    #[must_use]
    pub fn usual_rows(&self) -> Array2<f64> {
        let kinds = self.minute_kinds();
        let minutes: Vec<usize> =
            (0..self.known.len()).filter(|m| self.known[*m] && kinds[*m].is_none()).collect();
        self.rows.select(Axis(0), &minutes)
    }

    /// Fault of each minute.
    #[must_use]
    pub fn minute_kinds(&self) -> Vec<Option<FaultKind>> {
        let mut kinds = vec![None; self.known.len()];
        for fault in &self.faults {
            kinds[fault.minutes.clone()].fill(Some(fault.kind));
        }
        kinds
    }
}

impl FaultEvaluation {
    /// Evaluates `scores`, one list per part. `parts_of` gives the channels' parts of a row's
    /// score, so that the kind of a fault can be named.
    ///
    /// # Panics
    /// The number of scores differs from the number of minutes.
    #[must_use]
    pub fn from_scores(
        judged: &[FaultedSeries],
        scores: &[Vec<f64>],
        parts_of: &dyn Fn(ArrayView1<f64>) -> Vec<f64>,
    ) -> Self {
        let (mut all, mut kinds) = (Vec::new(), Vec::new());
        // Minutes that are not evaluated raise no alarm.
        let mut alarms = Vec::new();
        for (part, scores) in judged.iter().zip(scores) {
            assert_eq!(part.known.len(), scores.len(), "one score per minute");
            let known = |minute: usize| part.known[minute];
            let part_kinds = part.minute_kinds();
            for minute in (0..scores.len()).filter(|minute| known(*minute)) {
                all.push(scores[minute]);
                kinds.push(part_kinds[minute]);
            }
            let alarm = |minute: usize| if known(minute) { scores[minute] } else { f64::NAN };
            alarms.push((0..scores.len()).map(alarm).collect::<Vec<f64>>());
        }
        let events: Vec<Vec<Range<usize>>> = judged
            .iter()
            .map(|part| part.faults.iter().map(|fault| fault.minutes.clone()).collect())
            .collect();
        let series: Vec<ScoredSeries> = alarms
            .iter()
            .zip(&events)
            .map(|(scores, events)| ScoredSeries { scores, events })
            .collect();
        let daily = recall_at(&series, MINUTES_A_DAY, 1.0);
        let threshold = daily.map_or(f64::INFINITY, |recall| recall.threshold);
        let labels: Vec<bool> = kinds.iter().map(Option::is_some).collect();
        let score_kind = |kind: FaultKind| {
            let among = |label: &Option<FaultKind>| label.is_none_or(|found| found == kind);
            let kept = || kinds.iter().zip(&all).filter(|(label, _)| among(label));
            let scores: Vec<f64> = kept().map(|(_, score)| *score).collect();
            let labels: Vec<bool> = kept().map(|(label, _)| label.is_some()).collect();
            FaultKindScore {
                pr_auc: average_precision(&scores, &labels),
                ..FaultKindScore::for_kind(kind)
            }
        };
        let mut kind_scores: Vec<FaultKindScore> =
            FaultKind::ALL.into_iter().map(score_kind).collect();
        let mut delays = vec![Vec::new(); FaultKind::ALL.len()];
        for (part, series) in judged.iter().zip(&series) {
            for (fault, delay) in part.faults.iter().zip(series.alarm_delays(threshold)) {
                let kind_score = &mut kind_scores[fault.kind as usize];
                kind_score.faults += 1;
                let Some(delay) = delay else { continue };
                kind_score.found += 1;
                delays[fault.kind as usize].push(delay as f64);
                let mut called = [0; FaultKind::ALL.len()];
                for minute in fault.minutes.clone() {
                    if series.scores[minute] >= threshold {
                        called[FaultKind::from_channels(&parts_of(part.rows.row(minute)))
                            as usize] += 1;
                    }
                }
                // The kind that most of its alarms name.
                let most = (0..called.len()).rev().max_by_key(|kind| called[*kind]);
                kind_score.called[most.expect("there are kinds")] += 1;
            }
        }
        for (kind_score, delays) in kind_scores.iter_mut().zip(delays) {
            kind_score.delay_min = crate::scaling::finite_median(delays.into_iter());
        }
        Self {
            pr_auc: average_precision(&all, &labels),
            vus_pr: vus_pr(&all, &labels, WINDOW_MAX).unwrap_or(0.0),
            daily,
            weekly: recall_at(&series, MINUTES_A_DAY, 1.0 / 7.0),
            kinds: kind_scores,
        }
    }
}

impl FaultKindScore {
    fn for_kind(kind: FaultKind) -> Self {
        let called = [0; FaultKind::ALL.len()];
        Self { kind, pr_auc: 0.0, faults: 0, found: 0, delay_min: 0.0, called }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::sensor_faults::CHANNELS;

    /// Ten days of a room, with a daily wave and no other changes.
    fn values() -> Vec<f64> {
        let noise = |m: usize| ((m * 7919) % 97) as f64 / 970.0;
        (0..14_400).map(|m| 20.0 + 2.0 * (m as f64 / 229.0).sin() + noise(m)).collect()
    }

    #[test]
    fn faults_that_are_seen_are_found_and_called_by_their_kind() {
        let values = values();
        let usual = NormalProfile::from_values(&values[..7200]).unwrap();
        let judged = [FaultedSeries::from_series(&values, 7200..14_400, &usual, Some(3))];
        let scores = |rows: &Array2<f64>| -> Vec<f64> {
            rows.rows().into_iter().map(|row| row.iter().copied().fold(0.0, f64::max)).collect()
        };
        let parts = |row: ArrayView1<f64>| row.to_vec();
        let verdict = FaultEvaluation::from_scores(&judged, &[scores(&judged[0].rows)], &parts);
        assert!(verdict.pr_auc > 0.5 && verdict.vus_pr > 0.5, "{verdict:?}");
        let dropout = &verdict.kinds[FaultKind::Dropout as usize];
        assert!(dropout.faults > 0 && dropout.found == dropout.faults, "{dropout:?}");
        assert_eq!(dropout.called[FaultKind::Dropout as usize], dropout.found);
        let blind = FaultEvaluation::from_scores(&judged, &[vec![0.5; 7200]], &parts);
        let share = judged[0].minute_kinds().iter().flatten().count() as f64 / 7200.0;
        assert!((blind.pr_auc - share).abs() < 1e-9, "{blind:?}");
    }

    #[test]
    fn a_part_is_as_in_the_whole_and_gaps_are_not_judged() {
        let mut values = values();
        values[9000..9010].fill(f64::NAN);
        let usual = NormalProfile::from_values(&values[..7200]).unwrap();
        let part = FaultedSeries::from_series(&values, 8000..10_000, &usual, None);
        assert_eq!(
            part.rows,
            usual.rarity_rows(&values).slice_axis(Axis(0), Slice::from(8000..10_000))
        );
        assert_eq!(part.usual_rows().dim(), (1990, CHANNELS.len()));
        assert_eq!(part.faults, []);
    }
}
