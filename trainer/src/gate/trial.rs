//! Trial of two models on rows that neither was trained on.

use models::{
    ModelArtifact, Predictor,
    artifact::GoldenRows,
    metrics,
    registry::{ChampionTrial, gate::NO_RIVAL},
    regressors::{column::ScaledColumn, constant::ConstantModel},
};
use ndarray::{Array1, Array2};

use crate::{
    anomaly,
    backtest::{self, latency},
    feature_frame::{ZoneFrame, ZoneViews},
    serve::Champion,
    settings::TrainerSettings,
    tasks::PredictionTask,
    training_set::LabelledRows,
};

/// Result of a trial.
#[derive(Debug)]
pub struct TrialOutcome {
    /// Losses of both models.
    pub trial: ChampionTrial,
    /// Baseline of the task as a model, if there is no champion yet.
    pub baseline: Option<ModelArtifact>,
}

/// Predicts the rows of `span_ms` ([from, to), UTC ms), on which neither was trained, with
/// `artifact` and its rival: the champion, or else the task's baseline.
///
/// # Errors
/// Fails with the reason why they cannot be compared.
pub fn run_regression_trial(
    task: &dyn PredictionTask,
    zones: &[&ZoneViews],
    span_ms: (i64, i64),
    artifact: &ModelArtifact,
    champion: Option<&Champion>,
    settings: &TrainerSettings,
) -> Result<TrialOutcome, String> {
    let embargo_ms = task.spec().horizon_s * 1000;
    let seen_ms = champion.map_or(i64::MIN, |own| own.artifact.card.trained_ms.1 + embargo_ms);
    let span_ms = (span_ms.0.max(seen_ms), span_ms.1);
    let held = |inputs: &[String]| {
        let rows = LabelledRows::from_zones(task, zones.iter().copied(), inputs, settings);
        rows.uncensored_between(span_ms, settings.split.test_rows_max)
    };
    let losses_of = |predictor: &Predictor, rows: &LabelledRows| -> Result<Vec<f64>, String> {
        let said = rows.to_levels(&predictor.predict(input_matrix(rows)?.view()), task.spec());
        Ok(prediction_errors(&said, rows).iter().map(|error| error_loss(task, *error)).collect())
    };
    let rows = held(&artifact.card.schema.features);
    let losses = losses_of(&artifact.predictor, &rows)?;
    let serving: backtest::RegressionServing =
        serde_json::from_value(artifact.card.serving.clone())
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
            let baseline = baseline_artifact(task, artifact, &serving, &rows)?;
            let losses = losses_of(&baseline.predictor, &rows)?;
            (losses, baseline.card.model.clone(), None, Some(baseline))
        }
    };
    let times = mean_by_time(&rows.at_ms, &losses);
    let trial = ChampionTrial {
        against,
        rival,
        loss_name: loss_name(task).to_owned(),
        span_ms: (
            rows.at_ms.first().copied().unwrap_or_default(),
            rows.at_ms.last().copied().unwrap_or_default(),
        ),
        rows: rows.len(),
        horizon: horizon_rows(&rows.at_ms, embargo_ms),
        losses: times,
        rival_losses: mean_by_time(&rows.at_ms, &rival_losses),
        latency_p99_us: latency::measure_latency(&artifact.predictor, input_matrix(&rows)?.view())
            .p99_us,
        size_bytes: artifact.to_bytes().map_err(|error| error.to_string())?.len(),
    };
    Ok(TrialOutcome { trial, baseline })
}

/// Runs the same trial for detectors, on the minutes of `span_ms`. Detectors have no baseline: a
/// first one is accepted.
///
/// # Errors
/// Fails with the reason why they cannot be compared.
pub fn run_detection_trial(
    frames: &[ZoneFrame],
    span_ms: (i64, i64),
    artifact: &ModelArtifact,
    champion: Option<&Champion>,
    settings: &TrainerSettings,
) -> Result<TrialOutcome, String> {
    let serving = |artifact: &ModelArtifact| -> Result<anomaly::AnomalyServing, String> {
        serde_json::from_value(artifact.card.serving.clone())
            .map_err(|error| format!("a model says nothing of serving: {error}"))
    };
    let own = serving(artifact)?;
    let rival = champion.map_or(artifact, |champion| &champion.artifact);
    let seen_ms = champion.map_or(i64::MIN / 2, |own| own.artifact.card.trained_ms.1);
    let losses = anomaly::trial::compare_losses(
        frames,
        (&own, &artifact.predictor),
        (&serving(rival)?, &rival.predictor),
        span_ms,
        seen_ms,
        settings.seed,
    )?;
    let trial = ChampionTrial {
        against: champion.map(|own| own.version),
        rival: champion.map_or(NO_RIVAL, |own| &own.artifact.card.model).to_owned(),
        loss_name: "alarm error".to_owned(),
        span_ms: (
            losses.at_ms.first().copied().unwrap_or_default(),
            losses.at_ms.last().copied().unwrap_or_default(),
        ),
        rows: losses.at_ms.len(),
        horizon: horizon_rows(&losses.at_ms, anomaly::HISTORY_S * 1000),
        losses: mean_by_time(&losses.at_ms, &losses.own),
        rival_losses: mean_by_time(&losses.at_ms, &losses.rival),
        latency_p99_us: latency::measure_latency(&artifact.predictor, losses.x.view()).p99_us,
        size_bytes: artifact.to_bytes().map_err(|error| error.to_string())?.len(),
    };
    Ok(TrialOutcome { trial, baseline: None })
}

