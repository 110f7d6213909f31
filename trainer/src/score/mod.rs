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

mod journal;
mod tally;
pub mod truth;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde::{Deserialize, Serialize};
use service::prometheus::{Page, labels};
use telemetry::ZoneId;

use crate::{
    serve::{Prediction, settings::Watch},
    tasks::Task,
};
use journal::Journal;
pub use tally::Score;
use tally::Tally;

/// Predictions of one task that wait for their truth.
const WAITING_MAX: usize = 100_000;
/// After its horizon a truth may take so much longer: rows become final with
/// the watermark.
const LATENESS_MS: i64 = 5 * 60_000;

/// A prediction that was noted, and what came.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Noted {
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
pub struct Scores(Mutex<State>);

#[derive(Debug)]
struct State {
    journal: Journal,
    tasks: BTreeMap<String, OfTask>,
}

/// What is known of a task.
#[derive(Debug, Default)]
struct OfTask {
    waiting: BTreeMap<(i64, ZoneId), Noted>,
    /// The step of each zone that was noted last.
    steps: HashMap<ZoneId, i64>,
    /// Of the version that was noted last.
    tally: Option<Tally>,
    /// Predictions that were dropped because too many waited.
    dropped: u64,
    /// Predictions whose truth never came.
    unknown: u64,
}

impl OfTask {
    fn tally(&mut self, noted: &Noted) -> &mut Tally {
        let fresh = || Tally::new(&noted.model, noted.version, noted.level);
        let known = self.tally.take().filter(|own| own.version() >= noted.version);
        self.tally.insert(known.unwrap_or_else(fresh))
    }

    fn wait(&mut self, noted: Noted) {
        self.waiting.insert((noted.at_ms, noted.zone.clone()), noted);
        while self.waiting.len() > WAITING_MAX {
            self.waiting.pop_first();
            self.dropped += 1;
        }
    }

    fn learn(&mut self, noted: &Noted, truth: f64) {
        self.waiting.remove(&(noted.at_ms, noted.zone.clone()));
        let tally = self.tally(noted);
        // What an earlier champion said tells nothing of this one.
        if tally.version() == noted.version {
            tally.learn(noted, truth);
        }
    }
}

