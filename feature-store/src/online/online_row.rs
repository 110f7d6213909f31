use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use feature_api::RowStatus;

use super::feature_index::{FeatureIndex, encode_json_string};
use crate::engine::FeatureRow;

/// The newest row of a zone.
#[derive(Debug)]
pub struct OnlineRow {
    row: Arc<FeatureRow>,
    names: Arc<FeatureIndex>,
    /// JSON before the parts that depend on the time of the request, and JSON after them with
    /// every feature.
    json: OnceLock<(Bytes, Bytes)>,
}

impl OnlineRow {
    /// Wraps rows, each with the index of its schema.
    pub(crate) fn from_rows(rows: Vec<FeatureRow>) -> Vec<Arc<Self>> {
        let mut names: Option<Arc<FeatureIndex>> = None;
        let to_online_row = |row: FeatureRow| {
            let known = names.take().filter(|names| names.is_for_schema(&row.schema));
            let index = known.unwrap_or_else(|| Arc::new(FeatureIndex::new(row.schema.clone())));
            names = Some(index.clone());
            Arc::new(Self::new(Arc::new(row), index))
        };
        rows.into_iter().map(to_online_row).collect()
    }

    pub(super) fn new(row: Arc<FeatureRow>, names: Arc<FeatureIndex>) -> Self {
        Self { row, names, json: OnceLock::new() }
    }

    /// Returns the row.
    #[must_use]
    pub fn row(&self) -> &Arc<FeatureRow> {
        &self.row
    }

    pub(crate) fn feature_index(&self) -> &FeatureIndex {
        &self.names
    }

    /// Returns the value of a feature, if it has one.
    #[must_use]
    pub fn feature_value(&self, name: &str) -> Option<f64> {
        let place = self.names.find_column(name)?;
        self.row.values.get(place).copied().filter(|value| value.is_finite())
    }

    /// Appends the row as JSON, with every feature or with the named ones. Its age is `now_ms`
    /// less its time; it is stale if older than `max_age_s`.
    pub(crate) fn write_json(
        &self,
        out: &mut Vec<u8>,
        names: Option<&[&str]>,
        status: RowStatus,
        now_ms: i64,
        max_age_s: f64,
    ) {
        let (head, tail) =
            self.json.get_or_init(|| (self.encode_head().into(), self.encode_tail().into()));
        out.extend_from_slice(head);
        let age_s = (now_ms - self.row.at_ms) as f64 / 1000.0;
        write_number(out, age_s);
        let is_stale: &[u8] =
            if age_s > max_age_s { b",\"is_stale\":true" } else { b",\"is_stale\":false" };
        out.extend_from_slice(is_stale);
        out.extend_from_slice(b",\"status\":\"");
        out.extend_from_slice(status.as_str().as_bytes());
        out.extend_from_slice(b"\",");
        match names {
            None => out.extend_from_slice(tail),
            Some(names) => {
                self.write_coverages(out);
                let features = names.iter().map(|name| {
                    (format!("{}:", encode_json_string(name)), self.feature_value(name))
                });
                write_object(out, features);
                out.push(b'}');
            }
        }
    }

    fn encode_head(&self) -> Vec<u8> {
        let FeatureRow { zone, at_ms, schema, .. } = &*self.row;
        let (zone, hash) =
            (encode_json_string(&zone.to_string()), encode_json_string(&schema.hash));
        let head = format!("{{\"zone\":{zone},\"at_ms\":{at_ms},\"schema_hash\":{hash},\"age_s\":");
        head.into_bytes()
    }

    fn encode_tail(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.row.values.len() * 40);
        self.write_coverages(&mut out);
        let values = self.row.values.iter().map(|value| Some(*value).filter(|v| v.is_finite()));
        write_object(&mut out, self.names.json_keys().iter().zip(values));
        out.push(b'}');
        out
    }

    fn write_coverages(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"\"coverage_pct\":");
        let coverages = self.names.lowest_coverages(&self.row.values);
        write_object(
            out,
            coverages.map(|(window, lowest)| (format!("{}:", encode_json_string(window)), lowest)),
        );
        out.extend_from_slice(b",\"features\":");
    }
}

/// Writes an object of numbers; each key includes its quotes and colon.
fn write_object<K: AsRef<str>>(out: &mut Vec<u8>, entries: impl Iterator<Item = (K, Option<f64>)>) {
    out.push(b'{');
    for (i, (key, value)) in entries.enumerate() {
        if i > 0 {
            out.push(b',');
        }
        out.extend_from_slice(key.as_ref().as_bytes());
        match value {
            Some(value) => write_number(out, value),
            None => out.extend_from_slice(b"null"),
        }
    }
    out.push(b'}');
}

/// Writes a number as `serde_json` does: the shortest text that parses to the same number.
fn write_number(out: &mut Vec<u8>, value: f64) {
    serde_json::to_writer(out, &value).expect("a number has a JSON form, and memory takes it");
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use telemetry::ZoneId;

    use super::*;
    use crate::engine::catalog::FeatureRowSchema;

    fn latest() -> OnlineRow {
        let names = [
            "vpd_kpa",
            "co2_coverage_10m",
            "light_coverage_10m",
            "co2_coverage_1h",
            "co2_last",
            "light_last",
        ];
        let schema = Arc::new(FeatureRowSchema {
            names: names.map(Into::into).to_vec(),
            hash: "abc".into(),
        });
        // The zone has no light sensor, so the missing light does not lower the coverage.
        let values = [f64::NAN, 80.0, 0.0, 12.5, 0.1 + 0.2, f64::NAN];
        let row = FeatureRow {
            zone: ZoneId::new("farm", "bay-1"),
            at_ms: 1_000,
            revision: 0,
            schema: schema.clone(),
            values: values.into(),
        };
        OnlineRow::new(Arc::new(row), Arc::new(FeatureIndex::new(schema)))
    }

    #[track_caller]
    fn check(names: Option<&[&str]>, features: Value) {
        let expect = json!({
            "zone": "farm/bay-1", "at_ms": 1000, "schema_hash": "abc", "age_s": 1.5,
            "is_stale": false, "status": "provisional", "coverage_pct": { "10m": 80.0, "1h": 12.5 },
            "features": features,
        });
        let mut out = Vec::new();
        latest().write_json(&mut out, names, RowStatus::Provisional, 2_500, 1.5);
        assert_eq!(serde_json::from_slice::<Value>(&out).unwrap(), expect);
        let mut out = Vec::new();
        latest().write_json(&mut out, names, RowStatus::Provisional, 2_501, 1.5);
        assert_eq!(serde_json::from_slice::<Value>(&out).unwrap()["is_stale"], true);
    }

    #[test]
    fn a_row_as_json() {
        let last = 0.1 + 0.2;
        check(
            None,
            json!({
                "vpd_kpa": null, "co2_coverage_10m": 80.0, "light_coverage_10m": 0.0,
                "co2_coverage_1h": 12.5, "co2_last": last, "light_last": null,
            }),
        );
        check(Some(&["co2_last", "new\"er"]), json!({ "co2_last": last, "new\"er": null }));
    }
}
