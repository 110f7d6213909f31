//! What is known of an edge node: whether it was born, its numbering, and what
//! its births said of each metric.

use std::collections::HashMap;

use telemetry::SmolStr;

use super::payload::{SparkplugMetric, SparkplugPayload};

/// What a birth said of a metric.
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
    /// Its own metrics are under the empty name, those of a device under its.
    scopes: HashMap<SmolStr, MetricScope>,
    is_born: bool,
    /// Of the last message.
    seq: Option<u64>,
    /// Of the last birth; the will of an earlier session has another.
    bd_seq: Option<u64>,
}

impl EdgeNode {
    /// Notes a message's number. Returns whether messages before it are
    /// missing, or no birth has been seen (specification 3.0, 6.4.7 and
    /// `tck-id-operational-behavior-host-reordering-rebirth`).
    pub(super) fn note_sequence(&mut self, payload: &SparkplugPayload) -> bool {
        let expected = self.seq.map(|seq| (seq + 1) % 256);
        let is_next = expected.is_none() || payload.seq.is_none() || expected == payload.seq;
        if payload.seq.is_some() {
            self.seq = payload.seq.map(|seq| seq % 256);
        }
        !(is_next && self.is_born)
    }

    /// A node's birth begins everything anew, its devices' too.
    pub(super) fn begin_session(&mut self, payload: &SparkplugPayload) {
        self.scopes.clear();
        self.is_born = true;
        self.seq = payload.seq.map(|seq| seq % 256);
        self.bd_seq = bd_seq(payload);
    }

    /// Whether a node's death is of its present session, which then ends.
    pub(super) fn end_session(&mut self, payload: &SparkplugPayload) -> bool {
        let of = bd_seq(payload);
        if of.is_some() && self.bd_seq.is_some() && of != self.bd_seq {
            return false;
        }
        (self.is_born, self.seq) = (false, None);
        true
    }

    /// Notes what a birth says of a node or a device, as far as there is room
    /// for `left` metrics. Returns how many there is none for.
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

    /// Forgets a device that died or is born anew.
    pub(super) fn forget_device(&mut self, device: &str) {
        self.scopes.remove(device);
    }

    /// Metrics known, of the node and all of its devices.
    pub(super) fn len(&self) -> usize {
        self.scopes.values().map(|scope| scope.by_name.len()).sum()
    }

    /// What a metric is: by its name, or by the alias that its birth gave it.
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

/// Longest name or unit that is kept, bytes.
pub(super) const TEXT_BYTES_MAX: usize = 512;

fn is_storable(text: &str) -> bool {
    !text.is_empty() && text.len() <= TEXT_BYTES_MAX
}

/// The number that a birth and the will of its session share.
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

    /// The number of a birth, and those that follow → how many of them tell
    /// that messages are missing.
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
