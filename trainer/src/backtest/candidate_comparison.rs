//! All candidates of a task beside one another.

use models::{Estimator, stats::classes};
use telemetry::ZoneId;

use super::{
    BacktestSetup, ComparisonDepth,
    candidate::{FoldEvaluator, ModelCandidate, RELIABILITY_BINS},
    champion,
    details::{self, ChampionDetails, TestPredictions},
    error_intervals::{TimeGroups, skill_against},
    facts,
    leaderboard::{Backtest, LeaderboardEntry, PredictionSample},
    leakage::{self, SkillEstimate},
    statistic::FoldStatistic,
};
use crate::{relevance, settings::TrainerSettings, split::DataSplit, tasks::PredictionTask};

/// Points in a report's pictures.
const SAMPLE_POINTS: usize = 600;

/// All candidates over the test rows of all folds, one after another.
pub(super) struct CandidateComparison<'a> {
    task: &'a dyn PredictionTask,
    folds: &'a [DataSplit],
    judges: &'a [FoldEvaluator<'a>],
    settings: &'a TrainerSettings,
    candidates: Vec<ModelCandidate>,
    clock: TimeGroups,
    actual: Vec<f64>,
    /// The losses of each candidate.
    losses: Vec<Vec<f64>>,
    /// Which candidate is the best baseline on the test part.
    baseline: usize,
}

