use std::{collections::BTreeSet, fmt::Write};

use super::super::{
    svg::{escaped, number},
    words,
};
use crate::{backtest::Entry, compare::TaskResult};

/// Headings, and what stands there when they are pointed at.
const HEAD: [(&str, &str); 10] = [
    ("model", ""),
    ("error", "on the test part"),
    ("95 %", "of the error, from blocks of times at least a horizon long"),
    ("skill", "share of the best baseline's error that is avoided, with 95 %"),
    ("p", "Diebold–Mariano against the best baseline"),
    ("covered", "share of truths within the prediction interval, ± half its width"),
    ("fit, s", "beside other models"),
    ("predict, µs", "one row: median / 99 of 100"),
    ("size, kB", "of the written model"),
    ("rows", "that it was fitted on"),
];

/// The leaderboard, and what could not be in it.
pub(super) fn write(html: &mut String, task: &TaskResult) {
    let (quantity, metric) = (words::quantity(task), escaped(&words::metric(task)));
    let what = words::capital(quantity);
    let _ = write!(html, "<p class='soft'>{what}: {metric}.</p><div class='wide'><table><tr>");
    for (name, title) in HEAD {
        let name = if name == "error" { quantity } else { name };
        let _ = write!(html, "<th title='{}'>{name}</th>", escaped(title));
    }
    html.push_str("</tr>");
    for entry in &task.leaderboard {
        line(html, task, entry);
    }
    html.push_str("</table></div>");
    if let Some(why) = words::no_intervals(task) {
        let _ = write!(html, "<p class='soft'>{}</p>", escaped(&why));
    }
    for (model, why) in &task.failed {
        let (model, why) = (escaped(model), escaped(why));
        let _ = write!(html, "<p class='soft'>{model} could not be fitted: {why}</p>");
    }
    scores(html, task);
    if let Some(thinned) = words::thinned(task) {
        let _ = write!(html, "<p class='soft'>{}</p>", escaped(&thinned));
    }
}

/// What else was computed of each model.
fn scores(html: &mut String, task: &TaskResult) {
    let all = task.leaderboard.iter().flat_map(|entry| entry.scores.keys());
    let names: BTreeSet<&str> = all.copied().collect();
    if names.is_empty() {
        return;
    }
    html.push_str(
        "<details><summary>More scores of the test part, with 95 %</summary><div class='wide'>",
    );
    html.push_str("<table><tr><th>model</th>");
    for name in &names {
        let _ = write!(html, "<th>{}</th>", escaped(&name.replace('_', " ")));
    }
    html.push_str("</tr>");
    for entry in &task.leaderboard {
        let _ = write!(html, "<tr><td>{}</td>", escaped(&entry.model));
        for name in &names {
            let _ = write!(html, "<td>{}</td>", escaped(&words::score(entry, name)));
        }
        html.push_str("</tr>");
    }
    html.push_str("</table></div></details>");
}

fn line(html: &mut String, task: &TaskResult, entry: &Entry) {
    let is_champion = task.champion.as_deref() == Some(entry.model.as_str());
    let class = match (is_champion, entry.is_baseline) {
        (true, _) => "champion",
        (false, true) => "baseline",
        (false, false) => "",
    };
    let tag = |is_so: bool, text: &str| {
        if is_so { format!("<span class='tag'>{text}</span>") } else { String::new() }
    };
    let range = |interval: Option<[f64; 2]>| {
        interval.map_or(String::new(), |[a, b]| format!("{} – {}", number(a), number(b)))
    };
    let covered = entry.coverage.map_or(String::new(), |share| {
        let width = entry.half_width.map_or(String::new(), |half| format!(" ± {}", number(half)));
        format!("{}{width}", words::percent(share))
    });
    let latency = if entry.predict_us_p99 > 0.0 {
        format!("{} / {}", number(entry.predict_us), number(entry.predict_us_p99))
    } else {
        number(entry.predict_us)
    };
    let _ = write!(
        html,
        "<tr class='{class}'><td>{}{}{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td>\
         <td>{covered}</td><td>{:.2}</td><td>{latency}</td><td>{}</td><td>{}</td></tr>",
        escaped(&entry.model),
        tag(is_champion, "champion"),
        tag(entry.is_baseline, "baseline"),
        number(entry.value),
        range(entry.interval),
        words::skill(entry.skill, entry.skill_interval),
        escaped(&words::p(entry.test)),
        entry.fit_s,
        number(entry.size_bytes as f64 / 1000.0),
        entry.rows
    );
}
