//! The state that a convention remembers between messages, with a limit. The least recently used
//! entry is evicted first.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};
use telemetry::SmolStr;
use tracing::warn;

/// The amount of state that conventions remember: discovered entities, properties, metrics of
/// births.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntityCounts {
    /// Number of remembered entries.
    pub remembered: u64,
    /// Number of entries that were forgotten, or never remembered, because there were more than
    /// `entities_max`.
    pub evicted: u64,
}

impl std::iter::Sum for EntityCounts {
    fn sum<I: Iterator<Item = Self>>(counts: I) -> Self {
        counts.fold(Self::default(), |all, counts| Self {
            remembered: all.remembered + counts.remembered,
            evicted: all.evicted + counts.evicted,
        })
    }
}

/// Values by name, each with a weight. The sum of all weights is at most `weight_max`.
#[derive(Debug)]
pub(super) struct EntityStore<V> {
    by_name: HashMap<SmolStr, StoredEntity<V>>,
    /// The names in the order of their last use.
    by_use: BTreeMap<u64, SmolStr>,
    uses: u64,
    weight: usize,
    weight_max: usize,
    evicted: u64,
}

#[derive(Debug)]
struct StoredEntity<V> {
    value: V,
    weight: usize,
    last_use: u64,
}

impl<V> EntityStore<V> {
    pub(super) fn new(weight_max: usize) -> Self {
        let (by_name, by_use) = (HashMap::new(), BTreeMap::new());
        Self { by_name, by_use, uses: 0, weight: 0, weight_max, evicted: 0 }
    }

    pub(super) fn entity_counts(&self) -> EntityCounts {
        EntityCounts { remembered: self.weight as u64, evicted: self.evicted }
    }

    /// Returns the value of a name, and counts as a use of it.
    pub(super) fn get(&mut self, name: &str) -> Option<&mut V> {
        self.uses += 1;
        let entry = self.by_name.get_mut(name)?;
        let name = self.by_use.remove(&entry.last_use)?;
        entry.last_use = self.uses;
        self.by_use.insert(self.uses, name);
        Some(&mut entry.value)
    }

