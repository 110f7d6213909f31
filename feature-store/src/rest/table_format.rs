//! Answers as JSON, CSV, Arrow or Parquet.

use std::io::Cursor;

use arrow_ipc::writer::StreamWriter;
use axum::{
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use duckdb::arrow::{
    array::{Array, ArrayRef, AsArray},
    datatypes::{DataType, Float64Type, Int64Type},
    error::ArrowError,
    util::display::{ArrayFormatter, FormatOptions},
};
use polars::prelude::{Column, DataFrame, ParquetWriter};
use serde::Deserialize;
use utoipa::ToSchema;

use crate::{StoreError, store::ArrowTable};

/// Times in RFC 3339; all are UTC.
const TIME_OPTIONS: FormatOptions<'_> =
    FormatOptions::new().with_timestamp_format(Some("%Y-%m-%dT%H:%M:%S%.fZ"));

/// Format of a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum TableFormat {
    /// One JSON object for each row.
    #[default]
    Json,
    /// Comma-separated values with a header.
    Csv,
    /// Arrow's IPC stream.
    Arrow,
    /// A Parquet file.
    Parquet,
}

impl TableFormat {
    const ALL: [Self; 4] = [Self::Json, Self::Csv, Self::Arrow, Self::Parquet];

    /// Returns the named format, else the one that the `Accept` header requests, else JSON.
    pub(super) fn negotiate(named: Option<Self>, headers: &HeaderMap) -> Self {
        let accept_header = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
        let parse_format = |media_type: &str| {
            let kind = media_type.split(';').next().unwrap_or_default().trim();
            Self::ALL
                .into_iter()
                .find(|format| format.content_type().starts_with(kind) && !kind.is_empty())
        };
        let accepted =
            accept_header.and_then(|accepted| accepted.split(',').find_map(parse_format));
        named.or(accepted).unwrap_or_default()
    }

    const fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Csv => "text/csv; charset=utf-8",
            Self::Arrow => "application/vnd.apache.arrow.stream",
            Self::Parquet => "application/vnd.apache.parquet",
        }
    }

    /// Encodes the table. JSON is `{<about>, "rows": […]}`, where `about` is a list of fields,
    /// each with its comma; the other formats have no place for it.
    pub(super) fn encode_table(
        self,
        table: &ArrowTable,
        about: &str,
    ) -> Result<Vec<u8>, StoreError> {
        match self {
            Self::Json => {
                let mut out = format!("{{{about}\"rows\":").into_bytes();
                write_json_rows(table, &mut out)?;
                out.push(b'}');
                Ok(out)
            }
            Self::Csv => Ok(encode_csv(table)?),
            Self::Arrow => {
                let mut writer = StreamWriter::try_new(Vec::new(), &table.schema)?;
                for batch in &table.batches {
                    writer.write(batch)?;
                }
                writer.finish()?;
                Ok(writer.into_inner()?)
            }
            Self::Parquet => encode_parquet(&mut to_data_frame(table)?),
        }
    }

    /// Builds a response with this content.
    pub(super) fn to_response(self, bytes: Vec<u8>) -> Response {
        ([(header::CONTENT_TYPE, self.content_type())], bytes).into_response()
    }
}

/// Encodes a data frame as a Parquet file.
pub(super) fn encode_parquet(frame: &mut DataFrame) -> Result<Vec<u8>, StoreError> {
    let mut bytes = Cursor::new(Vec::new());
    ParquetWriter::new(&mut bytes).finish(frame)?;
    Ok(bytes.into_inner())
}

