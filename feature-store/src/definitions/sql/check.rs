use std::collections::HashMap;

use super::{
    Columns,
    batch::{Program, Sandbox},
    words::words,
};
use crate::definitions::mistake::{hint, nearest};

/// Why an expression cannot be taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::definitions) struct Refusal {
    pub(in crate::definitions) what: String,
    pub(in crate::definitions) hint: Option<String>,
}

/// What an expression must give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::definitions) enum Expect {
    /// True or false.
    Truth,
    /// Something that is a number, or true or false for 1 or 0.
    Number,
}

/// Checks expressions; opens DuckDB when there is one.
#[derive(Debug, Default)]
pub(in crate::definitions) struct Checker(Option<Open>);

/// A DuckDB, and its functions in small letters.
#[derive(Debug)]
struct Open {
    sandbox: Sandbox,
    functions: HashMap<String, Kind>,
}

/// Of a function of DuckDB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Scalar,
    Unsteady,
    Aggregate,
    Other,
}

/// Functions that the catalogue says are steady, and that are not.
const UNSTEADY: [&str; 3] = ["age", "getvariable", "version"];
const UNSTEADY_PREFIX: &str = "current_";

const CATALOGUE: &str = "
    SELECT lower(function_name),
           coalesce(bool_or(function_type = 'aggregate'), false),
           coalesce(bool_or(function_type = 'scalar'), false),
           coalesce(bool_and(stability = 'CONSISTENT') FILTER (function_type = 'scalar'), false)
    FROM duckdb_functions() GROUP BY ALL";

impl Refusal {
    pub(super) fn new(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { what: what.into(), hint: Some(hint.into()) }
    }

    /// What DuckDB says, less the statement around the expression.
    fn of(error: &duckdb::Error) -> Self {
        let text = error.to_string();
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let what = format!("DuckDB: {}", lines.next().unwrap_or_default());
        let hint = lines.find(|line| line.starts_with("Did you mean")).map(str::to_owned);
        Self { what, hint }
    }
}

impl Checker {
    /// Checks an expression over a table with some columns. Returns those that it names.
    pub(in crate::definitions) fn check(
        &mut self,
        text: &str,
        columns: Columns<'_>,
        known: &[&str],
        expect: Expect,
    ) -> Result<Vec<String>, Refusal> {
        let words = words(text)?;
        let open = match &mut self.0 {
            Some(open) => open,
            none => none.insert(Open::new().map_err(|error| Refusal::of(&error))?),
        };
        for function in &words.functions {
            open.is_function(function)?;
        }
        for name in &words.names {
            if columns(name).is_none() {
                return Err(Refusal {
                    what: format!("`{name}` is no column here"),
                    hint: hint(name, known),
                });
            }
        }
        let names: Vec<String> = words.names.into_iter().collect();
        let typed = names.iter().filter_map(|name| Some((name.as_str(), columns(name)?)));
        // A table has at least one column.
        open.binds(text, typed.chain([(" ", "DOUBLE")]), expect)?;
        Ok(names)
    }
}

impl Open {
    fn new() -> Result<Self, duckdb::Error> {
        let sandbox = Sandbox::new()?;
        let functions = catalogue(&sandbox)?;
        Ok(Self { sandbox, functions })
    }

    fn is_function(&self, name: &str) -> Result<(), Refusal> {
        match self.functions.get(name) {
            Some(Kind::Scalar) => Ok(()),
            Some(Kind::Unsteady) => Err(Refusal::new(
                format!("`{name}` does not give the same each time"),
                "features are a function of readings alone; their time is `event`",
            )),
            Some(Kind::Aggregate) => Err(Refusal::new(
                format!("`{name}` is an aggregate of several rows, and here is one"),
                "aggregates are computed of windows; of some values of one row, use greatest, least or +",
            )),
            Some(Kind::Other) => Err(Refusal::new(
                format!("`{name}` is a macro or a table of DuckDB, not a function of values"),
                "write out what it computes",
            )),
            None => {
                let scalars = self.functions.iter().filter(|(_, kind)| **kind == Kind::Scalar);
                let near = nearest(name, scalars.map(|(own, _)| own.as_str()));
                Err(Refusal {
                    what: format!("there is no function `{name}`"),
                    hint: near.map(|near| format!("did you mean `{near}`?")),
                })
            }
        }
    }

