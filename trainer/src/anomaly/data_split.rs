use std::collections::BTreeMap;

use models::{
    ROWS_MIN,
    detect::{
        ConformalTails, FittedDetector,
        sensor_faults::{CHANNELS, FaultedSeries, NormalProfile, all_detectors},
    },
};
use ndarray::{Array2, Axis, concatenate};
use rayon::prelude::*;

use super::{MinuteSeries, anomaly_metrics, series_key};
use crate::{feature_frame::ZoneFrame, settings::TrainerSettings, split::SplitSpans};

/// The share of the training part that the sensors' scales are learnt from.
const SCALE_SHARE: f64 = 0.75;
/// Rows that detectors learn from, at most, evenly over all.
const TRAIN_ROWS_MAX: usize = 200_000;
/// Minutes of a part that are judged, at most: the last of each series.
const TEST_MINUTES_MAX: usize = 30_000;

/// Every metric of every zone, by `site/zone metric`.
///
/// # Errors
/// Where there is none.
pub(super) fn collect_series(frames: &[ZoneFrame]) -> Result<Vec<(String, MinuteSeries)>, String> {
    let mut all = Vec::new();
    for frame in frames {
        for metric in anomaly_metrics(frame) {
            all.extend(
                MinuteSeries::from_frame(frame, &metric)
                    .map(|own| (series_key(&frame.zone, &metric), own)),
            );
        }
    }
    if all.is_empty() {
        return Err("no metric that moves in these zones".to_owned());
    }
    Ok(all)
}

/// First and last minute of all of them, UTC ms.
pub(super) fn time_range(series: &[(String, MinuteSeries)]) -> (i64, i64) {
    let first = series.iter().map(|(_, own)| own.first_ms).min();
    let last = series.iter().map(|(_, own)| own.at_ms(own.values.len() - 1)).max();
    (first.unwrap_or_default(), last.unwrap_or_default())
}

/// What detectors learn from, are chosen by, and are judged on.
pub(super) struct AnomalySplit {
    pub(super) spans: SplitSpans,
    /// Of each series, by `site/zone metric`.
    pub(super) scales: BTreeMap<String, NormalProfile>,
    /// Rows of usual minutes, unknown to the scales.
    pub(super) train: Array2<f64>,
    /// Rows of usual minutes, unknown to the detectors too.
    pub(super) usual: Array2<f64>,
    pub(super) choice: Vec<FaultedSeries>,
    pub(super) test: Vec<FaultedSeries>,
    /// Tells the channels of a row apart, whatever the detector.
    pub(super) kinds: FittedDetector,
    /// Event time of the first minute of each series in the test part.
    test_from_ms: Vec<i64>,
}

/// The parts of one series.
struct SeriesSplit {
    name: String,
    scales: NormalProfile,
    train: Array2<f64>,
    usual: Array2<f64>,
    choice: FaultedSeries,
    test: FaultedSeries,
    test_from_ms: i64,
}

impl AnomalySplit {
    /// Divides all series at the same times; each fold has faults of its own.
    ///
    /// # Errors
    /// Says why there is nothing to learn from or to judge on.
    pub(super) fn from_series(
        series: &[(String, MinuteSeries)],
        spans: SplitSpans,
        fold: usize,
        settings: &TrainerSettings,
    ) -> Result<Self, String> {
        let minutes_max = (TEST_MINUTES_MAX / series.len()).max(1);
        let parts: Vec<SeriesSplit> = series
            .par_iter()
            .enumerate()
            .filter_map(|(number, (name, series))| {
                let number = ((fold as u64) << 40) | (2 * number as u64);
                let seed = settings.seed.wrapping_mul(1_000_003).wrapping_add(number);
                split_series(name.clone(), series, spans, minutes_max, seed)
            })
            .collect();
        Self::join_series(parts, spans, settings.seed)
    }

    fn join_series(parts: Vec<SeriesSplit>, spans: SplitSpans, seed: u64) -> Result<Self, String> {
        let rows = |of: fn(&SeriesSplit) -> &Array2<f64>| {
            let views: Vec<_> = parts.iter().map(|part| of(part).view()).collect();
            let empty = Array2::zeros((0, CHANNELS.len()));
            let joined = concatenate(Axis(0), &views).unwrap_or(empty);
            thin_rows(joined, TRAIN_ROWS_MAX)
        };
        let (learn, usual) = (rows(|part| &part.train), rows(|part| &part.usual));
        let faults = parts.iter().map(|part| part.test.faults.len()).sum::<usize>();
        if learn.nrows().min(usual.nrows()) < ROWS_MIN || faults == 0 {
            return Err("too short: hardly any minute of any series".to_owned());
        }
        let weighted = all_detectors().into_iter().find(|own| own.name() == ConformalTails::NAME);
        let kinds = weighted.expect("it is one of them").fit(learn.view(), seed);
        let kinds = kinds.map_err(|error| error.to_string())?;
        let mut joined = Self {
            spans,
            scales: BTreeMap::new(),
            train: learn,
            usual,
            choice: Vec::new(),
            test: Vec::new(),
            kinds,
            test_from_ms: Vec::new(),
        };
        for part in parts {
            joined.scales.insert(part.name, part.scales);
            joined.choice.push(part.choice);
            joined.test.push(part.test);
            joined.test_from_ms.push(part.test_from_ms);
        }
        Ok(joined)
    }

    /// Whether each minute of the test part has a fault, series after series.
    pub(super) fn fault_labels(&self) -> Vec<bool> {
        self.test.iter().flat_map(FaultedSeries::minute_kinds).map(|kind| kind.is_some()).collect()
    }

    /// Event time of each of them, UTC ms.
    pub(super) fn test_at_ms(&self) -> Vec<i64> {
        let of = |(from, part): (&i64, &FaultedSeries)| {
            let from = *from;
            (0..part.known.len()).map(move |minute| from + 60_000 * minute as i64)
        };
        self.test_from_ms.iter().zip(&self.test).flat_map(of).collect()
    }
}

/// None where the series does not move in training.
fn split_series(
    name: String,
    series: &MinuteSeries,
    spans: SplitSpans,
    minutes_max: usize,
    seed: u64,
) -> Option<SeriesSplit> {
    let (from_ms, to_ms) = spans.train;
    let middle_ms = from_ms + ((to_ms - from_ms) as f64 * SCALE_SHARE) as i64;
    let scales =
        NormalProfile::from_values(&series.values[series.minutes_between((from_ms, middle_ms))])?;
    let part = |span, minutes_max: usize, seed| {
        let mut part = series.minutes_between(span);
        part.start = part.start.max(part.end.saturating_sub(minutes_max));
        (FaultedSeries::from_series(&series.values, part.clone(), &scales, seed), part.start)
    };
    let learn = part((middle_ms, to_ms), usize::MAX, None).0.usual_rows();
    let usual = part(spans.calibration, minutes_max, None).0.usual_rows();
    let choice = part(spans.calibration, minutes_max, Some(seed)).0;
    let (test, start) = part(spans.test, minutes_max, Some(seed + 1));
    let test_from_ms = series.at_ms(start);
    Some(SeriesSplit { name, scales, train: learn, usual, choice, test, test_from_ms })
}

fn thin_rows(rows: Array2<f64>, rows_max: usize) -> Array2<f64> {
    let all = rows.nrows();
    if all <= rows_max {
        return rows;
    }
    let kept: Vec<usize> = (0..rows_max).map(|i| i * all / rows_max).collect();
    rows.select(Axis(0), &kept)
}
