use std::{collections::BTreeSet, iter::Peekable, str::CharIndices};

use crate::sql::ExpressionError;

/// Identifiers in an expression.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct SqlIdentifiers {
    /// In small letters, as DuckDB takes them.
    pub names: BTreeSet<String>,
    /// What is called, in small letters.
    pub functions: BTreeSet<String>,
}

/// SQL keywords that are neither columns nor functions. A word that is not listed, such as
/// `current_date`, is treated as a column.
const KEYWORDS: [&str; 25] = [
    "and", "as", "between", "case", "cast", "coalesce", "else", "end", "escape", "false", "if",
    "ifnull", "ilike", "in", "interval", "is", "like", "not", "null", "nullif", "or", "then",
    "true", "try_cast", "when",
];
/// Keywords of expressions over more than one row.
const QUERY_KEYWORDS: [&str; 12] = [
    "distinct", "except", "exists", "filter", "from", "group", "order", "over", "select", "union",
    "where", "with",
];
/// Types, for casts.
const TYPE_NAMES: [&str; 19] = [
    "bigint",
    "bool",
    "boolean",
    "date",
    "decimal",
    "double",
    "float",
    "hugeint",
    "int",
    "integer",
    "real",
    "smallint",
    "text",
    "time",
    "timestamp",
    "tinyint",
    "ubigint",
    "uinteger",
    "varchar",
];

/// Whether a word has a meaning of its own in expressions, so that nothing can be named so.
#[must_use]
pub fn is_reserved(word: &str) -> bool {
    KEYWORDS.contains(&word) || TYPE_NAMES.contains(&word)
}

/// Takes an expression apart, as far as it must be to know what it can reach. What is
/// let through is DuckDB's to understand.
///
/// # Errors
/// Text that is no expression, such as a comment, a statement or an unclosed quote.
pub fn scan_identifiers(text: &str) -> Result<SqlIdentifiers, ExpressionError> {
    let mut scan = IdentifierScanner {
        text,
        chars: text.char_indices().peekable(),
        words: SqlIdentifiers::default(),
    };
    scan.scan_text()?;
    Ok(scan.words)
}

struct IdentifierScanner<'a> {
    text: &'a str,
    chars: Peekable<CharIndices<'a>>,
    words: SqlIdentifiers,
}

