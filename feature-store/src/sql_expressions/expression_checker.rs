use std::collections::HashMap;

use feature_engine::{
    definitions::{find_nearest_name, suggest_name},
    sql::{ColumnTypes, ExpectedType, ExpressionChecker, ExpressionError, scan_identifiers},
};

use super::expression_database::{ExpressionDatabase, ExpressionProgram};

/// Checks expressions with DuckDB, which it opens for the first one.
#[derive(Debug, Default)]
pub struct DuckDbChecker(Option<CheckerDatabase>);

/// A DuckDB and its functions, in lower case.
#[derive(Debug)]
struct CheckerDatabase {
    sandbox: ExpressionDatabase,
    functions: HashMap<String, FunctionKind>,
}

/// Kind of a DuckDB function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FunctionKind {
    Scalar,
    NonDeterministic,
    Aggregate,
    Other,
}

/// Functions that the catalogue lists as deterministic but that are not.
const NONDETERMINISTIC: [&str; 3] = ["age", "getvariable", "version"];
const NONDETERMINISTIC_PREFIX: &str = "current_";

const FUNCTION_CATALOGUE_SQL: &str = "
    SELECT lower(function_name),
           coalesce(bool_or(function_type = 'aggregate'), false),
           coalesce(bool_or(function_type = 'scalar'), false),
           coalesce(bool_and(stability = 'CONSISTENT') FILTER (function_type = 'scalar'), false)
    FROM duckdb_functions() GROUP BY ALL";

/// The message of DuckDB, less the statement around the expression.
fn from_duckdb(error: &duckdb::Error) -> ExpressionError {
    let text = error.to_string();
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let what = format!("DuckDB: {}", lines.next().unwrap_or_default());
    let hint = lines.find(|line| line.starts_with("Did you mean")).map(str::to_owned);
    ExpressionError { what, hint }
}

impl ExpressionChecker for DuckDbChecker {
    fn check_expression(
        &mut self,
        text: &str,
        columns: ColumnTypes<'_>,
        known: &[&str],
        expect: ExpectedType,
    ) -> Result<Vec<String>, ExpressionError> {
        let words = scan_identifiers(text)?;
        let open = match &mut self.0 {
            Some(open) => open,
            none => none.insert(CheckerDatabase::new().map_err(|error| from_duckdb(&error))?),
        };
        for function in &words.functions {
            open.check_function(function)?;
        }
        for name in &words.names {
            if columns(name).is_none() {
                return Err(ExpressionError {
                    what: format!("`{name}` is not a column here"),
                    hint: suggest_name(name, known),
                });
            }
        }
        let names: Vec<String> = words.names.into_iter().collect();
        let typed = names.iter().filter_map(|name| Some((name.as_str(), columns(name)?)));
        // A table must have at least one column, so a dummy column is added.
        open.check_binding(text, typed.chain([(" ", "DOUBLE")]), expect)?;
        Ok(names)
    }
}

impl CheckerDatabase {
    fn new() -> Result<Self, duckdb::Error> {
        let sandbox = ExpressionDatabase::new()?;
        let functions = read_function_kinds(&sandbox)?;
        Ok(Self { sandbox, functions })
    }

    fn check_function(&self, name: &str) -> Result<(), ExpressionError> {
        match self.functions.get(name) {
            Some(FunctionKind::Scalar) => Ok(()),
            Some(FunctionKind::NonDeterministic) => Err(ExpressionError::new(
                format!("`{name}` is not deterministic"),
                "features are a function of readings alone; their time is `event`",
            )),
            Some(FunctionKind::Aggregate) => Err(ExpressionError::new(
                format!("`{name}` aggregates several rows, but an expression sees one"),
                "windows have aggregates; for several values of one row, use greatest, least or +",
            )),
            Some(FunctionKind::Other) => Err(ExpressionError::new(
                format!("`{name}` is a macro or table function of DuckDB, not a scalar function"),
                "write out what it computes",
            )),
            None => {
                let scalars =
                    self.functions.iter().filter(|(_, kind)| **kind == FunctionKind::Scalar);
                let near = find_nearest_name(name, scalars.map(|(function, _)| function.as_str()));
                Err(ExpressionError {
                    what: format!("there is no function `{name}`"),
                    hint: near.map(|near| format!("did you mean `{near}`?")),
                })
            }
        }
    }

