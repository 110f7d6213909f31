use std::collections::{HashMap, hash_map::Entry};

use serde_json::Value;

use super::protocol::{ColumnCondition, ComparisonOperator, FirstRows, NeededRows};

/// Scans in a query plan.
#[derive(Debug, Default)]
pub(super) struct PlannedScans {
    /// Number of scans.
    pub(super) count: usize,
    /// Needed rows by table, as `schema.name`.
    pub(super) by_table: HashMap<String, NeededRows>,
}

/// Finds, in DuckDB's plan of a query as JSON, which rows of each table it needs. Excludes only
/// rows that the plan itself would exclude where it reads the table. Filters that are not
/// understood exclude nothing.
pub(super) fn parse_planned_scans(plan: &str) -> PlannedScans {
    let mut scans = PlannedScans::default();
    let Ok(Value::Array(roots)) = serde_json::from_str(plan) else { return scans };
    // Each node with the order and number of rows that it must give, if known.
    let mut nodes: Vec<(Value, Option<(String, u64)>)> =
        roots.into_iter().map(|node| (node, None)).collect();
    while let Some((mut node, above)) = nodes.pop() {
        let name = node.get("name").and_then(Value::as_str).unwrap_or_default().trim().to_owned();
        let info = node.get("extra_info").cloned().unwrap_or_default();
        let below = match name.as_str() {
            "TOP_N" => parse_top_n(&info),
            "PROJECTION" => above.clone().filter(|(order, _)| !order.starts_with('#')),
            _ => None,
        };
        if let Some(Value::Array(children)) = node.get_mut("children").map(Value::take) {
            nodes.extend(children.into_iter().map(|child| (child, below.clone())));
        }
        let Some(table) = info.get("Table").and_then(Value::as_str) else { continue };
        scans.count += 1;
        let filters: Vec<&str> = json_texts(info.get("Filters"));
        let is_whole = filters.iter().all(|filter| is_understood(filter));
        let conditions: Vec<ColumnCondition> =
            filters.into_iter().flat_map(parse_conditions).collect();
        let first = above.filter(|_| is_whole).and_then(|(order, rows)| {
            let (column, is_descending) =
                parse_order(&order, table, &json_texts(info.get("Projections")))?;
            Some(FirstRows { column, is_descending, rows })
        });
        match scans.by_table.entry(parse_table_name(table)) {
            Entry::Vacant(vacant) => {
                let any_of = if conditions.is_empty() { Vec::new() } else { vec![conditions] };
                vacant.insert(NeededRows { any_of, first });
            }
            Entry::Occupied(mut there) => {
                let NeededRows { any_of, first } = there.get_mut();
                *first = None;
                if conditions.is_empty() {
                    any_of.clear();
                } else if !any_of.is_empty() && !any_of.contains(&conditions) {
                    any_of.push(conditions);
                }
            }
        }
    }
    scans
}

