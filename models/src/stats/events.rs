//! Scores of alarms over time. Faults are events of many minutes. The point-adjusted F1 score,
//! which counts an event as wholly detected once any of its minutes is, is not offered: it favours
//! random scores (S. Kim et al., "Towards a rigorous evaluation of time-series anomaly detection",
//! AAAI 2022).

use std::ops::Range;

/// Recall of a detector at a number of false alarms.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EventRecall {
    /// Score from which the detector raises alarms.
    pub threshold: f64,
    /// Share of events with an alarm.
    pub events: f64,
    /// Mean time from the beginning of a detected event to its first alarm, rows; NaN if no event
    /// was detected.
    pub delay_rows: f64,
    /// False alarms per day and series at this threshold.
    pub false_alarms_per_day: f64,
}

/// Events: runs of consecutive labelled rows.
#[must_use]
pub fn labelled_events(labels: &[bool]) -> Vec<Range<usize>> {
    let mut events: Vec<Range<usize>> = Vec::new();
    for row in (0..labels.len()).filter(|row| labels[*row]) {
        match events.last_mut() {
            Some(last) if last.end == row => last.end += 1,
            _ => events.push(row..row + 1),
        }
    }
    events
}

/// A series with its scores and its events.
#[derive(Clone, Copy, Debug)]
pub struct ScoredSeries<'a> {
    /// Score of each row; NaN raises no alarm.
    pub scores: &'a [f64],
    /// Rows that are faulty, in the order of time and apart from one another.
    pub events: &'a [Range<usize>],
}

impl ScoredSeries<'_> {
    /// Time from the beginning of each event to its first alarm, rows. `None` for an event without
    /// an alarm.
    #[must_use]
    pub fn alarm_delays(&self, threshold: f64) -> Vec<Option<usize>> {
        let delay =
            |event: &Range<usize>| event.clone().position(|row| self.scores[row] >= threshold);
        self.events.iter().map(delay).collect()
    }

    /// Pairs of scores of a row outside events and the row before. An alarm begins in the row at
    /// thresholds above the first score and up to the second. An alarm that began within an event
    /// and continues after it is not false.
    fn false_alarms(&self) -> Vec<(f64, f64)> {
        let mut inside = vec![false; self.scores.len()];
        self.events.iter().for_each(|event| inside[event.clone()].fill(true));
        let score_before = |row: usize| {
            let before = row.checked_sub(1).map_or(f64::NEG_INFINITY, |row| self.scores[row]);
            if before.is_nan() { f64::NEG_INFINITY } else { before }
        };
        let rows = (0..self.scores.len()).filter(|row| !inside[*row]);
        rows.map(|row| (score_before(row), self.scores[row]))
            .filter(|(from, to)| from < to)
            .collect()
    }
}

/// Recall of events at the lowest threshold with at most `false_alarms_per_day` alarms per day and
/// series that begin outside events. There are `rows_per_day` rows per day. Alarms in consecutive
/// rows are one alarm. One threshold holds for all series. `None` without events. A. Lavin, S.
/// Ahmad, "Evaluating real-time anomaly detection algorithms: the Numenta anomaly benchmark", ICMLA
/// 2015, counts alarms in the same way.
#[must_use]
pub fn recall_at(
    series: &[ScoredSeries],
    rows_per_day: f64,
    false_alarms_per_day: f64,
) -> Option<EventRecall> {
    let events = series.iter().map(|one| one.events.len()).sum::<usize>();
    if events == 0 {
        return None;
    }
    let days = series.iter().map(|one| one.scores.len()).sum::<usize>() as f64 / rows_per_day;
    let (mut starts, mut ends) = (Vec::new(), Vec::new());
    for (from, to) in series.iter().flat_map(ScoredSeries::false_alarms) {
        starts.push(to);
        ends.push(from);
    }
    let falling = |values: &mut Vec<f64>| values.sort_unstable_by(|a, b| b.total_cmp(a));
    falling(&mut starts);
    falling(&mut ends);
    let at_least = |values: &[f64], threshold: f64| values.partition_point(|v| *v >= threshold);
    let false_alarms =
        |threshold: f64| (at_least(&starts, threshold) - at_least(&ends, threshold)) as f64 / days;
    let all = series.iter().flat_map(|one| one.scores.iter().copied());
    let mut thresholds: Vec<f64> = all.filter(|score| !score.is_nan()).collect();
    falling(&mut thresholds);
    thresholds.dedup();
    // Lower thresholds may join alarms, so the count may fall again. The search from above ends at
    // the first threshold with too many alarms.
    let allowed = |threshold: &&f64| false_alarms(**threshold) <= false_alarms_per_day;
    let lowest_allowed = thresholds.iter().take_while(allowed).last().copied();
    let threshold = lowest_allowed.unwrap_or(f64::INFINITY);
    let delays: Vec<usize> =
        series.iter().flat_map(|one| one.alarm_delays(threshold)).flatten().collect();
    Some(EventRecall {
        threshold,
        events: delays.len() as f64 / events as f64,
        delay_rows: delays.iter().sum::<usize>() as f64 / delays.len() as f64,
        false_alarms_per_day: false_alarms(threshold),
    })
}

