use std::path::PathBuf;

use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use jiff::tz::TimeZone;
use telemetry::{
    TimeFormat,
    time::{parse_bound_ms, parse_time_zone},
};

use super::{BackfillLayout, BackfillProgress, BackfillRequest, run_backfill};
use crate::{FeatureStoreSettings, StoreError};

/// Arguments of `feature-store backfill`.
#[derive(Clone, Debug, clap::Args)]
pub struct BackfillCommand {
    /// A folder or a file.
    path: PathBuf,
    /// Layout of the files.
    #[arg(long, value_enum)]
    layout: BackfillLayout,
    /// Site for layouts that do not name one.
    #[arg(long, default_value = "site")]
    site: String,
    /// Only these zones, as in 415,417 or farm/bay-1.
    #[arg(long, value_delimiter = ',')]
    zones: Vec<String>,
    /// From this time on, as in 2013-08-24 or 2013-08-24T12:00:00Z.
    #[arg(long, value_parser = parse_bound_ms)]
    from: Option<i64>,
    /// Before this time.
    #[arg(long, value_parser = parse_bound_ms)]
    to: Option<i64>,
    /// Time zone of times that have neither offset nor zone, as in Europe/Berlin.
    #[arg(long, default_value = "UTC", value_parser = parse_time_zone, value_name = "NAME")]
    time_zone: TimeZone,
    /// Format of times: iso (the year first), day-first, month-first, or spreadsheet-days.
    #[arg(long, default_value = TimeFormat::Iso.as_str(), value_name = "FORMAT")]
    time_format: TimeFormat,
    /// Store feature rows and KPIs, not the readings themselves.
    #[arg(long)]
    features_only: bool,
    /// Take interpolated series as published, not the readings behind them (`wazihub`).
    #[arg(long)]
    as_published: bool,
    /// File for the list of rejected lines [default: beside the store's file].
    #[arg(long, value_name = "FILE")]
    rejects: Option<PathBuf>,
    /// Number of zones at a time; 0: as many as there are processors.
    #[arg(long, default_value_t = 0)]
    jobs: usize,
}

impl BackfillCommand {
    /// Runs the backfill with a progress bar and prints the summary as JSON.
    ///
    /// # Errors
    /// Fails as [`run_backfill`] does.
    pub fn run(self, settings: &FeatureStoreSettings) -> Result<(), StoreError> {
        let Self { path, layout, site, zones, from, to, time_zone, time_format, .. } = self;
        let Self { features_only, as_published, jobs, .. } = self;
        let rejects =
            self.rejects.unwrap_or_else(|| settings.store.path.with_extension("rejects.csv"));
        let request = BackfillRequest {
            path,
            layout,
            site,
            zones,
            from_ms: from,
            to_ms: to,
            features_only,
            as_published,
            time_zone,
            time_format,
            rejects,
            jobs,
        };
        let bar = new_progress_bar();
        let metrics = settings.metric_table()?;
        let summary = run_backfill(settings, &metrics, &request, &|progress| {
            update_progress_bar(&bar, progress);
        });
        bar.finish_and_clear();
        println!("{}", serde_json::to_string_pretty(&summary?).expect("numbers and names"));
        Ok(())
    }
}

fn new_progress_bar() -> ProgressBar {
    let template = "{bar:30} {percent}%  {msg}  {elapsed}, {eta} left";
    ProgressBar::new(0).with_style(ProgressStyle::with_template(template).expect("a template"))
}

fn update_progress_bar(bar: &ProgressBar, progress: BackfillProgress) {
    bar.set_length(progress.bytes_all);
    bar.set_position(progress.bytes);
    let BackfillProgress { zones, zones_all, readings, .. } = progress;
    bar.set_message(format!(
        "{} readings, {zones} of {zones_all} zones stored",
        HumanCount(readings)
    ));
}
