use std::path::PathBuf;

use super::{ReportFolder, csv, html, markdown, relevance_report, terminal_report};
use crate::{
    backtest::fixture,
    compare::{ModelComparison, TaskResult},
};

/// A small comparison whose times and sizes, which differ between machines, are fixed.
fn sample_comparison() -> ModelComparison {
    let backtest = fixture::run_backtest(&["ridge", "decision tree"], false, 2, 2);
    let mut leaderboard = backtest.leaderboard;
    for (entry, i) in leaderboard.iter_mut().zip(1_u32..) {
        entry.fit_s = f64::from(i) / 10.0;
        entry.predict_us = f64::from(i);
        entry.predict_us_p99 = f64::from(3 * i);
        entry.size_bytes = 1000 * i as usize;
    }
    let temperature = TaskResult {
        champion: Some(backtest.champion.card.model),
        leaderboard,
        failed: vec![("oracle <b>".to_owned(), "it is away".to_owned())],
        sample: backtest.sample,
        facts: backtest.facts,
        details: backtest.details,
        leakage: backtest.leakage,
        relevance: backtest.relevance,
        took_s: 1.5,
        ..TaskResult::empty_for_task("temperature-10m")
    };
    let watering = TaskResult {
        not_applicable: Some("no soil_moisture in these zones".to_owned().into()),
        ..TaskResult::empty_for_task("watering")
    };
    let mut comparison = ModelComparison {
        run_id: "20130826T000000Z".to_owned(),
        dir: PathBuf::from("reports/20130826T000000Z"),
        tasks: vec![temperature, watering],
        ..ModelComparison::default()
    };
    comparison.run.started_ms = 1_377_475_200_000;
    comparison
}

#[test]
fn reports_are_as_they_were() {
    let comparison = sample_comparison();
    insta::assert_snapshot!("markdown", markdown::markdown_page(&comparison));
    insta::assert_snapshot!("html", html::html_page(&comparison));
    let texts: Vec<String> = comparison.tasks.iter().map(terminal_report).collect();
    insta::assert_snapshot!("terminal", texts.join("\n\n"));
    insta::assert_snapshot!("relevance", relevance_report(&comparison.tasks[0]));
}

#[test]
fn reports_say_why_there_are_no_intervals() {
    let mut task = sample_comparison().tasks.remove(0);
    assert!(terminal_report(&task).contains("More scores of stacked blend (95 %): bias "));
    task.no_intervals = Some("the test part is a minute".to_owned());
    for entry in &mut task.leaderboard {
        entry.score_intervals.clear();
    }
    let terminal = terminal_report(&task);
    let comparison = ModelComparison { tasks: vec![task], ..ModelComparison::default() };
    for text in [&terminal, &markdown::markdown_page(&comparison), &html::html_page(&comparison)] {
        assert!(text.contains("No intervals and no tests: the test part is a minute."), "{text}");
    }
    assert!(terminal.contains("More scores of stacked blend: bias "), "{terminal}");
}

#[test]
fn the_page_is_complete_in_itself_and_no_name_becomes_markup() {
    let page = html::html_page(&sample_comparison());
    for part in ["http:", "https:", "<script", "src=", "@import", "url(", "oracle <b>", "NaN"] {
        assert!(!page.contains(part), "{part}");
    }
    let count = |part: &str| page.matches(part).count();
    assert_eq!(count("<svg"), count("</svg>"));
    assert_eq!(count("<figure>"), count("<figcaption>"), "each figure has a caption");
    assert!(count("<figure>") >= 11, "{}", count("<figure>"));
}

#[test]
fn tables_have_a_value_for_each_heading() {
    let table = csv::leaderboard_csv(&sample_comparison());
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 7, "a heading, two baselines, two models, two blends");
    let columns = |line: &str| line.split(',').count();
    assert!(lines.iter().all(|line| columns(line) == columns(lines[0])), "{table}");
    assert!(lines[1..].iter().any(|line| line.starts_with("temperature-10m,ridge,rmse,0.")));
}

#[test]
fn a_run_folder_is_new_and_whole_before_it_is_the_latest() {
    let reports = tempfile::tempdir().unwrap();
    let (first, second) =
        (ReportFolder::create_new(reports.path()), ReportFolder::create_new(reports.path()));
    let (first, second) = (first.unwrap(), second.unwrap());
    assert_ne!(first.path, second.path);
    second.write_reports(&sample_comparison()).unwrap();
    let read = |path: PathBuf| -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    };
    let latest = read(reports.path().join("latest_run.json"));
    assert_eq!(latest["run_id"], second.run_id.as_str());
    let dir = reports.path().join(latest["dir"].as_str().unwrap());
    let run = read(dir.join("run.json"));
    let facts = &run["tasks"]["temperature-10m"]["facts"];
    assert_eq!(facts["data_hash"].as_str().unwrap().len(), 64);
    assert_eq!(facts["schema_hash"].as_str().unwrap().len(), 64);
    assert_eq!(facts["folds"].as_array().unwrap().len(), 2);
    assert!(facts["zones"][0]["train"].as_u64().unwrap() > 0);
    let board = read(dir.join("leaderboard.json"));
    let first = &board["tasks"][0]["leaderboard"][0];
    assert!(first["skill_interval"].is_array() && first["score_intervals"]["mae"].is_array());
    let left = std::fs::read_dir(reports.path()).unwrap().count();
    assert_eq!(left, 3, "two folders and latest_run.json, nothing half-written");
}
