use telemetry::SmolStr;

use super::{
    catalog::FeatureCatalog, derivation::Derivation, sequence::SequenceFilter,
    series::MetricSeries, sorted_readings::PackedReading, window_summary::HoldDuration,
};

/// One metric of a zone.
#[derive(Debug)]
pub(super) struct MetricSlot {
    pub(super) metric: SmolStr,
    /// Smallest and largest plausible value.
    pub(super) plausible: Option<(f64, f64)>,
    /// Whether the drying of the soil depends on it.
    pub(super) feeds_soil: bool,
    /// By the device's number.
    pub(super) sequences: Vec<SequenceFilter>,
    /// There once a reading counts.
    pub(super) state: Option<MetricState>,
}

/// The readings of one metric that count.
#[derive(Debug)]
pub(super) struct MetricState {
    /// The number of its columns.
    pub(super) block: usize,
    pub(super) series: MetricSeries,
    /// Readings made of them, with the number of their columns.
    pub(super) derived: Vec<(Derivation, usize, MetricSeries)>,
}

/// Sorted readings of one metric, and what is derived of them, to be put in or taken out in
/// one pass.
#[derive(Debug, Default)]
pub(super) struct MetricBatch {
    points: Vec<PackedReading>,
    /// For each derived metric.
    derived: Vec<Vec<PackedReading>>,
}

impl MetricState {
    pub(super) fn new(number: usize, catalog: &FeatureCatalog, hold: HoldDuration) -> Self {
        let series = |number: usize| {
            let block = catalog.metric_columns(number);
            let windows = block.windows.iter().map(|w| (w.width_ms, w.has_quantiles));
            MetricSeries::new(hold, windows, block.bins)
        };
        let derived = catalog.metric_columns(number).derived.iter();
        Self {
            block: number,
            series: series(number),
            derived: derived
                .map(|(of, own)| (Derivation::from_definition(of), *own, series(*own)))
                .collect(),
        }
    }

    /// Puts a reading in, and what is derived of it: of what SQL made, or of its value.
    pub(super) fn insert(
        &mut self,
        point: PackedReading,
        sql: Option<&[Option<f64>]>,
        is_up: Option<bool>,
    ) {
        self.series.insert(point);
        for (number, (derivation, _, series)) in self.derived.iter_mut().enumerate() {
            if let Some(derived) =
                derive_reading(*derivation, point, source_value(point, sql, number), is_up)
            {
                series.insert(derived);
            }
        }
    }

    /// Adds a reading to a batch, with what is derived of it.
    pub(super) fn collect_reading(
        &self,
        batch: &mut MetricBatch,
        point: PackedReading,
        sql: Option<&[Option<f64>]>,
        is_up: Option<bool>,
    ) {
        batch.points.push(point);
        batch.derived.resize_with(self.derived.len(), Vec::new);
        for (number, (derivation, ..)) in self.derived.iter().enumerate() {
            let derived =
                derive_reading(*derivation, point, source_value(point, sql, number), is_up);
            batch.derived[number].extend(derived);
        }
    }

    /// Puts a sorted batch in.
    pub(super) fn insert_batch(&mut self, batch: &MetricBatch) {
        self.series.insert_sorted(&batch.points);
        for ((.., series), points) in self.derived.iter_mut().zip(&batch.derived) {
            series.insert_sorted(points);
        }
    }

    /// Takes a sorted batch out again.
    pub(super) fn remove_batch(&mut self, batch: &MetricBatch) {
        self.series.remove_sorted(&batch.points);
        for ((.., series), points) in self.derived.iter_mut().zip(&batch.derived) {
            series.remove_sorted(points);
        }
    }
}

impl MetricBatch {
    /// Puts the batch in the order of readings.
    pub(super) fn sort_by_time(&mut self) {
        self.points.sort_by(PackedReading::compare);
        self.derived.iter_mut().for_each(|points| points.sort_by(PackedReading::compare));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.points.is_empty()
    }

    /// The oldest event time, ms.
    pub(super) fn oldest_event_ms(&self) -> Option<i64> {
        self.points.first().map(|point| point.event_ms())
    }
}

/// What SQL made of a reading for a derived metric, or its own value.
fn source_value(point: PackedReading, sql: Option<&[Option<f64>]>, number: usize) -> Option<f64> {
    sql.map_or(Some(point.value), |sql| sql[number])
}

fn derive_reading(
    derivation: Derivation,
    point: PackedReading,
    value: Option<f64>,
    is_up: Option<bool>,
) -> Option<PackedReading> {
    let value = derivation.derive_value(value?, is_up)?;
    Some(PackedReading::new(point.event_ms(), value, point.device()))
}
