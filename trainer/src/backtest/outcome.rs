//! All candidates of a task beside one another.

use models::{Estimator, stats::classes};
use telemetry::ZoneId;

use super::{
    Depth, Setup,
    candidate::{Candidate, Judges, RELIABILITY_BINS},
    champion,
    details::{self, Details, Seen},
    entry::{Backtest, Entry, Sample},
    facts,
    leakage::{self, Skill},
    score::{Clock, skill},
    statistic::OfFolds,
};
use crate::{relevance, settings::Settings, split::Parts, tasks::Task};

/// Points in a report's pictures.
const SAMPLE_POINTS: usize = 600;

/// All candidates over the test rows of all folds, one after another.
pub(super) struct Outcome<'a> {
    task: &'a dyn Task,
    folds: &'a [Parts],
    judges: &'a [Judges<'a>],
    settings: &'a Settings,
    candidates: Vec<Candidate>,
    clock: Clock,
    truth: Vec<f64>,
    /// The losses of each candidate.
    losses: Vec<Vec<f64>>,
    /// Which candidate is the best baseline on the test part.
    baseline: usize,
}

impl<'a> Outcome<'a> {
    pub(super) fn of(
        task: &'a dyn Task,
        folds: &'a [Parts],
        judges: &'a [Judges<'a>],
        candidates: Vec<Candidate>,
        settings: &'a Settings,
    ) -> Self {
        let metric = judges[0].metric;
        let at_ms: Vec<i64> = folds.iter().flat_map(|parts| parts.test.at_ms.clone()).collect();
        let truth: Vec<f64> = judges.iter().flat_map(|judges| judges.truth.to_vec()).collect();
        let losses: Vec<Vec<f64>> =
            candidates.iter().map(|own| metric.losses(own.said(), &truth)).collect();
        let baseline = (0..candidates.len())
            .filter(|own| candidates[*own].baseline.is_some())
            .min_by(|a, b| metric.error(&losses[*a]).total_cmp(&metric.error(&losses[*b])))
            .expect("there is a baseline");
        let clock = Clock::of(&at_ms, task.about().horizon_s, settings.seed);
        Self { task, folds, judges, settings, candidates, clock, truth, losses, baseline }
    }

    fn entry(&self, own: usize) -> Entry {
        let metric = self.judges[0].metric;
        let (candidate, losses) = (&self.candidates[own], &self.losses[own]);
        let of_baseline = &self.losses[self.baseline];
        let (value, baseline_value) = (metric.error(losses), metric.error(of_baseline));
        let is_best_baseline = own == self.baseline;
        let compared = || (!is_best_baseline).then_some(());
        let last = candidate.folds.last().expect("there is a fold");
        let scores = candidate.scores(self.judges);
        let interval = |(name, own): (&&'static str, &OfFolds)| {
            own.interval(&self.clock).map(|interval| (*name, interval))
        };
        Entry {
            model: candidate.name.clone(),
            metric: self.task.about().metric,
            value,
            chosen_by: candidate.chosen_by(metric),
            interval: self.clock.error_interval(metric, losses),
            baseline_value,
            skill: skill(value, baseline_value),
            skill_interval: compared()
                .and_then(|()| self.clock.skill_interval(metric, losses, of_baseline)),
            test: compared().and_then(|()| self.clock.test(losses, of_baseline)),
            is_baseline: candidate.baseline.is_some(),
            coverage: candidate.coverage(self.judges),
            half_width: last.half_width,
            fit_s: last.fit_s,
            predict_us: candidate.latency.p50_us,
            predict_us_p99: candidate.latency.p99_us,
            size_bytes: last.size_bytes,
            rows: last.rows,
            rows_offered: if candidate.baseline.is_some() { 0 } else { last.rows_offered },
            missing: candidate.missing,
            score_intervals: scores.iter().filter_map(interval).collect(),
            scores: scores.iter().map(|(name, own)| (*name, own.value())).collect(),
        }
    }

    /// The model, and the candidate of any kind, that is best before the test part: its
    /// error there is not one that it was chosen for. Baselines learn nothing, so that
    /// all rows before it may judge them; a model is judged by the calibration part, as
    /// is the best baseline beside it.
    fn chosen(&self) -> (Option<usize>, usize) {
        let metric = self.judges[0].metric;
        let best = |own: Vec<usize>, error: &dyn Fn(&Candidate) -> f64| {
            let by = |own: &usize| error(&self.candidates[*own]);
            own.into_iter().min_by(|a, b| by(a).total_cmp(&by(b)))
        };
        let all = 0..self.candidates.len();
        let (baselines, models): (Vec<usize>, Vec<usize>) =
            all.partition(|own| self.candidates[*own].baseline.is_some());
        let baseline = best(baselines, &|own| own.known_by(metric)).expect("there is a baseline");
        let on_calibration = |own: &Candidate| own.chosen_by(metric);
        let model = best(models, &on_calibration);
        let both = [baseline].into_iter().chain(model).collect();
        (model, best(both, &on_calibration).expect("there is a baseline"))
    }

    pub(super) fn backtest(
        mut self,
        failed: Vec<(String, String)>,
        estimators: &[Box<dyn Estimator>],
        setup: &Setup,
        step: &(dyn Fn(&str) + Sync),
    ) -> Result<Backtest, String> {
        let mut entries: Vec<Entry> =
            setup.pool.install(|| (0..self.candidates.len()).map(|own| self.entry(own)).collect());
        let (learner, best) = self.chosen();
        let last = &self.folds[self.folds.len() - 1];
        let (mut leakage, mut relevance) = (None, None);
        // Where the best baseline makes no error there is nothing to learn, nor to leak.
        let is_worth_it = setup.depth > Depth::Quick && entries[best].baseline_value > 0.0;
        if let Some(learner) = learner.filter(|_| is_worth_it) {
            let estimator = estimators.iter().find(|e| e.name() == self.candidates[learner].name);
            let estimator = estimator.expect("it was fitted").as_ref();
            let entry = &entries[learner];
            let honest = Skill { value: entry.skill, interval: entry.skill_interval };
            let seed = self.settings.seed;
            let checked =
                setup.pool.install(|| leakage::check(self.task, last, estimator, honest, seed))?;
            leakage = Some(checked);
            step("leakage self-test");
            let predictor = &self.candidates[learner].predictor();
            let study = relevance::Study {
                task: self.task,
                parts: last,
                estimator,
                seed,
                is_thorough: setup.depth == Depth::Thorough,
            };
            let found = setup.pool.install(|| study.run(predictor, entry.predict_us, step))?;
            relevance = Some(found);
        }
        let details = self.details(best);
        let sample = self.sample(best);
        let facts = facts::of(self.folds, self.task.about().horizon_s);
        let champion = self.champion(best, &entries[best]);
        entries.sort_by(|a, b| a.value.total_cmp(&b.value));
        Ok(Backtest {
            leaderboard: entries,
            failed,
            champion,
            sample,
            facts,
            details: Some(details),
            leakage,
            relevance,
            no_intervals: self.clock.too_short(),
        })
    }

    fn details(&self, best: usize) -> Details {
        let candidate = &self.candidates[best];
        let tests = || self.folds.iter().map(|parts| &parts.test);
        let at_ms: Vec<i64> = tests().flat_map(|rows| rows.at_ms.clone()).collect();
        let about = self.task.about();
        let anchors = tests().flat_map(|rows| &rows.anchor);
        let unchanged: Vec<f64> = anchors.map(|anchor| about.level(0.0, *anchor)).collect();
        let zone: Vec<ZoneId> = tests().flat_map(|rows| rows.zone.clone()).collect();
        let of_folds = self.folds.iter().enumerate();
        let fold: Vec<usize> =
            of_folds.flat_map(|(fold, parts)| vec![fold; parts.test.len()]).collect();
        let half_width: Vec<Option<f64>> =
            candidate.folds.iter().map(|own| own.half_width).collect();
        let calibration: Vec<&[f64]> =
            candidate.folds.iter().map(|own| own.calibration_errors.as_slice()).collect();
        let levels = |own: usize| -> Vec<f64> { self.candidates[own].said().copied().collect() };
        let (model, baseline) = (levels(best), levels(self.baseline));
        let seen = Seen {
            at_ms: &at_ms,
            zone: &zone,
            truth: &self.truth,
            model: &model,
            baseline: &baseline,
            unchanged: &unchanged,
            fold: &fold,
            half_width: &half_width,
            calibration: &calibration,
        };
        let other = &self.candidates[self.baseline].name;
        let mut details = Details::of(&candidate.name, other, self.judges[0].metric, &seen);
        match self.task.about().classes.len() {
            0 => {}
            2 => {
                let labels: Vec<bool> = self.truth.iter().map(|class| *class > 0.5).collect();
                details.reliability = classes::calibration(&model, &labels, RELIABILITY_BINS);
                details.coverage.clear();
            }
            _ => details.coverage.clear(),
        }
        details
    }

    fn sample(&self, best: usize) -> Sample {
        let said: Vec<f64> = self.candidates[best].said().copied().collect();
        let at_ms: Vec<i64> =
            self.folds.iter().flat_map(|parts| parts.test.at_ms.clone()).collect();
        let picked = details::evenly(&(0..said.len()).collect::<Vec<_>>(), SAMPLE_POINTS);
        Sample {
            at_ms: picked.iter().map(|i| at_ms[*i]).collect(),
            truth: picked.iter().map(|i| self.truth[*i]).collect(),
            predicted: picked.iter().map(|i| said[*i]).collect(),
        }
    }

    fn champion(&mut self, best: usize, entry: &Entry) -> models::Artifact {
        let served = self.candidates[self.baseline].baseline.clone().expect("it is a baseline");
        let judges = &self.judges[self.judges.len() - 1];
        let candidate = self.candidates.swap_remove(best);
        champion::artifact(self.task, self.settings, judges, candidate, entry, &served)
    }
}
