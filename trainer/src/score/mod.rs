//! Scores of served predictions, once the actual values are known.
//!
//! One prediction per zone and step of its task (one to ten minutes) is recorded. When the zone's
//! own clock, the event time of its latest row, has passed the prediction's horizon, the actual
//! value is computed from feature rows exactly as targets are in training. Only then do errors,
//! coverage and the width of intervals change.
//!
//! # Layout
//! - `journal`: predictions and their actual values as JSON lines, one file per day
//! - `tally`: the latest errors of a task's champion, and its intervals
//! - [`actual_value`]: actual values of past predictions

pub mod actual_value;
mod journal;
mod tally;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde::{Deserialize, Serialize};
use service::prometheus::{MetricsPage, format_labels};
use telemetry::ZoneId;

use crate::{
    serve::{Prediction, settings::ModelWatchSettings},
    tasks::PredictionTask,
};
use journal::PredictionJournal;
use tally::ErrorTally;
pub use tally::Score;

/// Largest number of predictions of one task that wait for their actual value.
const WAITING_MAX: usize = 100_000;
/// Time after the horizon by which the actual value is expected, ms: rows become final with the
/// watermark.
const LATENESS_MS: i64 = 5 * 60_000;

/// Recorded prediction, with its actual value once that is known.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LoggedPrediction {
    /// Task.
    pub task: String,
    /// Zone.
    pub zone: ZoneId,
    /// Event time of its features, UTC ms.
    pub at_ms: i64,
    /// Name of the model.
    pub model: String,
    /// Version of the model.
    pub version: u64,
    /// Predicted value.
    pub value: f64,
    /// Prediction interval.
    pub interval: Option<[f64; 2]>,
    /// Stated coverage of the interval, 0 to 1.
    pub level: f64,
    /// Prediction of the baseline.
    pub baseline: Option<f64>,
    /// Actual value, once it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub truth: Option<f64>,
}

/// Scores of all tasks.
#[derive(Debug)]
pub struct PredictionScores(Mutex<ScoresState>);

#[derive(Debug)]
struct ScoresState {
    journal: PredictionJournal,
    tasks: BTreeMap<String, TaskScores>,
}

/// Scores of one task.
#[derive(Debug, Default)]
struct TaskScores {
    waiting: BTreeMap<(i64, ZoneId), LoggedPrediction>,
    /// Last recorded step of each zone.
    steps: HashMap<ZoneId, i64>,
    /// Tally of the version that was recorded last.
    tally: Option<ErrorTally>,
    /// Number of predictions that were dropped because too many waited.
    dropped: u64,
    /// Number of predictions whose actual value never became known.
    unknown: u64,
}

impl TaskScores {
    fn tally_for(&mut self, noted: &LoggedPrediction) -> &mut ErrorTally {
        let new_tally = || ErrorTally::new(&noted.model, noted.version, noted.level);
        let known = self.tally.take().filter(|tally| tally.version() >= noted.version);
        self.tally.insert(known.unwrap_or_else(new_tally))
    }

    fn add_waiting(&mut self, noted: LoggedPrediction) {
        self.waiting.insert((noted.at_ms, noted.zone.clone()), noted);
        while self.waiting.len() > WAITING_MAX {
            self.waiting.pop_first();
            self.dropped += 1;
        }
    }

    fn record_actual(&mut self, noted: &LoggedPrediction, actual: f64) {
        self.waiting.remove(&(noted.at_ms, noted.zone.clone()));
        let tally = self.tally_for(noted);
        // Predictions of an earlier champion do not count for this one.
        if tally.version() == noted.version {
            tally.record_actual(noted, actual);
        }
    }
}

impl PredictionScores {
    /// Opens the scores of the journal. A journal that cannot be read is logged and left as it is;
    /// scores then start from nothing.
    #[must_use]
    pub fn open(settings: &ModelWatchSettings) -> Self {
        let journal = PredictionJournal::new(&settings.journal_dir, settings.journal_days);
        let mut tasks: BTreeMap<String, TaskScores> = BTreeMap::new();
        for noted in journal.read_recent() {
            let task_scores = tasks.entry(noted.task.clone()).or_default();
            match noted.truth {
                Some(actual) => task_scores.record_actual(&noted, actual),
                None => {
                    task_scores.tally_for(&noted);
                    task_scores.add_waiting(noted);
                }
            }
        }
        Self(Mutex::new(ScoresState { journal, tasks }))
    }