fn prediction_errors(said: &Array1<f64>, rows: &LabelledRows) -> Vec<f64> {
    (said - &rows.actual_values()).to_vec()
}

fn error_loss(task: &dyn PredictionTask, error: f64) -> f64 {
    if task.spec().metric == "mae" { error.abs() } else { error * error }
}

fn loss_name(task: &dyn PredictionTask) -> &'static str {
    if task.spec().metric == "mae" { "absolute error" } else { "squared error" }
}

/// Returns the mean loss of each time over zones, because the errors of zones at one time are
/// correlated.
fn mean_by_time(at_ms: &[i64], losses: &[f64]) -> Vec<f64> {
    let pairs: Vec<(i64, f64)> = at_ms.iter().copied().zip(losses.iter().copied()).collect();
    let mean =
        |same: &[(i64, f64)]| same.iter().map(|(_, loss)| loss).sum::<f64>() / same.len() as f64;
    pairs.chunk_by(|a, b| a.0 == b.0).map(mean).collect()
}

/// Returns how many times a prediction looks ahead, at the usual distance of times.
fn horizon_rows(at_ms: &[i64], horizon_ms: i64) -> usize {
    let mut steps: Vec<i64> =
        at_ms.windows(2).map(|pair| pair[1] - pair[0]).filter(|step| *step > 0).collect();
    steps.sort_unstable();
    let usual = steps.get(steps.len() / 2).copied().unwrap_or(horizon_ms).max(1);
    usize::try_from((horizon_ms as u64).div_ceil(usual as u64)).unwrap_or(1).max(1)
}

fn input_matrix(rows: &LabelledRows) -> Result<Array2<f64>, String> {
    rows.to_dataset().map(|data| data.x).map_err(|error| error.to_string())
}

/// Builds the task's baseline as a model. It needs no training, so that held-out rows may determine
/// the width of its interval.
fn baseline_artifact(
    task: &dyn PredictionTask,
    artifact: &ModelArtifact,
    serving: &backtest::RegressionServing,
    rows: &LabelledRows,
) -> Result<ModelArtifact, String> {
    let (input, factor) = &serving.baseline;
    let fitted = match input {
        Some(input) => ScaledColumn::from_schema(&artifact.card.schema, input, *factor, 0.0)
            .map_err(|error| error.to_string())?,
        None => models::FittedRegressor::Constant(ConstantModel { value: 0.0 }),
    };
    let named = task.baselines().into_iter().find(|own| {
        own.input.map(str::to_owned) == *input && (own.input.is_none() || own.factor == *factor)
    });
    let predictor = Predictor::Regressor(fitted);
    let x = input_matrix(rows)?;
    let said = rows.to_levels(&predictor.predict(x.view()), task.spec());
    let errors: Vec<f64> = prediction_errors(&said, rows).iter().map(|error| error.abs()).collect();
    let serving = backtest::RegressionServing {
        half_width: metrics::conformal_quantile(&errors, serving.level),
        ..serving.clone()
    };
    let losses: Vec<f64> = errors.iter().map(|error| error_loss(task, *error)).collect();
    let mean = losses.iter().sum::<f64>() / losses.len().max(1) as f64;
    let value = if task.spec().metric == "rmse" { mean.sqrt() } else { mean };
    let mut card = artifact.card.clone();
    named.map_or("baseline", |own| own.name).clone_into(&mut card.model);
    card.rows = 0;
    card.metrics = [task.spec().metric.to_owned(), format!("{}_baseline", task.spec().metric)]
        .map(|name| (name, value))
        .into();
    card.serving = serde_json::to_value(&serving).map_err(|error| error.to_string())?;
    Ok(ModelArtifact { golden: GoldenRows::from_predictor(&predictor, x.view()), card, predictor })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_of_one_time_are_one_loss() {
        assert_eq!(mean_by_time(&[1, 1, 2, 3, 3], &[1.0, 3.0, 5.0, 0.0, 1.0]), [2.0, 5.0, 0.5]);
        assert!(mean_by_time(&[], &[]).is_empty());
    }

    #[test]
    fn a_horizon_is_counted_in_rows() {
        let minutes: Vec<i64> = (0..50).map(|minute| minute * 60_000).collect();
        assert_eq!(horizon_rows(&minutes, 600_000), 10);
        assert_eq!(horizon_rows(&[0, 0, 7, 7, 14], 10), 2);
        assert_eq!(horizon_rows(&[], 600_000), 1);
    }
}
