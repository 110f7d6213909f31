use std::io::{self, Read, Write};

use arrow_ipc::{reader::StreamReader, writer::StreamWriter};
use duckdb::arrow::{array::RecordBatch, datatypes::SchemaRef};
use serde::{Deserialize, Serialize};

/// A longer message is not sent, bytes: a batch is about a megabyte, but one value may be large.
const MESSAGE_BYTES_MAX: u32 = 256 << 20;
/// A longer message of JSON is not read, bytes.
const JSON_BYTES_MAX: usize = 64 << 20;

/// What the guest is asked to do: the first message, as JSON.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SandboxJob {
    /// The text to run.
    pub(super) sql: String,
    /// Every table that the text may name.
    pub(super) tables: Vec<TableColumns>,
    /// All that the process may take, bytes of address space beyond what it starts with.
    pub(super) memory_bytes_max: u64,
    /// Seconds of processor time.
    pub(super) cpu_s_max: u64,
    /// Threads of its DuckDB.
    pub(super) threads: i64,
}

/// A table with its columns.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct TableColumns {
    pub(super) schema: String,
    pub(super) name: String,
    /// Names, and types as DuckDB writes them.
    pub(super) columns: Vec<(String, String)>,
}

/// Rows that a query needs: those that meet all of the conditions of any one of the lists.
pub(super) type AnyOfConditions = Vec<Vec<ColumnCondition>>;

/// A column compared with a constant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ColumnCondition {
    pub(super) column: String,
    pub(super) comparison: ComparisonOperator,
    /// One, or several for [`ComparisonOperator::In`]; texts of values of the column's type.
    pub(super) values: Vec<String>,
}

/// The rows that a query needs of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct NeededRows {
    /// Those that meet the conditions of any of these; all where there are none.
    pub(super) any_of: AnyOfConditions,
    /// Of these only the first.
    pub(super) first: Option<FirstRows>,
}

/// So many rows in the order of a column, and those that are equal to the last of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FirstRows {
    pub(super) column: String,
    pub(super) is_descending: bool,
    pub(super) rows: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum ComparisonOperator {
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    In,
}

/// What the guest asks, as JSON.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum GuestRequest {
    /// So many scans are to come: they are to see the same state.
    Scans(usize),
    /// Columns of a table by their numbers.
    Open { scan: u64, table: usize, columns: Vec<usize>, needed: NeededRows },
    /// The next batch of a scan.
    Next { scan: u64 },
    /// No more of a scan is needed.
    Close { scan: u64 },
    /// What DuckDB says against the query.
    Failed { message: String, is_memory: bool },
    /// A batch of the answer follows as a message of its own.
    Answer,
    /// The answer is whole.
    Done,
}

/// What the host says to [`Request::Next`], before a batch where there is one.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum HostReply {
    Batch,
    End,
    Failed(String),
}

pub(super) fn write_message(to: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    let length = u32::try_from(bytes.len()).ok().filter(|length| *length <= MESSAGE_BYTES_MAX);
    let length = length.ok_or_else(|| io::Error::other("a message is too long"))?;
    to.write_all(&length.to_le_bytes())?;
    to.write_all(bytes)?;
    to.flush()
}

/// A message of at most so many bytes; `FileTooLarge` where it is longer.
pub(super) fn read_message(from: &mut impl Read, bytes_max: usize) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length) as usize;
    if length > bytes_max {
        let message = format!("a message of {length} bytes, above {bytes_max}");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    let mut bytes = vec![0; length];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

pub(super) fn write_json(to: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    write_message(to, &serde_json::to_vec(value)?)
}

pub(super) fn read_json<T: for<'a> Deserialize<'a>>(from: &mut impl Read) -> io::Result<T> {
    Ok(serde_json::from_slice(&read_message(from, JSON_BYTES_MAX)?)?)
}

/// A batch, or only a schema, as an Arrow stream.
pub(super) fn encode_batch(schema: &SchemaRef, batch: Option<&RecordBatch>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut writer = StreamWriter::try_new(&mut bytes, schema).map_err(io::Error::other)?;
    batch.map_or(Ok(()), |batch| writer.write(batch)).map_err(io::Error::other)?;
    writer.finish().map_err(io::Error::other)?;
    Ok(bytes)
}

pub(super) fn decode_batches(bytes: &[u8]) -> io::Result<(SchemaRef, Vec<RecordBatch>)> {
    let reader = StreamReader::try_new(bytes, None).map_err(io::Error::other)?;
    let schema = reader.schema();
    let batches = reader.collect::<Result<_, _>>().map_err(io::Error::other)?;
    Ok((schema, batches))
}