    /// Lets DuckDB understand the expression over such a table.
    fn binds<'a>(
        &self,
        text: &str,
        columns: impl IntoIterator<Item = (&'a str, &'a str)>,
        expect: Expect,
    ) -> Result<(), Refusal> {
        let refuse = |error: duckdb::Error| Refusal::of(&error);
        let connection = &self.sandbox.connection;
        self.sandbox.make_table(columns).map_err(refuse)?;
        let describe = format!("DESCRIBE SELECT ({text}\n) FROM batch");
        let mut statement = connection.prepare(&describe).map_err(refuse)?;
        let types = statement.query_map([], |row| row.get::<_, String>(1)).map_err(refuse)?;
        let types = types.collect::<Result<Vec<_>, _>>().map_err(refuse)?;
        let [found] = types.as_slice() else {
            return Err(Refusal::new(
                format!("this gives {} values", types.len()),
                "one expression gives one",
            ));
        };
        match expect {
            Expect::Truth if found != "BOOLEAN" => Err(Refusal::new(
                format!("this gives {found}, expected BOOLEAN"),
                "compare with something, as in `value > 0`",
            )),
            Expect::Number if !is_number(found) => Err(Refusal::new(
                format!("this gives {found}, expected a number"),
                "take a number of it, as in `hour(event)` or `CAST(… AS DOUBLE)`",
            )),
            _ => {
                // As it will run: DuckDB refuses some functions only there.
                let program = Program::new(&[vec![("x", text)]]);
                connection.prepare(program.sql()).map_err(refuse)?;
                Ok(())
            }
        }
    }
}

fn catalogue(sandbox: &Sandbox) -> Result<HashMap<String, Kind>, duckdb::Error> {
    let mut statement = sandbox.connection.prepare(CATALOGUE)?;
    let rows = statement.query_map([], |row| {
        let name: String = row.get(0)?;
        let (is_aggregate, is_scalar, is_steady) = (row.get(1)?, row.get(2)?, row.get(3)?);
        let is_steady: bool = is_steady;
        let is_known_unsteady =
            UNSTEADY.contains(&name.as_str()) || name.starts_with(UNSTEADY_PREFIX);
        let kind = match (is_aggregate, is_scalar) {
            (true, _) => Kind::Aggregate,
            _ if is_known_unsteady => Kind::Unsteady,
            (_, false) => Kind::Other,
            _ if is_steady => Kind::Scalar,
            _ => Kind::Unsteady,
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
    use super::{super::READING, *};

    fn check(text: &str, expect: Expect, found: Result<&str, &str>) {
        let column = |name: &str| READING.iter().find(|(own, _)| *own == name).map(|(_, of)| *of);
        let known = READING.map(|(name, _)| name);
        let checked = Checker::default().check(text, &column, &known, expect);
        let checked = checked.map(|names| names.join(" "));
        let checked = checked.map_err(|Refusal { what, hint, .. }| match hint {
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
        let number = |text, names| check(text, Expect::Number, Ok(names));
        number("value * 1.8 + 32", "value");
        number("ln(value)", "value");
        number("CASE WHEN hour(event) < 6 THEN NULL ELSE value END", "event value");
        number("value > 3", "value");
        number("greatest(value, 0) ^ 2", "value");
        number("1", "");
        check("device LIKE 'a%' AND value BETWEEN 1 AND 2", Expect::Truth, Ok("device value"));
        check("dayofweek(event) IN (0, 6)", Expect::Truth, Ok("event"));
    }

    #[test]
    fn others_are_refused_with_a_reason() {
        let number = |text, why| check(text, Expect::Number, Err(why));
        number("valeu * 2", "`valeu` is no column here | did you mean `value`?");
        number("lnn(value)", "there is no function `lnn` | did you mean `ln`?");
        number("sum(value)", "`sum` is an aggregate");
        number("row_number() over ()", "`over` has no meaning here");
        number("(select 1)", "`select` has no meaning here");
        number("random()", "`random` does not give the same each time");
        number("epoch(now())", "`now` does not give the same each time");
        number("epoch(age(event))", "`age` does not give the same each time");
        number("current_date", "`current_date` is no column here");
        number("fmod(value, 2)", "`fmod` is a macro");
        number("value +", "DuckDB: ");
        number("value 2", "DuckDB: ");
        number("value + metric", "DuckDB: ");
        number("metric", "this gives VARCHAR, expected a number");
        number("event", "this gives TIMESTAMP, expected a number");
        number("error('x')", "`error` does not give the same each time");
        number("value AS x", "`x` is no column here");
        check("value", Expect::Truth, Err("this gives DOUBLE, expected BOOLEAN"));
    }
}
