use std::collections::BTreeSet;

use feature_api::FrameQuery;
use telemetry::SmolStr;

use super::CompareRequest;
use crate::{input::InputExpression, lag_columns::parse_lag_column, tasks};

/// Rows are taken at whole minutes.
const GRID_S: i64 = 60;

/// The rows that a task needs.
pub(super) struct TaskQueries {
    /// What inputs are made from.
    pub(super) inputs: FrameQuery,
    /// What truths are made from; of a task without a target none.
    pub(super) truths: Option<FrameQuery>,
    /// The columns of earlier rows among the inputs, by their full names.
    pub(super) earlier: BTreeSet<String>,
}

/// What to ask for, or which metric is not there. `served` are the columns of the
/// champion in service, which is compared with.
pub(super) fn build_queries(
    name: &str,
    columns: &BTreeSet<SmolStr>,
    served: &[&str],
    request: &CompareRequest,
) -> Result<TaskQueries, String> {
    let query = |wanted: BTreeSet<String>, step_s: Option<i64>| FrameQuery {
        zones: (!request.zones.is_empty()).then(|| request.zones.clone()),
        from_ms: request.from_ms,
        to_ms: request.to_ms,
        columns: Some(wanted.into_iter().filter(|own| columns.contains(own.as_str())).collect()),
        step_s,
        version: None,
    };
    let mut named: BTreeSet<String> = served.iter().map(|column| (*column).to_owned()).collect();
    if let Some(task) = tasks::all_tasks().into_iter().find(|task| task.spec().name == name) {
        let has = |metric: &&&str| columns.contains(format!("{metric}_last").as_str());
        if let Some(metric) = task.spec().metrics.iter().find(|metric| !has(metric)) {
            return Err(format!("no {metric} in these zones"));
        }
        let anchor = task.spec().reference.map(str::to_owned);
        for input_values in task.input_names(columns).into_iter().chain(anchor) {
            named.extend(
                InputExpression::parse(&input_values)
                    .source_columns()
                    .into_iter()
                    .map(str::to_owned),
            );
        }
        named.extend(task.spec().metrics.iter().map(|metric| format!("{metric}_last")));
        if let Some(metric) = task.spec().required_metric {
            named.extend(metric.source_columns().map(str::to_owned));
        }
        let wanted = named.iter().map(|name| parse_lag_column(name).0.to_owned()).collect();
        let earlier = named.iter().filter(|name| parse_lag_column(name).1 > 0).cloned().collect();
        let truths = task.spec().truth_columns.iter().map(|column| (*column).to_owned());
        let truths = Some(query(truths.collect(), Some(GRID_S)));
        return Ok(TaskQueries { inputs: query(wanted, Some(GRID_S)), truths, earlier });
    }
    let own = columns.iter().filter(|c| c.ends_with("_last") || c.ends_with("_age_s"));
    named.extend(own.map(ToString::to_string));
    Ok(TaskQueries { inputs: query(named, None), truths: None, earlier: BTreeSet::new() })
}
