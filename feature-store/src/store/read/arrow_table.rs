use duckdb::{
    Arrow,
    arrow::{array::RecordBatch, datatypes::SchemaRef},
};

/// A query result with any columns, in Arrow.
#[derive(Clone, Debug)]
pub struct ArrowTable {
    /// Schema of every batch.
    pub schema: SchemaRef,
    /// Batches in the order of the result; none if it is empty.
    pub batches: Vec<RecordBatch>,
}

impl ArrowTable {
    pub(super) fn from_arrow(answer: Arrow<'_>) -> Self {
        Self { schema: answer.get_schema(), batches: answer.collect() }
    }

    /// Returns the number of rows.
    #[must_use]
    pub fn row_count(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }

    /// Keeps the first rows.
    pub(crate) fn take_rows(self, rows: usize) -> Self {
        let mut left = rows;
        let kept = self.batches.into_iter().map(|batch| {
            let taken = batch.num_rows().min(left);
            left -= taken;
            batch.slice(0, taken)
        });
        Self { schema: self.schema, batches: kept.collect() }
    }
}
