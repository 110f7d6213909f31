//! How served predictions fare once the truth has come.
//!
//! A zone's prediction is noted once a step of its task (a minute to ten). When
//! the zone's own clock, the event time of its newest row, has passed the
//! prediction's horizon, its truth is made from feature rows exactly as targets
//! are in training, and only then do errors, coverage and the width of
//! intervals move.
//!
//! # Layout
//! - `journal`: predictions and their truths as JSON lines, a file a day
//! - `tally`: the newest errors of a task's champion, and its intervals
//! - [`truth`]: what really came

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

/// Predictions of one task that wait for their truth.
const WAITING_MAX: usize = 100_000;
/// After its horizon a truth may take so much longer: rows become final with
/// the watermark.
const LATENESS_MS: i64 = 5 * 60_000;

/// A prediction that was noted, and what came.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LoggedPrediction {
    /// The task.
    pub task: String,
    /// The zone.
    pub zone: ZoneId,
    /// Event time of its features, UTC ms.
    pub at_ms: i64,
    /// The model's name.
    pub model: String,
    /// Its version.
    pub version: u64,
    /// What was said.
    pub value: f64,
    /// Its interval.
    pub interval: Option<[f64; 2]>,
    /// What the interval promises.
    pub level: f64,
    /// What the baseline said.
    pub baseline: Option<f64>,
    /// What came, once it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub truth: Option<f64>,
}

/// The scores of all tasks.
#[derive(Debug)]
pub struct PredictionScores(Mutex<ScoresState>);

#[derive(Debug)]
struct ScoresState {
    journal: PredictionJournal,
    tasks: BTreeMap<String, TaskScores>,
}

/// What is known of a task.
#[derive(Debug, Default)]
struct TaskScores {
    waiting: BTreeMap<(i64, ZoneId), LoggedPrediction>,
    /// The step of each zone that was noted last.
    steps: HashMap<ZoneId, i64>,
    /// Of the version that was noted last.
    tally: Option<ErrorTally>,
    /// Predictions that were dropped because too many waited.
    dropped: u64,
    /// Predictions whose truth never came.
    unknown: u64,
}

impl TaskScores {
    fn tally_for(&mut self, noted: &LoggedPrediction) -> &mut ErrorTally {
        let fresh = || ErrorTally::new(&noted.model, noted.version, noted.level);
        let known = self.tally.take().filter(|own| own.version() >= noted.version);
        self.tally.insert(known.unwrap_or_else(fresh))
    }

    fn add_waiting(&mut self, noted: LoggedPrediction) {
        self.waiting.insert((noted.at_ms, noted.zone.clone()), noted);
        while self.waiting.len() > WAITING_MAX {
            self.waiting.pop_first();
            self.dropped += 1;
        }
    }

    fn record_actual(&mut self, noted: &LoggedPrediction, truth: f64) {
        self.waiting.remove(&(noted.at_ms, noted.zone.clone()));
        let tally = self.tally_for(noted);
        // What an earlier champion said tells nothing of this one.
        if tally.version() == noted.version {
            tally.record_actual(noted, truth);
        }
    }
}

impl PredictionScores {
    /// The scores that the journal tells of. A journal that cannot be read is
    /// logged and left: scores begin anew.
    #[must_use]
    pub fn open(settings: &ModelWatchSettings) -> Self {
        let journal = PredictionJournal::new(&settings.journal_dir, settings.journal_days);
        let mut tasks: BTreeMap<String, TaskScores> = BTreeMap::new();
        for noted in journal.read_recent() {
            let of_task = tasks.entry(noted.task.clone()).or_default();
            match noted.truth {
                Some(truth) => of_task.record_actual(&noted, truth),
                None => {
                    of_task.tally_for(&noted);
                    of_task.add_waiting(noted);
                }
            }
        }
        Self(Mutex::new(ScoresState { journal, tasks }))
    }

    fn lock_state(&self) -> MutexGuard<'_, ScoresState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a prediction, once a step of `step_s` of event time and zone. What
    /// the baseline answered for the model is not noted.
    pub fn note_prediction(&self, said: &Prediction, step_s: i64) {
        let step = said.features_at_ms.div_euclid(step_s.max(1) * 1000);
        let mut state = self.lock_state();
        let state = &mut *state;
        let of_task = state.tasks.entry(said.task.clone()).or_default();
        if said.fallback || of_task.steps.get(&said.zone) == Some(&step) {
            return;
        }
        of_task.steps.insert(said.zone.clone(), step);
        let noted = LoggedPrediction {
            task: said.task.clone(),
            zone: said.zone.clone(),
            at_ms: said.features_at_ms,
            model: said.model.clone(),
            version: said.version,
            value: said.value,
            interval: said.interval,
            level: said.interval_level,
            baseline: said.baseline_value,
            truth: None,
        };
        let tally = of_task.tally_for(&noted);
        tally.record_outside_share(said.drift.outside_share);
        state.journal.append_line(&noted);
        of_task.add_waiting(noted);
    }