/// Number of thresholds at which the surface is evaluated; as in the authors' code.
const THRESHOLDS: usize = 250;

/// Volume under the surface of precision and recall, 0 to 1. Labels extend to both sides of an
/// event by up to half of `window_max` rows, with falling weights. The areas under the curves of
/// all windows 0 … `window_max` are averaged, without interpolation, as in the authors' code. J.
/// Paparrizos et al., "Volume under the surface", PVLDB 15(11), 2022. Takes rows × windows steps.
/// `None` without events, or where the shapes differ.
#[must_use]
pub fn vus_pr(scores: &[f64], labels: &[bool], window_max: usize) -> Option<f64> {
    let events = labelled_events(labels);
    if events.is_empty() || scores.len() != labels.len() {
        return None;
    }
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
    // Number of rows that are alarms at each threshold; equal scores come together.
    let last = scores.len() - 1;
    let alarms: Vec<(f64, usize)> = (0..THRESHOLDS)
        .map(|i| {
            let threshold = scores[order[i * last / (THRESHOLDS - 1)]];
            (threshold, order.partition_point(|row| scores[*row] >= threshold))
        })
        .collect();
    let areas =
        (0..=window_max).map(|window| window_area(scores, &events, window, &order, &alarms));
    Some(areas.sum::<f64>() / (window_max + 1) as f64)
}

/// Area under the curve of one window.
fn window_area(
    scores: &[f64],
    events: &[Range<usize>],
    window: usize,
    order: &[usize],
    alarms: &[(f64, usize)],
) -> f64 {
    let weights = buffered_weights(scores.len(), events, window);
    let highest: Vec<f64> = merged_events(scores.len(), events, window)
        .into_iter()
        .map(|reach| scores[reach].iter().copied().fold(f64::NEG_INFINITY, f64::max))
        .collect();
    let mut inside = vec![false; scores.len()];
    events.iter().for_each(|event| inside[event.clone()].fill(true));
    let labelled = events.iter().map(Range::len).sum::<usize>() as f64;
    let (mut found, mut beside, mut seen, mut recall_before, mut area) = (0.0, 0.0, 0, 0.0, 0.0);
    for (threshold, rows) in alarms {
        for row in &order[seen.min(*rows)..*rows] {
            found += weights[*row];
            beside += if inside[*row] { 0.0 } else { weights[*row] };
        }
        seen = seen.max(*rows);
        let noticed = highest.iter().filter(|highest| *highest >= threshold).count();
        // Rows beside an event count as positives only once they are detected.
        let positives = labelled + beside / 2.0;
        let recall = (found / positives).min(1.0) * noticed as f64 / highest.len() as f64;
        area += (recall - recall_before) * (found / *rows as f64);
        recall_before = recall;
    }
    area
}

