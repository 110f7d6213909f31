use std::collections::HashSet;

use super::{SqlRefusal, functions::may_be_called, lexer::SqlToken};

/// Words that a query may begin with.
const FIRST_WORDS: [&str; 4] = ["select", "with", "from", "values"];
/// Words that begin statements other than queries, or queries that may not end.
const REFUSED_WORDS: &[&str] = &[
    "abort",
    "alter",
    "analyze",
    "attach",
    "begin",
    "call",
    "checkpoint",
    "comment",
    "commit",
    "copy",
    "create",
    "deallocate",
    "delete",
    "describe",
    "detach",
    "drop",
    "execute",
    "explain",
    "export",
    "force",
    "grant",
    "import",
    "insert",
    "install",
    "into",
    "load",
    "merge",
    "pivot",
    "pivot_longer",
    "pivot_wider",
    "pragma",
    "prepare",
    "recursive",
    "reset",
    "revoke",
    "rollback",
    "set",
    "show",
    "summarize",
    "table",
    "truncate",
    "unpivot",
    "update",
    "use",
    "vacuum",
    "variable",
];
/// Schemas that can be read.
const READABLE_SCHEMAS: [&str; 7] =
    ["bronze", "silver", "gold", "features", "alerts", "meta", "information_schema"];
/// Prefixes of system names.
const SYSTEM_PREFIXES: [&str; 4] = ["duckdb_", "pragma_", "sqlite_", "pg_"];
/// Functions that may stand in place of a table.
const TABLE_FUNCTIONS: [&str; 3] = ["range", "generate_series", "unnest"];
/// Words that end a list of tables.
const FROM_CLAUSE_ENDS: &[&str] = &[
    "where",
    "group",
    "having",
    "order",
    "limit",
    "offset",
    "qualify",
    "window",
    "union",
    "except",
    "intersect",
    "select",
    "values",
];

/// Refuses anything but a query over the store's tables.
pub(super) fn check_tokens(tokens: &[SqlToken]) -> Result<(), SqlRefusal> {
    let word = |at: usize| match tokens.get(at) {
        Some(SqlToken::Word(word)) => word.as_str(),
        _ => "",
    };
    let symbol = |at: usize, wanted: char| tokens.get(at) == Some(&SqlToken::Symbol(wanted));
    if !FIRST_WORDS.contains(&word(0)) {
        return Err(SqlRefusal::new("this is not a query", "begin with SELECT or WITH"));
    }
    let ctes = cte_names(tokens);
    // For each open bracket: its character, and whether its commas separate tables.
    let mut open: Vec<(char, bool)> = vec![(' ', false)];
    for (at, token) in tokens.iter().enumerate() {
        // The outermost level is never closed.
        let level = open.len() - 1;
        match token {
            SqlToken::Symbol(bracket @ ('(' | '[' | '{')) => open.push((*bracket, false)),
            SqlToken::Symbol(bracket @ (')' | ']' | '}')) => {
                let fits =
                    matches!((open[level].0, *bracket), ('(', ')') | ('[', ']') | ('{', '}'));
                if !fits {
                    return Err(SqlRefusal::new(
                        format!("an unmatched `{bracket}`"),
                        "match every bracket",
                    ));
                }
                open.pop();
            }
            SqlToken::Symbol(',') if open[level].1 => check_table_allowed(tokens, at + 1, &ctes)?,
            SqlToken::Word(query_word) => {
                if REFUSED_WORDS.contains(&query_word.as_str()) {
                    return Err(SqlRefusal::new(
                        format!("the word `{query_word}`"),
                        "only queries are run; put a column of that name in double quotes",
                    ));
                }
                check_name_allowed(query_word)?;
                let is_table = TABLE_FUNCTIONS.contains(&query_word.as_str());
                if symbol(at + 1, '(') && !may_be_called(query_word) && !is_table {
                    return Err(SqlRefusal::new(
                        format!("`{query_word}` is not among the functions that can be called"),
                        "there are arithmetic, text, time, aggregate and window functions",
                    ));
                }
                let is_comparison = word(at.wrapping_sub(1)) == "distinct"
                    && ["is", "not"].contains(&word(at.wrapping_sub(2)));
                if query_word == "join" || (query_word == "from" && !is_comparison) {
                    open[level].1 = true;
                    check_table_allowed(tokens, at + 1, &ctes)?;
                } else if FROM_CLAUSE_ENDS.contains(&query_word.as_str()) {
                    open[level].1 = false;
                } else if is_table && query_word != "unnest" && symbol(at + 1, '(') {
                    let before = word(at.wrapping_sub(1));
                    let is_listed = symbol(at.wrapping_sub(1), ',') && open[level].1;
                    if !is_listed && !["from", "join", "lateral"].contains(&before) {
                        return Err(SqlRefusal::new(
                            format!("`{query_word}` as a list"),
                            "it can stand after FROM or JOIN only",
                        ));
                    }
                }
            }
            SqlToken::Quoted(quoted) => {
                if !quoted.bytes().all(|b| b.is_ascii_alphanumeric() || b"_ -".contains(&b)) {
                    return Err(SqlRefusal::new(
                        "a quoted name with characters other than letters, digits, `_`, `-` and spaces",
                        "files cannot be read; write texts in single quotes",
                    ));
                }
                check_name_allowed(&quoted.to_ascii_lowercase())?;
                if symbol(at + 1, '(') {
                    return Err(SqlRefusal::new(
                        "a quoted name that is called",
                        "remove the quotes",
                    ));
                }
            }
            SqlToken::Symbol(_) | SqlToken::Text | SqlToken::Number => {}
        }
    }
    if open.len() > 1 {
        return Err(SqlRefusal::new("a bracket that is not closed", "match every bracket"));
    }
    Ok(())
}

