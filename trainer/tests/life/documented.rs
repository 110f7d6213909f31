//! Sends the requests shown in `docs/predictions.md` and compares the answers.
//! `MICROCLIMATE_BLESS=1` writes the answers, and the description of the interface, as they are
//! now.

use std::{fs, path::PathBuf};

use serde_json::{Value, json};

use super::{TASK, TestTrainer};

/// Members that differ from one run to the next: the clock, its measurements, and hashes.
const RUN_SPECIFIC_MEMBERS: [&str; 12] = [
    "features_at_ms",
    "features_age_s",
    "trained_ms",
    "span_ms",
    "at_ms",
    "latency_p99_us",
    "sha256",
    "data_hash",
    "calibration_ms",
    "test_ms",
    "size_bytes",
    "why",
];
/// Tolerance for mathematical libraries, which differ in the last bits.
const TOLERANCE: f64 = 1e-6;
/// Members that rest on the widths of intervals. Widths are learnt by the hour of the day, and the
/// made-up rows end now, so they depend on the minute of the test.
const WIDTH_MEMBERS: [&str; 3] = ["interval", "interval_score", "coverage"];
/// Tolerance for these.
const WIDTH_TOLERANCE: f64 = 0.05;

fn docs_path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name)
}

fn is_blessed() -> bool {
    std::env::var_os("MICROCLIMATE_BLESS").is_some()
}

#[tokio::test]
async fn the_documented_answers_are_the_answers() {
    let life = TestTrainer::with_champion("ridge").await;
    let text = fs::read_to_string(docs_path("predictions.md")).unwrap();
    let (mut written, mut examples, mut wrong) = (String::new(), 0, Vec::new());
    let mut rest = text.as_str();
    while let Some((request, shown, range)) = next_example(rest) {
        examples += 1;
        let answer = send_documented(&life, request).await;
        let is_same =
            serde_json::from_str(shown).is_ok_and(|shown| is_same_answer(&shown, &answer));
        let answer = serde_json::to_string_pretty(&answer).unwrap();
        if !is_same {
            wrong.push(format!("{request}\nanswers\n{answer}"));
        }
        written.push_str(&rest[..range.0]);
        written.push_str(if is_same { shown } else { &answer });
        rest = &rest[range.1..];
    }
    written.push_str(rest);
    assert!(examples >= 6, "only {examples} examples");
    if is_blessed() {
        fs::write(docs_path("predictions.md"), written).unwrap();
    } else {
        assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    }
}

/// Next request, the answer after it, and the position of that answer.
fn next_example(text: &str) -> Option<(&str, &str, (usize, usize))> {
    let start = text.find("```sh\ncurl ")? + "```sh\ncurl ".len();
    let end = start + text[start..].find("\n```")?;
    let from = end + text[end..].find("```json\n")? + "```json\n".len();
    let until = from + text[from..].find("\n```")?;
    Some((&text[start..end], &text[from..until], (from, until)))
}

/// Runs `curl [-d 'body'] 'url'`.
async fn send_documented(life: &TestTrainer, request: &str) -> Value {
    let quoted: Vec<&str> = request.split('\'').skip(1).step_by(2).collect();
    let url = quoted.last().unwrap_or_else(|| panic!("no url in {request}"));
    let path = url.strip_prefix("http://127.0.0.1:8083").unwrap();
    match quoted.as_slice() {
        [_] => life.get_json(path).await.1,
        [body, _] => life.post_json(path, &serde_json::from_str(body).unwrap()).await.1,
        _ => panic!("{request}"),
    }
}

fn is_same_answer(shown: &Value, found: &Value) -> bool {
    is_same_within(TOLERANCE, shown, found)
}

fn is_same_within(tolerance: f64, shown: &Value, found: &Value) -> bool {
    match (shown, found) {
        (Value::Object(shown), Value::Object(found)) => {
            shown.len() == found.len()
                && shown.iter().all(|(key, value)| {
                    let is_of_run = RUN_SPECIFIC_MEMBERS.contains(&key.as_str());
                    let tolerance = if WIDTH_MEMBERS.contains(&key.as_str()) {
                        WIDTH_TOLERANCE
                    } else {
                        tolerance
                    };
                    found
                        .get(key)
                        .is_some_and(|other| is_of_run || is_same_within(tolerance, value, other))
                })
        }
        (Value::Array(shown), Value::Array(found)) => {
            let is_same = |(a, b)| is_same_within(tolerance, a, b);
            shown.len() == found.len() && shown.iter().zip(found).all(is_same)
        }
        (Value::Number(shown), Value::Number(found)) => {
            let (a, b) = (shown.as_f64().unwrap(), found.as_f64().unwrap());
            (a - b).abs() <= tolerance * a.abs().max(1.0)
        }
        _ => shown == found,
    }
}

/// `docs/openapi-trainer.json` equals the answer of `GET /openapi.json`; changes to it are to be
/// reviewed by eye.
#[test]
fn the_description_is_the_committed_one() {
    let found =
        serde_json::to_string_pretty(&microclimate_trainer::rest::openapi()).unwrap() + "\n";
    let file = docs_path("openapi-trainer.json");
    if is_blessed() {
        fs::write(&file, found).unwrap();
        return;
    }
    let committed = fs::read_to_string(&file).unwrap();
    assert!(committed == found, "{} is another: MICROCLIMATE_BLESS=1 writes it", file.display());
}

#[tokio::test]
async fn every_path_is_described_and_what_is_wrong_has_a_code() {
    let life = TestTrainer::with_champion("ridge").await;
    let (_, document) = life.get_json("/openapi.json").await;
    let page = reqwest::get(format!("{}/docs", life.url)).await.unwrap().text().await.unwrap();
    for path in document["paths"].as_object().unwrap().keys() {
        assert!(page.contains(path.as_str()), "{path} is not on the page");
        // A described path exists: its answer is not "there is no GET /…".
        let path = path.replace("{task}", TASK).replace("{model}", TASK).replace("{version}", "1");
        let answer = reqwest::get(format!("{}{path}", life.url)).await.unwrap();
        assert!(!answer.text().await.unwrap().contains("there is no GET"), "{path}");
    }
    let check = async |path: &str, code: &str| {
        let (_, body) = life.get_json(path).await;
        assert_eq!(body["error"]["code"], json!(code), "{path}: {body}");
    };
    check("/v1/predict/temperature-10m?zone=s/a&zon=1", "bad_query").await;
    check("/v1/predict/weather?zone=s/a", "unknown_task").await;
    check("/v1/predict/temperature-10m?zone=s/nowhere", "unknown_zone").await;
    check("/v1/predict/light?zone=s/a", "no_champion").await;
    check("/v1/models/weather", "unknown_task").await;
    check("/v1/models/temperature-10m/log?limit=5000", "bad_request").await;
    let (_, body) = life.post_json("/v1/predict/temperature-10m", &json!({ "zon": "s/a" })).await;
    assert_eq!(body["error"]["code"], "bad_body", "{body}");
}
