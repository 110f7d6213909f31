use std::collections::BTreeSet;

use feature_store::FrameQuery;
use telemetry::SmolStr;

use super::Request;
use crate::{input::Input, tasks};

/// The columns that a task needs, or which metric is not there.
pub(super) fn of(
    name: &str,
    columns: &BTreeSet<SmolStr>,
    request: &Request,
) -> Result<FrameQuery, String> {
    let mut wanted: BTreeSet<String> = BTreeSet::new();
    let mut step_s = None;
    if let Some(task) = tasks::all().into_iter().find(|task| task.name() == name) {
        let has = |metric: &&&str| columns.contains(format!("{metric}_last").as_str());
        if let Some(metric) = task.metrics().iter().find(|metric| !has(metric)) {
            return Err(format!("no {metric} in these zones"));
        }
        let anchor = task.anchor().map(str::to_owned);
        for input in task.inputs(columns).into_iter().chain(anchor) {
            wanted.extend(Input::parse(&input).columns().into_iter().map(str::to_owned));
        }
        wanted.extend(task.target_columns().iter().map(|column| (*column).to_owned()));
        wanted.retain(|column| columns.contains(column.as_str()));
        step_s = Some(60);
    } else {
        let own = columns.iter().filter(|c| c.ends_with("_last") || c.ends_with("_age_s"));
        wanted.extend(own.map(ToString::to_string));
    }
    Ok(FrameQuery {
        zones: (!request.zones.is_empty()).then(|| request.zones.clone()),
        from_ms: request.from_ms,
        to_ms: request.to_ms,
        columns: Some(wanted.into_iter().collect()),
        step_s,
        version: None,
    })
}
