use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use duckdb::arrow::array::{ArrayRef, Float64Array};
use telemetry::SmolStr;

use feature_engine::{
    definitions::{FeatureDefinitions, JoinDefinition},
    sql::JoinExpressions,
};

use super::expression_database::{ExpressionDatabase, ExpressionProgram};
use crate::StoreError;

/// The joins by SQL, over columns of features.
///
/// ```
/// use feature_engine::sql::JoinExpressions;
/// use microclimate_feature_store::sql_expressions::{SqlJoinEvaluator, parse_definitions};
/// use telemetry::MetricTable;
///
/// let text = "
/// version = 1
/// [joins.warmth]
/// value = 'temperature_last - 20'
/// [joins.warmth_share]
/// value = 'warmth / 20'
/// ";
/// let definitions = parse_definitions("own.toml", text, &MetricTable::default()).unwrap();
/// let mut sql = SqlJoinEvaluator::new(&definitions).unwrap().unwrap();
/// assert_eq!(sql.inputs(), ["temperature_last"]);
/// assert_eq!(sql.outputs(), ["warmth", "warmth_share"]);
/// assert_eq!(sql.evaluate_rows(2, &[vec![22.0, 16.0]]), [vec![2.0, -4.0], vec![0.1, -0.2]]);
/// ```
#[derive(Debug)]
pub struct SqlJoinEvaluator {
    sandbox: ExpressionDatabase,
    program: ExpressionProgram,
    inputs: Vec<SmolStr>,
    outputs: Vec<SmolStr>,
}

impl SqlJoinEvaluator {
    /// Creates the evaluator; `None` if the definitions have no SQL joins.
    ///
    /// # Errors
    /// Fails if DuckDB cannot be opened.
    pub fn new(definitions: &FeatureDefinitions) -> Result<Option<Self>, StoreError> {
        let steps = group_into_steps(definitions);
        if steps.is_empty() {
            return Ok(None);
        }
        let outputs: Vec<SmolStr> =
            steps.iter().flatten().map(|(name, _)| (*name).into()).collect();
        let named = outputs.iter().flat_map(|name| definitions.joins[name].inputs());
        let input_names: BTreeSet<&SmolStr> =
            named.filter(|input| !outputs.contains(input)).collect();
        let inputs: Vec<SmolStr> = input_names.into_iter().cloned().collect();
        // A table must have at least one column, so a dummy column is added.
        let columns = inputs.iter().map(SmolStr::as_str).chain([" "]);
        let sandbox = ExpressionDatabase::new()?;
        sandbox.create_table(columns.map(|column| (column, "DOUBLE")))?;
        Ok(Some(Self { sandbox, program: ExpressionProgram::new(&steps), inputs, outputs }))
    }

    /// How often each join failed on a row so far; it was null there.
    #[must_use]
    pub fn failure_counts(&self) -> BTreeMap<String, u64> {
        let names = self.outputs.iter().map(|name| format!("joins.{name}.value"));
        names.zip(self.program.failures.iter().copied()).collect()
    }
}

impl JoinExpressions for SqlJoinEvaluator {
    fn inputs(&self) -> &[SmolStr] {
        &self.inputs
    }

    fn outputs(&self) -> &[SmolStr] {
        &self.outputs
    }

    fn evaluate_rows(&mut self, rows: usize, inputs: &[Vec<f64>]) -> Vec<Vec<f64>> {
        assert_eq!(inputs.len(), self.inputs.len(), "one column for each input");
        let none = vec![f64::NAN; rows];
        let names = self.inputs.iter().map(SmolStr::as_str).chain([" "]);
        let columns = names.zip(inputs.iter().chain([&none])).map(|(name, values)| {
            let nullable = values.iter().map(|value| Some(*value).filter(|value| !value.is_nan()));
            (name, Arc::new(nullable.collect::<Float64Array>()) as ArrayRef)
        });
        self.sandbox.evaluate_program(&mut self.program, columns.collect())
    }
}

/// Groups SQL joins into steps: joins of a step depend on earlier steps only.
fn group_into_steps(definitions: &FeatureDefinitions) -> Vec<Vec<(&str, &str)>> {
    let mut levels: BTreeMap<&SmolStr, usize> = BTreeMap::new();
    let mut steps: Vec<Vec<(&str, &str)>> = Vec::new();
    for name in &definitions.join_order {
        let JoinDefinition::Sql { value, inputs, .. } = &definitions.joins[name] else { continue };
        let below = inputs.iter().filter_map(|input| levels.get(input).copied());
        let level = below.map(|level| level + 1).max().unwrap_or(0);
        levels.insert(name, level);
        steps.resize(steps.len().max(level + 1), Vec::new());
        steps[level].push((name, value));
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql_expressions::parse_definitions;
    use telemetry::MetricTable;

    fn check(joins: &str, inputs: &[f64], expect: &[f64], failures: u64) {
        let text = format!("version = 1\n[windows]\n1h = ['mean']\n[joins]\n{joins}");
        let read = parse_definitions("t", &text, &MetricTable::default()).unwrap();
        let mut sql = SqlJoinEvaluator::new(&read).unwrap().unwrap();
        let columns: Vec<Vec<f64>> = inputs.iter().map(|value| vec![*value]).collect();
        let found: Vec<f64> =
            sql.evaluate_rows(1, &columns).into_iter().map(|column| column[0]).collect();
        let bits = |values: &[f64]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&found), bits(expect), "{joins}: {found:?}, expected {expect:?}");
        assert_eq!(sql.failure_counts().values().sum::<u64>(), failures, "{joins}");
    }

    #[test]
    fn null_in_is_null_out_and_what_fails_is_counted() {
        let nan = f64::NAN;
        check("a.value = 'co2_last / light_last'", &[1.0, 4.0], &[0.25], 0);
        check("a.value = 'co2_last / light_last'", &[1.0, 0.0], &[nan], 1);
        check("a.value = 'co2_last / light_last'", &[1.0, nan], &[nan], 0);
        check("a.value = 'coalesce(co2_last, light_last)'", &[nan, 2.0], &[2.0], 0);
        check("a.value = 'ln(co2_last)'\nb.value = 'coalesce(a, 7)'", &[-1.0], &[nan, 7.0], 1);
        check("a.value = '1 + b'\nb.value = 'co2_last'", &[1.0], &[1.0, 2.0], 0);
    }

    #[test]
    fn nothing_is_left_behind() {
        let text = "version = 1\n[joins]\na.value = 'co2_last + 1'";
        let read = parse_definitions("t", text, &MetricTable::default()).unwrap();
        let mut sql = SqlJoinEvaluator::new(&read).unwrap().unwrap();
        for rows in [3, 5000, 0, 1] {
            let column: Vec<f64> = (0..rows).map(f64::from).collect();
            let expect: Vec<f64> = column.iter().map(|value| value + 1.0).collect();
            assert_eq!(sql.evaluate_rows(column.len(), &[column]), [expect]);
        }
    }

    #[test]
    fn without_sql_there_is_nothing_to_run() {
        assert!(SqlJoinEvaluator::new(&FeatureDefinitions::built_in()).unwrap().is_none());
    }
}