impl IdentifierScanner<'_> {
    fn scan_text(&mut self) -> Result<(), ExpressionError> {
        let mut open = Vec::new();
        // Whether a value has just ended, so that `*` multiplies it.
        let mut is_value = false;
        while let Some((at, c)) = self.chars.next() {
            let next = self.chars.peek().map(|(_, c)| *c);
            match c {
                ' ' | '\t' | '\n' | '\r' => {}
                '\'' => is_value = self.scan_quoted(c).map(|_| true)?,
                '"' => {
                    let name = self.scan_quoted(c)?;
                    self.words.names.insert(name.to_lowercase());
                    is_value = true;
                }
                '0'..='9' => is_value = self.scan_number(),
                '.' if !is_value && next.is_some_and(|c| c.is_ascii_digit()) => {
                    is_value = self.scan_number();
                }
                '.' => {
                    return Err(ExpressionError::new(
                        "a name with a dot has no meaning here",
                        "columns are named by themselves, functions called as f(x)",
                    ));
                }
                'a'..='z' | 'A'..='Z' | '_' => is_value = self.scan_word(at)?,
                '(' | '[' => {
                    open.push(if c == '(' { ')' } else { ']' });
                    is_value = false;
                }
                ')' | ']' if open.pop() == Some(c) => is_value = true,
                ')' | ']' => {
                    return Err(ExpressionError::new(
                        format!("`{c}` closes what was not opened"),
                        "each bracket that opens needs one that closes",
                    ));
                }
                '-' if next == Some('-') => return Err(comment_error("--")),
                '/' if next == Some('*') => return Err(comment_error("/*")),
                '-' if next == Some('>') => {
                    return Err(ExpressionError::new(
                        "`->` has no meaning here",
                        "functions of functions are not known",
                    ));
                }
                '*' if !is_value => {
                    return Err(ExpressionError::new(
                        "`*` for all columns has no meaning here",
                        "name the columns, or write the left side of the product",
                    ));
                }
                '+' | '-' | '*' | '/' | '%' | '^' | '=' | '<' | '>' | '!' | '|' | '&' | '~'
                | ',' | ':' => is_value = false,
                other => {
                    return Err(ExpressionError::new(
                        format!("`{other}` has no meaning here"),
                        "one expression: no statements, no parameters",
                    ));
                }
            }
        }
        match open.last() {
            Some(close) => Err(ExpressionError::new(
                format!("a `{close}` is missing"),
                "each bracket that opens needs one that closes",
            )),
            None => Ok(()),
        }
    }

    /// Scans the text between quotes; a doubled quote stands for one.
    fn scan_quoted(&mut self, quote: char) -> Result<String, ExpressionError> {
        let mut content = String::new();
        while let Some((_, c)) = self.chars.next() {
            if c == quote && self.chars.next_if(|(_, c)| *c == quote).is_none() {
                return Ok(content);
            }
            content.push(c);
        }
        Err(ExpressionError::new(format!("a {quote} is missing"), "what is quoted needs to end"))
    }

    fn scan_number(&mut self) -> bool {
        let is_part = |c: char| c.is_ascii_digit() || c == '.' || c == '_';
        while self.chars.next_if(|(_, c)| is_part(*c)).is_some() {}
        if self.chars.next_if(|(_, c)| matches!(c, 'e' | 'E')).is_some() {
            self.chars.next_if(|(_, c)| matches!(c, '+' | '-'));
            while self.chars.next_if(|(_, c)| c.is_ascii_digit()).is_some() {}
        }
        true
    }

    /// Scans a word; returns whether it is a value.
    fn scan_word(&mut self, start: usize) -> Result<bool, ExpressionError> {
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
        while self.chars.next_if(|(_, c)| is_part(*c)).is_some() {}
        let end = self.chars.peek().map_or(self.text.len(), |(at, _)| *at);
        let word = self.text[start..end].to_ascii_lowercase();
        if is_reserved(&word) {
            let is_value = matches!(word.as_str(), "end" | "null" | "true" | "false");
            return Ok(is_value || TYPE_NAMES.contains(&word.as_str()));
        }
        if QUERY_KEYWORDS.contains(&word.as_str()) {
            return Err(ExpressionError::new(
                format!("`{word}` has no meaning here"),
                "one expression over one row: no subqueries, no windows, no aggregates",
            ));
        }
        if self.text[end..].trim_start().starts_with('(') {
            self.words.functions.insert(word);
            Ok(false)
        } else {
            self.words.names.insert(word);
            Ok(true)
        }
    }
}

fn comment_error(mark: &str) -> ExpressionError {
    ExpressionError::new(
        format!("`{mark}` starts a comment"),
        "write comments in the file, after `#`",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: Result<(&str, &str), &str>) {
        let join = |words: &BTreeSet<String>| words.iter().cloned().collect::<Vec<_>>().join(" ");
        let found = scan_identifiers(text).map(|w| (join(&w.names), join(&w.functions)));
        let found = found.as_ref().map(|(n, f)| (n.as_str(), f.as_str()));
        assert_eq!(found.map_err(|refusal| refusal.what.as_str()), expect, "{text}");
    }

    #[test]
    fn names_and_functions() {
        check("value * 1.8 + 32", Ok(("value", "")));
        check("ln(Value) + \"zone\" + .5 + 1e-3", Ok(("value zone", "ln")));
        check(
            "CASE WHEN device = 'it''s (' THEN NULL ELSE value END * 2",
            Ok(("device value", "")),
        );
        check("cast(value AS decimal(5, 2))::double", Ok(("value", "")));
        check("hour (event) IN (1, 2)", Ok(("event", "hour")));
        check("current_date", Ok(("current_date", "")));
    }

    #[test]
    fn what_could_reach_further_is_refused() {
        check("(SELECT value)", Err("`select` has no meaning here"));
        check("sum(value) over ()", Err("`over` has no meaning here"));
        check("value; drop table x", Err("`;` has no meaning here"));
        check("value) + (value", Err("`)` closes what was not opened"));
        check("(value", Err("a `)` is missing"));
        check("value -- c", Err("`--` starts a comment"));
        check("value /* c */", Err("`/*` starts a comment"));
        check("'value", Err("a ' is missing"));
        check("$1", Err("`$` has no meaning here"));
        check("?", Err("`?` has no meaning here"));
        check("main.now", Err("a name with a dot has no meaning here"));
        check("x -> x + 1", Err("`->` has no meaning here"));
        check("* ", Err("`*` for all columns has no meaning here"));
        check("list(*)", Err("`*` for all columns has no meaning here"));
    }
}
