use std::collections::{BTreeMap, BTreeSet};

use telemetry::{MetricTable, SmolStr};

use super::{FeatureDefinitions, FeatureLineage, trace_lineage};

/// Change of one feature between two definitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FeatureChange {
    /// Only the new definitions have it.
    Added(FeatureLineage),
    /// Only the old definitions have it.
    Removed(FeatureLineage),
    /// Its own definition differs.
    Changed {
        /// Lineage by the old definitions.
        from: FeatureLineage,
        /// Lineage by the new definitions.
        to: FeatureLineage,
    },
    /// Its own definition is the same, but that of an input differs.
    ChangedBy {
        /// Lineage by both definitions.
        of: FeatureLineage,
        /// The first input that differs.
        input: SmolStr,
    },
}

/// Differences between two definitions, for a site with every known metric.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DefinitionsDiff {
    /// Changes by feature name.
    pub changes: BTreeMap<SmolStr, FeatureChange>,
    /// Number of features that are the same.
    pub same: usize,
}

impl DefinitionsDiff {
    /// Returns whether past rows need new values. Removed features need none.
    #[must_use]
    pub fn needs_backfill(&self) -> bool {
        self.changes.values().any(|change| !matches!(change, FeatureChange::Removed(_)))
    }
}

/// Compares two definitions.
#[must_use]
pub fn diff_definitions(
    from: &FeatureDefinitions,
    to: &FeatureDefinitions,
    metrics: &MetricTable,
) -> DefinitionsDiff {
    let by_name = |definitions: &FeatureDefinitions| -> BTreeMap<SmolStr, FeatureLineage> {
        let all = trace_lineage(definitions, metrics, &[]);
        all.into_iter().map(|lineage| (lineage.feature.clone(), lineage)).collect()
    };
    let (before, after) = (by_name(from), by_name(to));
    let mut diff = DefinitionsDiff::default();
    for (name, lineage) in before.iter().filter(|(name, _)| !after.contains_key(*name)) {
        diff.changes.insert(name.clone(), FeatureChange::Removed(lineage.clone()));
    }
    // Joins come last, each after its inputs, so that a changed input is known.
    let joins: BTreeSet<&SmolStr> = to.join_order.iter().collect();
    let first = after.keys().filter(|name| !joins.contains(name));
    for name in first.chain(&to.join_order) {
        let Some(lineage) = after.get(name) else { continue };
        let change = match before.get(name) {
            None => Some(FeatureChange::Added(lineage.clone())),
            Some(old) if old != lineage => {
                Some(FeatureChange::Changed { from: old.clone(), to: lineage.clone() })
            }
            Some(_) => {
                let changed = lineage
                    .inputs
                    .iter()
                    .find(|input| joins.contains(name) && diff.changes.contains_key(*input));
                changed.map(|input| FeatureChange::ChangedBy {
                    of: lineage.clone(),
                    input: input.clone(),
                })
            }
        };
        match change {
            Some(change) => drop(diff.changes.insert(name.clone(), change)),
            None => diff.same += 1,
        }
    }
    diff
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::AnyExpression;

    const BASE: &str = "
        [windows]
        1h = ['mean', 'std']
        [derived.chill]
        from = 'temperature'
        below = 18
        windows.1h = ['mean']
        [joins.a]
        value = 'chill_mean_1h * 2'
        [joins.b]
        value = 'a + 1'";

    fn check(change: impl Fn(&str) -> String, expect: &str, needs_backfill: bool) {
        let metrics = MetricTable::default();
        let read = |text: &str| {
            let text = format!("version = 1\n{text}");
            FeatureDefinitions::parse("t", &text, &metrics, &mut AnyExpression)
                .unwrap_or_else(|error| panic!("{error}"))
        };
        let found = diff_definitions(&read(BASE), &read(&change(BASE)), &metrics);
        let of_interest = |name: &SmolStr| {
            let mut other = metrics.iter().map(|(metric, _)| metric).filter(|m| *m != "co2");
            !other.any(|metric| name.starts_with(metric.as_str()))
        };
        let changes = found.changes.iter().filter(|(name, _)| of_interest(name));
        let changes = changes.map(|(name, change)| match change {
            FeatureChange::Added(_) => format!("+{name}"),
            FeatureChange::Removed(_) => format!("-{name}"),
            FeatureChange::Changed { .. } => format!("~{name}"),
            FeatureChange::ChangedBy { input, .. } => format!("~{name}<{input}"),
        });
        assert_eq!(changes.collect::<Vec<_>>().join(" "), expect);
        assert_eq!(found.needs_backfill(), needs_backfill);
    }

    #[test]
    fn what_changed_and_what_it_changes() {
        check(|base| format!("# a comment\n{base}"), "", false);
        check(|base| base.replace("['mean', 'std']", "['std', 'mean']"), "", false);
        check(|base| base.replace(", 'std'", ""), "-co2_std_1h", false);
        check(|base| base.replace("'std'", "'max'"), "+co2_max_1h -co2_std_1h", true);
        let below = |base: &str| base.replace("below = 18", "below = 17");
        check(below, "~a<chill_mean_1h ~b<a ~chill_mean_1h", true);
        check(|base| base.replace("a + 1", "a + 2"), "~b", true);
        let filter = |base: &str| format!("metrics.co2.where = 'value > 1'\n{base}");
        check(filter, "~co2_age_s ~co2_last ~co2_mean_1h ~co2_std_1h", true);
    }
}
