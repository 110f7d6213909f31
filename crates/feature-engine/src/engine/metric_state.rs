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
    /// Whether the drying trends depend on the metric.
    pub(super) feeds_soil: bool,
    /// Sequence filters by device number.
    pub(super) sequences: Vec<SequenceFilter>,
    /// State of the metric; `None` until its first valid reading.
    pub(super) state: Option<MetricState>,
}

/// Valid readings of one metric.
#[derive(Debug)]
pub(super) struct MetricState {
    /// Number of the metric's columns.
    pub(super) block: usize,
    pub(super) series: MetricSeries,
    /// Derived readings: rule, number of the columns, and series.
    pub(super) derived: Vec<(Derivation, usize, MetricSeries)>,
}

/// Sorted readings of one metric and their derived readings, to be inserted or removed in one
/// pass.
#[derive(Debug, Default)]
pub(super) struct MetricBatch {
    points: Vec<PackedReading>,
    /// Derived readings, by derived metric.
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

    /// Inserts a reading and its derived readings. Each of those starts from the SQL value, or
    /// else from the reading's value.
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

    /// Adds a reading and its derived readings to a batch.
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

    /// Inserts a sorted batch.
    pub(super) fn insert_batch(&mut self, batch: &MetricBatch) {
        self.series.insert_sorted(&batch.points);
        for ((.., series), points) in self.derived.iter_mut().zip(&batch.derived) {
            series.insert_sorted(points);
        }
    }

    /// Removes a sorted batch.
    pub(super) fn remove_batch(&mut self, batch: &MetricBatch) {
        self.series.remove_sorted(&batch.points);
        for ((.., series), points) in self.derived.iter_mut().zip(&batch.derived) {
            series.remove_sorted(points);
        }
    }
}

impl MetricBatch {
    /// Sorts the batch by time and value.
    pub(super) fn sort_by_time(&mut self) {
        self.points.sort_by(PackedReading::compare);
        self.derived.iter_mut().for_each(|points| points.sort_by(PackedReading::compare));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.points.is_empty()
    }

    /// Returns the oldest event time, ms.
    pub(super) fn oldest_event_ms(&self) -> Option<i64> {
        self.points.first().map(|point| point.event_ms())
    }
}

/// Value from which a derived metric starts: the result of its SQL, or the reading's own value.
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