    /// Returns the value of a name, and does not count as a use of it.
    pub(super) fn peek(&self, name: &str) -> Option<&V> {
        self.by_name.get(name).map(|entry| &entry.value)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &SmolStr> {
        self.by_name.keys()
    }

    /// Inserts or replaces a value. Returns the evicted entries, or the value itself if it alone
    /// exceeds the limit.
    pub(super) fn insert(&mut self, name: &SmolStr, value: V, weight: usize) -> Vec<(SmolStr, V)> {
        self.remove(name);
        self.uses += 1;
        self.by_use.insert(self.uses, name.clone());
        self.by_name.insert(name.clone(), StoredEntity { value, weight, last_use: self.uses });
        self.weight += weight;
        self.evict_unused()
    }

    /// Inserts or replaces a value. Replacing does not count as a use; inserting does. Returns
    /// the evicted entries.
    pub(super) fn insert_unused(
        &mut self,
        name: &SmolStr,
        value: V,
        weight: usize,
    ) -> Vec<(SmolStr, V)> {
        match self.by_name.get_mut(name) {
            Some(entry) => entry.value = value,
            None => return self.insert(name, value, weight),
        }
        self.update_weight(name, weight)
    }

    /// Notes a value's new weight. Returns the evicted entries.
    pub(super) fn update_weight(&mut self, name: &str, weight: usize) -> Vec<(SmolStr, V)> {
        if let Some(entry) = self.by_name.get_mut(name) {
            self.weight = self.weight - entry.weight + weight;
            entry.weight = weight;
        }
        self.evict_unused()
    }

    pub(super) fn remove(&mut self, name: &str) -> Option<V> {
        let StoredEntity { value, weight, last_use } = self.by_name.remove(name)?;
        self.by_use.remove(&last_use);
        self.weight -= weight;
        Some(value)
    }

    /// Counts entries that were refused.
    pub(super) fn count_refused(&mut self, weight: usize) {
        self.count_evicted(weight as u64);
    }

    fn evict_unused(&mut self) -> Vec<(SmolStr, V)> {
        let mut evicted = Vec::new();
        while self.weight > self.weight_max {
            let Some((_, name)) = self.by_use.pop_first() else { break };
            let Some(entry) = self.by_name.remove(&name) else { continue };
            self.weight -= entry.weight;
            self.count_evicted(entry.weight as u64);
            evicted.push((name, entry.value));
        }
        evicted
    }

    fn count_evicted(&mut self, count: u64) {
        let before = self.evicted;
        self.evicted += count;
        // Logs the first eviction, and then each time that their number has doubled.
        if self.evicted.checked_ilog2() != before.checked_ilog2() {
            let (entities_max, evicted) = (self.weight_max, self.evicted);
            warn!(
                entities_max,
                evicted,
                "more entities are announced than entities_max: the least recently used are forgotten; raise entities_max in the mapping"
            );
        }
    }

    #[cfg(fuzzing)]
    pub(super) fn clear(&mut self) {
        self.by_name.clear();
        self.by_use.clear();
        self.weight = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_was_not_used_for_longest_goes_first() {
        let mut store = EntityStore::new(3);
        let names = |evicted: Vec<(SmolStr, ())>| -> Vec<String> {
            evicted.into_iter().map(|(name, ())| name.to_string()).collect()
        };
        for name in ["a", "b", "c"] {
            assert!(store.insert(&name.into(), (), 1).is_empty());
        }
        assert!(store.get("a").is_some());
        assert_eq!(names(store.insert(&"d".into(), (), 1)), ["b"]);
        // Looking at an entry does not count as a use.
        assert!(store.peek("c").is_some());
        assert_eq!(names(store.insert(&"e".into(), (), 2)), ["c", "a"]);
        // Replacing an entry takes no more room.
        assert!(store.insert(&"e".into(), (), 2).is_empty());
        assert!(store.get("d").is_some());
        assert_eq!(names(store.update_weight("d", 2)), ["e"]);
        assert!(store.insert(&"g".into(), (), 1).is_empty());
        // An unused entry that is announced again is evicted before the used ones.
        assert!(store.insert_unused(&"d".into(), (), 2).is_empty());
        assert_eq!(names(store.insert_unused(&"h".into(), (), 1)), ["d"]);
        assert_eq!(names(store.insert_unused(&"h".into(), (), 3)), ["g"]);
        // An entry that alone exceeds the limit is not stored.
        assert_eq!(names(store.insert(&"f".into(), (), 4)), ["h", "f"]);
        let evicted = 1 + 2 + 2 + 2 + 1 + 3 + 4;
        assert_eq!(store.entity_counts(), EntityCounts { remembered: 0, evicted });
        assert_eq!(store.names().count(), 0);
    }

    proptest! {
        #[test]
        fn the_weight_is_that_of_what_is_there_and_never_over_the_ceiling(
            steps in proptest::collection::vec((0..6_u8, 0..8_u8, 0..5_usize), 1..80),
        ) {
            let mut store = EntityStore::new(7);
            for (step, name, weight) in steps {
                let name = SmolStr::from(name.to_string());
                match step {
                    0..3 => drop(store.insert(&name, weight, weight)),
                    3 => drop(store.get(&name)),
                    4 => {
                        if let Some(value) = store.get(&name) {
                            *value = weight;
                        }
                        store.update_weight(&name, weight);
                    }
                    _ => drop(store.remove(&name)),
                }
                let weights: usize = store.by_name.values().map(|entry| entry.value).sum();
                prop_assert_eq!(store.weight, weights);
                prop_assert!(store.weight <= 7);
                prop_assert_eq!(store.by_use.len(), store.by_name.len());
            }
        }
    }
}
