use std::collections::BTreeSet;

use feature_store::FrameQuery;
use telemetry::SmolStr;

use super::Request;
use crate::{earlier::column_of, input::Input, tasks};

/// Rows are taken at whole minutes.
const GRID_S: i64 = 60;

/// The rows that a task needs.
pub(super) struct Queries {
    /// What inputs are made from.
    pub(super) inputs: FrameQuery,
    /// What truths are made from; of a task without a target none.
    pub(super) truths: Option<FrameQuery>,
    /// The columns of earlier rows among the inputs, by their full names.
    pub(super) earlier: BTreeSet<String>,
}

/// What to ask for, or which metric is not there. `served` are the columns of the
/// champion in service, which is compared with.
pub(super) fn of(
    name: &str,
    columns: &BTreeSet<SmolStr>,
    served: &[&str],
    request: &Request,
) -> Result<Queries, String> {
    let query = |wanted: BTreeSet<String>, step_s: Option<i64>| FrameQuery {
        zones: (!request.zones.is_empty()).then(|| request.zones.clone()),
        from_ms: request.from_ms,
        to_ms: request.to_ms,
        columns: Some(wanted.into_iter().filter(|own| columns.contains(own.as_str())).collect()),
        step_s,
        version: None,
    };
    let mut named: BTreeSet<String> = served.iter().map(|column| (*column).to_owned()).collect();
    if let Some(task) = tasks::all().into_iter().find(|task| task.about().name == name) {
        let has = |metric: &&&str| columns.contains(format!("{metric}_last").as_str());
        if let Some(metric) = task.about().metrics.iter().find(|metric| !has(metric)) {
            return Err(format!("no {metric} in these zones"));
        }
        let anchor = task.about().anchor.map(str::to_owned);
        for input in task.inputs(columns).into_iter().chain(anchor) {
            named.extend(Input::parse(&input).columns().into_iter().map(str::to_owned));
        }
        named.extend(task.about().metrics.iter().map(|metric| format!("{metric}_last")));
        if let Some(metric) = task.about().present {
            named.extend(metric.columns().map(str::to_owned));
        }
        let wanted = named.iter().map(|name| column_of(name).0.to_owned()).collect();
        let earlier = named.iter().filter(|name| column_of(name).1 > 0).cloned().collect();
        let truths = task.about().truth_columns.iter().map(|column| (*column).to_owned());
        let truths = Some(query(truths.collect(), Some(GRID_S)));
        return Ok(Queries { inputs: query(wanted, Some(GRID_S)), truths, earlier });
    }
    let own = columns.iter().filter(|c| c.ends_with("_last") || c.ends_with("_age_s"));
    named.extend(own.map(ToString::to_string));
    Ok(Queries { inputs: query(named, None), truths: None, earlier: BTreeSet::new() })
}