    fn lock_state(&self) -> MutexGuard<'_, ScoresState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records a prediction, once per zone and step of `step_s` seconds of event time. Predictions
    /// of the fallback are not recorded.
    pub fn note_prediction(&self, prediction: &Prediction, step_s: i64) {
        let step = prediction.features_at_ms.div_euclid(step_s.max(1) * 1000);
        let mut state = self.lock_state();
        let ScoresState { journal, tasks } = &mut *state;
        let task_scores = tasks.entry(prediction.task.clone()).or_default();
        if prediction.fallback || task_scores.steps.get(&prediction.zone) == Some(&step) {
            return;
        }
        task_scores.steps.insert(prediction.zone.clone(), step);
        let noted = LoggedPrediction {
            task: prediction.task.clone(),
            zone: prediction.zone.clone(),
            at_ms: prediction.features_at_ms,
            model: prediction.model.clone(),
            version: prediction.version,
            value: prediction.value,
            interval: prediction.interval,
            level: prediction.interval_level,
            baseline: prediction.baseline_value,
            truth: None,
        };
        let tally = task_scores.tally_for(&noted);
        tally.record_outside_share(prediction.drift.outside_share);
        journal.append_line(&noted);
        task_scores.add_waiting(noted);
    }

    /// Predictions of a task and zone whose actual value is due when the zone's latest row has the
    /// event time `clock_ms`.
    #[must_use]
    pub fn due_predictions(
        &self,
        task: &dyn PredictionTask,
        zone: &ZoneId,
        clock_ms: i64,
    ) -> Vec<LoggedPrediction> {
        let until_ms = clock_ms - task.spec().horizon_s * 1000 - LATENESS_MS;
        let state = self.lock_state();
        let Some(task_scores) = state.tasks.get(task.spec().name) else { return Vec::new() };
        let past = task_scores.waiting.values().take_while(|noted| noted.at_ms <= until_ms);
        past.filter(|noted| noted.zone == *zone).cloned().collect()
    }

    /// Records the actual value of a prediction; `None` if it will never be known.
    pub fn record_actual(&self, noted: &LoggedPrediction, actual: Option<f64>) {
        let mut state = self.lock_state();
        let ScoresState { journal, tasks } = &mut *state;
        let task_scores = tasks.entry(noted.task.clone()).or_default();
        match actual.filter(|value| value.is_finite()) {
            Some(value) => {
                task_scores.record_actual(noted, value);
                journal.append_line(&LoggedPrediction { truth: Some(value), ..noted.clone() });
            }
            None => {
                task_scores.waiting.remove(&(noted.at_ms, noted.zone.clone()));
                task_scores.unknown += 1;
            }
        }
    }

    /// Half width of the interval around a prediction: adapted to the actual values, or else `made`
    /// in training.
    #[must_use]
    pub fn half_width(&self, prediction: &Prediction, made: Option<f64>) -> Option<f64> {
        let state = self.lock_state();
        let found =
            state.tasks.get(&prediction.task).and_then(|task_scores| task_scores.tally.as_ref());
        let tally = found.filter(|tally| tally.version() == prediction.version);
        tally.and_then(ErrorTally::half_width).or(made)
    }

    /// Scores of each task's champion.
    #[must_use]
    pub fn all_scores(&self) -> Vec<Score> {
        let state = self.lock_state();
        let mut scores = Vec::new();
        for (task, task_scores) in &state.tasks {
            if let Some(tally) = &task_scores.tally {
                let waiting = task_scores.waiting.len();
                scores.push(tally.to_score(
                    task,
                    waiting,
                    task_scores.dropped,
                    task_scores.unknown,
                ));
            }
        }
        scores
    }

    /// Scores of a task's champion.
    #[must_use]
    pub fn task_score(&self, task: &str) -> Option<Score> {
        self.all_scores().into_iter().find(|score| score.task == task)
    }

    /// Writes the metrics for Prometheus.
    pub(crate) fn write_metrics(&self, page: &mut MetricsPage) {
        let scores = self.all_scores();
        let mut gauge = |name: &str, help: &str, of: &dyn Fn(&Score) -> Option<f64>| {
            let samples = scores.iter().filter_map(|score| {
                let Score { task, version, .. } = score;
                Some((format_labels([("task", task), ("version", version)]), of(score)?))
            });
            page.add_family((name, "gauge", help), samples);
        };
        gauge("scored", "Latest predictions with an actual value", &|s| Some(s.scored as f64));
        gauge("waiting", "Predictions that wait for their actual value", &|s| {
            Some(s.waiting as f64)
        });
        gauge("mae", "Mean absolute error of served predictions", &|s| s.mae);
        gauge("baseline_mae", "Mean absolute error of the baseline", &|s| s.baseline_mae);
        gauge("coverage", "Share of actual values within intervals", &|s| s.coverage);
    }
}

#[cfg(test)]
mod tests {
    use feature_api::RowStatus;

    use super::*;
    use crate::{TrainerSettings, serve::Drift, tasks};

    const MINUTE_MS: i64 = 60_000;

    fn scores(dir: &std::path::Path) -> PredictionScores {
        PredictionScores::open(&ModelWatchSettings {
            journal_dir: dir.to_owned(),
            ..TrainerSettings::default().watch
        })
    }

