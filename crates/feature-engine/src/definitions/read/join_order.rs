use std::collections::{BTreeMap, BTreeSet};

use telemetry::SmolStr;

use crate::definitions::JoinDefinition;

/// Sorts the joins, each after the joins that it depends on. Fails with one cycle of joins if
/// there is one.
pub(super) fn order_joins(
    joins: &BTreeMap<SmolStr, JoinDefinition>,
) -> Result<Vec<SmolStr>, Vec<SmolStr>> {
    let mut walk = JoinSorter { joins, done: BTreeSet::new(), path: Vec::new(), order: Vec::new() };
    for name in joins.keys() {
        walk.visit_join(name)?;
    }
    Ok(walk.order)
}

struct JoinSorter<'a> {
    joins: &'a BTreeMap<SmolStr, JoinDefinition>,
    done: BTreeSet<&'a SmolStr>,
    path: Vec<&'a SmolStr>,
    order: Vec<SmolStr>,
}

impl JoinSorter<'_> {
    fn visit_join(&mut self, name: &SmolStr) -> Result<(), Vec<SmolStr>> {
        let Some((name, join)) = self.joins.get_key_value(name) else { return Ok(()) };
        if self.done.contains(name) {
            return Ok(());
        }
        if let Some(start) = self.path.iter().position(|visited| *visited == name) {
            let round = self.path[start..].iter().copied().chain([name]);
            return Err(round.cloned().collect());
        }
        self.path.push(name);
        for input in join.inputs() {
            self.visit_join(input)?;
        }
        self.path.pop();
        self.done.insert(name);
        self.order.push(name.clone());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(joins: &[(&str, &[&str])], expect: Result<&str, &str>) {
        let join = |inputs: &[&str]| JoinDefinition::Sql {
            value: String::new(),
            unit: None,
            inputs: inputs.iter().map(|input| SmolStr::from(*input)).collect(),
        };
        let joins = joins.iter().map(|(name, inputs)| ((*name).into(), join(inputs))).collect();
        let found =
            order_joins(&joins).map(|names| names.join(" ")).map_err(|round| round.join(" "));
        assert_eq!(found.as_deref().map_err(String::as_str), expect);
    }

    #[test]
    fn a_join_comes_after_what_it_is_made_of() {
        check(&[("a", &["c", "temperature_last"]), ("b", &["a"]), ("c", &[])], Ok("c a b"));
        check(&[("a", &["b"]), ("b", &["c"]), ("c", &["b"])], Err("b c b"));
        check(&[("a", &["a"])], Err("a a"));
    }
}
