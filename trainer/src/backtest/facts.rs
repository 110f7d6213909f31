//! What was compared, so that it can be told from what was compared before.

use std::collections::HashMap;

use sha2::{Digest, Sha256};
use telemetry::ZoneId;

use super::entry::{Facts, Fold, ZoneRows};
use crate::{rows::Rows, split::Parts};

/// The facts of a task whose targets are known `embargo_s` later.
pub(super) fn of(folds: &[Parts], embargo_s: i64) -> Facts {
    let last = &folds[folds.len() - 1];
    let mut zones: HashMap<&ZoneId, [usize; 3]> = HashMap::new();
    for (part, rows) in [&last.train, &last.calibration, &last.test].into_iter().enumerate() {
        for zone in &rows.zone {
            zones.entry(zone).or_default()[part] += 1;
        }
    }
    let row = |(zone, [train, calibration, test]): (&ZoneId, [usize; 3])| ZoneRows {
        zone: zone.clone(),
        train,
        calibration,
        test,
    };
    let mut zones: Vec<ZoneRows> = zones.into_iter().map(row).collect();
    zones.sort_by(|a, b| a.zone.cmp(&b.zone));
    let fold = |parts: &Parts| Fold {
        spans: parts.spans,
        train: parts.train.len(),
        calibration: parts.calibration.len(),
        test: parts.test.len(),
    };
    Facts {
        inputs: last.train.schema.features.len(),
        schema_hash: last.train.schema.hash(),
        data_hash: data_hash(folds),
        embargo_s,
        folds: folds.iter().map(fold).collect(),
        zones,
    }
}

/// SHA-256 over times, zones, inputs and targets of all parts, hexadecimal.
fn data_hash(folds: &[Parts]) -> String {
    let mut hasher = Sha256::new();
    for parts in folds {
        for rows in [&parts.train, &parts.calibration, &parts.known, &parts.test] {
            hash(&mut hasher, rows);
        }
    }
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn hash(hasher: &mut Sha256, rows: &Rows) {
    for (zone, at_ms) in rows.zone.iter().zip(&rows.at_ms) {
        hasher.update(zone.to_string());
        hasher.update(at_ms.to_le_bytes());
    }
    if let Ok(data) = rows.dataset() {
        data.x.iter().chain(&data.y).for_each(|value| hasher.update(value.to_le_bytes()));
    }
}
