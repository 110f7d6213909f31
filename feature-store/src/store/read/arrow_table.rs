use duckdb::{
    Arrow,
    arrow::{array::RecordBatch, datatypes::SchemaRef},
};

/// An answer of any columns, as Arrow.
#[derive(Clone, Debug)]
pub struct ArrowTable {
    /// Of every batch.
    pub schema: SchemaRef,
    /// In the order of the answer; none where it is empty.
    pub batches: Vec<RecordBatch>,
}

impl ArrowTable {
    pub(super) fn from_arrow(answer: Arrow<'_>) -> Self {
        Self { schema: answer.get_schema(), batches: answer.collect() }
    }

    /// How many rows there are.
    #[must_use]
    pub fn row_count(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }

    /// The first rows of it.
    pub(crate) fn take_rows(self, rows: usize) -> Self {
        let mut left = rows;
        let cut = self.batches.into_iter().map(|batch| {
            let taken = batch.num_rows().min(left);
            left -= taken;
            batch.slice(0, taken)
        });
        Self { schema: self.schema, batches: cut.collect() }
    }
}