    /// The predictions of a task and zone whose truth is due when the zone's
    /// newest row is of `clock_ms`.
    #[must_use]
    pub fn due_predictions(
        &self,
        task: &dyn PredictionTask,
        zone: &ZoneId,
        clock_ms: i64,
    ) -> Vec<LoggedPrediction> {
        let until_ms = clock_ms - task.spec().horizon_s * 1000 - LATENESS_MS;
        let state = self.lock_state();
        let Some(of_task) = state.tasks.get(task.spec().name) else { return Vec::new() };
        let past = of_task.waiting.values().take_while(|noted| noted.at_ms <= until_ms);
        past.filter(|noted| noted.zone == *zone).cloned().collect()
    }

    /// The truth of a prediction has come; without one it never will.
    pub fn record_actual(&self, noted: &LoggedPrediction, truth: Option<f64>) {
        let mut state = self.lock_state();
        let state = &mut *state;
        let of_task = state.tasks.entry(noted.task.clone()).or_default();
        match truth.filter(|truth| truth.is_finite()) {
            Some(truth) => {
                of_task.record_actual(noted, truth);
                state
                    .journal
                    .append_line(&LoggedPrediction { truth: Some(truth), ..noted.clone() });
            }
            None => {
                of_task.waiting.remove(&(noted.at_ms, noted.zone.clone()));
                of_task.unknown += 1;
            }
        }
    }

    /// Half the width of an interval around what the model of `said` says:
    /// adapted to the truths that have come, or else `made` in training.
    #[must_use]
    pub fn half_width(&self, said: &Prediction, made: Option<f64>) -> Option<f64> {
        let state = self.lock_state();
        let tally = state.tasks.get(&said.task).and_then(|of_task| of_task.tally.as_ref());
        let tally = tally.filter(|tally| tally.version() == said.version);
        tally.and_then(ErrorTally::half_width).or(made)
    }

    /// How each task's champion fares.
    #[must_use]
    pub fn all_scores(&self) -> Vec<Score> {
        let state = self.lock_state();
        let mut scores = Vec::new();
        for (task, of_task) in &state.tasks {
            if let Some(tally) = &of_task.tally {
                let waiting = of_task.waiting.len();
                scores.push(tally.to_score(task, waiting, of_task.dropped, of_task.unknown));
            }
        }
        scores
    }

    /// How a task's champion fares.
    #[must_use]
    pub fn task_score(&self, task: &str) -> Option<Score> {
        self.all_scores().into_iter().find(|score| score.task == task)
    }

    /// For Prometheus.
    pub(crate) fn write_metrics(&self, page: &mut MetricsPage) {
        let scores = self.all_scores();
        let mut gauge = |name: &str, help: &str, of: &dyn Fn(&Score) -> Option<f64>| {
            let samples = scores.iter().filter_map(|score| {
                let Score { task, version, .. } = score;
                Some((format_labels([("task", task), ("version", version)]), of(score)?))
            });
            page.add_family((name, "gauge", help), samples);
        };
        gauge("scored", "Newest predictions with a truth", &|s| Some(s.scored as f64));
        gauge("waiting", "Predictions that wait for a truth", &|s| Some(s.waiting as f64));
        gauge("mae", "Mean absolute error of served predictions", &|s| s.mae);
        gauge("baseline_mae", "That of the baseline", &|s| s.baseline_mae);
        gauge("coverage", "Share of truths within intervals", &|s| s.coverage);
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
            metric: None,
            fault: None,
            features_at_ms: minute * MINUTE_MS,
            features_age_s: 0.0,
            is_stale: false,
            status: RowStatus::Provisional,
        }
    }

    /// Lets the truth of everything that is due be `truth`; says how many.
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
        // A line that a crash cut short.
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
        assert_eq!(scores.half_width(&now, Some(1.0)), Some(1.0), "no truth yet: as in training");
        // Errors are 3 where the interval promised 1.
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
