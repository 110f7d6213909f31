//! Checks the requests and answers that `docs/api.md` shows. `MICROCLIMATE_BLESS=1` writes the
//! present answers, and the OpenAPI document.

use std::{fs, path::PathBuf};

use serde_json::Value;

use crate::site::{ApiSite, HttpAnswer};

/// Keys whose values differ between runs.
const VOLATILE_KEYS: [&str; 1] = ["age_s"];

#[tokio::test(flavor = "multi_thread")]
async fn the_documented_answers_are_the_answers() {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/api.md");
    let text = fs::read_to_string(&file).unwrap();
    let site = ApiSite::new().await;
    let mut written = String::new();
    let mut examples = 0;
    let mut wrong = Vec::new();
    let mut rest = text.as_str();
    while let Some((request, shown, range)) = next_example(rest) {
        examples += 1;
        let answer = run_curl(&site, request).await;
        let found = print_answer(&answer, shown_part(request));
        if without_volatile_lines(&found) != without_volatile_lines(shown) {
            wrong.push(format!("{request}\nanswers\n{found}"));
        }
        written.push_str(&rest[..range.0]);
        written.push_str(&found);
        rest = &rest[range.1..];
    }
    written.push_str(rest);
    assert!(examples > 10, "only {examples} examples in {}", file.display());
    if std::env::var_os("MICROCLIMATE_BLESS").is_some() {
        fs::write(&file, written).unwrap();
    } else {
        assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    }
}

/// Finds a request, the answer after it, and the position of the answer.
fn next_example(text: &str) -> Option<(&str, &str, (usize, usize))> {
    const REQUEST: &str = "```sh\ncurl ";
    const ANSWER: &str = "\n```\n\n```";
    let mut from = 0;
    loop {
        let start = from + text[from..].find(REQUEST)? + REQUEST.len();
        let end = start + text[start..].find("\n```")?;
        from = end;
        // A request without an answer after it is only an illustration.
        if !text[end..].starts_with(ANSWER) {
            continue;
        }
        let kind = end + ANSWER.len();
        let shown = kind + text[kind..].find('\n')? + 1;
        let until = shown + text[shown..].find("\n```")?;
        return Some((&text[start..end], &text[shown..until], (shown, until)));
    }
}

/// Returns the part of the answer that a request shows, as in `curl 'url' | jq .lineage`.
fn shown_part(request: &str) -> Option<&str> {
    request.split_once(" | jq .").map(|(_, key)| key.trim())
}

/// Runs `curl [-H 'name: value'] [-d 'body'] 'url'`.
async fn run_curl(site: &ApiSite, request: &str) -> HttpAnswer {
    let request = request.split(" | jq ").next().unwrap_or_default().replace("\\\n", " ");
    let mut words = Vec::new();
    let mut parts = request.split('\'');
    // Text between quotes is one word; spaces separate the other words.
    while let Some(outside) = parts.next() {
        words.extend(outside.split_whitespace().map(str::to_owned));
        words.extend(parts.next().map(str::to_owned));
    }
    let (mut headers, mut body, mut url) = (Vec::new(), None, None);
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "-s" => {}
            "-H" => headers.push(words.next().unwrap()),
            "-d" => body = words.next(),
            _ => url = Some(word),
        }
    }
    let url = url.unwrap();
    let path = url.strip_prefix("http://127.0.0.1:8082").unwrap_or_else(|| panic!("{url}"));
    let headers: Vec<(&str, &str)> =
        headers.iter().map(|header| header.split_once(": ").unwrap()).collect();
    let method = if body.is_some() { "POST" } else { "GET" };
    site.send_request(method, path, &headers, body.as_deref()).await
}

fn print_answer(answer: &HttpAnswer, part: Option<&str>) -> String {
    match serde_json::from_slice::<Value>(&answer.body) {
        Ok(value) => {
            let shown = part.map_or(&value, |key| &value[key]);
            serde_json::to_string_pretty(shown).unwrap()
        }
        Err(_) => String::from_utf8_lossy(&answer.body).trim_end().to_owned(),
    }
}

/// Removes the lines that depend on the clock, and replaces hashes of the definitions.
fn without_volatile_lines(text: &str) -> String {
    let is_hash = |word: &str| word.len() == 64 && word.bytes().all(|b| b.is_ascii_hexdigit());
    let words = text.split_inclusive(|c: char| !c.is_ascii_alphanumeric());
    let text: String = words
        .map(|word| if is_hash(word.trim_end_matches(['"', ','])) { "hash" } else { word })
        .collect();
    let line = |line: &str| {
        !VOLATILE_KEYS.iter().any(|key| line.trim_start().starts_with(&format!("\"{key}\"")))
    };
    text.lines().filter(|text_line| line(text_line)).collect::<Vec<_>>().join("\n")
}

/// `docs/openapi.json` is the answer of `GET /openapi.json`, committed so that its changes are
/// checked by eye.
#[test]
fn the_description_is_the_committed_one() {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/openapi.json");
    let found =
        serde_json::to_string_pretty(&microclimate_feature_store::openapi()).unwrap() + "\n";
    if std::env::var_os("MICROCLIMATE_BLESS").is_some() {
        fs::write(&file, found).unwrap();
    } else {
        let committed = fs::read_to_string(&file).unwrap();
        assert!(committed == found, "{} differs: MICROCLIMATE_BLESS=1 writes it", file.display());
    }
}
