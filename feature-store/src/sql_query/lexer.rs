use super::SqlRefusal;

/// A token of a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SqlToken {
    /// A name or keyword, in lower case.
    Word(String),
    /// A name in double quotes.
    Quoted(String),
    /// A text in single quotes.
    Text,
    /// A number.
    Number,
    /// One character of an operator, or punctuation.
    Symbol(char),
}

const SYMBOLS: &str = "(),.*+-/%=<>!~|&^[]{}:";

/// Splits a query into tokens; refuses anything that another scanner might split differently.
pub(super) fn tokenize(text: &str) -> Result<Vec<SqlToken>, SqlRefusal> {
    let bytes = text.as_bytes();
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let next = bytes.get(at + 1).copied();
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' => at += 1,
            b'\'' => {
                at = scan_quoted(bytes, at)?.1;
                tokens.push(SqlToken::Text);
            }
            b'"' => {
                let (content, end) = scan_quoted(bytes, at)?;
                at = end;
                tokens.push(SqlToken::Quoted(content));
            }
            b'-' if next == Some(b'-') => return Err(comment_refusal()),
            b'/' if next == Some(b'*') => return Err(comment_refusal()),
            b'&' if matches!(next, Some(b'\'' | b'"')) => {
                return Err(SqlRefusal::new("`&` before quotes", "put a space between them"));
            }
            b'a'..=b'z' | b'A'..=b'Z' | b'_' => {
                let end = scan_while(bytes, at, |b| b.is_ascii_alphanumeric() || b == b'_');
                let word = text[at..end].to_ascii_lowercase();
                if bytes.get(end) == Some(&b'\'') {
                    return Err(SqlRefusal::new(
                        format!("`{word}'…'` is a text with a prefix"),
                        "write texts in plain single quotes, with a space before them",
                    ));
                }
                at = end;
                tokens.push(SqlToken::Word(word));
            }
            b'0'..=b'9' => {
                at = scan_number(bytes, at)?;
                tokens.push(SqlToken::Number);
            }
            b';' => {
                return Err(SqlRefusal::new("`;` within the query", "send one query per request"));
            }
            _ if SYMBOLS.contains(char::from(byte)) => {
                at += 1;
                tokens.push(SqlToken::Symbol(char::from(byte)));
            }
            _ => {
                let found = text[at..].chars().next().unwrap_or_default();
                return Err(SqlRefusal::new(
                    format!("`{}` outside of quotes", found.escape_default()),
                    "there are no parameters, dollar quotes or escapes",
                ));
            }
        }
    }
    Ok(tokens)
}

fn comment_refusal() -> SqlRefusal {
    SqlRefusal::new("a comment", "remove comments; write `- -1` for a double minus")
}

/// Returns the content of the quotes at `start`, and where the text continues.
fn scan_quoted(bytes: &[u8], start: usize) -> Result<(String, usize), SqlRefusal> {
    let quote = bytes[start];
    let mut content = Vec::new();
    let mut at = start + 1;
    loop {
        match (bytes.get(at), bytes.get(at + 1)) {
            (Some(b), Some(n)) if *b == quote && *n == quote => {
                content.push(quote);
                at += 2;
            }
            (Some(b), _) if *b == quote => {
                return Ok((String::from_utf8_lossy(&content).into_owned(), at + 1));
            }
            (Some(0) | None, _) => {
                return Err(SqlRefusal::new(
                    format!("a `{}` without its end", char::from(quote)),
                    "close the quotes",
                ));
            }
            (Some(b), _) => {
                content.push(*b);
                at += 1;
            }
        }
    }
}

fn scan_number(bytes: &[u8], start: usize) -> Result<usize, SqlRefusal> {
    let digits = |at: usize| scan_while(bytes, at, |b| b.is_ascii_digit());
    let mut end = digits(start);
    if bytes.get(end) == Some(&b'.') {
        end = digits(end + 1);
    }
    if let Some(b'e' | b'E') = bytes.get(end) {
        let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
        end = digits(end + 1 + sign);
    }
    match bytes.get(end) {
        Some(b) if b.is_ascii_alphabetic() || *b == b'_' => {
            Err(SqlRefusal::new("a number with letters at its end", "put a space between them"))
        }
        _ => Ok(end),
    }
}

fn scan_while(bytes: &[u8], start: usize, is_in: impl Fn(u8) -> bool) -> usize {
    start + bytes[start..].iter().take_while(|b| is_in(**b)).count()
}
