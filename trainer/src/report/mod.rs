//! The run folder: HTML, Markdown, CSV, JSON; and the terminal's table.

mod html;
mod text;

use std::{fs, path::Path};

use crate::{
    compare::{Comparison, TaskResult},
    error::TrainError,
};

pub use text::terminal;

/// Writes `<dir>/<run id>/…` and `<dir>/latest_run.json`.
pub(crate) fn write(dir: &Path, tasks: Vec<TaskResult>) -> Result<Comparison, TrainError> {
    let run_id = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
    let folder = dir.join(&run_id);
    let comparison = Comparison { run_id, dir: folder.clone(), tasks };
    let json = serde_json::to_string_pretty(&comparison).expect("a comparison has a JSON form");
    let latest = serde_json::json!({ "run_id": comparison.run_id, "dir": comparison.run_id });
    let files = [
        (folder.join("report.html"), html::page(&comparison)),
        (folder.join("report.md"), text::markdown(&comparison)),
        (folder.join("leaderboard.csv"), text::csv(&comparison)),
        (folder.join("leaderboard.json"), json),
        (dir.join("latest_run.json"), latest.to_string()),
    ];
    let report =
        |path: &Path, source| TrainError::Report { path: path.display().to_string(), source };
    fs::create_dir_all(&folder).map_err(|source| report(&folder, source))?;
    for (path, content) in files {
        fs::write(&path, content).map_err(|source| report(&path, source))?;
    }
    Ok(comparison)
}
