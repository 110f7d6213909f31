//! Schema of the protocol's JSON, for the description of the interface. The JSON is read and
//! written by hand, because a request may end in binary data.
#![allow(dead_code)]

use serde_json::Value;
use utoipa::ToSchema;

#[derive(ToSchema)]
pub(super) struct InferRequest {
    /// Identifier that is returned in the answer.
    id: Option<String>,
    /// Every input of the model, in any order.
    inputs: Vec<InferInput>,
    /// Requested outputs; all outputs if omitted.
    outputs: Option<Vec<InferWanted>>,
    parameters: Option<InferRequestParameters>,
}

#[derive(ToSchema)]
struct InferRequestParameters {
    /// Whether to return every output as binary data.
    binary_data_output: Option<bool>,
    /// The zone of the rows: with `at_ms`, intervals are as wide as they are there and then.
    zone: Option<String>,
    /// Event time of the rows, UTC ms.
    at_ms: Option<i64>,
}

#[derive(ToSchema)]
struct InferInput {
    #[schema(example = "temperature_slope_10m")]
    name: String,
    /// `[rows]` or `[rows, 1]`, at most 10000 rows.
    #[schema(example = json!([2]))]
    shape: Vec<usize>,
    /// `FP64`, `FP32`, `INT8` to `INT64`, `UINT8` to `UINT64` or `BOOL`.
    #[schema(example = "FP64")]
    datatype: String,
    /// A number for each row; `null` is a missing value.
    #[schema(value_type = Option<Vec<f64>>, example = json!([0.5, null]))]
    data: Option<Value>,
    parameters: Option<InferParameters>,
}

#[derive(ToSchema)]
struct InferParameters {
    /// Number of bytes of binary data after the JSON, which replace `data`.
    binary_data_size: Option<usize>,
}

#[derive(ToSchema)]
struct InferWanted {
    #[schema(example = "prediction")]
    name: String,
    parameters: Option<InferOutputParameters>,
}

#[derive(ToSchema)]
struct InferOutputParameters {
    /// Whether to return the output as binary data after the answer's JSON, whose length is in the
    /// header `Inference-Header-Content-Length`.
    binary_data: Option<bool>,
}

#[derive(ToSchema)]
pub(super) struct InferAnswer {
    #[schema(example = "temperature-10m")]
    model_name: String,
    #[schema(example = "1")]
    model_version: String,
    id: Option<String>,
    /// `prediction`; `low` and `high` if there is an interval; `probabilities` (rows × classes) if
    /// the model predicts classes.
    outputs: Vec<InferOutput>,
}

#[derive(ToSchema)]
struct InferOutput {
    #[schema(example = "prediction")]
    name: String,
    #[schema(example = "FP64")]
    datatype: String,
    shape: Vec<usize>,
    /// Values; omitted if binary data were requested.
    data: Option<Vec<f64>>,
}

#[derive(ToSchema)]
pub(super) struct InferMetadata {
    #[schema(example = "temperature-10m")]
    name: String,
    /// Version of the champion.
    versions: Vec<String>,
    #[schema(example = "microclimate")]
    platform: String,
    inputs: Vec<InferTensor>,
    outputs: Vec<InferTensor>,
}

#[derive(ToSchema)]
struct InferTensor {
    name: String,
    #[schema(example = "FP64")]
    datatype: String,
    /// Shape; −1 means any number of rows.
    shape: Vec<i64>,
}

#[derive(ToSchema)]
pub(super) struct InferModelReady {
    name: String,
    ready: bool,
}

#[derive(ToSchema)]
pub(super) struct InferListed {
    name: String,
    version: Option<String>,
    /// `READY` or `UNAVAILABLE`.
    state: String,
    /// Reason why the model is not available.
    reason: String,
}

/// Error in the protocol's form.
#[derive(ToSchema)]
pub(super) struct InferError {
    error: String,
}
