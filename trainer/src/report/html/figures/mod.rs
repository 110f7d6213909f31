//! Figures of a task, each with a caption that explains it.

mod champion;
mod models;
mod rows;

use super::ReportFigure;
use crate::compare::TaskResult;

/// All figures for which the task has data.
pub(super) fn task_figures(task: &TaskResult) -> Vec<ReportFigure> {
    let mut figures = Vec::new();
    if !task.is_trivial() {
        figures.extend(models::model_figures(task));
        figures.extend(champion::champion_figures(task));
    }
    figures.extend(rows::row_figures(task));
    figures
}