impl<'a> CandidateComparison<'a> {
    pub(super) fn new(
        task: &'a dyn PredictionTask,
        folds: &'a [DataSplit],
        judges: &'a [FoldEvaluator<'a>],
        candidates: Vec<ModelCandidate>,
        settings: &'a TrainerSettings,
    ) -> Self {
        let metric = judges[0].metric;
        let at_ms: Vec<i64> = folds.iter().flat_map(|parts| parts.test.at_ms.clone()).collect();
        let truth: Vec<f64> = judges.iter().flat_map(|judges| judges.actual.to_vec()).collect();
        let losses: Vec<Vec<f64>> =
            candidates.iter().map(|own| metric.row_losses(own.predictions(), &truth)).collect();
        let baseline = (0..candidates.len())
            .filter(|own| candidates[*own].baseline.is_some())
            .min_by(|a, b| {
                metric
                    .error_from_losses(&losses[*a])
                    .total_cmp(&metric.error_from_losses(&losses[*b]))
            })
            .expect("there is a baseline");
        let clock = TimeGroups::from_times(&at_ms, task.spec().horizon_s, settings.seed);
        Self { task, folds, judges, settings, candidates, clock, actual: truth, losses, baseline }
    }

    fn leaderboard_entry(&self, own: usize) -> LeaderboardEntry {
        let metric = self.judges[0].metric;
        let (candidate, losses) = (&self.candidates[own], &self.losses[own]);
        let of_baseline = &self.losses[self.baseline];
        let (value, baseline_value) =
            (metric.error_from_losses(losses), metric.error_from_losses(of_baseline));
        let is_best_baseline = own == self.baseline;
        let compared = || (!is_best_baseline).then_some(());
        let last = candidate.folds.last().expect("there is a fold");
        let scores = candidate.test_scores(self.judges);
        let interval = |(name, own): (&&'static str, &FoldStatistic)| {
            own.bootstrap_interval(&self.clock).map(|interval| (*name, interval))
        };
        LeaderboardEntry {
            model: candidate.name.clone(),
            metric: self.task.spec().metric,
            value,
            chosen_by: candidate.validation_error(metric),
            interval: self.clock.error_interval(metric, losses),
            baseline_value,
            skill: skill_against(value, baseline_value),
            skill_interval: compared()
                .and_then(|()| self.clock.skill_interval(metric, losses, of_baseline)),
            test: compared().and_then(|()| self.clock.test_difference(losses, of_baseline)),
            is_baseline: candidate.baseline.is_some(),
            coverage: candidate.interval_coverage(self.judges),
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
    fn choose_champion(&self) -> (Option<usize>, usize) {
        let metric = self.judges[0].metric;
        let best = |own: Vec<usize>, error: &dyn Fn(&ModelCandidate) -> f64| {
            let by = |own: &usize| error(&self.candidates[*own]);
            own.into_iter().min_by(|a, b| by(a).total_cmp(&by(b)))
        };
        let all = 0..self.candidates.len();
        let (baselines, models): (Vec<usize>, Vec<usize>) =
            all.partition(|own| self.candidates[*own].baseline.is_some());
        let baseline =
            best(baselines, &|own| own.pre_test_error(metric)).expect("there is a baseline");
        let on_calibration = |own: &ModelCandidate| own.validation_error(metric);
        let model = best(models, &on_calibration);
        let both = [baseline].into_iter().chain(model).collect();
        (model, best(both, &on_calibration).expect("there is a baseline"))
    }

    pub(super) fn into_backtest(
        mut self,
        failed: Vec<(String, String)>,
        estimators: &[Box<dyn Estimator>],
        setup: &BacktestSetup,
        step: &(dyn Fn(&str) + Sync),
    ) -> Result<Backtest, String> {
        let mut entries: Vec<LeaderboardEntry> = setup.pool.install(|| {
            (0..self.candidates.len()).map(|own| self.leaderboard_entry(own)).collect()
        });
        let (learner, best) = self.choose_champion();
        let last = &self.folds[self.folds.len() - 1];
        let (mut leakage, mut relevance) = (None, None);
        // Where the best baseline makes no error there is nothing to learn, nor to leak.
        let is_worth_it =
            setup.depth > ComparisonDepth::Quick && entries[best].baseline_value > 0.0;
        if let Some(learner) = learner.filter(|_| is_worth_it) {
            let estimator = estimators.iter().find(|e| e.name() == self.candidates[learner].name);
            let estimator = estimator.expect("it was fitted").as_ref();
            let entry = &entries[learner];
            let honest = SkillEstimate { value: entry.skill, interval: entry.skill_interval };
            let seed = self.settings.seed;
            let checked = setup
                .pool
                .install(|| leakage::check_leakage(self.task, last, estimator, honest, seed))?;
            leakage = Some(checked);
            step("leakage self-test");
            let predictor = &self.candidates[learner].last_predictor();
            let study = relevance::RelevanceStudy {
                task: self.task,
                parts: last,
                estimator,
                seed,
                is_thorough: setup.depth == ComparisonDepth::Thorough,
            };
            let found =
                setup.pool.install(|| study.run_study(predictor, entry.predict_us, step))?;
            relevance = Some(found);
        }
        let details = self.champion_details(best);
        let sample = self.sample_predictions(best);
        let facts = facts::comparison_facts(self.folds, self.task.spec().horizon_s);
        let champion = self.take_champion(best, &entries[best]);
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
            no_intervals: self.clock.too_short_reason(),
        })
    }

    fn champion_details(&self, best: usize) -> ChampionDetails {
        let candidate = &self.candidates[best];
        let tests = || self.folds.iter().map(|parts| &parts.test);
        let at_ms: Vec<i64> = tests().flat_map(|rows| rows.at_ms.clone()).collect();
        let about = self.task.spec();
        let anchors = tests().flat_map(|rows| &rows.reference);
        let unchanged: Vec<f64> = anchors.map(|anchor| about.to_level(0.0, *anchor)).collect();
        let zone: Vec<ZoneId> = tests().flat_map(|rows| rows.zone.clone()).collect();
        let of_folds = self.folds.iter().enumerate();
        let fold: Vec<usize> =
            of_folds.flat_map(|(fold, parts)| vec![fold; parts.test.len()]).collect();
        let half_width: Vec<Option<f64>> =
            candidate.folds.iter().map(|own| own.half_width).collect();
        let calibration: Vec<&[f64]> =
            candidate.folds.iter().map(|own| own.calibration_errors.as_slice()).collect();
        let levels =
            |own: usize| -> Vec<f64> { self.candidates[own].predictions().copied().collect() };
        let (model, baseline) = (levels(best), levels(self.baseline));
        let seen = TestPredictions {
            at_ms: &at_ms,
            zone: &zone,
            actual: &self.actual,
            model: &model,
            baseline: &baseline,
            unchanged: &unchanged,
            fold: &fold,
            half_width: &half_width,
            calibration: &calibration,
        };
        let other = &self.candidates[self.baseline].name;
        let mut details =
            ChampionDetails::from_predictions(&candidate.name, other, self.judges[0].metric, &seen);
        match self.task.spec().classes.len() {
            0 => {}
            2 => {
                let labels: Vec<bool> = self.actual.iter().map(|class| *class > 0.5).collect();
                details.reliability = classes::calibration_table(&model, &labels, RELIABILITY_BINS);
                details.coverage.clear();
            }
            _ => details.coverage.clear(),
        }
        details
    }

    fn sample_predictions(&self, best: usize) -> PredictionSample {
        let said: Vec<f64> = self.candidates[best].predictions().copied().collect();
        let at_ms: Vec<i64> =
            self.folds.iter().flat_map(|parts| parts.test.at_ms.clone()).collect();
        let picked = details::pick_evenly(&(0..said.len()).collect::<Vec<_>>(), SAMPLE_POINTS);
        PredictionSample {
            at_ms: picked.iter().map(|i| at_ms[*i]).collect(),
            truth: picked.iter().map(|i| self.actual[*i]).collect(),
            predicted: picked.iter().map(|i| said[*i]).collect(),
        }
    }

    fn take_champion(&mut self, best: usize, entry: &LeaderboardEntry) -> models::ModelArtifact {
        let served = self.candidates[self.baseline].baseline.clone().expect("it is a baseline");
        let judges = &self.judges[self.judges.len() - 1];
        let candidate = self.candidates.swap_remove(best);
        champion::build_artifact(self.task, self.settings, judges, candidate, entry, &served)
    }
}
