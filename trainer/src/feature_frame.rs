//! Feature rows of a zone, looked up by time.

use std::collections::HashMap;

use polars::prelude::DataFrame;
use telemetry::{SmolStr, ZoneId};

use crate::{error::TrainError, input::PresentMetric, lag_columns::parse_lag_column};

/// Feature rows of one zone in the order of time.
#[derive(Clone, Debug)]
pub struct ZoneFrame {
    /// The zone.
    pub zone: ZoneId,
    /// Event time of each row, UTC milliseconds, ascending.
    pub at_ms: Vec<i64>,
    columns: HashMap<SmolStr, Vec<f64>>,
}

/// Rows of one zone in the feature store's two views, which are never mixed in one column. A late
/// reading may be in the targets, but never in the inputs of a model.
#[derive(Clone, Debug)]
pub struct ZoneViews {
    /// Rows as each was known at its own time; inputs are made from them.
    pub as_known: ZoneFrame,
    /// Rows with every reading that has arrived since; targets are made from them.
    pub as_corrected: ZoneFrame,
}

impl ZoneViews {
    /// Views of the zones that both tables have rows of.
    ///
    /// # Errors
    /// See [`ZoneFrame::by_zone`].
    pub fn by_zone(
        as_known: &DataFrame,
        as_corrected: &DataFrame,
    ) -> Result<Vec<Self>, TrainError> {
        let corrected_frames = ZoneFrame::by_zone(as_corrected)?.into_iter();
        let mut corrected: HashMap<ZoneId, ZoneFrame> =
            corrected_frames.map(|frame| (frame.zone.clone(), frame)).collect();
        let known = ZoneFrame::by_zone(as_known)?.into_iter();
        Ok(known
            .filter_map(|as_known| {
                let as_corrected = corrected.remove(&as_known.zone)?;
                Some(Self { as_known, as_corrected })
            })
            .collect())
    }

    /// Views of a zone without late readings.
    #[must_use]
    pub fn without_late_readings(frame: ZoneFrame) -> Self {
        Self { as_known: frame.clone(), as_corrected: frame }
    }

    /// The zone.
    #[must_use]
    pub fn zone(&self) -> &ZoneId {
        &self.as_known.zone
    }
}

impl ZoneFrame {
    /// Creates a frame from its parts. Each column has a value for each of `at_ms`, NaN where it is
    /// missing.
    ///
    /// # Panics
    /// A column is not as long as `at_ms`, or the times do not ascend.
    #[must_use]
    pub fn new(zone: ZoneId, at_ms: Vec<i64>, columns: HashMap<SmolStr, Vec<f64>>) -> Self {
        assert!(at_ms.is_sorted(), "rows must be in the order of time");
        assert!(
            columns.values().all(|column| column.len() == at_ms.len()),
            "a column has another length"
        );
        Self { zone, at_ms, columns }
    }

    /// Splits a table with the columns `site`, `zone`, `at_ms` and features by zone.
    ///
    /// # Errors
    /// One of these columns is missing or has another type.
    pub fn by_zone(table: &DataFrame) -> Result<Vec<Self>, TrainError> {
        let (site, zone) = (table.column("site")?.str()?, table.column("zone")?.str()?);
        let at_ms = table.column("at_ms")?.i64()?;
        let mut rows: HashMap<(&str, &str), Vec<(i64, usize)>> = HashMap::new();
        for (row, ((site, zone), at_ms)) in
            site.iter().zip(zone.iter()).zip(at_ms.iter()).enumerate()
        {
            if let (Some(site), Some(zone), Some(at_ms)) = (site, zone, at_ms) {
                rows.entry((site, zone)).or_default().push((at_ms, row));
            }
        }
        let mut features: Vec<(SmolStr, Vec<f64>)> = Vec::new();
        for column in table.columns() {
            if let Ok(values) = column.f64() {
                let numbers = values.iter().map(|value| value.unwrap_or(f64::NAN)).collect();
                features.push((column.name().as_str().into(), numbers));
            }
        }
        let mut frames: Vec<Self> = rows
            .into_iter()
            .map(|((site, zone), mut rows)| {
                rows.sort_unstable();
                let pick = |all: &Vec<f64>| rows.iter().map(|(_, row)| all[*row]).collect();
                let columns =
                    features.iter().map(|(name, all)| (name.clone(), pick(all))).collect();
                let at_ms = rows.iter().map(|(at_ms, _)| *at_ms).collect();
                Self { zone: ZoneId::new(site, zone), at_ms, columns }
            })
            .collect();
        frames.sort_by(|a, b| a.zone.cmp(&b.zone));
        Ok(frames)
    }

    /// Column of that name, one value per row, NaN where it is missing.
    #[must_use]
    pub fn column(&self, name: &str) -> Option<&[f64]> {
        self.columns.get(name).map(Vec::as_slice)
    }

    /// Adds a column of earlier rows under its name (see [`crate::lag_columns`]), NaN where there
    /// was no row at that time. Does nothing if this frame does not have the column.
    pub fn add_lag_column(&mut self, name: &str) {
        let (column, ago_s) = parse_lag_column(name);
        let Some(values) = self.column(column) else { return };
        let earlier =
            |at_ms: &i64| self.row_at(at_ms - ago_s * 1000).map_or(f64::NAN, |r| values[r]);
        let earlier: Vec<f64> = self.at_ms.iter().map(earlier).collect();
        self.columns.insert(name.into(), earlier);
    }

    /// Names of all columns, in no order.
    pub fn column_names(&self) -> impl Iterator<Item = &SmolStr> {
        self.columns.keys()
    }

    /// Row at exactly that time. Targets are found by time, never by counting rows, because rows
    /// may be missing.
    #[must_use]
    pub fn row_at(&self, at_ms: i64) -> Option<usize> {
        self.at_ms.binary_search(&at_ms).ok()
    }

    /// Value of a column at exactly that time, if it is known.
    #[must_use]
    pub fn value_at(&self, name: &str, at_ms: i64) -> Option<f64> {
        let value = *self.column(name)?.get(self.row_at(at_ms)?)?;
        value.is_finite().then_some(value)
    }

    /// Present value of a metric in each row, NaN where it is unknown.
    pub fn present_values(&self, metric: PresentMetric) -> impl Fn(usize) -> f64 {
        let columns = metric.source_columns().map(|name| self.column(name));
        move |row| {
            metric
                .present_value(columns.map(|column| column.map_or(f64::NAN, |values| values[row])))
        }
    }

    /// Present value of a metric at exactly that time, if it is known.
    #[must_use]
    pub fn present_value_at(&self, metric: PresentMetric, at_ms: i64) -> Option<f64> {
        let value = self.present_values(metric)(self.row_at(at_ms)?);
        value.is_finite().then_some(value)
    }
}
