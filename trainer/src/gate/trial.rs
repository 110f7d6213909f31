//! Two models on rows that neither has seen.

use models::{
    Artifact, Predictor,
    artifact::Golden,
    metrics,
    registry::{Trial, gate::NOTHING},
    zoo::{column::Column, constant::Constant},
};
use ndarray::{Array1, Array2};

use crate::{
    anomaly,
    backtest::{self, latency},
    frame::{ZoneFrame, ZoneViews},
    rows::Rows,
    serve::Champion,
    settings::Settings,
    tasks::Task,
};

/// What came of a trial.
#[derive(Debug)]
pub struct Outcome {
    /// The losses of both.
    pub trial: Trial,
    /// The task's baseline as a model, where there is no champion yet.
    pub baseline: Option<Artifact>,
}

/// Asks `artifact` and its rival, the champion or else the task's baseline, for
/// the rows of `span_ms` ([from, to), UTC ms) that neither was trained on.
///
/// # Errors
/// Says what cannot be compared.
pub fn regression(
    task: &dyn Task,
    zones: &[&ZoneViews],
    span_ms: (i64, i64),
    artifact: &Artifact,
    champion: Option<&Champion>,
    settings: &Settings,
) -> Result<Outcome, String> {
    let embargo_ms = task.about().horizon_s * 1000;
    let seen_ms = champion.map_or(i64::MIN, |own| own.artifact.card.trained_ms.1 + embargo_ms);
    let span_ms = (span_ms.0.max(seen_ms), span_ms.1);
    let held = |inputs: &[String]| {
        let rows = Rows::of(task, zones.iter().copied(), inputs, settings);
        rows.judged(span_ms, settings.split.test_rows_max)
    };
    let losses_of = |predictor: &Predictor, rows: &Rows| -> Result<Vec<f64>, String> {
        let said = rows.levels(&predictor.predict(inputs(rows)?.view()), task.about());
        Ok(errors(&said, rows).iter().map(|error| loss(task, *error)).collect())
    };
    let rows = held(&artifact.card.schema.features);
    let losses = losses_of(&artifact.predictor, &rows)?;
    let serving: backtest::Serving = serde_json::from_value(artifact.card.serving.clone())
        .map_err(|error| format!("the model says nothing of serving: {error}"))?;
    let (rival_losses, rival, against, baseline) = match champion {
        Some(Champion { version, artifact: own, .. }) => {
            let of_rival = held(&own.card.schema.features);
            if (&of_rival.at_ms, &of_rival.zone) != (&rows.at_ms, &rows.zone) {
                return Err("the champion's inputs are not those of these rows".to_owned());
            }
            let losses = losses_of(&own.predictor, &of_rival)?;
            (losses, own.card.model.clone(), Some(*version), None)
        }
        None => {
            let baseline = baseline(task, artifact, &serving, &rows)?;
            let losses = losses_of(&baseline.predictor, &rows)?;
            (losses, baseline.card.model.clone(), None, Some(baseline))
        }
    };
    let times = by_time(&rows.at_ms, &losses);
    let trial = Trial {
        against,
        rival,
        loss_name: loss_name(task).to_owned(),
        span_ms: (
            rows.at_ms.first().copied().unwrap_or_default(),
            rows.at_ms.last().copied().unwrap_or_default(),
        ),
        rows: rows.len(),
        horizon: horizon(&rows.at_ms, embargo_ms),
        losses: times,
        rival_losses: by_time(&rows.at_ms, &rival_losses),
        latency_p99_us: latency::of(&artifact.predictor, inputs(&rows)?.view()).p99_us,
        size_bytes: artifact.to_bytes().map_err(|error| error.to_string())?.len(),
    };
    Ok(Outcome { trial, baseline })
}

/// The same for detectors, on the minutes of `span_ms`. They have no baseline: a
/// first one is taken.
///
/// # Errors
/// Says what cannot be compared.
pub fn detection(
    frames: &[ZoneFrame],
    span_ms: (i64, i64),
    artifact: &Artifact,
    champion: Option<&Champion>,
    settings: &Settings,
) -> Result<Outcome, String> {
    let serving = |artifact: &Artifact| -> Result<anomaly::Serving, String> {
        serde_json::from_value(artifact.card.serving.clone())
            .map_err(|error| format!("a model says nothing of serving: {error}"))
    };
    let own = serving(artifact)?;
    let rival = champion.map_or(artifact, |champion| &champion.artifact);
    let seen_ms = champion.map_or(i64::MIN / 2, |own| own.artifact.card.trained_ms.1);
    let losses = anomaly::trial::losses(
        frames,
        (&own, &artifact.predictor),
        (&serving(rival)?, &rival.predictor),
        span_ms,
        seen_ms,
        settings.seed,
    )?;
    let trial = Trial {
        against: champion.map(|own| own.version),
        rival: champion.map_or(NOTHING, |own| &own.artifact.card.model).to_owned(),
        loss_name: "alarm error".to_owned(),
        span_ms: (
            losses.at_ms.first().copied().unwrap_or_default(),
            losses.at_ms.last().copied().unwrap_or_default(),
        ),
        rows: losses.at_ms.len(),
        horizon: horizon(&losses.at_ms, anomaly::HISTORY_S * 1000),
        losses: by_time(&losses.at_ms, &losses.own),
        rival_losses: by_time(&losses.at_ms, &losses.rival),
        latency_p99_us: latency::of(&artifact.predictor, losses.x.view()).p99_us,
        size_bytes: artifact.to_bytes().map_err(|error| error.to_string())?.len(),
    };
    Ok(Outcome { trial, baseline: None })
}

