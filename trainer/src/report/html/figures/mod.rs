//! A task's pictures, each with how to read it.

mod champion;
mod models;
mod rows;

use super::ReportFigure;
use crate::compare::TaskResult;

/// All that the task has something to show in.
pub(super) fn task_figures(task: &TaskResult) -> Vec<ReportFigure> {
    let mut figures = Vec::new();
    if !task.is_trivial() {
        figures.extend(models::model_figures(task));
        figures.extend(champion::champion_figures(task));
    }
    figures.extend(rows::row_figures(task));
    figures
}
