//! The state of an edge node: whether it was born, its sequence numbers, and the metrics that its
//! births defined.

use std::collections::HashMap;

use telemetry::SmolStr;

use super::payload::{SparkplugMetric, SparkplugPayload};

/// The definition of a metric in a birth.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct SparkplugDefinition {
    pub(super) name: SmolStr,
    pub(super) datatype: Option<u32>,
    pub(super) unit: Option<SmolStr>,
}

/// Metrics of a node, or of one of its devices.
#[derive(Debug, Default)]
struct MetricScope {
    by_name: HashMap<SmolStr, SparkplugDefinition>,
    names: HashMap<u64, SmolStr>,
}

/// One edge node.
#[derive(Debug, Default)]
pub(super) struct EdgeNode {
    /// The node's own metrics under the empty name, and those of each device under its name.
    scopes: HashMap<SmolStr, MetricScope>,
    is_born: bool,
    /// The sequence number of the last message.
    seq: Option<u64>,
    /// The number of the last birth. The will of an earlier session has another number.
    bd_seq: Option<u64>,
}

impl EdgeNode {
    /// Notes a message's sequence number. Returns whether earlier messages are missing, or no
    /// birth has been seen (specification 3.0, 6.4.7 and
    /// `tck-id-operational-behavior-host-reordering-rebirth`).
    pub(super) fn note_sequence(&mut self, payload: &SparkplugPayload) -> bool {
        let expected = self.seq.map(|seq| (seq + 1) % 256);
        let is_next = expected.is_none() || payload.seq.is_none() || expected == payload.seq;
        if payload.seq.is_some() {
            self.seq = payload.seq.map(|seq| seq % 256);
        }
        !(is_next && self.is_born)
    }

    /// Starts a new session at a node's birth, which resets its devices too.
    pub(super) fn begin_session(&mut self, payload: &SparkplugPayload) {
        self.scopes.clear();
        self.is_born = true;
        self.seq = payload.seq.map(|seq| seq % 256);
        self.bd_seq = bd_seq(payload);
    }

    /// Whether a node's death belongs to its current session, which then ends.
    pub(super) fn end_session(&mut self, payload: &SparkplugPayload) -> bool {
        let dead_session = bd_seq(payload);
        if dead_session.is_some() && self.bd_seq.is_some() && dead_session != self.bd_seq {
            return false;
        }
        (self.is_born, self.seq) = (false, None);
        true
    }

    /// Stores the definitions of a node's or a device's birth, as far as there is room for `left`
    /// metrics. Returns how many do not fit.
    pub(super) fn define_metrics(
        &mut self,
        device: &str,
        metrics: &[SparkplugMetric],
        left: usize,
    ) -> usize {
        let mut scope = MetricScope::default();
        let mut refused = 0;
        for metric in metrics {
            let Some(name) = metric.name.as_deref().filter(|name| is_storable(name)) else {
                continue;
            };
            let name = SmolStr::new(name);
            if scope.by_name.len() >= left && !scope.by_name.contains_key(&name) {
                refused += 1;
                continue;
            }
            if let Some(alias) = metric.alias {
                scope.names.insert(alias, name.clone());
            }
            let unit = metric.unit().filter(|unit| is_storable(unit)).map(SmolStr::new);
            let definition =
                SparkplugDefinition { name: name.clone(), datatype: metric.datatype, unit };
            scope.by_name.insert(name, definition);
        }
        self.scopes.remove(device);
        if !scope.by_name.is_empty() && device.len() <= TEXT_BYTES_MAX {
            self.scopes.insert(device.into(), scope);
        }
        refused
    }

    /// Forgets a device that died or is born again.
    pub(super) fn forget_device(&mut self, device: &str) {
        self.scopes.remove(device);
    }

    /// Number of known metrics of the node and all of its devices.
    pub(super) fn len(&self) -> usize {
        self.scopes.values().map(|scope| scope.by_name.len()).sum()
    }

    /// Finds the definition of a metric by its name, or by the alias that its birth gave it.
    pub(super) fn find_definition(
        &self,
        device: &str,
        metric: &SparkplugMetric,
    ) -> Option<SparkplugDefinition> {
        let scope = self.scopes.get(device);
        let named = |name: &str| scope.and_then(|scope| scope.by_name.get(name));
        if let Some(name) = metric.name.as_deref().filter(|name| !name.is_empty()) {
            let unit = metric.unit().map(SmolStr::new);
            let born = named(name);
            return Some(SparkplugDefinition {
                name: name.into(),
                datatype: metric.datatype.or_else(|| born.and_then(|born| born.datatype)),
                unit: unit.or_else(|| born.and_then(|born| born.unit.clone())),
            });
        }
        let born = named(scope?.names.get(&metric.alias?)?)?;
        let datatype = metric.datatype.or(born.datatype);
        Some(SparkplugDefinition { datatype, ..born.clone() })
    }
}

/// Longest stored name or unit, bytes.
pub(super) const TEXT_BYTES_MAX: usize = 512;

fn is_storable(text: &str) -> bool {
    !text.is_empty() && text.len() <= TEXT_BYTES_MAX
}

/// Returns the number that a birth and the will of its session share.
fn bd_seq(payload: &SparkplugPayload) -> Option<u64> {
    let metric = payload.metrics.iter().find(|metric| metric.name.as_deref() == Some("bdSeq"))?;
    metric.to_number(None).map(|number| number as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload_with_seq(seq: Option<u64>) -> SparkplugPayload {
        SparkplugPayload { seq, ..SparkplugPayload::default() }
    }

    /// Checks the number of a birth and those that follow against how many of them show that
    /// messages are missing.
    fn check(birth: u64, seqs: &[u64], expect: usize) {
        let mut node = EdgeNode::default();
        node.begin_session(&payload_with_seq(Some(birth)));
        let gaps =
            seqs.iter().filter(|seq| node.note_sequence(&payload_with_seq(Some(**seq)))).count();
        assert_eq!(gaps, expect, "{birth} {seqs:?}");
    }

    #[test]
    fn gaps_are_found() {
        check(0, &[1, 2, 3], 0);
        check(254, &[255, 0, 1], 0);
        check(0, &[1, 3, 4], 1);
        check(0, &[1, 1, 2], 1);
        check(255, &[255], 1);
        check(u64::MAX, &[0], 0);
    }

    #[test]
    fn without_a_birth_or_a_number() {
        let mut node = EdgeNode::default();
        assert!(node.note_sequence(&payload_with_seq(Some(5))));
        assert!(node.note_sequence(&payload_with_seq(Some(6))));
        node.begin_session(&payload_with_seq(None));
        assert!(!node.note_sequence(&payload_with_seq(None)));
        assert!(!node.note_sequence(&payload_with_seq(Some(6))));
    }
}
