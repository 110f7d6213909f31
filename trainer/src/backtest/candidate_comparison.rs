//! All candidates of a task beside one another.

use models::{
    Estimator,
    stats::{classes, conformal},
};
use telemetry::ZoneId;

use super::{
    BacktestSetup, ComparisonDepth,
    candidate::{FoldEvaluator, ModelCandidate, RELIABILITY_BINS},
    champion,
    details::{self, ChampionDetails, TestPredictions},
    error_intervals::{TimeGroups, skill_against},
    facts,
    interval_widths::IntervalWidths,
    leaderboard::{Backtest, LeaderboardEntry, PredictionSample, SelectedCandidate},
    leakage::{self, SkillEstimate},
    selection::{Selection, SelectionRows},
    statistic::{FoldStatistic, RowStatistic},
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
    /// By what is known before the test sets.
    selection: Selection,
    rows: SelectionRows,
    clock: TimeGroups,
    at_ms: Vec<i64>,
    zone: Vec<ZoneId>,
    actual: Vec<f64>,
    /// Levels without a change.
    unchanged: Vec<f64>,
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
        rows: SelectionRows,
        candidates: Vec<ModelCandidate>,
        settings: &'a TrainerSettings,
    ) -> Self {
        let metric = judges[0].metric;
        let tests = || folds.iter().map(|parts| &parts.test);
        let at_ms: Vec<i64> = tests().flat_map(|rows| rows.at_ms.clone()).collect();
        let zone: Vec<ZoneId> = tests().flat_map(|rows| rows.zone.clone()).collect();
        let anchors = tests().flat_map(|rows| &rows.reference);
        let unchanged = anchors.map(|anchor| task.spec().to_level(0.0, *anchor)).collect();
        let actual: Vec<f64> = judges.iter().flat_map(|judges| judges.actual.to_vec()).collect();
        let losses: Vec<Vec<f64>> =
            candidates.iter().map(|own| metric.row_losses(own.predictions(), &actual)).collect();
        let baseline = (0..candidates.len())
            .filter(|own| candidates[*own].baseline().is_some())
            .min_by(|a, b| {
                metric
                    .error_from_losses(&losses[*a])
                    .total_cmp(&metric.error_from_losses(&losses[*b]))
            })
            .expect("there is a baseline");
        let clock = TimeGroups::from_times(&at_ms, task.spec().horizon_s, settings.seed)
            .with_dependence_of(&losses[baseline]);
        let selection = Selection::select(&rows, metric, &candidates);
        Self {
            task,
            folds,
            judges,
            settings,
            candidates,
            selection,
            rows,
            clock,
            at_ms,
            zone,
            actual,
            unchanged,
            losses,
            baseline,
        }
    }

    /// How wide a candidate's intervals are; of a probability or a class they say nothing.
    fn interval_widths(&self, own: usize) -> Option<IntervalWidths> {
        if !self.task.spec().classes.is_empty() {
            return None;
        }
        let rows = self.rows.calibration_rows(&self.candidates[own]);
        IntervalWidths::calibrate(&rows, self.settings.interval.level)
    }

    /// By how much each row's interval is wider than usual.
    fn interval_scales(&self, own: usize, widths: &IntervalWidths) -> Vec<f64> {
        let levels = self.candidates[own].predictions().zip(&self.unchanged);
        let scale = |(row, (level, unchanged)): (usize, (&f64, &f64))| {
            widths.factor_at(&self.zone[row], self.at_ms[row], level - unchanged)
        };
        levels.enumerate().map(scale).collect()
    }

    fn half_widths(&self, own: usize) -> Option<Vec<f64>> {
        let widths = self.interval_widths(own)?;
        let scales = self.interval_scales(own, &widths);
        Some(scales.into_iter().map(|scale| scale * widths.half_width).collect())
    }

    fn leaderboard_entry(&self, own: usize) -> LeaderboardEntry {
        let metric = self.judges[0].metric;
        let (candidate, losses) = (&self.candidates[own], &self.losses[own]);
        let of_baseline = &self.losses[self.baseline];
        let (value, baseline_value) =
            (metric.error_from_losses(losses), metric.error_from_losses(of_baseline));
        let is_best_baseline = own == self.baseline;
        let compared = || (!is_best_baseline).then_some(());
        let last = candidate.last_fold();
        let residuals = self.rows.sorted_residuals(candidate);
        let mut scores = candidate.test_scores(self.judges, &residuals);
        let half_widths = self.half_widths(own);
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        let mut coverage = None;
        if let Some(half_widths) = &half_widths {
            let (low, high): (Vec<f64>, Vec<f64>) = candidate
                .predictions()
                .zip(half_widths)
                .map(|(level, half)| (level - half, level + half))
                .unzip();
            coverage = Some(conformal::interval_coverage(&low, &high, &self.actual));
            let level = self.settings.interval.level;
            let each = (0..self.actual.len()).map(|row| {
                let of = |values: &[f64]| [values[row]];
                conformal::interval_score(&of(&low), &of(&high), &of(&self.actual), level)
            });
            let mut own = FoldStatistic::default();
            own.push(0..self.actual.len(), RowStatistic::Mean(each.collect()));
            scores.insert("interval_score", own);
        }
        let interval = |(name, own): (&&'static str, &FoldStatistic)| {
            own.bootstrap_interval(&self.clock).map(|interval| (*name, interval))
        };
        let (chosen_by, chosen_by_error) = self.selection.errors[own];
        let place = self.selection.order.iter().position(|selected| *selected == own);
        LeaderboardEntry {
            model: candidate.name.clone(),
            metric: self.task.spec().metric,
            value,
            chosen_by,
            chosen_by_error,
            selected: place.map(|place| place + 1),
            interval: self.clock.error_interval(metric, losses),
            baseline_value,
            skill: skill_against(value, baseline_value),
            skill_interval: compared()
                .and_then(|()| self.clock.skill_interval(metric, losses, of_baseline)),
            test: compared().and_then(|()| self.clock.test_difference(losses, of_baseline)),
            is_baseline: candidate.baseline().is_some(),
            coverage,
            half_width: half_widths.map(|own| mean(&own)),
            fit_s: last.fit_s,
            predict_us: candidate.latency.p50_us,
            predict_us_p99: candidate.latency.p99_us,
            size_bytes: last.size_bytes,
            rows: last.rows,
            rows_offered: if candidate.baseline().is_some() { 0 } else { last.rows_offered },
            missing: candidate.missing,
            score_intervals: scores.iter().filter_map(interval).collect(),
            scores: scores.iter().map(|(name, own)| (*name, own.value())).collect(),
        }
    }

    fn selected_candidate(&self, own: usize) -> SelectedCandidate {
        let candidate = &self.candidates[own];
        let last = candidate.last_fold();
        let rows = last.predictions.len();
        let actual = &self.actual[self.actual.len() - rows..];
        let errors = last.predictions.iter().zip(actual).map(|(level, actual)| level - actual);
        SelectedCandidate {
            model: candidate.name.clone(),
            recipe: candidate.recipe.clone(),
            losses: self.losses[own][self.actual.len() - rows..].to_vec(),
            errors: errors.map(f64::abs).collect(),
            latency_p99_us: candidate.latency.p99_us,
            size_bytes: last.size_bytes,
            rows: last.rows,
        }
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
        let order = self.selection.order.clone();
        let selected: Vec<SelectedCandidate> =
            order.iter().map(|own| self.selected_candidate(*own)).collect();
        let kept = (setup.choose)(&selected)?;
        let best = order[kept];
        // The one that alone learns best: a blend rests on what its members rest on.
        let learner = order
            .iter()
            .copied()
            .filter(|own| self.candidates[*own].is_estimator())
            .min_by(|a, b| self.selection.errors[*a].0.total_cmp(&self.selection.errors[*b].0));
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
            let predictor = self.candidates[learner].last_predictor().expect("it was fitted");
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
            selected,
            kept,
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
        let widths = self.interval_widths(best);
        let scale = widths.as_ref().map_or_else(Vec::new, |own| self.interval_scales(best, own));
        let half_width: Vec<f64> = scale
            .iter()
            .map(|scale| scale * widths.as_ref().map_or(f64::INFINITY, |own| own.half_width))
            .collect();
        let calibration = widths.as_ref().map_or_else(Vec::new, |own| {
            own.normalised_errors(&self.rows.calibration_rows(candidate))
        });
        let levels =
            |own: usize| -> Vec<f64> { self.candidates[own].predictions().copied().collect() };
        let (model, baseline) = (levels(best), levels(self.baseline));
        let seen = TestPredictions {
            at_ms: &self.at_ms,
            zone: &self.zone,
            actual: &self.actual,
            model: &model,
            baseline: &baseline,
            unchanged: &self.unchanged,
            half_width: &half_width,
            scale: &scale,
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
        let picked = details::pick_evenly(&(0..said.len()).collect::<Vec<_>>(), SAMPLE_POINTS);
        PredictionSample {
            at_ms: picked.iter().map(|i| self.at_ms[*i]).collect(),
            truth: picked.iter().map(|i| self.actual[*i]).collect(),
            predicted: picked.iter().map(|i| said[*i]).collect(),
        }
    }

    fn take_champion(&mut self, best: usize, entry: &LeaderboardEntry) -> models::ModelArtifact {
        let widths = self.interval_widths(best);
        let fallback = self.candidates[self.selection.fallback].baseline().cloned();
        let predictor = champion::take_predictor(&mut self.candidates, best);
        champion::evaluated_artifact(
            &self.judges[self.judges.len() - 1],
            self.settings,
            predictor,
            entry,
            &fallback.expect("it is a baseline"),
            widths,
        )
    }
}