/// Returns the texts of a JSON string or list.
fn json_texts(value: Option<&Value>) -> Vec<&str> {
    match value {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(all)) => all.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

/// Returns the first order of a `TOP_N`, and how many rows it takes.
fn parse_top_n(info: &Value) -> Option<(String, u64)> {
    let number = |key: &str| info.get(key).and_then(Value::as_str)?.parse::<u64>().ok();
    let order = json_texts(info.get("Order By")).first().map(ToString::to_string)?;
    let offset = match info.get("Offset") {
        Some(_) => number("Offset")?,
        None => 0,
    };
    Some((order, number("Top")?.checked_add(offset)?))
}

/// Returns the column of the table that an order names, and whether it is descending. The order
/// has the column's full name, or its number among the columns that are read.
fn parse_order(order: &str, table: &str, read: &[&str]) -> Option<(String, bool)> {
    let (expression, direction) = order.rsplit_once(' ')?;
    let is_descending = match direction {
        "DESC" => true,
        "ASC" => false,
        _ => return None,
    };
    let quoted_column = match expression.strip_prefix('#') {
        Some(number) => *read.get(number.parse::<usize>().ok()?)?,
        None => expression.strip_prefix(table)?.strip_prefix('.')?,
    };
    let column = quoted_column.trim_matches('"');
    let is_name = column.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    is_name.then(|| (column.to_owned(), is_descending))
}

/// Returns whether [`parse_conditions`] captures the whole filter.
fn is_understood(filter: &str) -> bool {
    if filter.starts_with("optional: ") {
        // An optional filter is true for all rows that matter.
        return true;
    }
    let parts = tokenize_filter(filter).map_or(0, |tokens| {
        tokens.split(|token| matches!(token, FilterToken::Word(word) if word == "AND")).count()
    });
    parts > 0 && parse_conditions(filter).len() == parts
}

/// Returns the `schema.name` of a table that a plan names like `memory.features."rows"`.
fn parse_table_name(text: &str) -> String {
    let parts: Vec<&str> =
        text.rsplitn(3, '.').take(2).map(|part| part.trim_matches('"')).collect();
    parts.into_iter().rev().collect::<Vec<_>>().join(".")
}

/// Parses the understood conditions of a filter, all of which the filter implies:
/// `event>='2025-01-01 00:00:00'::TIMESTAMP AND event<…`, `optional: zone IN ('a', 'b')`.
fn parse_conditions(filter: &str) -> Vec<ColumnCondition> {
    let required = filter.strip_prefix("optional: ").unwrap_or(filter);
    let Some(tokens) = tokenize_filter(required) else { return Vec::new() };
    // A single alternative implies nothing.
    if tokens.iter().any(|token| matches!(token, FilterToken::Word(word) if word == "OR")) {
        return Vec::new();
    }
    let parts = tokens.split(|token| matches!(token, FilterToken::Word(word) if word == "AND"));
    parts.filter_map(parse_condition).collect()
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum FilterToken {
    Word(String),
    Text(String),
    Symbol(String),
}

fn tokenize_filter(text: &str) -> Option<Vec<FilterToken>> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let is_word = |c: char| c.is_ascii_alphanumeric() || "_.+-".contains(c);
        let taken = if first == '\'' {
            let mut content = String::new();
            let mut end = 1;
            loop {
                let after = rest.get(end..)?;
                let next = after.chars().next()?;
                end += next.len_utf8();
                if next != '\'' {
                    content.push(next);
                } else if rest.get(end..)?.starts_with('\'') {
                    content.push('\'');
                    end += 1;
                } else {
                    break;
                }
            }
            tokens.push(FilterToken::Text(content));
            end
        } else if is_word(first) {
            let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
            tokens.push(FilterToken::Word(rest[..end].to_owned()));
            end
        } else {
            let known = ["<=", ">=", "::", "=", "<", ">", "(", ")", ","];
            let symbol = known.into_iter().find(|symbol| rest.starts_with(symbol))?;
            // `<>` is not a known operator, though it begins with one.
            if symbol == "<" && rest[1..].starts_with('>') {
                return None;
            }
            tokens.push(FilterToken::Symbol(symbol.to_owned()));
            symbol.len()
        };
        rest = rest[taken..].trim_start();
    }
    Some(tokens)
}

fn parse_condition(tokens: &[FilterToken]) -> Option<ColumnCondition> {
    let (FilterToken::Word(column), rest) = tokens.split_first()? else { return None };
    let (operator, rest) = rest.split_first()?;
    let is = |token: &FilterToken, symbol: &str| *token == FilterToken::Symbol(symbol.to_owned());
    let (comparison, values) = match operator {
        FilterToken::Symbol(symbol) => {
            let comparison = match symbol.as_str() {
                "=" => ComparisonOperator::Equal,
                "<" => ComparisonOperator::Less,
                "<=" => ComparisonOperator::LessOrEqual,
                ">" => ComparisonOperator::Greater,
                ">=" => ComparisonOperator::GreaterOrEqual,
                _ => return None,
            };
            (comparison, vec![parse_constant(rest)?])
        }
        FilterToken::Word(word) if word == "IN" => {
            let (first, rest) = rest.split_first()?;
            let (last, inner) = rest.split_last()?;
            if !is(first, "(") || !is(last, ")") {
                return None;
            }
            let values: Option<Vec<String>> =
                inner.split(|token| is(token, ",")).map(parse_constant).collect();
            (ComparisonOperator::In, values?)
        }
        _ => return None,
    };
    Some(ColumnCondition { column: column.clone(), comparison, values })
}

