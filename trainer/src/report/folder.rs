use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde_json::{Map, json};

use super::{csv, html, markdown};
use crate::{compare::ModelComparison, error::TrainError};

/// Folder of a run, `<reports>/<run id>/`.
#[derive(Clone, Debug)]
pub(crate) struct ReportFolder {
    pub(crate) run_id: String,
    pub(crate) path: PathBuf,
    reports: PathBuf,
}

/// Largest number of runs that may begin in one second.
const SAME_SECOND_MAX: u32 = 100;

impl ReportFolder {
    /// Creates a new folder, before the work whose report it will hold.
    ///
    /// # Errors
    /// [`TrainError::Report`].
    pub(crate) fn create_new(reports: &Path) -> Result<Self, TrainError> {
        let failed =
            |path: &Path, source| TrainError::Report { path: path.display().to_string(), source };
        fs::create_dir_all(reports).map_err(|source| failed(reports, source))?;
        let now = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
        for number in 1..=SAME_SECOND_MAX {
            let run_id = if number == 1 { now.clone() } else { format!("{now}-{number}") };
            let path = reports.join(&run_id);
            match fs::create_dir(&path) {
                Ok(()) => return Ok(Self { run_id, path, reports: reports.to_owned() }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(source) => return Err(failed(&path, source)),
            }
        }
        let source = io::Error::other(format!("{SAME_SECOND_MAX} runs began in this second"));
        Err(failed(reports, source))
    }

    /// Writes all files, then names this run the latest.
    ///
    /// # Errors
    /// [`TrainError::Report`].
    pub(crate) fn write_reports(&self, comparison: &ModelComparison) -> Result<(), TrainError> {
        let pretty = |value: &serde_json::Value| {
            serde_json::to_string_pretty(value).expect("a value has a JSON form")
        };
        let leaderboard = serde_json::to_value(comparison).expect("a comparison has a JSON form");
        let files = [
            ("report.html", html::html_page(comparison)),
            ("report.md", markdown::markdown_page(comparison)),
            ("leaderboard.csv", csv::leaderboard_csv(comparison)),
            ("leaderboard.json", pretty(&leaderboard)),
            ("run.json", pretty(&run_json(comparison))),
        ];
        for (name, content) in files {
            let path = self.path.join(name);
            fs::write(&path, content).map_err(|source| TrainError::Report {
                path: path.display().to_string(),
                source,
            })?;
        }
        let latest = json!({ "run_id": self.run_id, "dir": self.run_id });
        self.name_latest(&pretty(&latest))
    }

    /// Names this run the latest. Readers see the earlier run or this one, never a partial file.
    fn name_latest(&self, content: &str) -> Result<(), TrainError> {
        let path = self.reports.join("latest_run.json");
        let unfinished = self.reports.join(format!("latest_run.json.{}", self.run_id));
        let written = fs::write(&unfinished, content).and_then(|()| fs::rename(&unfinished, &path));
        written.map_err(|source| TrainError::Report { path: path.display().to_string(), source })
    }
}

/// Request of the comparison, and the rows that it used.
fn run_json(comparison: &ModelComparison) -> serde_json::Value {
    let mut tasks = Map::new();
    for task in &comparison.tasks {
        let facts = json!({
            "not_applicable": task.not_applicable.as_ref().map(|reason| &reason.why),
            "champion": task.champion,
            "offered": task.offered,
            "facts": task.facts,
            "took_s": task.took_s,
        });
        tasks.insert(task.task.clone(), facts);
    }
    json!({ "run_id": comparison.run_id, "run": comparison.run, "tasks": tasks })
}
