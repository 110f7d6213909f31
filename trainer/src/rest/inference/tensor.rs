//! Tensors in JSON, and in Triton's binary extension:
//! <https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md>.

use std::collections::HashSet;

use serde::Deserialize;
use serde_json::Value;
use telemetry::ZoneId;

use super::InferenceError;

/// Largest number of rows in a request.
pub(super) const ROWS_MAX: usize = 10_000;

/// A request. Optional members may be `null`, as clients of KServe and MLServer write them; unknown
/// members are ignored.
#[derive(Debug, Deserialize)]
pub(super) struct InferenceRequest {
    pub(super) id: Option<String>,
    pub(super) inputs: Vec<InputTensor>,
    outputs: Option<Vec<RequestedOutput>>,
    parameters: Option<InferenceRequestParameters>,
}

/// Parameters of a request.
#[derive(Debug, Default, Deserialize)]
struct InferenceRequestParameters {
    /// Every output in Triton's binary form.
    binary_data_output: Option<bool>,
    /// The zone that the rows are of, for intervals as wide as they are there.
    zone: Option<String>,
    /// Event time of the rows, UTC ms, for the same.
    at_ms: Option<i64>,
}

/// Requested output.
#[derive(Debug, Deserialize)]
struct RequestedOutput {
    name: String,
    parameters: Option<RequestedOutputParameters>,
}

#[derive(Debug, Deserialize)]
struct RequestedOutputParameters {
    binary_data: Option<bool>,
}

/// Input of a request.
#[derive(Debug, Deserialize)]
pub(super) struct InputTensor {
    name: String,
    shape: Vec<usize>,
    datatype: String,
    parameters: Option<InputTensorParameters>,
    data: Option<Value>,
}

#[derive(Debug, Deserialize)]
struct InputTensorParameters {
    binary_data_size: Option<usize>,
}

/// Number type of a tensor,
/// <https://kserve.github.io/website/docs/concepts/architecture/data-plane/v2-protocol>.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NumberType {
    Float(usize),
    Signed(usize),
    Unsigned(usize),
    Bool,
}

impl InferenceRequest {
    /// Parses a body whose first `json_bytes` are JSON; the whole body is JSON if that is `None`.
    /// Returns the request with each input's name and numbers.
    pub(super) fn parse_body(
        body: &[u8],
        json_bytes: Option<usize>,
    ) -> Result<(Self, Vec<(String, Vec<f64>)>), InferenceError> {
        let (json, mut binary) =
            body.split_at_checked(json_bytes.unwrap_or(body.len())).ok_or_else(|| {
                InferenceError::bad_request("the body is shorter than the length of its JSON")
            })?;
        let request: Self = serde_json::from_slice(json)
            .map_err(|error| InferenceError::bad_request(error.to_string()))?;
        let mut inputs: Vec<(String, Vec<f64>)> = Vec::with_capacity(request.inputs.len());
        let mut names = HashSet::with_capacity(request.inputs.len());
        for tensor in &request.inputs {
            if !names.insert(tensor.name.as_str()) {
                return Err(InferenceError::bad_request(format!(
                    "input `{}` occurs twice",
                    tensor.name
                )));
            }
            inputs.push((tensor.name.clone(), tensor.read_values(&mut binary)?));
        }
        if !binary.is_empty() {
            let what = format!("{} bytes of binary data belong to no input", binary.len());
            return Err(InferenceError::bad_request(what));
        }
        Ok((request, inputs))
    }

    /// Names of the requested outputs; empty if all are requested.
    pub(super) fn wanted_outputs(&self) -> impl Iterator<Item = &str> {
        self.outputs.iter().flatten().map(|output| output.name.as_str())
    }

    /// Whether all outputs are requested.
    pub(super) fn wants_all(&self) -> bool {
        self.outputs.as_ref().is_none_or(Vec::is_empty)
    }

    /// Zone and event time of the rows, where the request says them.
    pub(super) fn place_and_time(&self) -> Option<(ZoneId, i64)> {
        let all = self.parameters.as_ref()?;
        Some((all.zone.as_ref()?.parse().ok()?, all.at_ms?))
    }

    /// Whether an output is wanted in Triton's binary form.
    pub(super) fn wants_binary(&self, name: &str) -> bool {
        let requested = self.outputs.iter().flatten().find(|output| output.name == name);
        let output_flag = requested.and_then(|output| output.parameters.as_ref()?.binary_data);
        let all = self.parameters.as_ref().and_then(|all| all.binary_data_output);
        output_flag.or(all).unwrap_or(false)
    }
}

