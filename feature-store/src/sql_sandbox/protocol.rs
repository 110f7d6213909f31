use std::io::{self, Read, Write};

use arrow_ipc::{reader::StreamReader, writer::StreamWriter};
use duckdb::arrow::{array::RecordBatch, datatypes::SchemaRef};
use serde::{Deserialize, Serialize};

/// Longest message that is sent, bytes. A batch has about a megabyte, but one value may be large.
const MESSAGE_BYTES_MAX: u32 = 256 << 20;
/// Longest JSON message that is read, bytes.
const JSON_BYTES_MAX: usize = 64 << 20;

/// Job of the guest: the first message, as JSON.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SandboxJob {
    /// SQL to run.
    pub(super) sql: String,
    /// Every table that the SQL may name.
    pub(super) tables: Vec<TableColumns>,
    /// Memory limit: address space beyond what the process starts with, bytes.
    pub(super) memory_bytes_max: u64,
    /// Limit of processor time, seconds.
    pub(super) cpu_s_max: u64,
    /// Threads of the guest's DuckDB.
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

/// Rows that satisfy all conditions of at least one of the lists.
pub(super) type AnyOfConditions = Vec<Vec<ColumnCondition>>;

/// A comparison of a column with constants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ColumnCondition {
    pub(super) column: String,
    pub(super) comparison: ComparisonOperator,
    /// One constant, or several for [`ComparisonOperator::In`], as texts of the column's type.
    pub(super) values: Vec<String>,
}

/// Rows of a table that a query needs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct NeededRows {
    /// Conditions for the rows; empty means all rows.
    pub(super) any_of: AnyOfConditions,
    /// Only the first of these rows.
    pub(super) first: Option<FirstRows>,
}

/// The first `rows` rows in the order of a column, and those that are equal to the last of them.
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

/// Requests of the guest, as JSON.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum GuestRequest {
    /// Announces this number of scans, which must all see the same state.
    Scans(usize),
    /// Opens a scan of a table's columns, given by number.
    Open { scan: u64, table: usize, columns: Vec<usize>, needed: NeededRows },
    /// Requests the next batch of a scan.
    Next { scan: u64 },
    /// Ends a scan early.
    Close { scan: u64 },
    /// Reports DuckDB's error for the query.
    Failed { message: String, is_memory: bool },
    /// Announces a batch of the answer, which follows as a separate message.
    Answer,
    /// Reports that the answer is complete.
    Done,
}

/// Replies of the host to [`GuestRequest::Next`]; a batch follows as a separate message.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum HostReply {
    Batch,
    End,
    Failed(String),
}

pub(super) fn write_message(to: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    let allowed_length =
        u32::try_from(bytes.len()).ok().filter(|length| *length <= MESSAGE_BYTES_MAX);
    let length = allowed_length.ok_or_else(|| io::Error::other("a message is too long"))?;
    to.write_all(&length.to_le_bytes())?;
    to.write_all(bytes)?;
    to.flush()
}

/// Reads a message of at most `bytes_max` bytes; `FileTooLarge` if it is longer.
pub(super) fn read_message(from: &mut impl Read, bytes_max: usize) -> io::Result<Vec<u8>> {
    let mut length_bytes = [0; 4];
    from.read_exact(&mut length_bytes)?;
    let length = u32::from_le_bytes(length_bytes) as usize;
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

/// Encodes a batch, or only a schema, as an Arrow stream.
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
