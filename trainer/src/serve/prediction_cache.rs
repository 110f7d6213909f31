use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use telemetry::{SmolStr, ZoneId};

/// Largest number of cached values, one for each task and zone.
const CACHED_MAX: usize = 10_000;

/// Values computed for a task's champion in a zone and minute, so that another request in the same
/// minute does not read hours of rows again.
#[derive(Debug)]
pub(super) struct PredictionCache<T>(Mutex<HashMap<(SmolStr, ZoneId), CachedValue<T>>>);

/// A cached value with the champion's version and the minute that it belongs to.
#[derive(Debug)]
struct CachedValue<T> {
    version: u64,
    minute: i64,
    what: T,
}

impl<T> Default for PredictionCache<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Clone> PredictionCache<T> {
    pub(super) fn get(&self, task: &str, zone: &ZoneId, of: (u64, i64)) -> Option<T> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = all.get(&(task.into(), zone.clone()))?;
        ((kept.version, kept.minute) == of).then(|| kept.what.clone())
    }

    pub(super) fn insert(&self, task: &str, zone: &ZoneId, (version, minute): (u64, i64), what: T) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= CACHED_MAX {
            all.clear();
        }
        all.insert((task.into(), zone.clone()), CachedValue { version, minute, what });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_of_one_model_zone_and_minute() {
        let zone: ZoneId = "s/z".parse().unwrap();
        let remembered = PredictionCache::default();
        remembered.insert("heating", &zone, (3, 100), 7);
        assert_eq!(remembered.get("heating", &zone, (3, 100)), Some(7));
        assert_eq!(remembered.get("heating", &zone, (4, 100)), None);
        assert_eq!(remembered.get("heating", &zone, (3, 101)), None);
        assert_eq!(remembered.get("light", &zone, (3, 100)), None);
        assert_eq!(remembered.get("heating", &"s/other".parse().unwrap(), (3, 100)), None);
    }
}