impl Scores {
    /// The scores that the journal tells of. A journal that cannot be read is
    /// logged and left: scores begin anew.
    #[must_use]
    pub fn open(settings: &Watch) -> Self {
        let journal = Journal::new(&settings.journal_dir, settings.journal_days);
        let mut tasks: BTreeMap<String, OfTask> = BTreeMap::new();
        for noted in journal.read() {
            let of_task = tasks.entry(noted.task.clone()).or_default();
            match noted.truth {
                Some(truth) => of_task.learn(&noted, truth),
                None => {
                    of_task.tally(&noted);
                    of_task.wait(noted);
                }
            }
        }
        Self(Mutex::new(State { journal, tasks }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a prediction, once a step of `step_s` of event time and zone. What
    /// the baseline answered for the model is not noted.
    pub fn note(&self, said: &Prediction, step_s: i64) {
        let step = said.features_at_ms.div_euclid(step_s.max(1) * 1000);
        let mut state = self.state();
        let state = &mut *state;
        let of_task = state.tasks.entry(said.task.clone()).or_default();
        if said.fallback || of_task.steps.get(&said.zone) == Some(&step) {
            return;
        }
        of_task.steps.insert(said.zone.clone(), step);
        let noted = Noted {
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
        let tally = of_task.tally(&noted);
        tally.strange(said.drift.outside_share);
        state.journal.write(&noted);
        of_task.wait(noted);
    }

    /// The predictions of a task and zone whose truth is due when the zone's
    /// newest row is of `clock_ms`.
    #[must_use]
    pub fn due(&self, task: &dyn Task, zone: &ZoneId, clock_ms: i64) -> Vec<Noted> {
        let until_ms = clock_ms - task.about().horizon_s * 1000 - LATENESS_MS;
        let state = self.state();
        let Some(of_task) = state.tasks.get(task.about().name) else { return Vec::new() };
        let past = of_task.waiting.values().take_while(|noted| noted.at_ms <= until_ms);
        past.filter(|noted| noted.zone == *zone).cloned().collect()
    }

    /// The truth of a prediction has come; without one it never will.
    pub fn learn(&self, noted: &Noted, truth: Option<f64>) {
        let mut state = self.state();
        let state = &mut *state;
        let of_task = state.tasks.entry(noted.task.clone()).or_default();
        match truth.filter(|truth| truth.is_finite()) {
            Some(truth) => {
                of_task.learn(noted, truth);
                state.journal.write(&Noted { truth: Some(truth), ..noted.clone() });
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
        let state = self.state();
        let tally = state.tasks.get(&said.task).and_then(|of_task| of_task.tally.as_ref());
        let tally = tally.filter(|tally| tally.version() == said.version);
        tally.and_then(Tally::half_width).or(made)
    }

    /// How each task's champion fares.
    #[must_use]
    pub fn all(&self) -> Vec<Score> {
        let state = self.state();
        let mut scores = Vec::new();
        for (task, of_task) in &state.tasks {
            if let Some(tally) = &of_task.tally {
                let waiting = of_task.waiting.len();
                scores.push(tally.score(task, waiting, of_task.dropped, of_task.unknown));
            }
        }
        scores
    }

    /// How a task's champion fares.
    #[must_use]
    pub fn of(&self, task: &str) -> Option<Score> {
        self.all().into_iter().find(|score| score.task == task)
    }

    /// For Prometheus.
    pub(crate) fn write(&self, page: &mut Page) {
        let scores = self.all();
        let mut gauge = |name: &str, help: &str, of: &dyn Fn(&Score) -> Option<f64>| {
            let samples = scores.iter().filter_map(|score| {
                let Score { task, version, .. } = score;
                Some((labels([("task", task), ("version", version)]), of(score)?))
            });
            page.family((name, "gauge", help), samples);
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
    use super::*;
    use crate::{Settings, serve::Drift, tasks};

    const MINUTE_MS: i64 = 60_000;

    fn scores(dir: &std::path::Path) -> Scores {
        Scores::open(&Watch { journal_dir: dir.to_owned(), ..Settings::default().watch })
    }

    fn said(minute: i64, version: u64, value: f64) -> Prediction {
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
            status: "provisional".to_owned(),
        }
    }

    /// Lets the truth of everything that is due be `truth`; says how many.
    fn settle(scores: &Scores, minute: i64, truth: f64) -> usize {
        let task = &tasks::all()[0];
        let due = scores.due(task.as_ref(), &"s/z".parse().unwrap(), minute * MINUTE_MS);
        due.iter().for_each(|noted| scores.learn(noted, Some(truth)));
        due.len()
    }

    #[test]
    fn errors_count_once_the_truth_has_come_and_survive_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let scores = self::scores(dir.path());
        for minute in 0..20 {
            scores.note(&said(minute, 1, 20.0), 60);
            scores.note(&said(minute, 1, 99.0), 60); // the same minute again
        }
        assert_eq!(settle(&scores, 14, 20.5), 0, "the horizon is 10 min, and 5 for lateness");
        assert_eq!(settle(&scores, 24, 20.5), 10);
        let check = |scores: &Scores| {
            let score = scores.of("temperature-10m").unwrap();
            assert_eq!((score.scored, score.waiting), (10, 10));
            assert_eq!((score.mae, score.baseline_mae), (Some(0.5), Some(1.5)));
            assert!((score.skill.unwrap() - 2.0 / 3.0).abs() < 1e-12);
            assert_eq!(score.coverage, Some(1.0));
            assert_eq!(score.span_ms, Some((0, 9 * MINUTE_MS)));
        };
        check(&scores);
        assert_eq!(scores.of("temperature-10m").unwrap().outside_share, Some(0.25));
        let mut page = Page::new("t");
        scores.write(&mut page);
        assert!(page.finish().contains("t_mae{task=\"temperature-10m\",version=\"1\"} 0.5\n"));
        // A line that a crash cut short.
        let file = std::fs::read_dir(dir.path()).unwrap().next().unwrap().unwrap().path();
        let whole = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, format!("{whole}{{\"task\":\"temp")).unwrap();
        check(&self::scores(dir.path()));
    }

    #[test]
    fn what_was_said_by_the_baseline_or_an_earlier_champion_is_not_the_champions() {
        let dir = tempfile::tempdir().unwrap();
        let scores = scores(dir.path());
        scores.note(&Prediction { fallback: true, ..said(0, 1, 20.0) }, 60);
        scores.note(&said(1, 1, 20.0), 60);
        scores.note(&said(2, 2, 20.0), 60);
        assert_eq!(settle(&scores, 30, 20.0), 2);
        let score = scores.of("temperature-10m").unwrap();
        assert_eq!((score.version, score.scored, score.waiting), (2, 1, 0));
        let noted = Noted { at_ms: 5, ..serde_json::from_value(serde_json::json!({
            "task": "temperature-10m", "zone": "s/z", "at_ms": 0, "model": "ridge", "version": 2,
            "value": 1.0, "interval": null, "level": 0.9, "baseline": null,
        })).unwrap() };
        scores.learn(&noted, None);
        assert_eq!(scores.of("temperature-10m").unwrap().unknown, 1);
    }

    #[test]
    fn intervals_adapt_only_to_truths_that_have_come() {
        let dir = tempfile::tempdir().unwrap();
        let scores = scores(dir.path());
        for minute in 0..500 {
            scores.note(&said(minute, 1, 20.0), 60);
        }
        let now = said(600, 1, 20.0);
        assert_eq!(scores.half_width(&now, Some(1.0)), Some(1.0), "no truth yet: as in training");
        // Errors are 3 where the interval promised 1.
        assert_eq!(settle(&scores, 199 + 15, 23.0), 200);
        assert_eq!(scores.half_width(&now, Some(1.0)), Some(3.0));
        assert!(scores.of("temperature-10m").unwrap().is_worse_than_baseline());
        assert_eq!(scores.half_width(&said(600, 2, 20.0), Some(1.0)), Some(1.0), "another model");
    }
}
