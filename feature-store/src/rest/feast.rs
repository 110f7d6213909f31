//! The request and answer of Feast's feature server (feast 0.67, `feature_server.py`),
//! so that its clients read from here: `online_store: {type: remote, path: …}`.

use std::collections::BTreeMap;

use axum::{Json, extract::State};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use service::rest::{Body, Problem, ProblemAnswer};
use telemetry::ZoneId;
use utoipa::ToSchema;

use super::latest;
use crate::{FeatureStore, Latest};

/// Most entities, and most features, of one request.
const LIST_MAX: usize = 10_000;
/// The one entity that there are features of.
const ENTITY: &str = "zone";

#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct FeastRequest {
    /// `{"zone": ["farm/bay-1", …]}`
    #[schema(value_type = BTreeMap<String, Vec<String>>)]
    entities: BTreeMap<String, Vec<Value>>,
    /// `view:feature`; the view may have any name.
    #[serde(default)]
    features: Vec<String>,
    /// Services are kept by Feast's registry, not here.
    feature_service: Option<String>,
    /// `view__feature` in place of `feature`.
    #[serde(default)]
    full_feature_names: bool,
}

/// Column by column: the entity first, then the features in their order.
#[derive(Debug, PartialEq, Serialize, ToSchema)]
pub(super) struct FeastAnswer {
    metadata: FeastNames,
    results: Vec<FeastColumn>,
}

#[derive(Debug, PartialEq, Serialize, ToSchema)]
struct FeastNames {
    feature_names: Vec<String>,
}

/// One name's value for every entity.
#[derive(Debug, PartialEq, Serialize, ToSchema)]
struct FeastColumn {
    #[schema(value_type = Vec<Object>)]
    values: Vec<Value>,
    statuses: Vec<FieldStatus>,
    event_timestamps: Vec<String>,
}

/// As Feast's protobuf has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum FieldStatus {
    Present,
    NullValue,
    NotFound,
}

/// Features of zones at their newest event time, in Feast's shape.
#[utoipa::path(post, path = "/get-online-features", tag = "online", request_body = FeastRequest,
    responses((status = 200, body = FeastAnswer), (status = 400, body = ProblemAnswer)))]
pub(super) async fn get_online_features(
    State(store): State<FeatureStore>,
    Body(request): Body<FeastRequest>,
) -> Result<Json<FeastAnswer>, Problem> {
    let entities = entities(&request)?;
    let features = features(&request)?;
    let rows: Vec<Option<_>> = entities
        .iter()
        .map(|entity| store.online(&entity.as_str()?.parse::<ZoneId>().ok()?))
        .map(|found| found.map(|(latest, _)| latest))
        .collect();
    if let Some(latest) = rows.iter().flatten().next() {
        let names: Vec<&str> = features.iter().map(|(_, name)| *name).collect();
        latest::check_names(&store, latest, &names)?;
    }
    let mut feature_names = vec![ENTITY.to_owned()];
    let mut results = vec![FeastColumn {
        statuses: vec![FieldStatus::Present; entities.len()],
        event_timestamps: vec![time(0); entities.len()],
        values: entities.clone(),
    }];
    let times: Vec<String> =
        rows.iter().map(|row| time(row.as_ref().map_or(0, |row| row.row().at_ms))).collect();
    for (view, name) in features {
        feature_names.push(match request.full_feature_names {
            true => format!("{view}__{name}"),
            false => name.to_owned(),
        });
        let (values, statuses) = rows.iter().map(|row| value(row.as_deref(), name)).unzip();
        results.push(FeastColumn { values, statuses, event_timestamps: times.clone() });
    }
    Ok(Json(FeastAnswer { metadata: FeastNames { feature_names }, results }))
}

fn value(row: Option<&Latest>, name: &str) -> (Value, FieldStatus) {
    let Some(row) = row else { return (Value::Null, FieldStatus::NotFound) };
    match row.value(name) {
        Some(value) => (Value::from(value), FieldStatus::Present),
        None => (Value::Null, FieldStatus::NullValue),
    }
}

fn entities(request: &FeastRequest) -> Result<&Vec<Value>, Problem> {
    let found = request.entities.get(ENTITY).filter(|_| request.entities.len() == 1);
    match found {
        Some(zones) if zones.len() <= LIST_MAX => Ok(zones),
        Some(zones) => Err(Problem::too_large(format!("{} zones, above {LIST_MAX}", zones.len()))),
        None => {
            let names: Vec<&str> = request.entities.keys().map(String::as_str).collect();
            Err(Problem::bad_request(format!("entities: found `{}`", names.join("`, `")))
                .hint(r#"the entity is the zone: {"entities": {"zone": ["farm/bay-1"]}}"#))
        }
    }
}

fn features(request: &FeastRequest) -> Result<Vec<(&str, &str)>, Problem> {
    if let Some(service) = &request.feature_service {
        return Err(Problem::bad_request(format!("feature_service `{service}` is not known here"))
            .hint("name the features, as in view:temperature_mean_1h"));
    }
    if request.features.len() > LIST_MAX {
        return Err(Problem::too_large(format!("{} features", request.features.len())));
    }
    let parted = request.features.iter().map(|feature| {
        feature.split_once(':').ok_or_else(|| {
            Problem::bad_request(format!("features: `{feature}` has no view"))
                .hint("as in view:temperature_mean_1h")
        })
    });
    parted.collect()
}

fn time(at_ms: i64) -> String {
    Timestamp::from_millisecond(at_ms).unwrap_or_default().to_string()
}