/// Conversion of one column's cells to JSON.
enum JsonColumn<'a> {
    Float(&'a duckdb::arrow::array::Float64Array),
    Int(&'a duckdb::arrow::array::Int64Array),
    /// A type whose text is valid JSON.
    Bare(ArrayFormatter<'a>),
    Text(ArrayFormatter<'a>),
}

impl<'a> JsonColumn<'a> {
    fn new(column: &'a ArrayRef) -> Result<Self, ArrowError> {
        Ok(match column.data_type() {
            DataType::Float64 => Self::Float(column.as_primitive::<Float64Type>()),
            DataType::Int64 => Self::Int(column.as_primitive::<Int64Type>()),
            kind if kind.is_integer() || *kind == DataType::Boolean || is_decimal(kind) => {
                Self::Bare(ArrayFormatter::try_new(column, &TIME_OPTIONS)?)
            }
            _ => Self::Text(ArrayFormatter::try_new(column, &TIME_OPTIONS)?),
        })
    }

    fn write_cell(&self, row: usize, out: &mut Vec<u8>) -> Result<(), ArrowError> {
        let written = match self {
            Self::Float(column) => serde_json::to_writer(out, &column.value(row)),
            Self::Int(column) => serde_json::to_writer(out, &column.value(row)),
            Self::Bare(cells) => {
                out.extend_from_slice(cells.value(row).try_to_string()?.as_bytes());
                Ok(())
            }
            Self::Text(cells) => serde_json::to_writer(out, &cells.value(row).try_to_string()?),
        };
        written.map_err(|error| ArrowError::ExternalError(Box::new(error)))
    }
}

fn is_decimal(kind: &DataType) -> bool {
    matches!(kind, DataType::Decimal32(..) | DataType::Decimal64(..) | DataType::Decimal128(..))
}

/// Writes the rows as a JSON array of objects.
pub(super) fn write_json_rows(table: &ArrowTable, out: &mut Vec<u8>) -> Result<(), ArrowError> {
    let keys: Vec<String> = table
        .schema
        .fields()
        .iter()
        .map(|field| format!("{}:", serde_json::Value::from(field.name().as_str())))
        .collect();
    out.push(b'[');
    let mut is_first = true;
    for batch in &table.batches {
        let cells: Vec<JsonColumn<'_>> =
            batch.columns().iter().map(JsonColumn::new).collect::<Result<_, _>>()?;
        for row in 0..batch.num_rows() {
            out.extend_from_slice(if is_first { b"{" } else { b",{" });
            is_first = false;
            for (i, key) in keys.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                out.extend_from_slice(key.as_bytes());
                if batch.column(i).is_null(row) {
                    out.extend_from_slice(b"null");
                } else {
                    cells[i].write_cell(row, out)?;
                }
            }
            out.push(b'}');
        }
    }
    out.push(b']');
    Ok(())
}

fn encode_csv(table: &ArrowTable) -> Result<Vec<u8>, ArrowError> {
    let failed = |error: csv::Error| ArrowError::CsvError(error.to_string());
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(table.schema.fields().iter().map(|field| field.name())).map_err(failed)?;
    for batch in &table.batches {
        let columns = batch.columns().iter();
        let cells: Vec<ArrayFormatter<'_>> = columns
            .map(|column| ArrayFormatter::try_new(column, &TIME_OPTIONS))
            .collect::<Result<_, _>>()?;
        for row in 0..batch.num_rows() {
            for cells in &cells {
                writer.write_field(cells.value(row).try_to_string()?).map_err(failed)?;
            }
            writer.write_record(None::<&[u8]>).map_err(failed)?;
        }
    }
    writer.into_inner().map_err(|error| ArrowError::CsvError(error.to_string()))
}

/// Converts to a data frame. Numbers stay numbers; everything else becomes text.
fn to_data_frame(table: &ArrowTable) -> Result<DataFrame, StoreError> {
    let converted = table.schema.fields().iter().enumerate().map(|(i, field)| {
        let parts = table.batches.iter().map(|batch| batch.column(i));
        let name = field.name().as_str().into();
        Ok(match field.data_type() {
            DataType::Float64 => {
                let values = parts.flat_map(|part| part.as_primitive::<Float64Type>());
                Column::new(name, values.collect::<Vec<Option<f64>>>())
            }
            DataType::Int64 => {
                let values = parts.flat_map(|part| part.as_primitive::<Int64Type>());
                Column::new(name, values.collect::<Vec<Option<i64>>>())
            }
            _ => {
                let mut texts: Vec<Option<String>> = Vec::new();
                for part in parts {
                    let cells = ArrayFormatter::try_new(part, &TIME_OPTIONS)?;
                    for row in 0..part.len() {
                        let text = part.is_valid(row).then(|| cells.value(row).try_to_string());
                        texts.push(text.transpose()?);
                    }
                }
                Column::new(name, texts)
            }
        })
    });
    let columns = converted.collect::<Result<Vec<Column>, ArrowError>>()?;
    Ok(DataFrame::new(table.row_count(), columns)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_wins_over_the_header_and_json_over_nothing() {
        let check = |named, accept: Option<&str>, expect| {
            let mut headers = HeaderMap::new();
            if let Some(accept) = accept {
                headers.insert(header::ACCEPT, accept.parse().unwrap());
            }
            assert_eq!(TableFormat::negotiate(named, &headers), expect, "{accept:?}");
        };
        check(None, None, TableFormat::Json);
        check(None, Some("*/*"), TableFormat::Json);
        check(None, Some("text/html, text/csv;q=0.5"), TableFormat::Csv);
        check(None, Some("application/vnd.apache.arrow.stream"), TableFormat::Arrow);
        check(None, Some("application/vnd.apache.parquet, */*"), TableFormat::Parquet);
        check(Some(TableFormat::Csv), Some("application/vnd.apache.parquet"), TableFormat::Csv);
    }
}
