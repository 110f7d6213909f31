use models::regressors;

use super::{
    SelectedCandidate, fixture,
    leakage::{self, LeakageReport, SkillEstimate},
    selection::{AVERAGE_BLEND, STACKED_BLEND},
};
use crate::split::DataSplit;

#[test]
fn a_comparison_is_the_same_on_any_number_of_threads() {
    let of = |threads| {
        let backtest = fixture::run_backtest(&["ridge", "decision tree"], false, 2, threads);
        let line = |own: &super::LeaderboardEntry| {
            (own.model.clone(), own.value, own.skill_interval, own.test.map(|test| test.p_value))
        };
        let relevance = backtest.relevance.unwrap();
        let lines: Vec<_> = backtest.leaderboard.iter().map(line).collect();
        (lines, backtest.champion.card.model, format!("{relevance:?}"), backtest.facts.data_hash)
    };
    assert_eq!(of(1), of(3));
}

#[test]
fn a_leaderboard_says_what_its_rows_say() {
    let backtest = fixture::run_backtest(&["ridge", "support vectors"], false, 1, 2);
    assert!(backtest.failed.is_empty(), "{:?}", backtest.failed);
    assert!(backtest.leaderboard.is_sorted_by(|a, b| a.value <= b.value));
    let named = |name: &str| backtest.leaderboard.iter().find(|own| own.model == name).unwrap();
    // Temperatures that go in waves are better extrapolated than taken as they are.
    let (linear, ridge) = (named("linear extrapolation"), named("ridge"));
    assert!(named("persistence").value > linear.value);
    assert_eq!(linear.skill, 0.0);
    assert!(linear.test.is_none() && linear.skill_interval.is_none(), "against itself");
    assert_eq!(ridge.skill, 1.0 - ridge.value / linear.value);
    let [low, high] = ridge.skill_interval.unwrap();
    assert!(low < ridge.skill && ridge.skill < high, "{low} {} {high}", ridge.skill);
    let [low, high] = ridge.interval.unwrap();
    assert!(low < ridge.value && ridge.value < high);
    let scores = &ridge.scores;
    assert!((scores["rmse"] - ridge.value).abs() < 1e-12 && scores["mae"] < scores["rmse"]);
    let [low, high] = ridge.score_intervals["mae"];
    assert!(low < scores["mae"] && scores["mae"] < high);
    let [from, to] = ridge.score_intervals["rmse"];
    let [low, high] = ridge.interval.unwrap();
    assert!((from - low).abs() < 1e-12 && (to - high).abs() < 1e-12, "the same draws");
    assert!(scores.contains_key("crps") && !ridge.score_intervals.contains_key("crps"));
    assert_eq!(backtest.no_intervals, None);
    assert!(ridge.predict_us > 0.0 && ridge.predict_us <= ridge.predict_us_p99);
    assert!(ridge.coverage.unwrap() > 0.8, "{:?}", ridge.coverage);
    assert_eq!(ridge.rows, ridge.rows_offered);
    let facts = &backtest.facts;
    assert_eq!(facts.zones.iter().map(|zone| zone.test).sum::<usize>(), facts.folds[0].test);
    let points = &backtest.details.as_ref().unwrap().points;
    assert!(points.len() <= 600 && points.is_sorted_by_key(|point| point.at_ms));
}

#[test]
fn a_baseline_is_selected_on_all_rows_before_the_test_and_a_model_at_origins() {
    let mut parts = fixture::room_splits(false, 1);
    // Origins after which nothing ever changes: there persistence makes no error.
    for origin in std::sync::Arc::make_mut(&mut parts[0].origins) {
        origin.validation.reference = origin.validation.actual_values().to_vec();
    }
    let backtest = fixture::run_backtest_of(&parts, &[], 1);
    let named = |name: &str| backtest.leaderboard.iter().find(|own| own.model == name).unwrap();
    assert!(named("persistence").chosen_by < named("linear extrapolation").chosen_by);
    assert_eq!(backtest.champion.card.model, "linear extrapolation");
    let champion =
        fixture::run_backtest_of(&fixture::room_splits(false, 1), &["ridge"], 1).champion;
    assert_eq!(champion.card.model, "ridge");
}