impl InputTensor {
    fn read_values(&self, binary: &mut &[u8]) -> Result<Vec<f64>, InferenceError> {
        let Self { name, shape, datatype, parameters, data } = self;
        let bad = |what: String| InferenceError::bad_request(format!("input `{name}`: {what}"));
        let rows = match shape.as_slice() {
            [rows] | [rows, 1] => *rows,
            _ => return Err(bad(format!("shape {shape:?}, expected [rows] or [rows, 1]"))),
        };
        if rows == 0 || rows > ROWS_MAX {
            return Err(bad(format!("{rows} rows, expected 1 to {ROWS_MAX}")));
        }
        let number_type = NumberType::parse(datatype).ok_or_else(|| {
            bad(format!("datatype {datatype}, expected FP64, FP32, or another one of numbers"))
        })?;
        let binary_bytes = parameters.as_ref().and_then(|given| given.binary_data_size);
        let values = match (data, binary_bytes) {
            (Some(data), None) => {
                let mut values = Vec::with_capacity(rows);
                flatten_numbers(data, &mut values)
                    .ok_or_else(|| bad("data that are not numbers".to_owned()))?;
                if let Some(odd) = values.iter().find(|value| !number_type.can_hold(**value)) {
                    return Err(bad(format!("{odd} is not of datatype {datatype}")));
                }
                values
            }
            (None, Some(bytes)) => {
                let (encoded, rest) = binary
                    .split_at_checked(bytes)
                    .ok_or_else(|| bad(format!("{bytes} bytes of binary data are missing")))?;
                *binary = rest;
                let values = number_type.decode_values(encoded);
                values.ok_or_else(|| bad(format!("{bytes} bytes are not values of {datatype}")))?
            }
            _ => return Err(bad("expected either data or binary_data_size".to_owned())),
        };
        match values.len() == rows {
            true => Ok(values),
            false => Err(bad(format!("{} values, expected {rows}", values.len()))),
        }
    }
}

impl NumberType {
    fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "FP64" => Self::Float(8),
            "FP32" => Self::Float(4),
            "INT64" => Self::Signed(8),
            "INT32" => Self::Signed(4),
            "INT16" => Self::Signed(2),
            "INT8" => Self::Signed(1),
            "UINT64" => Self::Unsigned(8),
            "UINT32" => Self::Unsigned(4),
            "UINT16" => Self::Unsigned(2),
            "UINT8" => Self::Unsigned(1),
            "BOOL" => Self::Bool,
            _ => return None,
        })
    }

    /// Whether a number of a JSON list can have this type; a missing value can.
    fn can_hold(self, value: f64) -> bool {
        let is_whole = |low: f64, high: f64| value.fract() == 0.0 && (low..=high).contains(&value);
        value.is_nan()
            || match self {
                Self::Float(_) => true,
                Self::Signed(bytes) => {
                    let half = 2_f64.powi(8 * bytes as i32 - 1);
                    is_whole(-half, half)
                }
                Self::Unsigned(bytes) => is_whole(0.0, 2_f64.powi(8 * bytes as i32)),
                Self::Bool => is_whole(0.0, 1.0),
            }
    }

    /// Decodes little-endian numbers.
    fn decode_values(self, bytes: &[u8]) -> Option<Vec<f64>> {
        fn read<const N: usize>(
            bytes: &[u8],
            convert: impl Fn([u8; N]) -> f64,
        ) -> Option<Vec<f64>> {
            let (whole, rest) = bytes.as_chunks::<N>();
            rest.is_empty().then(|| whole.iter().map(|one| convert(*one)).collect())
        }
        match self {
            Self::Float(8) => read(bytes, f64::from_le_bytes),
            Self::Float(_) => read(bytes, |one| f64::from(f32::from_le_bytes(one))),
            Self::Signed(8) => read(bytes, |one| i64::from_le_bytes(one) as f64),
            Self::Signed(4) => read(bytes, |one| f64::from(i32::from_le_bytes(one))),
            Self::Signed(2) => read(bytes, |one| f64::from(i16::from_le_bytes(one))),
            Self::Signed(_) => read(bytes, |one| f64::from(i8::from_le_bytes(one))),
            Self::Unsigned(8) => read(bytes, |one| u64::from_le_bytes(one) as f64),
            Self::Unsigned(4) => read(bytes, |one| f64::from(u32::from_le_bytes(one))),
            Self::Unsigned(2) => read(bytes, |one| f64::from(u16::from_le_bytes(one))),
            Self::Unsigned(_) | Self::Bool => read(bytes, |[one]| f64::from(one)),
        }
    }
}

