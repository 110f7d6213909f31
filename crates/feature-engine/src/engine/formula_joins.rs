use std::collections::BTreeMap;

use telemetry::SmolStr;

use crate::definitions::{FormulaContext, JoinDefinition, JoinFormula};

/// Largest number of inputs of a formula.
const INPUTS_MAX: usize = 4;

/// Features that formulas compute from other features of the same row.
#[derive(Debug, Default)]
pub(super) struct FormulaJoins(Vec<FormulaJoin>);

#[derive(Debug)]
struct FormulaJoin {
    column: usize,
    formula: JoinFormula,
    inputs: Vec<SmolStr>,
    /// Columns of the inputs; `None` while a column does not exist.
    input_columns: Vec<Option<usize>>,
}

impl FormulaJoins {
    /// Adds columns for all joins, also for SQL joins, which are computed elsewhere.
    pub(super) fn new(joins: &BTreeMap<SmolStr, JoinDefinition>, names: &mut Vec<SmolStr>) -> Self {
        let mut all = Vec::new();
        for (name, join) in joins {
            if let JoinDefinition::Formula { formula, inputs } = join {
                let (column, found) = (names.len(), vec![None; inputs.len()]);
                all.push(FormulaJoin {
                    column,
                    formula: *formula,
                    inputs: inputs.clone(),
                    input_columns: found,
                });
            }
            names.push(name.clone());
        }
        // A join comes after the joins that it depends on.
        let mut known: Vec<&SmolStr> = Vec::new();
        let mut ordered = Vec::new();
        while !all.is_empty() {
            let waits = |join: &FormulaJoin| {
                join.inputs.iter().any(|input| joins.contains_key(input) && !known.contains(&input))
            };
            let at = all.iter().position(|join| !waits(join)).unwrap_or(0);
            let join = all.remove(at);
            known.extend(joins.keys().filter(|name| **name == names[join.column]));
            ordered.push(join);
        }
        Self(ordered)
    }

    /// Looks up the input columns again after columns were added.
    pub(super) fn find_inputs(&mut self, names: &[SmolStr]) {
        for join in &mut self.0 {
            for (input, found) in join.inputs.iter().zip(&mut join.input_columns) {
                *found = found.or_else(|| names.iter().position(|name| name == input));
            }
        }
    }

    /// Writes the joins into a row whose other columns are filled.
    pub(super) fn fill_row(&self, moment: FormulaContext, row: &mut [f64]) {
        for join in &self.0 {
            let mut inputs = [f64::NAN; INPUTS_MAX];
            for (input, found) in inputs.iter_mut().zip(&join.input_columns) {
                *input = found.map_or(f64::NAN, |column| row[column]);
            }
            let inputs = &inputs[..join.input_columns.len().min(INPUTS_MAX)];
            if inputs.iter().all(|input| !input.is_nan()) {
                row[join.column] = join.formula.compute_value(inputs, moment);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joins_may_be_made_of_joins_and_miss_inputs() {
        let difference = |a: &str, b: &str| JoinDefinition::Formula {
            formula: JoinFormula::Difference,
            inputs: vec![a.into(), b.into()],
        };
        let joins = BTreeMap::from([
            ("a_second".into(), difference("b_first", "x")),
            ("b_first".into(), difference("x", "y")),
            ("c_nothing".into(), difference("x", "never")),
        ]);
        let mut names = Vec::new();
        let mut made = FormulaJoins::new(&joins, &mut names);
        names.extend(["x".into(), "y".into()]);
        made.find_inputs(&names);
        let mut row = [f64::NAN, f64::NAN, f64::NAN, 5.0, 3.0];
        made.fill_row(FormulaContext { day_of_year: None, place: None }, &mut row);
        assert_eq!(row[..2], [-3.0, 2.0]);
        assert!(row[2].is_nan());
    }
}