#[test]
fn blends_are_candidates_and_every_candidate_has_its_place() {
    let backtest = fixture::run_backtest(&["ridge", "elastic net", "decision tree"], false, 1, 2);
    let named = |name: &str| {
        let found = backtest.leaderboard.iter().find(|own| own.model == name);
        found.unwrap_or_else(|| panic!("no {name}"))
    };
    let (stacked, average) = (named(STACKED_BLEND), named(AVERAGE_BLEND));
    let members = ["ridge", "elastic net", "decision tree"].map(named);
    let worst = members.iter().map(|own| own.value).fold(0.0, f64::max);
    assert!(stacked.value < worst && average.value < worst);
    assert_eq!(stacked.size_bytes > 0, stacked.predict_us_p99 > 0.0);
    // The simplest one within a standard error is first, the others follow by their error.
    let order: Vec<&str> = backtest.selected.iter().map(|own| own.model.as_str()).collect();
    let errors: Vec<f64> = order.iter().map(|own| named(own).chosen_by).collect();
    assert!(errors[1..].is_sorted(), "{order:?} {errors:?}");
    assert!(order.iter().enumerate().all(|(i, own)| named(own).selected == Some(i + 1)));
    assert_eq!(order.len(), 6, "three models, two blends and one baseline");
    assert_eq!(named("persistence").selected, None);
    assert!(backtest.leaderboard.iter().all(|own| own.chosen_by_error > 0.0));
    let losses = &backtest.selected[0].losses;
    let mean = losses.iter().sum::<f64>() / losses.len() as f64;
    assert!((mean.sqrt() - named(order[0]).value).abs() < 1e-12, "table and gate: one quantity");
}

#[test]
fn a_blend_is_kept_as_one_model_and_fitted_again_on_all_rows() {
    let names = ["ridge", "decision tree"];
    let parts = fixture::room_splits(false, 1);
    let choose = |selected: &[SelectedCandidate]| {
        let found = selected.iter().position(|own| own.model == STACKED_BLEND);
        found.ok_or_else(|| "no blend".to_owned())
    };
    let backtest = fixture::run_backtest_with(&parts, &names, 1, &choose);
    let entry = backtest.leaderboard.iter().find(|own| own.model == STACKED_BLEND).unwrap();
    let test = parts[0].test.to_dataset().unwrap();
    let error = |artifact: &models::ModelArtifact| {
        let said = artifact.predictor.predict(test.x.view());
        let spec = *fixture::temperature_task().spec();
        let levels = parts[0].test.to_levels(&said, &spec);
        let squares = (&levels - &parts[0].test.actual_values()).mapv(|own| own * own);
        squares.mean().unwrap().sqrt()
    };
    let evaluated = backtest.champion;
    assert_eq!(evaluated.card.model, STACKED_BLEND);
    assert!((error(&evaluated) - entry.value).abs() < 1e-9, "it predicts as it was evaluated");
    let (trained_ms, metrics) = (evaluated.card.trained_ms, evaluated.card.metrics.clone());
    let all = fixture::room_rows(false);
    let estimators: Vec<_> = names.iter().map(|name| regressors::by_name(name).unwrap()).collect();
    let span_ms = (all.at_ms[0], *all.at_ms.last().unwrap());
    let recipe = &backtest.selected[backtest.kept].recipe;
    let data = all.to_dataset().unwrap();
    let test_ms = parts[0].spans.test;
    let kept =
        super::refit_on_all_rows(evaluated, recipe, &estimators, &data, span_ms, test_ms).unwrap();
    assert_eq!((kept.card.trained_ms, kept.card.rows), (span_ms, all.len()));
    assert_eq!(kept.card.metrics, metrics, "of the fit before");
    let before = kept.card.facts.evaluated.clone().unwrap();
    assert_eq!((before.trained_ms, before.test_ms), (trained_ms, test_ms));
    assert!(error(&kept) < entry.value, "it knows the test set now");
    let read = models::ModelArtifact::from_bytes(&kept.to_bytes().unwrap()).unwrap();
    assert_eq!(read.card, kept.card);
}

