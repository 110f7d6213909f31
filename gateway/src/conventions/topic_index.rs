//! The announcements that a topic belongs to, if they name filters with wildcards.

use std::collections::{BTreeSet, HashMap};

use telemetry::SmolStr;

/// Keys by topic filter (MQTT 5, section 4.7). A topic is looked up level by level, so the cost
/// of a lookup does not depend on the other filters.
#[derive(Debug, Default)]
pub(super) struct TopicIndex {
    root: TopicNode,
}

#[derive(Debug, Default)]
struct TopicNode {
    below: HashMap<SmolStr, TopicNode>,
    keys: BTreeSet<SmolStr>,
}

impl TopicNode {
    fn is_empty(&self) -> bool {
        self.below.is_empty() && self.keys.is_empty()
    }

    /// Removes a key at the levels of a filter, and the levels that are empty after that.
    fn remove(&mut self, levels: &[&str], key: &SmolStr) {
        let Some((level, deeper)) = levels.split_first() else {
            self.keys.remove(key);
            return;
        };
        let Some(node) = self.below.get_mut(*level) else { return };
        node.remove(deeper, key);
        if node.is_empty() {
            self.below.remove(*level);
        }
    }

    fn collect_keys<'i>(
        &'i self,
        levels: &[&str],
        is_first: bool,
        found: &mut BTreeSet<&'i SmolStr>,
    ) {
        // Wildcards at the beginning do not match topics of brokers (4.7.2).
        let has_wildcards = !(is_first && levels[0].starts_with('$'));
        if has_wildcards && let Some(any) = self.below.get("#") {
            found.extend(&any.keys);
        }
        let Some((level, deeper)) = levels.split_first() else {
            found.extend(&self.keys);
            return;
        };
        if let Some(node) = self.below.get(*level) {
            node.collect_keys(deeper, false, found);
        }
        if has_wildcards
            && *level != "+"
            && let Some(node) = self.below.get("+")
        {
            node.collect_keys(deeper, false, found);
        }
    }
}

impl TopicIndex {
    pub(super) fn insert(&mut self, filter: &str, key: &SmolStr) {
        let mut node = &mut self.root;
        for level in filter.split('/') {
            node = node.below.entry(level.into()).or_default();
        }
        node.keys.insert(key.clone());
    }

    pub(super) fn remove(&mut self, filter: &str, key: &SmolStr) {
        let levels: Vec<&str> = filter.split('/').collect();
        self.root.remove(&levels, key);
    }

    /// Returns the keys of all filters that match a topic.
    pub(super) fn find_keys(&self, topic: &str) -> BTreeSet<&SmolStr> {
        let levels: Vec<&str> = topic.split('/').collect();
        let mut found = BTreeSet::new();
        self.root.collect_keys(&levels, true, &mut found);
        found
    }

    #[cfg(fuzzing)]
    pub(super) fn clear(&mut self) {
        self.root = TopicNode::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::downlink::is_filter_match;
    use proptest::prelude::*;

    #[test]
    fn filters_are_found_by_topic() {
        let mut index = TopicIndex::default();
        for filter in ["+/+/BTtoMQTT/A4C1", "home/gw/BTtoMQTT/A4C1", "home/#", "x/y", "#", "+"] {
            index.insert(filter, &filter.into());
        }
        let check = |index: &TopicIndex, topic: &str, expect: &[&str]| {
            let got: Vec<&str> = index.find_keys(topic).into_iter().map(SmolStr::as_str).collect();
            assert_eq!(got, expect, "{topic}");
        };
        check(
            &index,
            "home/gw/BTtoMQTT/A4C1",
            &["#", "+/+/BTtoMQTT/A4C1", "home/#", "home/gw/BTtoMQTT/A4C1"],
        );
        check(&index, "cellar/gw2/BTtoMQTT/A4C1", &["#", "+/+/BTtoMQTT/A4C1"]);
        check(&index, "home", &["#", "+", "home/#"]);
        check(&index, "x/y", &["#", "x/y"]);
        check(&index, "$SYS/x", &[]);
        for filter in ["#", "+", "home/#", "+/+/BTtoMQTT/A4C1"] {
            index.remove(filter, &filter.into());
            index.remove(filter, &filter.into());
        }
        check(&index, "home/gw/BTtoMQTT/A4C1", &["home/gw/BTtoMQTT/A4C1"]);
        assert_eq!(index.root.below.len(), 2);
    }

    proptest! {
        #[test]
        fn the_index_finds_what_matches(
            filters in proptest::collection::btree_set("([ab+]|)(/([ab+]|)){0,3}(/#)?", 0..8),
            topic in "([ab$]|)(/([ab]|)){0,4}",
        ) {
            let mut index = TopicIndex::default();
            // A filter has at least one character (4.7.3).
            let filters: Vec<_> = filters.into_iter().filter(|filter| !filter.is_empty()).collect();
            for filter in &filters {
                index.insert(filter, &filter.as_str().into());
            }
            let got: Vec<&str> = index.find_keys(&topic).into_iter().map(SmolStr::as_str).collect();
            let expect: Vec<&str> =
                filters.iter().map(String::as_str).filter(|filter| is_filter_match(filter, &topic)).collect();
            prop_assert_eq!(got, expect);
        }
    }
}
