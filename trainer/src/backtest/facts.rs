//! Facts that identify the compared rows, so that two comparisons can be told apart.

use std::collections::HashMap;

use sha2::{Digest, Sha256};
use telemetry::ZoneId;

use super::leaderboard::{ComparisonFacts, FoldFacts, ZoneRowCounts};
use crate::{split::DataSplit, training_set::LabelledRows};

/// Collects the facts of a task whose targets are known `embargo_s` seconds later.
pub(super) fn comparison_facts(folds: &[DataSplit], embargo_s: i64) -> ComparisonFacts {
    let last = &folds[folds.len() - 1];
    let mut zones: HashMap<&ZoneId, [usize; 3]> = HashMap::new();
    for (part, rows) in [&last.train, &last.calibration, &last.test].into_iter().enumerate() {
        for zone in &rows.zone {
            zones.entry(zone).or_default()[part] += 1;
        }
    }
    let row = |(zone, [train, calibration, test]): (&ZoneId, [usize; 3])| ZoneRowCounts {
        zone: zone.clone(),
        train,
        calibration,
        test,
    };
    let mut zones: Vec<ZoneRowCounts> = zones.into_iter().map(row).collect();
    zones.sort_by(|a, b| a.zone.cmp(&b.zone));
    let fold = |parts: &DataSplit| FoldFacts {
        spans: parts.spans,
        train: parts.train.len(),
        calibration: parts.calibration.len(),
        test: parts.test.len(),
    };
    ComparisonFacts {
        inputs: last.train.schema.features.len(),
        schema_hash: last.train.schema.schema_hash(),
        data_hash: hash_data(folds),
        embargo_s,
        folds: folds.iter().map(fold).collect(),
        zones,
    }
}

/// Returns the SHA-256 over times, zones, inputs and targets of all sets, hexadecimal.
fn hash_data(folds: &[DataSplit]) -> String {
    let mut hasher = Sha256::new();
    for parts in folds {
        for rows in [&parts.train, &parts.calibration, &parts.known, &parts.test] {
            hash_rows(&mut hasher, rows);
        }
    }
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn hash_rows(hasher: &mut Sha256, rows: &LabelledRows) {
    for (zone, at_ms) in rows.zone.iter().zip(&rows.at_ms) {
        hasher.update(zone.to_string());
        hasher.update(at_ms.to_le_bytes());
    }
    if let Ok(data) = rows.to_dataset() {
        data.x.iter().chain(&data.y).for_each(|value| hasher.update(value.to_le_bytes()));
    }
}
