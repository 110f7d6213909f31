//! Tensors in JSON, and in Triton's binary extension:
//! <https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md>.

use serde::Deserialize;
use serde_json::Value;

use super::Refusal;

/// Rows of a request.
pub(super) const ROWS_MAX: usize = 10_000;

/// A request.
#[derive(Debug, Deserialize)]
pub(super) struct Request {
    pub(super) id: Option<String>,
    pub(super) inputs: Vec<Tensor>,
    #[serde(default)]
    pub(super) outputs: Vec<Wanted>,
}

/// An output that is wanted; without any, all are.
#[derive(Debug, Deserialize)]
pub(super) struct Wanted {
    pub(super) name: String,
}

/// An input.
#[derive(Debug, Deserialize)]
pub(super) struct Tensor {
    pub(super) name: String,
    shape: Vec<usize>,
    datatype: String,
    #[serde(default)]
    parameters: Parameters,
    data: Option<Value>,
}

#[derive(Debug, Default, Deserialize)]
struct Parameters {
    binary_data_size: Option<usize>,
}

impl Request {
    /// Reads a body, whose first `json_bytes` are JSON; all of it where there
    /// is no such number. Gives each input's name and numbers.
    pub(super) fn read(
        body: &[u8],
        json_bytes: Option<usize>,
    ) -> Result<(Self, Vec<(String, Vec<f64>)>), Refusal> {
        let (json, mut binary) = body
            .split_at_checked(json_bytes.unwrap_or(body.len()))
            .ok_or_else(|| Refusal::bad("the body is shorter than its JSON is said to be"))?;
        let request: Self =
            serde_json::from_slice(json).map_err(|error| Refusal::bad(error.to_string()))?;
        let read = |tensor: &Tensor| Ok((tensor.name.clone(), tensor.read(&mut binary)?));
        let inputs = request.inputs.iter().map(read).collect::<Result<_, Refusal>>()?;
        Ok((request, inputs))
    }
}

impl Tensor {
    fn read(&self, binary: &mut &[u8]) -> Result<Vec<f64>, Refusal> {
        let Self { name, shape, datatype, parameters, data } = self;
        let bad = |what: String| Refusal::bad(format!("input `{name}`: {what}"));
        let rows = match shape.as_slice() {
            [rows] | [rows, 1] => *rows,
            _ => return Err(bad(format!("shape {shape:?}, expected [rows] or [rows, 1]"))),
        };
        if rows == 0 || rows > ROWS_MAX {
            return Err(bad(format!("{rows} rows, expected 1 to {ROWS_MAX}")));
        }
        let values = match (data, parameters.binary_data_size) {
            (Some(data), None) => {
                let mut values = Vec::with_capacity(rows);
                flatten(data, &mut values)
                    .ok_or_else(|| bad("data that are no numbers".to_owned()))?;
                values
            }
            (None, Some(bytes)) => {
                let (own, rest) = binary
                    .split_at_checked(bytes)
                    .ok_or_else(|| bad(format!("{bytes} bytes of binary data are not there")))?;
                *binary = rest;
                numbers(own, datatype)
                    .ok_or_else(|| bad(format!("datatype {datatype}, expected FP64")))?
            }
            _ => return Err(bad("expected either data or binary_data_size".to_owned())),
        };
        match values.len() == rows {
            true => Ok(values),
            false => Err(bad(format!("{} values, expected {rows}", values.len()))),
        }
    }
}

/// Numbers of nested lists, row after row; `null` is NaN.
fn flatten(data: &Value, values: &mut Vec<f64>) -> Option<()> {
    match data {
        Value::Array(all) => all.iter().try_for_each(|one| flatten(one, values)),
        Value::Null => {
            values.push(f64::NAN);
            Some(())
        }
        number => {
            values.push(number.as_f64()?);
            Some(())
        }
    }
}

/// Little-endian numbers.
fn numbers(bytes: &[u8], datatype: &str) -> Option<Vec<f64>> {
    fn read<const N: usize>(bytes: &[u8], of: impl Fn([u8; N]) -> f64) -> Option<Vec<f64>> {
        let (whole, rest) = bytes.as_chunks::<N>();
        rest.is_empty().then(|| whole.iter().map(|one| of(*one)).collect())
    }
    match datatype {
        "FP64" => read(bytes, f64::from_le_bytes),
        "FP32" => read(bytes, |one| f64::from(f32::from_le_bytes(one))),
        "INT64" => read(bytes, |one| i64::from_le_bytes(one) as f64),
        "INT32" => read(bytes, |one| f64::from(i32::from_le_bytes(one))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(request: Value, binary: &[u8], expect: Result<&[f64], &str>) {
        let json = request.to_string();
        let body = [json.as_bytes(), binary].concat();
        match (Request::read(&body, Some(json.len())), expect) {
            (Ok((_, inputs)), Ok(expect)) => {
                let same = |(a, b): (&f64, &f64)| a == b || (a.is_nan() && b.is_nan());
                let got = &inputs[0].1;
                assert!(got.len() == expect.len() && got.iter().zip(expect).all(same), "{got:?}");
            }
            (Err(Refusal(_, got)), Err(expect)) => assert!(got.contains(expect), "{got}"),
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
        check(input(json!([1]), "BYTES", json!(["x"])), &[], Err("no numbers"));
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
        check(binary("FP64", 7), &[0; 7], Err("datatype"));
        check(
            json!({ "inputs": [{ "name": "a", "shape": [1], "datatype": "FP64" }] }),
            &[],
            Err("either data or"),
        );
        assert!(Request::read(b"{", None).is_err());
        assert!(Request::read(b"{}", Some(3)).is_err());
    }
}
