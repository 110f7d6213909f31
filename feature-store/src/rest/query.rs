//! What can be asked, and what is refused.

use serde::Deserialize;
use service::{rest::Problem, time::parse_ms};
use telemetry::ZoneId;

/// Most names or zones in one request.
const LIST_MAX: usize = 2000;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LatestParams {
    zones: Option<String>,
    names: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HistoryParams {
    pub(super) zone: ZoneId,
    pub(super) from: Option<String>,
    pub(super) to: Option<String>,
    pub(super) names: Option<String>,
    pub(super) step_s: Option<i64>,
    pub(super) limit: Option<usize>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReadingParams {
    pub(super) zone: Option<ZoneId>,
    pub(super) metric: Option<String>,
    pub(super) quality: Option<String>,
    pub(super) from: Option<String>,
    pub(super) to: Option<String>,
    pub(super) limit: Option<usize>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KpiParams {
    pub(super) zone: ZoneId,
    #[serde(default)]
    pub(super) period: crate::kpi::Length,
    pub(super) from: Option<String>,
    pub(super) to: Option<String>,
    pub(super) limit: Option<usize>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DatasetParams {
    pub(super) zones: Option<String>,
    pub(super) from: Option<String>,
    pub(super) to: Option<String>,
    pub(super) columns: Option<String>,
    pub(super) step_s: Option<i64>,
}

#[derive(Debug, Deserialize)]
pub(super) struct EventParams {
    pub(super) zones: Option<String>,
    pub(super) names: Option<String>,
}

impl LatestParams {
    pub(super) fn zones(&self) -> Result<Option<Vec<ZoneId>>, Problem> {
        zones(self.zones.as_deref())
    }

    pub(super) fn names(&self) -> Option<Vec<&str>> {
        self.names.as_deref().map(|names| parts(names).take(LIST_MAX).collect())
    }
}

/// Zones, separated by commas.
pub(super) fn zones(text: Option<&str>) -> Result<Option<Vec<ZoneId>>, Problem> {
    let Some(text) = text else { return Ok(None) };
    let zones: Result<Vec<ZoneId>, _> = parts(text).take(LIST_MAX).map(str::parse).collect();
    zones.map(Some).map_err(|error| Problem::bad_request(format!("zones: {error}")))
}

/// Names, separated by commas.
pub(super) fn list(text: Option<&str>) -> Option<Vec<String>> {
    text.map(|text| parts(text).take(LIST_MAX).map(str::to_owned).collect())
}

fn parts(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty())
}

/// A time as people write it.
pub(super) fn time(text: Option<&str>) -> Result<Option<i64>, Problem> {
    text.map(parse_ms).transpose().map_err(Problem::bad_request)
}

pub(super) fn step(step_s: Option<i64>) -> Result<Option<i64>, Problem> {
    match step_s {
        Some(step_s) if !(1..=86_400 * 31).contains(&step_s) => {
            Err(Problem::bad_request(format!("step_s = {step_s} is not 1 to 2678400")))
        }
        step_s => Ok(step_s),
    }
}

/// How many rows were asked for, up to what may be asked for.
pub(super) fn limit(asked: Option<usize>, default: usize, max: usize) -> Result<usize, Problem> {
    match asked {
        None => Ok(default.min(max)),
        Some(asked) if (1..=max).contains(&asked) => Ok(asked),
        Some(asked) => Err(Problem::bad_request(format!("limit = {asked} is not 1 to {max}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_limits() {
        assert_eq!(list(Some("a, b,,c")).unwrap(), ["a", "b", "c"]);
        assert!(zones(Some("farm/bay-1,nonsense")).is_err());
        assert_eq!(limit(None, 1000, 10).unwrap(), 10);
        assert!(limit(Some(11), 5, 10).is_err() && limit(Some(0), 5, 10).is_err());
    }
}
