use std::fmt::Write;

use crate::compare::{Comparison, TaskResult};

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#223}\
h1{font-size:1.6rem}h2{margin-top:2.5rem;border-top:1px solid #ccd;padding-top:1rem}\
table{border-collapse:collapse;font-size:.9rem}td,th{padding:.2rem .7rem;text-align:right}\
td:first-child,th:first-child{text-align:left}tr.champion{font-weight:600}tr.baseline{color:#778}\
svg{width:100%;height:auto;background:#f7f8fb;border-radius:6px;margin:.5rem 0}\
text{font:12px system-ui,sans-serif;fill:#556}.note{color:#556}";

/// A page that needs nothing from elsewhere.
pub(super) fn page(comparison: &Comparison) -> String {
    let mut html = format!(
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>\
         <title>Models compared, {run}</title><style>{STYLE}</style><h1>Models compared, run {run}</h1>\
         <p class=note>Each model was fitted on the first part of the time, chosen on the second, and \
         judged on the third. Between them lies an embargo of the task's horizon.</p>",
        run = comparison.run_id
    );
    for task in &comparison.tasks {
        let _ = write!(html, "<h2>{}: {}</h2>", escaped(&task.task), escaped(&task.title));
        match &task.not_applicable {
            Some(why) => {
                let _ = write!(html, "<p class=note>Not applicable: {}.</p>", escaped(why));
            }
            None => section(&mut html, task),
        }
    }
    html
}

fn section(html: &mut String, task: &TaskResult) {
    bars(html, task);
    html.push_str(
        "<table><tr><th>model<th>error<th>of baseline<th>covered<th>fit s<th>predict µs<th>size kB<th>rows</tr>",
    );
    for entry in &task.leaderboard {
        let is_champion = task.champion.as_deref() == Some(entry.model.as_str());
        let class = if is_champion {
            "champion"
        } else if entry.is_baseline {
            "baseline"
        } else {
            ""
        };
        let covered =
            entry.coverage.map_or(String::new(), |share| format!("{:.0} %", 100.0 * share));
        let _ = write!(
            html,
            "<tr class='{class}'><td>{}<td>{:.4}<td>{:.3}<td>{covered}<td>{:.2}<td>{:.1}<td>{:.1}<td>{}</tr>",
            escaped(&entry.model),
            entry.value,
            entry.value / entry.baseline_value,
            entry.fit_s,
            entry.predict_us,
            entry.size_bytes as f64 / 1000.0,
            entry.rows
        );
    }
    html.push_str("</table>");
    curves(html, task);
}

/// The error of each model as a bar, the best baseline's as a line.
fn bars(html: &mut String, task: &TaskResult) {
    let values = task.leaderboard.iter().map(|entry| entry.value);
    let largest = values.fold(f64::MIN_POSITIVE, f64::max);
    let height = 26 * task.leaderboard.len() + 10;
    let _ = write!(html, "<svg viewBox='0 0 900 {height}' role=img aria-label='error by model'>");
    for (i, entry) in task.leaderboard.iter().enumerate() {
        let (y, width) = (26 * i + 6, 560.0 * entry.value / largest);
        let colour = if entry.is_baseline { "#aab4c8" } else { "#3a7d5d" };
        let _ = write!(
            html,
            "<rect x=220 y={y} width='{width:.1}' height=18 fill='{colour}'/>\
             <text x=212 y={ty} text-anchor=end>{}</text><text x='{tx:.1}' y={ty}>{:.4}</text>",
            escaped(&entry.model),
            entry.value,
            ty = y + 13,
            tx = 226.0 + width
        );
    }
    if let Some(entry) = task.leaderboard.first() {
        let x = 220.0 + 560.0 * (entry.baseline_value / largest).min(1.0);
        let _ = write!(
            html,
            "<line x1='{x:.1}' x2='{x:.1}' y1=0 y2={height} stroke='#c0392b' stroke-dasharray='4 4'/>"
        );
    }
    html.push_str("</svg>");
}

/// What was said and what came, by time.
fn curves(html: &mut String, task: &TaskResult) {
    let sample = &task.sample;
    let (Some(first), Some(last)) = (sample.at_ms.first(), sample.at_ms.last()) else { return };
    let all = || sample.truth.iter().chain(&sample.predicted).copied();
    let (low, high) =
        (all().fold(f64::INFINITY, f64::min), all().fold(f64::NEG_INFINITY, f64::max));
    let span = (high - low).max(1e-9);
    let point = |at_ms: i64, value: f64| {
        let x = 50.0 + 830.0 * (at_ms - first) as f64 / (last - first).max(1) as f64;
        (x, 230.0 - 210.0 * (value - low) / span)
    };
    let _ = write!(
        html,
        "<p class=note>The champion on the test part, all zones: <span style='color:#223'>● what came</span>, \
         <span style='color:#c0392b'>● what was said</span>.</p>\
         <svg viewBox='0 0 900 260' role=img aria-label='predicted and true values by time'>\
         <text x=44 y=24 text-anchor=end>{high:.1}</text><text x=44 y=234 text-anchor=end>{low:.1}</text>\
         <text x=50 y=254>{}</text><text x=880 y=254 text-anchor=end>{}</text>",
        time(*first),
        time(*last)
    );
    for (values, colour) in [(&sample.truth, "#223"), (&sample.predicted, "#c0392b")] {
        let _ = write!(html, "<g fill='{colour}' fill-opacity=.6>");
        for (at_ms, value) in sample.at_ms.iter().zip(values) {
            let (x, y) = point(*at_ms, *value);
            let _ = write!(html, "<circle cx='{x:.1}' cy='{y:.1}' r=1.8 />");
        }
        html.push_str("</g>");
    }
    html.push_str("</svg>");
}

fn time(at_ms: i64) -> String {
    let at = jiff::Timestamp::from_millisecond(at_ms);
    at.map_or(String::new(), |at| at.strftime("%Y-%m-%d %H:%M UTC").to_string())
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
