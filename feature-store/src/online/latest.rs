use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use super::{
    Status,
    names::{Names, as_json},
};
use crate::engine::Row;

/// The newest row of a zone.
#[derive(Debug)]
pub struct Latest {
    row: Arc<Row>,
    names: Arc<Names>,
    /// Before what depends on the time of asking, and after it with every feature.
    json: OnceLock<(Bytes, Bytes)>,
}

impl Latest {
    /// Rows by themselves, each with the names of its schema.
    pub(crate) fn of_rows(rows: Vec<Row>) -> Vec<Arc<Self>> {
        let mut names: Option<Arc<Names>> = None;
        let of = |row: Row| {
            let known = names.take().filter(|names| names.is_of(&row.schema));
            let own = known.unwrap_or_else(|| Arc::new(Names::new(row.schema.clone())));
            names = Some(own.clone());
            Arc::new(Self::new(Arc::new(row), own))
        };
        rows.into_iter().map(of).collect()
    }

    pub(super) fn new(row: Arc<Row>, names: Arc<Names>) -> Self {
        Self { row, names, json: OnceLock::new() }
    }

    /// The row.
    #[must_use]
    pub fn row(&self) -> &Arc<Row> {
        &self.row
    }

    pub(crate) fn names(&self) -> &Names {
        &self.names
    }

    /// The value of a feature, if there is one.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<f64> {
        let place = self.names.place(name)?;
        self.row.values.get(place).copied().filter(|value| value.is_finite())
    }

    /// Appends the row as JSON: with every feature, or with those that are named.
    /// `now_ms` is what its age is told by, and `max_age_s` the age beyond which it is stale.
    pub(crate) fn write(
        &self,
        out: &mut Vec<u8>,
        names: Option<&[&str]>,
        status: Status,
        now_ms: i64,
        max_age_s: f64,
    ) {
        let (head, tail) = self.json.get_or_init(|| (self.head().into(), self.tail().into()));
        out.extend_from_slice(head);
        let age_s = (now_ms - self.row.at_ms) as f64 / 1000.0;
        number(out, age_s);
        let is_stale: &[u8] =
            if age_s > max_age_s { b",\"is_stale\":true" } else { b",\"is_stale\":false" };
        out.extend_from_slice(is_stale);
        out.extend_from_slice(b",\"status\":\"");
        out.extend_from_slice(status.as_str().as_bytes());
        out.extend_from_slice(b"\",");
        match names {
            None => out.extend_from_slice(tail),
            Some(names) => {
                self.coverages(out);
                let features =
                    names.iter().map(|name| (format!("{}:", as_json(name)), self.value(name)));
                object(out, features);
                out.push(b'}');
            }
        }
    }

    fn head(&self) -> Vec<u8> {
        let Row { zone, at_ms, schema, .. } = &*self.row;
        let (zone, hash) = (as_json(&zone.to_string()), as_json(&schema.hash));
        let head = format!("{{\"zone\":{zone},\"at_ms\":{at_ms},\"schema_hash\":{hash},\"age_s\":");
        head.into_bytes()
    }

    fn tail(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.row.values.len() * 40);
        self.coverages(&mut out);
        let values = self.row.values.iter().map(|value| Some(*value).filter(|v| v.is_finite()));
        object(&mut out, self.names.keys().iter().zip(values));
        out.push(b'}');
        out
    }

    fn coverages(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"\"coverage_pct\":");
        let coverages = self.names.coverages(&self.row.values);
        object(out, coverages.map(|(window, lowest)| (format!("{}:", as_json(window)), lowest)));
        out.extend_from_slice(b",\"features\":");
    }
}

/// Writes an object of numbers; each key has its quotes and colon.
fn object<K: AsRef<str>>(out: &mut Vec<u8>, entries: impl Iterator<Item = (K, Option<f64>)>) {
    out.push(b'{');
    for (i, (key, value)) in entries.enumerate() {
        if i > 0 {
            out.push(b',');
        }
        out.extend_from_slice(key.as_ref().as_bytes());
        match value {
            Some(value) => number(out, value),
            None => out.extend_from_slice(b"null"),
        }
    }
    out.push(b'}');
}

/// Writes a number as `serde_json` does: the shortest text that reads as the same.
fn number(out: &mut Vec<u8>, value: f64) {
    serde_json::to_writer(out, &value).expect("a number has a JSON form, and memory takes it");
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use telemetry::ZoneId;

    use super::*;
    use crate::engine::catalog::Schema;

    fn latest() -> Latest {
        let names = [
            "vpd_kpa",
            "co2_coverage_10m",
            "light_coverage_10m",
            "co2_coverage_1h",
            "co2_last",
            "light_last",
        ];
        let schema = Arc::new(Schema { names: names.map(Into::into).to_vec(), hash: "abc".into() });
        // There is no light sensor: that it said nothing is no lack.
        let values = [f64::NAN, 80.0, 0.0, 12.5, 0.1 + 0.2, f64::NAN];
        let row = Row {
            zone: ZoneId::new("farm", "bay-1"),
            at_ms: 1_000,
            revision: 0,
            schema: schema.clone(),
            values: values.into(),
        };
        Latest::new(Arc::new(row), Arc::new(Names::new(schema)))
    }

    #[track_caller]
    fn check(names: Option<&[&str]>, features: Value) {
        let expect = json!({
            "zone": "farm/bay-1", "at_ms": 1000, "schema_hash": "abc", "age_s": 1.5,
            "is_stale": false, "status": "provisional", "coverage_pct": { "10m": 80.0, "1h": 12.5 },
            "features": features,
        });
        let mut out = Vec::new();
        latest().write(&mut out, names, Status::Provisional, 2_500, 1.5);
        assert_eq!(serde_json::from_slice::<Value>(&out).unwrap(), expect);
        let mut out = Vec::new();
        latest().write(&mut out, names, Status::Provisional, 2_501, 1.5);
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
