//! A task's pictures, each with how to read it.

mod champion;
mod models;
mod rows;

use super::Figure;
use crate::compare::TaskResult;

/// All that the task has something to show in.
pub(super) fn of(task: &TaskResult) -> Vec<Figure> {
    let mut figures = Vec::new();
    if !task.is_trivial() {
        figures.extend(models::of(task));
        figures.extend(champion::of(task));
    }
    figures.extend(rows::of(task));
    figures
}
