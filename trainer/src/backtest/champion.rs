use std::collections::BTreeMap;

use models::{Artifact, Card, Facts, artifact::Golden};

use super::{
    candidate::{Candidate, Judges},
    entry::{Entry, Serving},
};
use crate::{
    settings::Settings,
    tasks::{Baseline, Task},
};

/// The model that is kept, with all that serving needs.
pub(super) fn artifact(
    task: &dyn Task,
    settings: &Settings,
    judges: &Judges,
    candidate: Candidate,
    entry: &Entry,
    baseline: &Baseline,
) -> Artifact {
    let name = candidate.name;
    let judged = candidate.folds.into_iter().next_back().expect("there is a fold");
    let predictor = judged.predictor.expect("the last fold's is kept");
    let serving = Serving {
        half_width: judged.half_width,
        level: settings.interval.level,
        baseline: (baseline.input.map(str::to_owned), baseline.factor),
        link: task.about().link,
    };
    let metric = task.about().metric;
    let mut metrics = BTreeMap::from([
        (metric.to_owned(), entry.value),
        (format!("{metric}_baseline"), entry.baseline_value),
        ("skill".to_owned(), entry.skill),
    ]);
    metrics.extend(entry.test.map(|test| ("p_value".to_owned(), test.p_value)));
    metrics.extend(entry.coverage.map(|coverage| ("coverage".to_owned(), coverage)));
    let known = &judges.known;
    let mut facts = Facts::of(known.x.view(), Some(known.y.view()));
    facts.metric_intervals.extend(entry.interval.map(|interval| (metric.to_owned(), interval)));
    facts.metric_intervals.extend(entry.skill_interval.map(|own| ("skill".to_owned(), own)));
    facts.classes = task.about().classes.iter().map(|class| (*class).to_owned()).collect();
    let card = Card {
        task: task.about().name.to_owned(),
        model: name,
        schema: known.schema.as_ref().clone(),
        unit: task.about().unit.to_owned(),
        trained_ms: judges.parts.spans.known(),
        rows: judged.rows,
        seed: settings.seed,
        metrics,
        code_version: env!("CARGO_PKG_VERSION").to_owned(),
        serving: serde_json::to_value(&serving).expect("serving facts have a JSON form"),
        facts,
    };
    Artifact { card, golden: Golden::of(&predictor, known.x.view()), predictor }
}