/// Collects the numbers of nested lists, row after row; `null` becomes NaN.
fn flatten_numbers(data: &Value, values: &mut Vec<f64>) -> Option<()> {
    match data {
        Value::Array(all) => all.iter().try_for_each(|one| flatten_numbers(one, values)),
        Value::Null => {
            values.push(f64::NAN);
            Some(())
        }
        Value::Bool(on) => {
            values.push(f64::from(u8::from(*on)));
            Some(())
        }
        number => {
            values.push(number.as_f64()?);
            Some(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(request: Value, binary: &[u8], expect: Result<&[f64], &str>) {
        let json = request.to_string();
        let body = [json.as_bytes(), binary].concat();
        match (InferenceRequest::parse_body(&body, Some(json.len())), expect) {
            (Ok((_, inputs)), Ok(expect)) => {
                let same = |(a, b): (&f64, &f64)| a == b || (a.is_nan() && b.is_nan());
                let got = &inputs[0].1;
                assert!(got.len() == expect.len() && got.iter().zip(expect).all(same), "{got:?}");
            }
            (Err(InferenceError(_, got)), Err(expect)) => assert!(got.contains(expect), "{got}"),
            (got, expect) => panic!("{got:?}, expected {expect:?}"),
        }
    }

    fn input(shape: Value, datatype: &str, data: Value) -> Value {
        let input = json!({ "name": "a", "shape": shape, "datatype": datatype, "data": data });
        json!({ "inputs": [input] })
    }

    #[test]
    fn tensors() {
        check(input(json!([2]), "FP64", json!([1, 2.5])), &[], Ok(&[1.0, 2.5]));
        check(input(json!([2, 1]), "FP64", json!([[1], [null]])), &[], Ok(&[1.0, f64::NAN]));
        check(input(json!([3]), "FP64", json!([1, 2])), &[], Err("2 values, expected 3"));
        check(input(json!([1, 2]), "FP64", json!([1, 2])), &[], Err("shape [1, 2]"));
        check(input(json!([0]), "FP64", json!([])), &[], Err("0 rows"));
        check(input(json!([1]), "FP64", json!(["x"])), &[], Err("not numbers"));
        check(input(json!([1]), "BYTES", json!(["20.5"])), &[], Err("datatype BYTES"));
        check(input(json!([1]), "BYTES", json!([20.5])), &[], Err("datatype BYTES"));
        check(input(json!([1]), "FP65", json!([20.5])), &[], Err("datatype FP65"));
        check(input(json!([1]), "INT64", json!([20.5])), &[], Err("20.5 is not of datatype INT64"));
        check(input(json!([1]), "UINT8", json!([256.5])), &[], Err("UINT8"));
        check(input(json!([2]), "INT32", json!([20, null])), &[], Ok(&[20.0, f64::NAN]));
        check(input(json!([1]), "BOOL", json!([true])), &[], Ok(&[1.0]));
        check(input(json!([99_999]), "FP64", json!([1])), &[], Err("99999 rows"));
        let binary = |datatype: &str, bytes: usize| {
            let parameters = json!({ "binary_data_size": bytes });
            json!({ "inputs": [
                { "name": "a", "shape": [1], "datatype": datatype, "parameters": parameters }
            ] })
        };
        check(binary("FP64", 8), &1.5_f64.to_le_bytes(), Ok(&[1.5]));
        check(binary("FP32", 4), &1.5_f32.to_le_bytes(), Ok(&[1.5]));
        check(binary("INT32", 4), &(-3_i32).to_le_bytes(), Ok(&[-3.0]));
        check(binary("FP64", 8), &[0; 7], Err("8 bytes"));
        check(binary("FP64", 7), &[0; 7], Err("not values of FP64"));
        check(binary("FP64", 8), &[0; 12], Err("4 bytes of binary data belong to no input"));
        check(binary("INT16", 2), &(-3_i16).to_le_bytes(), Ok(&[-3.0]));
        check(
            json!({ "inputs": [{ "name": "a", "shape": [1], "datatype": "FP64" }] }),
            &[],
            Err("either data or"),
        );
        // Optional members may be null.
        check(
            json!({ "id": null, "outputs": null, "parameters": null, "model_name": "x", "inputs": [
                { "name": "a", "shape": [1], "datatype": "FP64", "data": [1.5], "parameters": null }
            ] }),
            &[],
            Ok(&[1.5]),
        );
        let twice = json!({ "name": "a", "shape": [1], "datatype": "FP64", "data": [1.5] });
        check(json!({ "inputs": [twice, twice] }), &[], Err("input `a` occurs twice"));
        assert!(InferenceRequest::parse_body(b"{", None).is_err());
        assert!(InferenceRequest::parse_body(b"{}", Some(3)).is_err());
    }
}
