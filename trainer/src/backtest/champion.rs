//! The model that is kept: as it was evaluated, and fitted again on all rows.

use std::collections::BTreeMap;

use models::{
    Dataset, Estimator, FittedRegressor, ModelArtifact, ModelCard, ModelProvenance, Predictor,
    artifact::{EvaluatedFit, GoldenRows},
    fit_regressor,
    regressors::blend::Blend,
};

use super::{
    build_baseline_model,
    candidate::{CandidateRecipe, FoldEvaluator, ModelCandidate},
    interval_widths::IntervalWidths,
    leaderboard::{LeaderboardEntry, RegressionServing},
};
use crate::{settings::TrainerSettings, tasks::TaskBaseline};

/// The model of a candidate, as it was evaluated in the last fold.
pub(super) fn take_predictor(candidates: &mut [ModelCandidate], own: usize) -> Predictor {
    let mut take = |own: usize| {
        let last = candidates[own].folds.last_mut().expect("there is a fold");
        last.predictor.take()
    };
    if let Some(predictor) = take(own) {
        return predictor;
    }
    let CandidateRecipe::Blend(members) = candidates[own].recipe.clone() else {
        unreachable!("only blends have no model of their own")
    };
    let mut fitted = Vec::new();
    for (weight, name, _) in members {
        let member = candidates.iter().position(|own| own.name == name).expect("it was blended");
        let last = candidates[member].folds.last_mut().expect("there is a fold");
        if let Some(Predictor::Regressor(model)) = last.predictor.take() {
            fitted.push((weight, model));
        }
    }
    Predictor::Regressor(FittedRegressor::Blend(Blend::from_members(fitted)))
}

/// The artifact of a model as it was evaluated.
pub(super) fn evaluated_artifact(
    judges: &FoldEvaluator,
    settings: &TrainerSettings,
    predictor: Predictor,
    entry: &LeaderboardEntry,
    fallback: &TaskBaseline,
    widths: Option<IntervalWidths>,
) -> ModelArtifact {
    let spec = judges.task.spec();
    let serving = RegressionServing {
        half_width: entry.half_width,
        widths,
        level: settings.interval.level,
        baseline: (fallback.input.map(str::to_owned), fallback.factor),
        link: spec.transform,
    };
    let metric = spec.metric;
    let mut metrics = BTreeMap::from([
        (metric.to_owned(), entry.value),
        (format!("{metric}_baseline"), entry.baseline_value),
        ("skill".to_owned(), entry.skill),
    ]);
    metrics.extend(entry.test.map(|test| ("p_value".to_owned(), test.p_value)));
    metrics.extend(entry.coverage.map(|coverage| ("coverage".to_owned(), coverage)));
    let known = &judges.known;
    let mut facts = ModelProvenance::from_rows(known.x.view(), Some(known.y.view()));
    facts.metric_intervals.extend(entry.interval.map(|interval| (metric.to_owned(), interval)));
    facts.metric_intervals.extend(entry.skill_interval.map(|own| ("skill".to_owned(), own)));
    facts.classes = spec.classes.iter().map(|class| (*class).to_owned()).collect();
    let card = ModelCard {
        task: spec.name.to_owned(),
        model: entry.model.clone(),
        schema: known.schema.as_ref().clone(),
        unit: spec.unit.to_owned(),
        trained_ms: judges.parts.known_ms,
        rows: entry.rows,
        seed: settings.seed,
        metrics,
        code_version: env!("CARGO_PKG_VERSION").to_owned(),
        serving: serde_json::to_value(&serving).expect("serving facts have a JSON form"),
        facts,
    };
    ModelArtifact {
        card,
        golden: GoldenRows::from_predictor(&predictor, known.x.view()),
        predictor,
    }
}

/// Fits the candidate of `artifact`, which was evaluated on `test_ms`, again on all rows:
/// what is served knows the newest ones too. The metrics stay those of the evaluated fit,
/// and the card says so.
///
/// # Errors
/// Why it cannot be fitted.
pub fn refit_on_all_rows(
    artifact: ModelArtifact,
    recipe: &CandidateRecipe,
    estimators: &[Box<dyn Estimator>],
    data: &Dataset,
    trained_ms: (i64, i64),
    test_ms: (i64, i64),
) -> Result<ModelArtifact, String> {
    let mut card = artifact.card;
    let (fitted, rows) = fit_recipe(&card.model, recipe, estimators, data, card.seed)?;
    let predictor = Predictor::Regressor(fitted);
    let before = card.facts;
    card.facts = ModelProvenance {
        evaluated: Some(EvaluatedFit { trained_ms: card.trained_ms, rows: card.rows, test_ms }),
        input_units: before.input_units,
        classes: before.classes,
        settings: before.settings,
        metric_intervals: before.metric_intervals,
        ..ModelProvenance::from_rows(data.x.view(), Some(data.y.view()))
    };
    card.trained_ms = trained_ms;
    card.rows = rows;
    let golden = GoldenRows::from_predictor(&predictor, data.x.view());
    Ok(ModelArtifact { card, golden, predictor })
}

fn fit_recipe(
    name: &str,
    recipe: &CandidateRecipe,
    estimators: &[Box<dyn Estimator>],
    data: &Dataset,
    seed: u64,
) -> Result<(FittedRegressor, usize), String> {
    match recipe {
        CandidateRecipe::Baseline(baseline) => {
            Ok((build_baseline_model(&data.schema, baseline)?, 0))
        }
        CandidateRecipe::Estimator => {
            let own = estimators.iter().find(|own| own.name() == name);
            let own = own.ok_or_else(|| format!("there is no model `{name}`"))?;
            fit_regressor(own.as_ref(), data, seed).map_err(|error| format!("{name}: {error}"))
        }
        CandidateRecipe::Blend(members) => {
            let mut fitted = Vec::new();
            let mut most = 0;
            for (weight, name, recipe) in members {
                let (model, rows) = fit_recipe(name, recipe, estimators, data, seed)?;
                most = most.max(rows);
                fitted.push((*weight, model));
            }
            Ok((FittedRegressor::Blend(Blend::from_members(fitted)), most))
        }
    }
}
