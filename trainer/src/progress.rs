use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use microclimate_trainer::CompareProgress;

/// Progress of a comparison: one bar for all tasks with an estimate, and one for the current task.
/// Nothing is shown where there is no terminal.
#[derive(Clone)]
pub(crate) struct ProgressBars {
    all: ProgressBar,
    task: ProgressBar,
}

const PROGRESS_STEPS: u64 = 1000;

impl ProgressBars {
    pub(crate) fn new() -> Self {
        let style = |template| ProgressStyle::with_template(template).expect("a template");
        let bars = MultiProgress::new();
        let all = ProgressBar::new(PROGRESS_STEPS).with_style(style(
            "{bar:30.blue} {percent:>3} %  {msg}  {elapsed} gone, about {eta} to go",
        ));
        let task = ProgressBar::new(0).with_style(style("{bar:30.cyan} {pos}/{len}  {msg}"));
        let (all, task) = (bars.add(all), bars.add(task));
        all.enable_steady_tick(Duration::from_secs(1));
        Self { all, task }
    }

    pub(crate) fn show_progress(&self, progress: &CompareProgress) {
        self.all.set_position((PROGRESS_STEPS as f64 * progress.completed_share()) as u64);
        self.all.set_message(format!("task {} of {}", progress.tasks_done + 1, progress.tasks));
        self.task.set_length(progress.steps as u64);
        self.task.set_position(progress.steps_done as u64);
        self.task.set_message(format!("{}: {}", progress.task, progress.step));
    }

    pub(crate) fn finish_bars(&self) {
        self.task.finish_and_clear();
        self.all.finish_and_clear();
    }
}