    /// Lets DuckDB bind the expression over a table with these columns.
    fn check_binding<'a>(
        &self,
        text: &str,
        columns: impl IntoIterator<Item = (&'a str, &'a str)>,
        expect: ExpectedType,
    ) -> Result<(), ExpressionError> {
        let refuse = |error: duckdb::Error| from_duckdb(&error);
        let connection = &self.sandbox.connection;
        self.sandbox.create_table(columns).map_err(refuse)?;
        let describe = format!("DESCRIBE SELECT ({text}\n) FROM batch");
        let mut statement = connection.prepare(&describe).map_err(refuse)?;
        let described = statement.query_map([], |row| row.get::<_, String>(1)).map_err(refuse)?;
        let types = described.collect::<Result<Vec<_>, _>>().map_err(refuse)?;
        let [found] = types.as_slice() else {
            return Err(ExpressionError::new(
                format!("the expression gives {} values", types.len()),
                "write one expression with one value",
            ));
        };
        match expect {
            ExpectedType::Boolean if found != "BOOLEAN" => Err(ExpressionError::new(
                format!("the expression gives {found}, expected BOOLEAN"),
                "compare with something, as in `value > 0`",
            )),
            ExpectedType::Number if !is_number(found) => Err(ExpressionError::new(
                format!("the expression gives {found}, expected a number"),
                "convert it to a number, as in `hour(event)` or `CAST(… AS DOUBLE)`",
            )),
            _ => {
                // DuckDB refuses some functions only when it prepares the real query.
                let program = ExpressionProgram::new(&[vec![("x", text)]]);
                connection.prepare(program.sql()).map_err(refuse)?;
                Ok(())
            }
        }
    }
}

fn read_function_kinds(
    sandbox: &ExpressionDatabase,
) -> Result<HashMap<String, FunctionKind>, duckdb::Error> {
    let mut statement = sandbox.connection.prepare(FUNCTION_CATALOGUE_SQL)?;
    let rows = statement.query_map([], |row| {
        let name: String = row.get(0)?;
        let (is_aggregate, is_scalar) = (row.get(1)?, row.get(2)?);
        let is_deterministic: bool = row.get(3)?;
        let is_known_nondeterministic =
            NONDETERMINISTIC.contains(&name.as_str()) || name.starts_with(NONDETERMINISTIC_PREFIX);
        let kind = match (is_aggregate, is_scalar) {
            (true, _) => FunctionKind::Aggregate,
            _ if is_known_nondeterministic => FunctionKind::NonDeterministic,
            (_, false) => FunctionKind::Other,
            _ if is_deterministic => FunctionKind::Scalar,
            _ => FunctionKind::NonDeterministic,
        };
        Ok((name, kind))
    })?;
    rows.collect()
}

fn is_number(duckdb_type: &str) -> bool {
    let plain = duckdb_type.trim_start_matches('U');
    ["TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "FLOAT", "DOUBLE", "BOOLEAN"]
        .contains(&plain)
        || plain.starts_with("DECIMAL")
}

#[cfg(test)]
mod tests {
    use feature_engine::sql::READING_COLUMNS;

    use super::*;

    fn check(text: &str, expect: ExpectedType, found: Result<&str, &str>) {
        let column = |name: &str| {
            READING_COLUMNS
                .iter()
                .find(|(column, _)| *column == name)
                .map(|(_, sql_type)| *sql_type)
        };
        let known = READING_COLUMNS.map(|(name, _)| name);
        let checked = DuckDbChecker::default().check_expression(text, &column, &known, expect);
        let checked = checked.map(|names| names.join(" "));
        let checked = checked.map_err(|ExpressionError { what, hint, .. }| match hint {
            Some(hint) => format!("{what} | {hint}"),
            None => what,
        });
        match (&checked, found) {
            (Ok(names), Ok(expect)) => assert_eq!(names, expect, "{text}"),
            (Err(found), Err(expect)) => {
                assert!(found.contains(expect), "{text}: {found}, expected {expect}");
            }
            _ => panic!("{text}: {checked:?}, expected {found:?}"),
        }
    }

    #[test]
    fn expressions_of_a_value_are_taken() {
        let number = |text, names| check(text, ExpectedType::Number, Ok(names));
        number("value * 1.8 + 32", "value");
        number("ln(value)", "value");
        number("CASE WHEN hour(event) < 6 THEN NULL ELSE value END", "event value");
        number("value > 3", "value");
        number("greatest(value, 0) ^ 2", "value");
        number("1", "");
        check(
            "device LIKE 'a%' AND value BETWEEN 1 AND 2",
            ExpectedType::Boolean,
            Ok("device value"),
        );
        check("dayofweek(event) IN (0, 6)", ExpectedType::Boolean, Ok("event"));
    }

    #[test]
    fn others_are_refused_with_a_reason() {
        let number = |text, why| check(text, ExpectedType::Number, Err(why));
        number("valeu * 2", "`valeu` is not a column here | did you mean `value`?");
        number("lnn(value)", "there is no function `lnn` | did you mean `ln`?");
        number("sum(value)", "`sum` aggregates several rows");
        number("row_number() over ()", "`over` has no meaning here");
        number("(select 1)", "`select` has no meaning here");
        number("random()", "`random` is not deterministic");
        number("epoch(now())", "`now` is not deterministic");
        number("epoch(age(event))", "`age` is not deterministic");
        number("current_date", "`current_date` is not a column here");
        number("fmod(value, 2)", "`fmod` is a macro");
        number("value +", "DuckDB: ");
        number("value 2", "DuckDB: ");
        number("value + metric", "DuckDB: ");
        number("metric", "the expression gives VARCHAR, expected a number");
        number("event", "the expression gives TIMESTAMP, expected a number");
        number("error('x')", "`error` is not deterministic");
        number("value AS x", "`x` is not a column here");
        check("value", ExpectedType::Boolean, Err("the expression gives DOUBLE, expected BOOLEAN"));
    }
}
