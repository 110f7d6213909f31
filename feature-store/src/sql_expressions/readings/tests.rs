use proptest::prelude::*;
use telemetry::MetricTable;

use super::*;
use crate::sql_expressions::parse_definitions;

/// An expression that is computed both in SQL and in Rust.
#[derive(Clone, Debug)]
enum Expr {
    Value,
    Number(f64),
    Add(Box<Expr>, Box<Expr>),
    Less(Box<Expr>, Box<Expr>),
    Times(Box<Expr>, Box<Expr>),
    Over(Box<Expr>, Box<Expr>),
    Root(Box<Expr>),
    Larger(Box<Expr>, Box<Expr>),
    If(Box<Expr>, Box<Expr>, Box<Expr>),
}

impl Expr {
    fn sql(&self) -> String {
        match self {
            Self::Value => "value".to_owned(),
            Self::Number(number) => format!("({number:e})"),
            Self::Add(a, b) => format!("({} + {})", a.sql(), b.sql()),
            Self::Less(a, b) => format!("({} - {})", a.sql(), b.sql()),
            Self::Times(a, b) => format!("({} * {})", a.sql(), b.sql()),
            Self::Over(a, b) => format!("({} / {})", a.sql(), b.sql()),
            Self::Root(a) => format!("sqrt({})", a.sql()),
            Self::Larger(a, b) => format!("greatest({}, {})", a.sql(), b.sql()),
            Self::If(a, b, c) => {
                format!("CASE WHEN {} > 0 THEN {} ELSE {} END", a.sql(), b.sql(), c.sql())
            }
        }
    }

    /// Computes the value; `None` where the root of a negative number fails.
    fn rust(&self, value: f64) -> Option<f64> {
        let of = |expr: &Self| expr.rust(value);
        Some(match self {
            Self::Value => value,
            Self::Number(number) => *number,
            Self::Add(a, b) => of(a)? + of(b)?,
            Self::Less(a, b) => of(a)? - of(b)?,
            Self::Times(a, b) => of(a)? * of(b)?,
            Self::Over(a, b) => of(a)? / of(b)?,
            Self::Root(a) => Some(of(a)?).filter(|a| *a >= 0.0 || a.is_nan())?.sqrt(),
            Self::Larger(a, b) => larger(of(a)?, of(b)?),
            // DuckDB sorts NaN above all numbers.
            Self::If(a, b, c) => {
                let a = of(a)?;
                if a > 0.0 || a.is_nan() { of(b)? } else { of(c)? }
            }
        })
    }
}

fn larger(a: f64, b: f64) -> f64 {
    match (a.is_nan(), b.is_nan()) {
        (true, _) | (_, true) => f64::NAN,
        _ if b > a => b,
        _ => a,
    }
}

fn expression() -> impl Strategy<Value = Expr> {
    let leaf = prop_oneof![Just(Expr::Value), (-100.0..100.0_f64).prop_map(Expr::Number)];
    leaf.prop_recursive(4, 24, 3, |inner| {
        let one = || inner.clone().prop_map(Box::new);
        prop_oneof![
            (one(), one()).prop_map(|(a, b)| Expr::Add(a, b)),
            (one(), one()).prop_map(|(a, b)| Expr::Less(a, b)),
            (one(), one()).prop_map(|(a, b)| Expr::Times(a, b)),
            (one(), one()).prop_map(|(a, b)| Expr::Over(a, b)),
            one().prop_map(Expr::Root),
            (one(), one()).prop_map(|(a, b)| Expr::Larger(a, b)),
            (one(), one(), one()).prop_map(|(a, b, c)| Expr::If(a, b, c)),
        ]
    })
}

fn sql(definitions: &str) -> SqlReadingEvaluator {
    let text = format!("version = 1\n{definitions}");
    let read = parse_definitions("t", &text, &MetricTable::default()).unwrap();
    SqlReadingEvaluator::new(&read).unwrap().unwrap()
}

fn reading(metric: &str, value: f64) -> SqlReading<'_> {
    SqlReading { value, metric, site: "s", zone: "z", device: "d", event_ms: 3_600_000 }
}

proptest! {
    // Ten expressions per case, as opening DuckDB takes most of the time.
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn a_batch_in_sql_is_each_reading_in_rust(
        expressions in prop::collection::vec(expression(), 10),
        values in prop::collection::vec(-1e3..1e3_f64, 1..40),
    ) {
        let short = |expression: &&Expr| expression.sql().len() < 2000;
        let expressions: Vec<&Expr> = expressions.iter().filter(short).collect();
        let derived = expressions.iter().enumerate().map(|(i, expression)| {
            let text = expression.sql();
            format!("[derived.x{i}]\nfrom = 'co2'\nvalue = '{text}'\nwindows.1h = ['mean']\n")
        });
        let mut sql = sql(&derived.collect::<String>());
        let readings: Vec<SqlReading<'_>> = values.iter().map(|v| reading("co2", *v)).collect();
        let mapped = sql.evaluate_readings(&readings);
        for (i, expression) in expressions.iter().enumerate() {
            for (value, found) in values.iter().zip(&mapped.derived[format!("x{i}").as_str()]) {
                let expect = expression.rust(*value).filter(|x| x.is_finite()).unwrap_or(f64::NAN);
                let same = *found == expect || (found.is_nan() && expect.is_nan());
                let text = expression.sql();
                prop_assert!(same, "{text} of {value}: {found}, expected {expect}");
            }
        }
    }
}

#[test]
fn each_metric_has_its_own_expressions() {
    let mut sql = sql("
        [metrics.co2]
        where = 'value > 300 AND hour(event) = 1'
        [derived.co2_root]
        from = 'co2'
        where = 'value < 900'
        value = 'sqrt(value - 400)'
        windows.1h = ['mean']
        [derived.bright]
        from = 'light'
        where = 'value > 10'
        above = 5.0
        windows.1h = ['mean']");
    assert!(
        sql.has_expressions_for("co2")
            && sql.has_expressions_for("light")
            && !sql.has_expressions_for("humidity")
    );
    let mapped = sql.evaluate_readings(&[
        reading("co2", 500.0),
        reading("light", 7.0),
        reading("humidity", 1.0),
        reading("co2", 200.0),
        reading("co2", 1000.0),
        reading("light", 70.0),
    ]);
    assert_eq!(mapped.kept, [true, true, true, false, true, true]);
    let nan = f64::NAN;
    let root = [10.0, nan, nan, nan, nan, nan];
    let bright = [nan, nan, nan, nan, nan, 70.0];
    for (name, expect) in [("co2_root", root), ("bright", bright)] {
        let found = &mapped.derived[name];
        let same = found.iter().zip(expect).all(|(a, b)| *a == b || (a.is_nan() && b.is_nan()));
        assert!(same, "{name}: {found:?}, expected {expect:?}");
    }
    assert_eq!(sql.failure_counts()["derived.co2_root.value"], 1, "the root of -200");
    assert_eq!(sql.failure_counts()["metrics.co2.where"], 0);
}

#[test]
fn a_null_filter_keeps_nothing_and_is_no_failure() {
    let mut sql = sql("[metrics.co2]\nwhere = 'NULLIF(value, 1) > 0'");
    assert_eq!(
        sql.evaluate_readings(&[reading("co2", 1.0), reading("co2", 2.0)]).kept,
        [false, true]
    );
    assert_eq!(sql.failure_counts()["metrics.co2.where"], 0);
}

#[test]
fn without_sql_there_is_nothing_to_run() {
    assert!(SqlReadingEvaluator::new(&FeatureDefinitions::built_in()).unwrap().is_none());
}
