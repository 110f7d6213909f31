//! Request and answer of Feast's feature server (feast 0.67, `feature_server.py`). Feast clients
//! can read from here with `online_store: {type: remote, path: …}`.

use std::collections::{BTreeMap, BTreeSet};

use axum::{Json, extract::State};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use service::rest::{JsonBody, Problem, ProblemDetails};
use telemetry::{SmolStr, ZoneId};
use utoipa::ToSchema;

use super::latest;
use crate::{
    FeatureStore, OnlineRow,
    definitions::{FeatureLineage, trace_lineage},
    settings::OnlineAgeLimits,
};

/// Largest number of entities, and of features, in one request.
const LIST_MAX: usize = 10_000;
/// The only entity that has features.
const ENTITY: &str = "zone";

#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct FeastRequest {
    /// Entities, as `{"zone": ["farm/bay-1", …]}`.
    #[schema(value_type = BTreeMap<String, Vec<String>>)]
    entities: BTreeMap<String, Vec<Value>>,
    /// Features, as `view:feature`; the view may have any name.
    #[serde(default)]
    features: Vec<String>,
    /// Refused: Feast's registry holds services, this server does not.
    feature_service: Option<String>,
    /// Whether names are `view__feature` instead of `feature`.
    #[serde(default)]
    full_feature_names: bool,
}

/// Answer by columns: the entity first, then the features in their order.
#[derive(Debug, PartialEq, Serialize, ToSchema)]
pub(super) struct FeastAnswer {
    metadata: FeastNames,
    results: Vec<FeastColumn>,
}

#[derive(Debug, PartialEq, Serialize, ToSchema)]
struct FeastNames {
    feature_names: Vec<String>,
}

/// Values of one name for every entity.
#[derive(Debug, PartialEq, Serialize, ToSchema)]
struct FeastColumn {
    #[schema(value_type = Vec<Object>)]
    values: Vec<Value>,
    statuses: Vec<FieldStatus>,
    event_timestamps: Vec<String>,
}

/// Status as in Feast's protobuf: the value is present and fresh, null, of an unknown zone, or
/// older than its largest age.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum FieldStatus {
    Present,
    NullValue,
    NotFound,
    OutsideMaxAge,
}

/// Features of zones at their newest event time, in Feast's format.
#[utoipa::path(post, path = "/get-online-features", tag = "online", request_body = FeastRequest,
    responses((status = 200, body = FeastAnswer), (status = 400, body = ProblemDetails)))]
pub(super) async fn get_online_features(
    State(store): State<FeatureStore>,
    JsonBody(request): JsonBody<FeastRequest>,
) -> Result<Json<FeastAnswer>, Problem> {
    let entities = requested_entities(&request)?;
    let features = requested_features(&request)?;
    let rows: Vec<Option<_>> = entities
        .iter()
        .map(|entity| store.online_row(&entity.as_str()?.parse::<ZoneId>().ok()?))
        .map(|found| found.map(|(latest, _)| latest))
        .collect();
    if let Some(latest) = rows.iter().flatten().next() {
        let names: Vec<&str> = features.iter().map(|(_, name)| *name).collect();
        latest::check_names(&store, latest, &names)?;
    }
    let names: Vec<&str> = features.iter().map(|(_, name)| *name).collect();
    let metrics = measured_metrics(&store, &names);
    let ages = AgeLimits { limits: store.online_age_limits(), now_ms: latest::now_ms() };
    let mut feature_names = vec![ENTITY.to_owned()];
    let mut results = vec![FeastColumn {
        statuses: vec![FieldStatus::Present; entities.len()],
        event_timestamps: vec![format_time(0); entities.len()],
        values: entities.clone(),
    }];
    let times: Vec<String> =
        rows.iter().map(|row| format_time(row.as_ref().map_or(0, |row| row.row().at_ms))).collect();
    for (view, name) in features {
        feature_names.push(match request.full_feature_names {
            true => format!("{view}__{name}"),
            false => name.to_owned(),
        });
        let (values, statuses) = rows
            .iter()
            .map(|row| feature_value(row.as_deref(), name, metrics.get(name), &ages))
            .unzip();
        results.push(FeastColumn { values, statuses, event_timestamps: times.clone() });
    }
    Ok(Json(FeastAnswer { metadata: FeastNames { feature_names }, results }))
}

/// Limits and the time for freshness checks.
struct AgeLimits<'a> {
    limits: &'a OnlineAgeLimits,
    now_ms: i64,
}

impl AgeLimits<'_> {
    /// Returns whether a row at `row_ms` has a feature within its largest age. `age_s` returns
    /// the age, at that time, of the newest reading of a metric.
    fn is_present(
        &self,
        row_ms: i64,
        metrics: Option<&BTreeSet<SmolStr>>,
        age_s: impl Fn(&str) -> Option<f64>,
    ) -> bool {
        let row_age_s = self.now_ms.saturating_sub(row_ms) as f64 / 1000.0;
        match metrics.filter(|metrics| !metrics.is_empty()) {
            // Calendar features are as old as their row.
            None => row_age_s <= self.limits.row_max_age_s(),
            Some(metrics) => metrics.iter().all(|metric| {
                row_age_s + age_s(metric).unwrap_or(0.0) <= self.limits.metric_max_age_s(metric)
            }),
        }
    }
}

