use std::{collections::HashMap, sync::Arc};

use arrow_array::{
    ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray,
    builder::Float64Builder,
};
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use feature_engine::{FeatureRow, engine::catalog::FeatureRowSchema};
use pyo3::{exceptions::PyRuntimeError, prelude::*, types::PyCapsule};
use pyo3_arrow::PyTable;

/// Rows of a batch.
pub(crate) const BATCH_ROWS: usize = 8192;

/// An Arrow table that Python libraries read through the PyCapsule interface.
#[pyclass(module = "microclimate._engine", frozen)]
pub(crate) struct RowTable {
    batches: Vec<RecordBatch>,
    schema: SchemaRef,
}

#[pymethods]
impl RowTable {
    /// Number of rows.
    #[getter]
    fn num_rows(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }

    /// Names of the columns.
    #[getter]
    fn column_names(&self) -> Vec<String> {
        self.schema.fields().iter().map(|field| field.name().clone()).collect()
    }

    /// Text that the schema carries, by key.
    #[getter]
    fn metadata(&self) -> HashMap<String, String> {
        self.schema.metadata().clone()
    }

    #[pyo3(signature = (requested_schema=None))]
    fn __arrow_c_stream__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<Bound<'py, PyCapsule>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        // The wrapper of the crate exports itself; batches are shared, not copied.
        let table = PyTable::try_new(self.batches.clone(), self.schema.clone())?;
        Bound::new(py, table)?.call_method1("__arrow_c_stream__", (requested_schema,))
    }

    fn __len__(&self) -> usize {
        self.num_rows()
    }
}

impl RowTable {
    pub(crate) fn new(batches: Vec<RecordBatch>, schema: SchemaRef) -> Self {
        Self { batches, schema }
    }

    pub(crate) fn from_rows(rows: &[FeatureRow], names: &Arc<FeatureRowSchema>) -> PyResult<Self> {
        let schema = row_schema(names);
        let batches = rows
            .chunks(BATCH_ROWS)
            .map(|rows| convert_rows(rows, names, &schema))
            .collect::<PyResult<_>>()?;
        Ok(Self { batches, schema })
    }
}

/// Arrow schema of feature rows: zone, time, revision, and a column for each feature.
pub(crate) fn row_schema(names: &FeatureRowSchema) -> SchemaRef {
    let utc = DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
    let mut fields = vec![
        Field::new("zone", DataType::Utf8, false),
        Field::new("time", utc, false),
        Field::new("revision", DataType::Int64, false),
    ];
    let features =
        names.names.iter().map(|name| Field::new(name.as_str(), DataType::Float64, true));
    fields.extend(features);
    let hash = ("microclimate.schema_hash".to_owned(), names.hash.to_string());
    Arc::new(Schema::new_with_metadata(fields, [hash].into()))
}

/// Converts rows; features without a value are null. Rows of before a metric was first seen have
/// fewer values, and null in the columns that came later.
pub(crate) fn convert_rows(
    rows: &[FeatureRow],
    names: &FeatureRowSchema,
    schema: &SchemaRef,
) -> PyResult<RecordBatch> {
    let zones: StringArray = rows.iter().map(|row| Some(row.zone.to_string())).collect();
    let times = TimestampMillisecondArray::from_iter_values(rows.iter().map(|row| row.at_ms));
    let revisions = Int64Array::from_iter_values(rows.iter().map(|row| row.revision));
    let mut columns: Vec<ArrayRef> =
        vec![Arc::new(zones), Arc::new(times.with_timezone("UTC")), Arc::new(revisions)];
    for column in 0..names.names.len() {
        let mut values = Float64Builder::with_capacity(rows.len());
        for row in rows {
            let value = row.values.get(column).copied();
            values.append_option(value.filter(|value| !value.is_nan()));
        }
        columns.push(Arc::new(values.finish()));
    }
    RecordBatch::try_new(schema.clone(), columns)
        .map_err(|error| PyRuntimeError::new_err(error.to_string()))
}

/// Builds a table of text and number columns.
pub(crate) fn table_of_columns(
    names: &[(&str, DataType)],
    columns: Vec<ArrayRef>,
) -> PyResult<RowTable> {
    let fields: Vec<Field> =
        names.iter().map(|(name, of)| Field::new(*name, of.clone(), true)).collect();
    let schema = Arc::new(Schema::new(fields));
    let batch = RecordBatch::try_new(schema.clone(), columns)
        .map_err(|error| PyRuntimeError::new_err(error.to_string()))?;
    Ok(RowTable::new(vec![batch], schema))
}

/// Column of numbers in which NaN stands for nothing.
pub(crate) fn nullable_numbers(values: impl Iterator<Item = Option<f64>>) -> ArrayRef {
    Arc::new(values.map(|value| value.filter(|value| !value.is_nan())).collect::<Float64Array>())
}