/// Weights: 1 within events, and √(1 − distance/window) up to half a window beside them.
fn buffered_weights(rows: usize, events: &[Range<usize>], window: usize) -> Vec<f64> {
    let mut weights = vec![0.0; rows];
    for event in events {
        weights[event.clone()].fill(1.0);
    }
    for event in events {
        for distance in 1..=window / 2 {
            let weight = (1.0 - distance as f64 / window as f64).sqrt();
            let before = event.start.checked_sub(distance);
            let after = Some(event.end - 1 + distance).filter(|row| *row < rows);
            for row in before.into_iter().chain(after) {
                weights[row] = (weights[row] + weight).min(1.0);
            }
        }
    }
    weights
}

/// Events extended by half a window on both sides; overlapping ones are merged.
fn merged_events(rows: usize, events: &[Range<usize>], window: usize) -> Vec<Range<usize>> {
    let mut joined: Vec<Range<usize>> = Vec::new();
    for event in events {
        let reach = event.start.saturating_sub(window / 2)..(event.end + window / 2).min(rows);
        match joined.last_mut() {
            Some(last) if reach.start < last.end => last.end = reach.end,
            _ => joined.push(reach),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two events, scores that detect one early and one late, and some noise.
    fn series() -> (Vec<f64>, Vec<bool>) {
        let label = |i: usize| (40..52).contains(&i) || (130..140).contains(&i);
        let score = |i: usize| {
            let noise = 0.3 * (i as f64 * 1.7).sin() + 0.2 * (i as f64 * 0.37).cos();
            let seen = (37..50).contains(&i) || (135..146).contains(&i);
            noise + if seen { 0.6 } else { 0.0 }
        };
        ((0..200).map(score).collect(), (0..200).map(label).collect())
    }

    #[test]
    fn the_volume_is_that_of_its_authors() {
        let (scores, labels) = series();
        // VUS 0.0.6: metricor().RangeAUC_volume_opt(labels, scores, window)[-1]
        let check = |window: usize, expect: f64| {
            let got = vus_pr(&scores, &labels, window).unwrap();
            assert!((got - expect).abs() < 1e-9, "window {window}: {got} is not {expect}");
        };
        check(0, 0.488_307_347_757);
        check(5, 0.550_650_722_949);
        check(20, 0.723_209_966_302);
        check(100, 0.892_011_027_585);
        assert_eq!(vus_pr(&scores, &[false; 200], 5), None);
    }

    #[test]
    fn recall_at_a_number_of_false_alarms() {
        //            0    1    2    3    4    5    6    7    8    9
        let scores = [0.1, 0.9, 0.1, 0.2, 0.8, 0.1, 0.3, 0.7, 0.7, 0.1];
        let labels: Vec<bool> = (0..10).map(|row| [3, 4, 6].contains(&row)).collect();
        let events = labelled_events(&labels);
        assert_eq!(events, [3..5, 6..7]);
        let one = [ScoredSeries { scores: &scores, events: &events }];
        let check = |series: &[ScoredSeries], allowed: f64, expect: (f64, f64, f64)| {
            let got = recall_at(series, 10.0, allowed).unwrap();
            assert_eq!((got.threshold, got.events, got.false_alarms_per_day), expect);
        };
        check(&one, 0.0, (f64::INFINITY, 0.0, 0.0));
        check(&one, 1.0, (0.8, 0.5, 1.0));
        // The alarm that begins in row 6 and continues is not false; the rows are one alarm.
        check(&one, 2.0, (0.1, 1.0, 1.0));
        assert_eq!(recall_at(&one, 10.0, 1.0).unwrap().delay_rows, 1.0);
        assert_eq!(one[0].alarm_delays(0.3), [Some(1), Some(0)]);
        let quiet = [0.0, 0.85, f64::NAN, 0.85, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
        let two = [one[0], ScoredSeries { scores: &quiet, events: &[] }];
        check(&two, 0.5, (0.9, 0.0, 0.5));
        check(&two, 1.5, (0.8, 0.5, 1.5));
        assert_eq!(recall_at(&two[1..], 10.0, 1.0), None);
    }
}