#[test]
fn several_folds_judge_more_rows_and_keep_the_newest_model() {
    let (one, three) = (
        fixture::run_backtest(&["ridge"], false, 1, 1),
        fixture::run_backtest(&["ridge"], false, 3, 1),
    );
    assert_eq!(three.facts.folds.len(), 3);
    let until = |backtest: &super::Backtest| backtest.champion.card.trained_ms.1;
    assert!(until(&three) > until(&one), "the last fold is fitted on more");
}

#[test]
fn a_window_that_tells_nothing_changes_nothing_when_it_is_left_out() {
    let whole = fixture::run_backtest(&["ridge"], true, 1, 1);
    let ablation = whole.relevance.unwrap().ablation;
    let without = |name: &str| {
        let all: Vec<&str> = ablation.iter().map(|own| own.without.as_str()).collect();
        let found = ablation.iter().find(|own| own.without == name);
        found.unwrap_or_else(|| panic!("no {name} among {all:?}"))
    };
    let (never_moves, all) = (without("30 min"), without("all windows"));
    assert_eq!(never_moves.inputs_removed, 1);
    // Unless it were fitted to other rows than the whole model.
    assert!(never_moves.change.abs() < 1e-6, "{}", never_moves.change);
    assert!(all.change.abs() > 0.1, "{}", all.change);
}

fn leakage_report_of(parts: &DataSplit) -> LeakageReport {
    let ridge = regressors::by_name("ridge").unwrap();
    let honest = SkillEstimate { value: 0.3, interval: None };
    leakage::check_leakage(fixture::temperature_task().as_ref(), parts, ridge.as_ref(), honest, 7)
        .unwrap()
}

#[test]
fn an_honest_comparison_raises_no_warning() {
    let parts = fixture::room_splits(false, 1).remove(0);
    let found = leakage_report_of(&parts);
    assert!(found.warnings.is_empty(), "{:?}", found.warnings);
    assert_eq!((found.rows_in_both, found.suspects.len()), (0, 0));
    let dealt = found.dealt_targets.unwrap().value;
    assert!((-0.1..0.05).contains(&dealt), "nothing can be learnt from dealt targets: {dealt}");
}

#[test]
fn an_input_that_is_made_from_the_target_is_found_by_name() {
    let parts = fixture::room_splits(true, 1).remove(0);
    let found = leakage_report_of(&parts);
    let names: Vec<&str> = found.suspects.iter().map(|own| own.input.as_str()).collect();
    assert_eq!(names, ["co2_last"]);
    assert!(found.warnings.iter().any(|text| text.contains("`co2_last` alone")));
    let whole = fixture::run_backtest(&["ridge"], true, 1, 1);
    let warnings = whole.leakage.unwrap().warnings;
    assert!(warnings.iter().any(|text| text.contains("rarely honest")), "{warnings:?}");
}

#[test]
fn rows_in_training_and_test_are_found() {
    let mut parts = fixture::room_splits(false, 1).remove(0);
    parts.train = parts.test.clone();
    let found = leakage_report_of(&parts);
    assert_eq!(found.rows_in_both, parts.test.len());
    let dealt = found.dealt_targets.unwrap().value;
    assert!(dealt > 0.05, "neighbours know dealt targets: {dealt}");
    for part in ["also learnt from", "dealt out anew are still predicted", "less than the horizon"]
    {
        assert!(found.warnings.iter().any(|text| text.contains(part)), "{:?}", found.warnings);
    }
}
