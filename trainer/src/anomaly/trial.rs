//! Trial of two detectors on the same minutes with the same faults.

use models::{
    Predictor,
    detect::sensor_faults::{NormalProfile, PAST_MIN, inject_faults},
};
use ndarray::{Array2, Axis, Slice};

use super::{AnomalyServing, HISTORY_S, MinuteSeries, anomaly_metrics, series_key};
use crate::feature_frame::ZoneFrame;

/// Losses of two detectors, minute by minute in the order of time.
pub(crate) struct DetectorLosses {
    pub(crate) at_ms: Vec<i64>,
    pub(crate) own: Vec<f64>,
    pub(crate) rival: Vec<f64>,
    /// Some inputs of the first detector.
    pub(crate) x: Array2<f64>,
}

/// Injects faults into the minutes of `span_ms` of every series that both detectors know, and
/// scores them with both. A loss is the squared distance between the label (1 in a fault, else 0)
/// and v / (1 + v), where v is the score in multiples of the detector's alarm: an alarm counts as
/// at least one half. `seen_ms` is the end of the rival's training data, UTC ms.
///
/// # Errors
/// States why there is nothing to compare.
pub(crate) fn compare_losses(
    frames: &[ZoneFrame],
    (own, own_model): (&AnomalyServing, &Predictor),
    (rival, rival_model): (&AnomalyServing, &Predictor),
    span_ms: (i64, i64),
    seen_ms: i64,
    seed: u64,
) -> Result<DetectorLosses, String> {
    let mut all = Vec::new();
    for frame in frames {
        for metric in anomaly_metrics(frame) {
            let name = series_key(&frame.zone, &metric);
            let scales = own.scales.get(&name).zip(rival.scales.get(&name));
            if let Some((series, scales)) = MinuteSeries::from_frame(frame, &metric).zip(scales) {
                all.push((series, scales));
            }
        }
    }
    if all.is_empty() {
        return Err("the two detectors have no series in common".to_owned());
    }
    let span_ms = (span_ms.0.max(seen_ms + HISTORY_S * 1000), span_ms.1);
    let mut minutes: Vec<(i64, f64, f64)> = Vec::new();
    let mut last_inputs = Array2::zeros((0, 0));
    for (number, (series, (own_scales, rival_scales))) in all.iter().enumerate() {
        let part = series.minutes_between(span_ms);
        if part.is_empty() {
            continue;
        }
        let before = part.start.min(PAST_MIN);
        let mut values = series.values[part.start - before..part.end].to_vec();
        // Differs from the seeds of the sets that were used for selection or reports.
        let series_seed = seed.wrapping_mul(1_000_003).wrapping_add(1 << 32 | number as u64);
        let faults = inject_faults(&mut values[before..], own_scales.spread(), series_seed);
        let rows = |scales: &NormalProfile| {
            let mut rows = scales.rarity_rows(&values);
            rows.slice_axis_inplace(Axis(0), Slice::from(before..));
            rows
        };
        let (x, rival_x) = (rows(own_scales), rows(rival_scales));
        let (own_scores, rival_scores) =
            (own_model.predict(x.view()), rival_model.predict(rival_x.view()));
        let mut labels = vec![false; part.len()];
        faults.iter().for_each(|fault| labels[fault.minutes.clone()].fill(true));
        for (minute, label) in labels.iter().enumerate() {
            if series.values[part.start + minute].is_nan() {
                continue;
            }
            let loss = |score: f64, alarm: f64| {
                let v = (score / alarm).max(0.0);
                let says = if v.is_finite() { v / (1.0 + v) } else { 1.0 };
                (f64::from(u8::from(*label)) - says).powi(2)
            };
            minutes.push((
                series.at_ms(part.start + minute),
                loss(own_scores[minute], own.alarm),
                loss(rival_scores[minute], rival.alarm),
            ));
        }
        last_inputs = x;
    }
    minutes.sort_by_key(|(at_ms, ..)| *at_ms);
    Ok(DetectorLosses {
        at_ms: minutes.iter().map(|minute| minute.0).collect(),
        own: minutes.iter().map(|minute| minute.1).collect(),
        rival: minutes.iter().map(|minute| minute.2).collect(),
        x: last_inputs,
    })
}
