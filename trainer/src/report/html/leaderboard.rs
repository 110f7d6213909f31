use std::{collections::BTreeSet, fmt::Write};

use super::super::{
    sentences,
    svg::{escape_markup, format_number},
};
use crate::{backtest::LeaderboardEntry, compare::TaskResult};

/// Headings, with the texts that are shown when they are pointed at.
const HEADINGS: [(&str, &str); 10] = [
    ("model", ""),
    ("error", "on the test set"),
    ("95 %", "of the error, from blocks of times at least a horizon long"),
    ("skill", "share of the best baseline's error that is avoided, with 95 %"),
    ("p", "Diebold–Mariano against the best baseline"),
    ("covered", "share of targets within the prediction interval, ± half its width"),
    ("fit, s", "while other models were fitted too"),
    ("predict, µs", "one row: median / 99 of 100"),
    ("size, kB", "of the saved model"),
    ("rows", "that the model was fitted on"),
];

/// Writes the leaderboard, and the models that are missing from it with the reasons.
pub(super) fn write_leaderboard(html: &mut String, task: &TaskResult) {
    let (quantity, metric) =
        (sentences::quantity_name(task), escape_markup(&sentences::describe_metric(task)));
    let what = sentences::capitalise_first(quantity);
    let _ = write!(html, "<p class='soft'>{what}: {metric}.</p><div class='wide'><table><tr>");
    for (name, title) in HEADINGS {
        let name = if name == "error" { quantity } else { name };
        let _ = write!(html, "<th title='{}'>{name}</th>", escape_markup(title));
    }
    html.push_str("</tr>");
    for entry in &task.leaderboard {
        write_row(html, task, entry);
    }
    html.push_str("</table></div>");
    if let Some(why) = sentences::describe_missing_intervals(task) {
        let _ = write!(html, "<p class='soft'>{}</p>", escape_markup(&why));
    }
    for (model, why) in &task.failed {
        let (model, why) = (escape_markup(model), escape_markup(why));
        let _ = write!(html, "<p class='soft'>{model} could not be fitted: {why}</p>");
    }
    write_scores(html, task);
    if let Some(thinned) = sentences::describe_thinning(task) {
        let _ = write!(html, "<p class='soft'>{}</p>", escape_markup(&thinned));
    }
}

/// Writes other scores of each model.
fn write_scores(html: &mut String, task: &TaskResult) {
    let all = task.leaderboard.iter().flat_map(|entry| entry.scores.keys());
    let names: BTreeSet<&str> = all.copied().collect();
    if names.is_empty() {
        return;
    }
    html.push_str(
        "<details><summary>More scores on the test set, with 95 %</summary><div class='wide'>",
    );
    html.push_str("<table><tr><th>model</th>");
    for name in &names {
        let _ = write!(html, "<th>{}</th>", escape_markup(&name.replace('_', " ")));
    }
    html.push_str("</tr>");
    for entry in &task.leaderboard {
        let _ = write!(html, "<tr><td>{}</td>", escape_markup(&entry.model));
        for name in &names {
            let _ =
                write!(html, "<td>{}</td>", escape_markup(&sentences::format_score(entry, name)));
        }
        html.push_str("</tr>");
    }
    html.push_str("</table></div></details>");
}

fn write_row(html: &mut String, task: &TaskResult, entry: &LeaderboardEntry) {
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
        interval
            .map_or(String::new(), |[a, b]| format!("{} – {}", format_number(a), format_number(b)))
    };
    let covered = entry.coverage.map_or(String::new(), |share| {
        let width =
            entry.half_width.map_or(String::new(), |half| format!(" ± {}", format_number(half)));
        format!("{}{width}", sentences::format_percent(share))
    });
    let latency = if entry.predict_us_p99 > 0.0 {
        format!("{} / {}", format_number(entry.predict_us), format_number(entry.predict_us_p99))
    } else {
        format_number(entry.predict_us)
    };
    let _ = write!(
        html,
        "<tr class='{class}'><td>{}{}{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td>\
         <td>{covered}</td><td>{:.2}</td><td>{latency}</td><td>{}</td><td>{}</td></tr>",
        escape_markup(&entry.model),
        tag(is_champion, "champion"),
        tag(entry.is_baseline, "baseline"),
        format_number(entry.value),
        range(entry.interval),
        sentences::format_skill(entry.skill, entry.skill_interval),
        escape_markup(&sentences::format_p_value(entry.test)),
        entry.fit_s,
        format_number(entry.size_bytes as f64 / 1000.0),
        entry.rows
    );
}