    fn prediction_at(minute: i64, version: u64, value: f64) -> Prediction {
        Prediction {
            task: "temperature-10m".to_owned(),
            zone: "s/z".parse().unwrap(),
            value,
            unit: "°C".to_owned(),
            interval: Some([value - 1.0, value + 1.0]),
            interval_level: 0.9,
            class: None,
            probabilities: None,
            model: "ridge".to_owned(),
            version,
            baseline_value: Some(value + 2.0),
            fallback: false,
            fallback_reason: None,
            drift: Drift { outside_share: 0.25, ..Drift::default() },
            contributions: Vec::new(),
            irrigation: None,
            what_if: None,
            metric: None,
            fault: None,
            features_at_ms: minute * MINUTE_MS,
            features_age_s: 0.0,
            is_stale: false,
            status: RowStatus::Provisional,
        }
    }

    /// Records `truth` as the actual value of everything that is due, and returns the number.
    fn record_due_actuals(scores: &PredictionScores, minute: i64, truth: f64) -> usize {
        let task = &tasks::all_tasks()[0];
        let due =
            scores.due_predictions(task.as_ref(), &"s/z".parse().unwrap(), minute * MINUTE_MS);
        due.iter().for_each(|noted| scores.record_actual(noted, Some(truth)));
        due.len()
    }

    #[test]
    fn errors_count_once_the_actual_value_is_known_and_survive_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let scores = self::scores(dir.path());
        for minute in 0..20 {
            scores.note_prediction(&prediction_at(minute, 1, 20.0), 60);
            scores.note_prediction(&prediction_at(minute, 1, 99.0), 60); // the same minute again
        }
        assert_eq!(
            record_due_actuals(&scores, 14, 20.5),
            0,
            "the horizon is 10 min, and 5 for lateness"
        );
        assert_eq!(record_due_actuals(&scores, 24, 20.5), 10);
        let check = |scores: &PredictionScores| {
            let score = scores.task_score("temperature-10m").unwrap();
            assert_eq!((score.scored, score.waiting), (10, 10));
            assert_eq!((score.mae, score.baseline_mae), (Some(0.5), Some(1.5)));
            assert!((score.skill.unwrap() - 2.0 / 3.0).abs() < 1e-12);
            assert_eq!(score.coverage, Some(1.0));
            assert_eq!(score.span_ms, Some((0, 9 * MINUTE_MS)));
        };
        check(&scores);
        assert_eq!(scores.task_score("temperature-10m").unwrap().outside_share, Some(0.25));
        let mut page = MetricsPage::new("t");
        scores.write_metrics(&mut page);
        assert!(page.into_text().contains("t_mae{task=\"temperature-10m\",version=\"1\"} 0.5\n"));
        // A line that was cut off by a crash.
        let file = std::fs::read_dir(dir.path()).unwrap().next().unwrap().unwrap().path();
        let whole = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, format!("{whole}{{\"task\":\"temp")).unwrap();
        check(&self::scores(dir.path()));
    }

    #[test]
    fn predictions_of_the_baseline_or_an_earlier_champion_do_not_count() {
        let dir = tempfile::tempdir().unwrap();
        let scores = scores(dir.path());
        scores.note_prediction(&Prediction { fallback: true, ..prediction_at(0, 1, 20.0) }, 60);
        scores.note_prediction(&prediction_at(1, 1, 20.0), 60);
        scores.note_prediction(&prediction_at(2, 2, 20.0), 60);
        assert_eq!(record_due_actuals(&scores, 30, 20.0), 2);
        let score = scores.task_score("temperature-10m").unwrap();
        assert_eq!((score.version, score.scored, score.waiting), (2, 1, 0));
        let noted = LoggedPrediction { at_ms: 5, ..serde_json::from_value(serde_json::json!({
            "task": "temperature-10m", "zone": "s/z", "at_ms": 0, "model": "ridge", "version": 2,
            "value": 1.0, "interval": null, "level": 0.9, "baseline": null,
        })).unwrap() };
        scores.record_actual(&noted, None);
        assert_eq!(scores.task_score("temperature-10m").unwrap().unknown, 1);
    }

    #[test]
    fn intervals_adapt_only_to_known_actual_values() {
        let dir = tempfile::tempdir().unwrap();
        let scores = scores(dir.path());
        for minute in 0..500 {
            scores.note_prediction(&prediction_at(minute, 1, 20.0), 60);
        }
        let now = prediction_at(600, 1, 20.0);
        assert_eq!(
            scores.half_width(&now, Some(1.0)),
            Some(1.0),
            "no actual value yet: as in training"
        );
        // Errors are 3 where the interval has a half width of 1.
        assert_eq!(record_due_actuals(&scores, 199 + 15, 23.0), 200);
        assert_eq!(scores.half_width(&now, Some(1.0)), Some(3.0));
        assert!(scores.task_score("temperature-10m").unwrap().is_worse_than_baseline());
        assert_eq!(
            scores.half_width(&prediction_at(600, 2, 20.0), Some(1.0)),
            Some(1.0),
            "another model"
        );
    }
}
