use std::collections::BTreeMap;

use models::{ModelArtifact, ModelCard, ModelProvenance, artifact::GoldenRows};

use super::{
    candidate::{FoldEvaluator, ModelCandidate},
    leaderboard::{LeaderboardEntry, RegressionServing},
};
use crate::{
    settings::TrainerSettings,
    tasks::{PredictionTask, TaskBaseline},
};

/// The model that is kept, with all that serving needs.
pub(super) fn build_artifact(
    task: &dyn PredictionTask,
    settings: &TrainerSettings,
    judges: &FoldEvaluator,
    candidate: ModelCandidate,
    entry: &LeaderboardEntry,
    baseline: &TaskBaseline,
) -> ModelArtifact {
    let name = candidate.name;
    let judged = candidate.folds.into_iter().next_back().expect("there is a fold");
    let predictor = judged.predictor.expect("the last fold's is kept");
    let serving = RegressionServing {
        half_width: judged.half_width,
        level: settings.interval.level,
        baseline: (baseline.input.map(str::to_owned), baseline.factor),
        link: task.spec().transform,
    };
    let metric = task.spec().metric;
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
    facts.classes = task.spec().classes.iter().map(|class| (*class).to_owned()).collect();
    let card = ModelCard {
        task: task.spec().name.to_owned(),
        model: name,
        schema: known.schema.as_ref().clone(),
        unit: task.spec().unit.to_owned(),
        trained_ms: judges.parts.spans.known_span(),
        rows: judged.rows,
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
