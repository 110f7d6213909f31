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

/// Share of the training set on which the sensors' profiles are fitted.
const SCALE_SHARE: f64 = 0.75;
/// Largest number of rows on which detectors are fitted, spread evenly.
const TRAIN_ROWS_MAX: usize = 200_000;
/// Largest number of evaluated minutes in a set: the last ones of each series.
const TEST_MINUTES_MAX: usize = 30_000;

/// Collects every metric of every zone, by `site/zone metric`.
///
/// # Errors
/// No metric has a value.
pub(super) fn collect_series(frames: &[ZoneFrame]) -> Result<Vec<(String, MinuteSeries)>, String> {
    let mut all = Vec::new();
    for frame in frames {
        for metric in anomaly_metrics(frame) {
            all.extend(
                MinuteSeries::from_frame(frame, &metric)
                    .map(|series| (series_key(&frame.zone, &metric), series)),
            );
        }
    }
    if all.is_empty() {
        return Err("no metric that varies in these zones".to_owned());
    }
    Ok(all)
}

/// First and last minute of all series, UTC ms.
pub(super) fn time_range(series: &[(String, MinuteSeries)]) -> (i64, i64) {
    let first = series.iter().map(|(_, series)| series.first_ms).min();
    let last = series.iter().map(|(_, series)| series.at_ms(series.values.len() - 1)).max();
    (first.unwrap_or_default(), last.unwrap_or_default())
}

/// Data for fitting, selecting and testing detectors.
pub(super) struct AnomalySplit {
    pub(super) spans: SplitSpans,
    /// Profile of each series, by `site/zone metric`.
    pub(super) scales: BTreeMap<String, NormalProfile>,
    /// Rows of normal minutes that the profiles were not fitted on.
    pub(super) train: Array2<f64>,
    /// Rows of normal minutes that the detectors were not fitted on either.
    pub(super) usual: Array2<f64>,
    pub(super) choice: Vec<FaultedSeries>,
    pub(super) test: Vec<FaultedSeries>,
    /// Scores the channels of a row separately, whatever the detector.
    pub(super) kinds: FittedDetector,
    /// Event time of the first minute of each series in the test part.
    test_from_ms: Vec<i64>,
}

/// The sets of one series.
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
    /// Splits all series at the same times; each fold has its own faults.
    ///
    /// # Errors
    /// States why there is nothing to fit or to evaluate.
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
                let stream = ((fold as u64) << 40) | (2 * number as u64);
                let seed = settings.seed.wrapping_mul(1_000_003).wrapping_add(stream);
                split_series(name.clone(), series, spans, minutes_max, seed)
            })
            .collect();
        Self::join_series(parts, spans, settings.seed)
    }

    fn join_series(parts: Vec<SeriesSplit>, spans: SplitSpans, seed: u64) -> Result<Self, String> {
        let rows = |rows_of: fn(&SeriesSplit) -> &Array2<f64>| {
            let views: Vec<_> = parts.iter().map(|part| rows_of(part).view()).collect();
            let empty = Array2::zeros((0, CHANNELS.len()));
            let joined = concatenate(Axis(0), &views).unwrap_or(empty);
            thin_rows(joined, TRAIN_ROWS_MAX)
        };
        let (learn, usual) = (rows(|part| &part.train), rows(|part| &part.usual));
        let faults = parts.iter().map(|part| part.test.faults.len()).sum::<usize>();
        if learn.nrows().min(usual.nrows()) < ROWS_MIN || faults == 0 {
            return Err("too short: too few minutes of all series together".to_owned());
        }
        let weighted =
            all_detectors().into_iter().find(|detector| detector.name() == ConformalTails::NAME);
        let fitted = weighted.expect("the detector is one of them").fit(learn.view(), seed);
        let kinds = fitted.map_err(|error| error.to_string())?;
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

    /// Event time of each minute of the test set, UTC ms.
    pub(super) fn test_at_ms(&self) -> Vec<i64> {
        let minute_times = |(from, part): (&i64, &FaultedSeries)| {
            let from = *from;
            (0..part.known.len()).map(move |minute| from + 60_000 * minute as i64)
        };
        self.test_from_ms.iter().zip(&self.test).flat_map(minute_times).collect()
    }
}

/// Splits one series. `None` where the series is constant in training.
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