fn errors(said: &Array1<f64>, rows: &Rows) -> Vec<f64> {
    (said - &rows.truth()).to_vec()
}

fn loss(task: &dyn Task, error: f64) -> f64 {
    if task.about().metric == "mae" { error.abs() } else { error * error }
}

fn loss_name(task: &dyn Task) -> &'static str {
    if task.about().metric == "mae" { "absolute error" } else { "squared error" }
}

/// The mean loss of each time, over zones: zones err together.
fn by_time(at_ms: &[i64], losses: &[f64]) -> Vec<f64> {
    let pairs: Vec<(i64, f64)> = at_ms.iter().copied().zip(losses.iter().copied()).collect();
    let mean =
        |same: &[(i64, f64)]| same.iter().map(|(_, loss)| loss).sum::<f64>() / same.len() as f64;
    pairs.chunk_by(|a, b| a.0 == b.0).map(mean).collect()
}

/// How many times a prediction looks ahead, at the usual distance of times.
fn horizon(at_ms: &[i64], horizon_ms: i64) -> usize {
    let mut steps: Vec<i64> =
        at_ms.windows(2).map(|pair| pair[1] - pair[0]).filter(|step| *step > 0).collect();
    steps.sort_unstable();
    let usual = steps.get(steps.len() / 2).copied().unwrap_or(horizon_ms).max(1);
    usize::try_from((horizon_ms as u64).div_ceil(usual as u64)).unwrap_or(1).max(1)
}

fn inputs(rows: &Rows) -> Result<Array2<f64>, String> {
    rows.dataset().map(|data| data.x).map_err(|error| error.to_string())
}

/// The task's baseline as a model. It learns nothing, so that held-out rows may
/// tell how wide its interval is.
fn baseline(
    task: &dyn Task,
    artifact: &Artifact,
    serving: &backtest::Serving,
    rows: &Rows,
) -> Result<Artifact, String> {
    let (input, factor) = &serving.baseline;
    let fitted = match input {
        Some(input) => Column::of(&artifact.card.schema, input, *factor, 0.0)
            .map_err(|error| error.to_string())?,
        None => models::Fitted::Constant(Constant { value: 0.0 }),
    };
    let named = task.baselines().into_iter().find(|own| {
        own.input.map(str::to_owned) == *input && (own.input.is_none() || own.factor == *factor)
    });
    let predictor = Predictor::Regressor(fitted);
    let x = inputs(rows)?;
    let said = rows.levels(&predictor.predict(x.view()), task.about());
    let errors: Vec<f64> = errors(&said, rows).iter().map(|error| error.abs()).collect();
    let serving = backtest::Serving {
        half_width: metrics::conformal_quantile(&errors, serving.level),
        ..serving.clone()
    };
    let losses: Vec<f64> = errors.iter().map(|error| loss(task, *error)).collect();
    let mean = losses.iter().sum::<f64>() / losses.len().max(1) as f64;
    let value = if task.about().metric == "rmse" { mean.sqrt() } else { mean };
    let mut card = artifact.card.clone();
    named.map_or("baseline", |own| own.name).clone_into(&mut card.model);
    card.rows = 0;
    card.metrics = [task.about().metric.to_owned(), format!("{}_baseline", task.about().metric)]
        .map(|name| (name, value))
        .into();
    card.serving = serde_json::to_value(&serving).map_err(|error| error.to_string())?;
    Ok(Artifact { golden: Golden::of(&predictor, x.view()), card, predictor })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_of_one_time_are_one_loss() {
        assert_eq!(by_time(&[1, 1, 2, 3, 3], &[1.0, 3.0, 5.0, 0.0, 1.0]), [2.0, 5.0, 0.5]);
        assert!(by_time(&[], &[]).is_empty());
    }

    #[test]
    fn a_horizon_is_counted_in_rows() {
        let minutes: Vec<i64> = (0..50).map(|minute| minute * 60_000).collect();
        assert_eq!(horizon(&minutes, 600_000), 10);
        assert_eq!(horizon(&[0, 0, 7, 7, 14], 10), 2);
        assert_eq!(horizon(&[], 600_000), 1);
    }
}