/// Parses a constant, with or without the type that it is cast to.
fn parse_constant(tokens: &[FilterToken]) -> Option<String> {
    let (FilterToken::Text(text) | FilterToken::Word(text), rest) = tokens.split_first()? else {
        return None;
    };
    match rest {
        [] => Some(text.clone()),
        [FilterToken::Symbol(cast), FilterToken::Word(sql_type)]
            if cast == "::"
                && ["TIMESTAMP", "VARCHAR", "DOUBLE", "BIGINT"].contains(&sql_type.as_str()) =>
        {
            Some(text.clone())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn condition_on(
        column: &str,
        comparison: ComparisonOperator,
        values: &[&str],
    ) -> ColumnCondition {
        let values = values.iter().map(ToString::to_string).collect();
        ColumnCondition { column: column.to_owned(), comparison, values }
    }

    #[test]
    fn what_is_understood_of_a_filter_follows_from_it() {
        let check = |filter: &str, expect: &[ColumnCondition]| {
            assert_eq!(parse_conditions(filter), expect, "{filter}");
        };
        check("site='farm'", &[condition_on("site", ComparisonOperator::Equal, &["farm"])]);
        check(
            "zone='it''s AND OR'",
            &[condition_on("zone", ComparisonOperator::Equal, &["it's AND OR"])],
        );
        check("value>-3.5e-7", &[condition_on("value", ComparisonOperator::Greater, &["-3.5e-7"])]);
        check(
            "event>='2025-01-01 00:00:00'::TIMESTAMP AND event<'2025-02-01 10:00:00'::TIMESTAMP",
            &[
                condition_on("event", ComparisonOperator::GreaterOrEqual, &["2025-01-01 00:00:00"]),
                condition_on("event", ComparisonOperator::Less, &["2025-02-01 10:00:00"]),
            ],
        );
        check(
            "optional: zone IN ('a', 'b')",
            &[condition_on("zone", ComparisonOperator::In, &["a", "b"])],
        );
        for nothing in [
            "zone='a' OR zone='b'",
            "optional: Dynamic Filter (event)",
            "zone!='a'",
            "zone<>'a'",
            "value IS NOT NULL",
            "a.b = struct_extract(c, 'd')",
            "zone='open",
            "event>='2025-01-01'::DATE",
            "(zone='a')",
        ] {
            check(nothing, &[]);
        }
        // Conditions that are not understood are skipped, so more rows are read.
        check(
            "value IS NOT NULL AND value<3",
            &[condition_on("value", ComparisonOperator::Less, &["3"])],
        );
    }

    #[test]
    fn a_table_that_is_read_twice_needs_the_rows_of_both() {
        let scan = |filters: &str| {
            format!(
                r#"{{"name": "SEQ_SCAN", "children": [], "extra_info": {{"Table": "memory.features.\"rows\"", "Filters": {filters}}}}}"#
            )
        };
        let plan = |scans: &[String]| {
            format!(
                r#"[{{"name": "UNION", "extra_info": {{}}, "children": [{}]}}]"#,
                scans.join(",")
            )
        };
        let two = parse_planned_scans(&plan(&[
            scan(r#""site='a'""#),
            scan(r#"["site='b'", "zone='c'"]"#),
        ]));
        assert_eq!((two.count, two.by_table["features.rows"].any_of.len()), (2, 2));
        let all =
            parse_planned_scans(&plan(&[scan(r#""site='a'""#), scan("[]"), scan(r#""site='b'""#)]));
        assert_eq!((all.count, all.by_table["features.rows"].any_of.len()), (3, 0));
        assert_eq!(parse_planned_scans("no plan").count, 0);
    }

    #[test]
    fn the_first_rows_in_an_order_are_enough_where_nothing_is_in_between() {
        let check = |order: &str, between: &str, filters: &str, expect: Option<(&str, bool)>| {
            let scan = format!(
                r#"{{"name": "SEQ_SCAN ", "children": [], "extra_info": {{"Table": "memory.silver.readings",
                    "Projections": ["zone", "event"], "Filters": {filters}}}}}"#
            );
            let below = match between {
                "" => scan,
                name => {
                    format!(r#"{{"name": "{name}", "children": [{scan}], "extra_info": {{}}}}"#)
                }
            };
            let plan = format!(
                r#"[{{"name": "TOP_N", "children": [{below}],
                    "extra_info": {{"Top": "10", "Offset": "5", "Order By": ["{order}"]}}}}]"#
            );
            let found =
                parse_planned_scans(&plan).by_table.remove("silver.readings").unwrap().first;
            let expect = expect.map(|(column, is_descending)| FirstRows {
                column: column.to_owned(),
                is_descending,
                rows: 15,
            });
            assert_eq!(found, expect, "{order} {between} {filters}");
        };
        let whole = r#"memory.silver.readings.\"event\" DESC"#;
        check(whole, "", "[]", Some(("event", true)));
        check(
            whole,
            "PROJECTION",
            r#"["zone='a'", "optional: Dynamic Filter (event)"]"#,
            Some(("event", true)),
        );
        check("#1 ASC", "", "[]", Some(("event", false)));
        // A name in a projection may be that of an expression.
        check("#1 ASC", "PROJECTION", "[]", None);
        check("event ASC", "", "[]", None);
        check("(memory.silver.readings.value * 2) DESC", "", "[]", None);
        for between in ["FILTER", "HASH_GROUP_BY", "WINDOW", "HASH_JOIN"] {
            check(whole, between, "[]", None);
        }
        for filter in [
            r#"["zone='a'", "(value IS NOT NULL)"]"#,
            r#""zone!='a'""#,
            r#""zone='a' OR zone='b'""#,
        ] {
            check(whole, "", filter, None);
        }
    }
}
