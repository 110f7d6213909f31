//! Arguments of `trainer compare` and `trainer relevance`.

use std::path::PathBuf;

use clap::{Args, builder::PossibleValuesParser};
use microclimate_trainer::{
    CompareRequest, FailCondition,
    backtest::ComparisonDepth,
    fit_pool::FitLimits,
    folds::{FOLDS_MAX, FoldPlan, SplitPoint},
    tasks,
};
use telemetry::ZoneId;
use telemetry::time::parse_bound_ms;

/// Rows to use, and resources of the machine.
#[derive(Args)]
pub(crate) struct RowArgs {
    /// Only this task (repeatable).
    #[arg(long = "task", value_name = "TASK", value_parser = PossibleValuesParser::new(tasks::NAMES))]
    tasks: Vec<String>,
    /// Only these zones, as in farm/bay-1,house/room-1.
    #[arg(long, value_delimiter = ',', value_name = "ZONE,…")]
    zones: Vec<ZoneId>,
    /// Rows from this time on, as in 2013-08-24 or 2013-08-24T12:00:00Z.
    #[arg(long, value_parser = parse_bound_ms, value_name = "TIME")]
    from: Option<i64>,
    /// Rows up to this time.
    #[arg(long, value_parser = parse_bound_ms, value_name = "TIME")]
    to: Option<i64>,
    /// Start of the test set, as in 2013-08-29, or the shares of training and calibration, as in
    /// 0.6,0.15 [default: the settings' shares].
    #[arg(long, value_name = "TIME or SHARES")]
    split: Option<SplitPoint>,
    /// Number of consecutive test sets; each is evaluated by models that were fitted on the time
    /// before it.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=FOLDS_MAX as i64))]
    folds: u16,
    /// Zones that are not used for fitting; only they are evaluated.
    #[arg(long, value_delimiter = ',', value_name = "ZONE,…")]
    hold_out: Vec<ZoneId>,
    /// Seed; the same seed gives the same models [default: the settings' seed].
    #[arg(long)]
    seed: Option<u64>,
    /// Number of models that are fitted at once [default: all processors].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: Option<u16>,
    /// Estimated memory of all models being fitted together, at most, MB.
    #[arg(long, value_name = "MB", default_value_t = 2048, value_parser = clap::value_parser!(u32).range(16..))]
    memory_mb: u32,
    /// Folder of the reports [default: the settings' reports_dir].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  trainer compare --task temperature-10m --split 2013-08-29
  trainer compare --folds 4 --models ridge,'gradient boosting' --seed 1
  trainer compare --hold-out keti/415,keti/417 --dry-run
  trainer compare --fail-if 'temperature-10m: skill < 0.1' --fail-if 'heating, ridge: p > 0.05'

The status is 2 where a --fail-if holds or cannot be evaluated.")]
pub(crate) struct CompareArgs {
    #[command(flatten)]
    pub(crate) rows: RowArgs,
    /// Only these models, as named in leaderboards; baselines are always included.
    #[arg(long, value_delimiter = ',', value_name = "MODEL,…")]
    models: Vec<String>,
    /// End with status 2 if this holds for a task's champion (or for `<task>, <model>`);
    /// quantities: error, skill, skill_low, p, coverage, predict_us_p99, fit_s, size_kb
    /// (repeatable).
    #[arg(long, value_name = "CONDITION")]
    pub(crate) fail_if: Vec<FailCondition>,
    /// Only the leaderboard, without leakage self-test, relevance and ablation.
    #[arg(long)]
    quick: bool,
    /// Do not change the registry.
    #[arg(long)]
    dry_run: bool,
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  trainer relevance --task temperature-10m
  trainer relevance --task heating --model ridge --split 2013-08-29")]
pub(crate) struct RelevanceArgs {
    #[command(flatten)]
    pub(crate) rows: RowArgs,
    /// Model to study.
    #[arg(long, default_value = "gradient boosting")]
    model: String,
}

impl CompareArgs {
    pub(crate) fn to_request(&self) -> CompareRequest {
        CompareRequest {
            models: self.models.clone(),
            depth: if self.quick { ComparisonDepth::Quick } else { ComparisonDepth::Usual },
            dry_run: self.dry_run,
            ..self.rows.to_request()
        }
    }
}

impl RelevanceArgs {
    /// Request for a comparison of one model with the baselines, which changes nothing.
    pub(crate) fn to_request(&self) -> CompareRequest {
        CompareRequest {
            models: vec![self.model.clone()],
            depth: ComparisonDepth::Thorough,
            dry_run: true,
            ..self.rows.to_request()
        }
    }
}

impl RowArgs {
    fn to_request(&self) -> CompareRequest {
        let defaults = FitLimits::default();
        CompareRequest {
            tasks: self.tasks.clone(),
            zones: self.zones.clone(),
            from_ms: self.from,
            to_ms: self.to,
            plan: FoldPlan {
                cut: self.split,
                folds: self.folds.into(),
                hold_out: self.hold_out.clone(),
            },
            seed: self.seed,
            limits: FitLimits {
                threads: self.threads.map_or(defaults.threads, usize::from),
                memory_bytes: (self.memory_mb as usize) << 20,
            },
            out: self.out.clone(),
            ..CompareRequest::default()
        }
    }
}
