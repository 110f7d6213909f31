//! The HTTP client against a server that answers as a feature store does.

use std::{collections::HashMap, time::Duration};

use axum::{
    Json, Router,
    extract::RawQuery,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use microclimate_feature_api::{
    FeatureReadError, FeatureReader, FeatureStoreClient, FrameQuery, LatestFeatures, RevisionMode,
    RowStatus,
};
use serde_json::json;
use service::Secret;
use telemetry::ZoneId;

/// Starts a server and makes a client of it.
async fn connect(routes: Router) -> FeatureStoreClient {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
    FeatureStoreClient::new(&url, Secret::from("a-token"), Duration::from_secs(10)).unwrap()
}

/// A zone's newest row with the status that the zone is named after.
async fn latest_rows(RawQuery(query): RawQuery) -> Response {
    let query = query.unwrap_or_default();
    let Some((_, status)) = query.split_once("farm%2F") else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    if status == "nowhere" {
        return StatusCode::NOT_FOUND.into_response();
    }
    let features = json!({ "temperature_last": 21.5, "humidity_last": null });
    let row = json!({ "zone": query, "at_ms": 60_000, "status": status, "features": features });
    Json(json!({ "rows": [row] })).into_response()
}

#[tokio::test]
async fn the_newest_row_has_its_status_and_the_values_that_there_are() {
    let client = connect(Router::new().route("/v1/features/latest", get(latest_rows))).await;
    let latest = async |zone: &str| client.latest_features(&ZoneId::new("farm", zone)).await;
    for (name, status) in [("provisional", RowStatus::Provisional), ("final", RowStatus::Final)] {
        let features = HashMap::from([("temperature_last".into(), 21.5)]);
        let expect = LatestFeatures { at_ms: 60_000, status, features };
        assert_eq!(latest(name).await.unwrap(), Some(expect));
    }
    assert_eq!(latest("nowhere").await.unwrap(), None);
    let refused = latest("half-done").await.unwrap_err();
    assert!(matches!(refused, FeatureReadError::Answer { .. }), "{refused:?}");
    assert!(refused.to_string().contains("/v1/features/latest: "), "{refused}");
}

#[tokio::test]
async fn zones_and_names_are_read_with_the_token() {
    async fn zones(headers: HeaderMap) -> Response {
        match headers.get(header::AUTHORIZATION) {
            Some(token) if token == "Bearer a-token" => {
                Json(json!({ "zones": [{ "zone": "farm/bay-1", "metrics": [] }] })).into_response()
            }
            _ => StatusCode::UNAUTHORIZED.into_response(),
        }
    }
    let features = json!({ "schema_hash": "abc", "features": ["b_last", "a_last"] });
    let routes = Router::new()
        .route("/v1/zones", get(zones))
        .route("/v1/features", get(async move || Json(features)));
    let client = connect(routes).await;
    assert_eq!(client.list_zones().await.unwrap(), [ZoneId::new("farm", "bay-1")]);
    let columns = client.feature_columns().await.unwrap();
    assert_eq!(columns.iter().map(|name| name.as_str()).collect::<Vec<_>>(), ["a_last", "b_last"]);
    assert!(!format!("{client:?}").contains("a-token"), "{client:?}");
}

#[tokio::test]
async fn a_query_is_sent_with_the_parameters_that_it_has() {
    // The refusal shows what was sent.
    let echo =
        async |RawQuery(query): RawQuery| (StatusCode::BAD_REQUEST, query.unwrap_or_default());
    let client = connect(Router::new().route("/v1/dataset.parquet", get(echo))).await;
    let check = async |query: &FrameQuery, mode: RevisionMode, expect: &str| {
        let refused = client.read_frame(query, mode).await.unwrap_err();
        let FeatureReadError::Refused { status, body, .. } = refused else { panic!("{refused:?}") };
        assert_eq!((status.as_str(), body.as_str()), ("400 Bad Request", expect));
    };
    check(&FrameQuery::default(), RevisionMode::AsKnown, "mode=as_known").await;
    let query = FrameQuery {
        zones: Some(vec![ZoneId::new("farm", "bay-1"), ZoneId::new("farm", "bay-2")]),
        from_ms: Some(-1),
        to_ms: Some(60_000),
        columns: Some(vec!["a_last".into(), "b_last".into()]),
        step_s: Some(60),
        version: Some(3),
    };
    let expect = "mode=as_corrected&zones=farm%2Fbay-1%2Cfarm%2Fbay-2&from=-1&to=60000\
                  &columns=a_last%2Cb_last&step_s=60&version=3";
    check(&query, RevisionMode::AsCorrected, expect).await;
}

#[tokio::test]
async fn what_is_no_feature_store_is_told_from_one_that_is_not_there() {
    let client =
        connect(Router::new().route("/v1/dataset.parquet", get(async || "no table"))).await;
    let missing = client.list_zones().await.unwrap_err();
    assert!(missing.to_string().ends_with("/v1/zones: 404 Not Found"), "{missing}");
    assert!(!missing.is_unreachable());
    let query = FrameQuery::default();
    let refused = client.read_frame(&query, RevisionMode::AsKnown).await.unwrap_err();
    assert!(matches!(refused, FeatureReadError::Answer { .. }), "{refused:?}");

    // It listens, and nobody answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let timeout = Duration::from_millis(50);
    let client = FeatureStoreClient::new(&url, Secret::default(), timeout).unwrap();
    let refused = client.list_zones().await.unwrap_err();
    assert!(refused.is_unreachable(), "{refused:?}");
    assert!(refused.to_string().starts_with(&format!("{url}/v1/zones: ")), "{refused}");
}