fn feature_value(
    row: Option<&OnlineRow>,
    name: &str,
    metrics: Option<&BTreeSet<SmolStr>>,
    ages: &AgeLimits<'_>,
) -> (Value, FieldStatus) {
    let Some(row) = row else { return (Value::Null, FieldStatus::NotFound) };
    let Some(value) = row.feature_value(name) else { return (Value::Null, FieldStatus::NullValue) };
    let age_s = |metric: &str| row.feature_value(&format!("{metric}_age_s"));
    match ages.is_present(row.row().at_ms, metrics, age_s) {
        true => (Value::from(value), FieldStatus::Present),
        // As in Feast, the value is included all the same.
        false => (Value::from(value), FieldStatus::OutsideMaxAge),
    }
}

/// Returns the measured metrics from which each feature is computed.
fn measured_metrics(store: &FeatureStore, names: &[&str]) -> BTreeMap<String, BTreeSet<SmolStr>> {
    /// Largest depth of features computed from features.
    const DEPTH_MAX: usize = 8;
    /// A signal, which has no readings as long as nothing happens.
    const SIGNAL: &str = "irrigation";
    let (definitions, metrics) = (store.definitions(), store.metrics());
    let mut inputs: BTreeMap<SmolStr, Vec<SmolStr>> = BTreeMap::new();
    let mut open: BTreeSet<SmolStr> = names.iter().map(SmolStr::new).collect();
    for _ in 0..DEPTH_MAX {
        if open.is_empty() {
            break;
        }
        let wanted: Vec<&str> = open.iter().map(SmolStr::as_str).collect();
        let found = trace_lineage(&definitions, metrics, &wanted);
        inputs.extend(
            found.into_iter().map(|FeatureLineage { feature, inputs, .. }| (feature, inputs)),
        );
        let all = inputs.values().flatten();
        let features =
            all.filter(|name| metrics.get(name).is_none() && !inputs.contains_key(*name));
        open = features.filter(|name| !open.contains(*name)).cloned().collect();
    }
    let measured = |name: &&str| {
        let (mut found, mut left) = (BTreeSet::new(), vec![SmolStr::new(name)]);
        let mut seen = BTreeSet::new();
        while let Some(name) = left.pop() {
            for input in inputs.get(&name).into_iter().flatten() {
                if metrics.get(input).is_none() {
                    left.extend(seen.insert(input.clone()).then(|| input.clone()));
                } else if input != SIGNAL || found.is_empty() {
                    found.insert(input.clone());
                }
            }
        }
        if found.len() > 1 {
            found.remove(SIGNAL);
        }
        ((*name).to_owned(), found)
    };
    names.iter().map(measured).collect()
}

fn requested_entities(request: &FeastRequest) -> Result<&Vec<Value>, Problem> {
    let found = request.entities.get(ENTITY).filter(|_| request.entities.len() == 1);
    match found {
        Some(zones) if zones.len() <= LIST_MAX => Ok(zones),
        Some(zones) => Err(Problem::too_large(format!("{} zones, above {LIST_MAX}", zones.len()))),
        None => {
            let names: Vec<&str> = request.entities.keys().map(String::as_str).collect();
            Err(Problem::bad_request(format!("entities: found `{}`", names.join("`, `")))
                .with_hint(r#"the entity is the zone: {"entities": {"zone": ["farm/bay-1"]}}"#))
        }
    }
}

fn requested_features(request: &FeastRequest) -> Result<Vec<(&str, &str)>, Problem> {
    if let Some(service) = &request.feature_service {
        return Err(Problem::bad_request(format!("feature_service `{service}` is not known here"))
            .with_hint("name the features, as in view:temperature_mean_1h"));
    }
    if request.features.len() > LIST_MAX {
        return Err(Problem::too_large(format!("{} features", request.features.len())));
    }
    let references = request.features.iter().map(|feature| {
        feature.split_once(':').ok_or_else(|| {
            Problem::bad_request(format!("features: `{feature}` has no view"))
                .with_hint("as in view:temperature_mean_1h")
        })
    });
    references.collect()
}

fn format_time(at_ms: i64) -> String {
    Timestamp::from_millisecond(at_ms).unwrap_or_default().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks presence for the age of the row and of the temperature at that time, s.
    fn check(row_age_s: i64, temperature_age_s: Option<f64>, expect: bool) {
        let max_ages_s = BTreeMap::from([("soil_moisture".into(), 86_400.0), ("co2".into(), 0.0)]);
        let limits = OnlineAgeLimits { max_age_s: 3600.0, max_ages_s };
        let ages = AgeLimits { limits: &limits, now_ms: 2_000_000_000 };
        let is_present = |metrics: &[&str]| {
            let metrics = metrics.iter().map(SmolStr::new).collect();
            ages.is_present(2_000_000_000 - row_age_s * 1000, Some(&metrics), |metric| {
                temperature_age_s.filter(|_| metric == "temperature")
            })
        };
        assert_eq!(is_present(&["temperature"]), expect, "{row_age_s} {temperature_age_s:?}");
        assert_eq!(is_present(&["co2", "temperature"]), expect);
        assert_eq!(is_present(&["soil_moisture"]), row_age_s <= 86_400);
        assert!(is_present(&["co2"]));
        assert_eq!(is_present(&[]), row_age_s <= 3600);
    }

    #[test]
    fn a_value_is_present_within_its_greatest_age() {
        check(0, None, true);
        check(60, Some(3_000.0), true);
        check(60, Some(3_600.0), false);
        check(3_601, None, false);
        check(864_000, Some(0.0), false);
        // A clock that is ahead of this one.
        check(-30, Some(0.0), true);
    }
}