/// Returns the names of the query's common table expressions, `WITH name AS (`.
fn cte_names(tokens: &[SqlToken]) -> HashSet<&str> {
    let is = |at: usize, word: &str| matches!(tokens.get(at), Some(SqlToken::Word(found)) if found == word);
    let mut names = HashSet::new();
    for (at, token) in tokens.iter().enumerate() {
        let (SqlToken::Word(name) | SqlToken::Quoted(name)) = token else { continue };
        if !is(at + 1, "as") {
            continue;
        }
        let not_words = usize::from(is(at + 2, "not"));
        let skipped = not_words + usize::from(is(at + 2 + not_words, "materialized"));
        if tokens.get(at + 2 + skipped) == Some(&SqlToken::Symbol('(')) {
            names.insert(name.as_str());
        }
    }
    names
}

/// Refuses anything but a table of the store in the place of a table.
fn check_table_allowed(
    tokens: &[SqlToken],
    at: usize,
    ctes: &HashSet<&str>,
) -> Result<(), SqlRefusal> {
    let (name, is_word) = match tokens.get(at) {
        Some(SqlToken::Symbol('(')) => return Ok(()),
        Some(SqlToken::Word(name)) if name == "lateral" => {
            return check_table_allowed(tokens, at + 1, ctes);
        }
        Some(SqlToken::Word(name)) => (name.as_str(), true),
        Some(SqlToken::Quoted(name)) => (name.as_str(), false),
        Some(SqlToken::Text) => ("'…'", false),
        _ => ("", false),
    };
    let next = tokens.get(at + 1);
    let is_table = match next {
        Some(SqlToken::Symbol('.')) => READABLE_SCHEMAS.contains(&name),
        Some(SqlToken::Symbol('(')) => is_word && TABLE_FUNCTIONS.contains(&name),
        _ => ctes.contains(name),
    };
    // A third part of the name would name a database.
    let is_long =
        next == Some(&SqlToken::Symbol('.')) && tokens.get(at + 3) == Some(&SqlToken::Symbol('.'));
    if is_table && !is_long {
        return Ok(());
    }
    Err(SqlRefusal::new(
        format!("`{name}` is not among the tables that can be read"),
        "there are bronze.records, silver.readings, gold.hourly, features.rows, and more in information_schema.tables",
    ))
}

fn check_name_allowed(name: &str) -> Result<(), SqlRefusal> {
    if SYSTEM_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) || name == "system" {
        return Err(SqlRefusal::new(
            format!("`{name}` is a system name"),
            "information_schema has the tables and their columns",
        ));
    }
    Ok(())
}
