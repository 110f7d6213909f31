use std::fmt::Write;

use crate::{backtest::LeaderboardEntry, compare::ModelComparison};

const CSV_HEADER: &str = "task,model,metric,value,value_low,value_high,baseline_value,skill,skill_low,skill_high,\
dm_statistic,dm_p,is_baseline,is_champion,coverage,half_width,fit_s,predict_us,predict_us_p99,size_bytes,rows,rows_offered";

/// The leaderboards as one table; unknown values are empty.
pub(super) fn leaderboard_csv(comparison: &ModelComparison) -> String {
    let mut text = format!("{CSV_HEADER}\n");
    for task in &comparison.tasks {
        for entry in &task.leaderboard {
            let is_champion = task.champion.as_deref() == Some(entry.model.as_str());
            let _ = writeln!(text, "{},{}", task.task, csv_line(entry, is_champion));
        }
    }
    text
}

fn csv_line(entry: &LeaderboardEntry, is_champion: bool) -> String {
    let optional = |value: Option<f64>| value.map_or(String::new(), |value| value.to_string());
    let low = |interval: Option<[f64; 2]>| optional(interval.map(|[low, _]| low));
    let high = |interval: Option<[f64; 2]>| optional(interval.map(|[_, high]| high));
    // Names of models may contain a comma.
    let name = if entry.model.contains([',', '"']) {
        format!("\"{}\"", entry.model.replace('"', "\"\""))
    } else {
        entry.model.clone()
    };
    [
        name,
        entry.metric.to_owned(),
        entry.value.to_string(),
        low(entry.interval),
        high(entry.interval),
        entry.baseline_value.to_string(),
        entry.skill.to_string(),
        low(entry.skill_interval),
        high(entry.skill_interval),
        optional(entry.test.map(|test| test.statistic)),
        optional(entry.test.map(|test| test.p_value)),
        entry.is_baseline.to_string(),
        is_champion.to_string(),
        optional(entry.coverage),
        optional(entry.half_width),
        entry.fit_s.to_string(),
        entry.predict_us.to_string(),
        entry.predict_us_p99.to_string(),
        entry.size_bytes.to_string(),
        entry.rows.to_string(),
        entry.rows_offered.to_string(),
    ]
    .join(",")
}
