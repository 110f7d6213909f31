//! A feature store in another process, over its REST API.

use std::{
    collections::{BTreeSet, HashMap},
    io::Cursor,
    time::Duration,
};

use polars::prelude::{DataFrame, ParquetReader, SerReader};
use serde::{Deserialize, de::DeserializeOwned};
use service::Secret;
use telemetry::{SmolStr, ZoneId};

use crate::{
    FeatureReadError, FeatureReadFuture, FeatureReader, FrameQuery, LatestFeatures, RevisionMode,
    RowStatus,
};

/// Longest part of a refusal that an error message quotes, characters.
const QUOTED_CHARS_MAX: usize = 500;

/// Reads features over the REST API of a feature store. Clones share connections.
#[derive(Clone, Debug)]
pub struct FeatureStoreClient {
    client: reqwest::Client,
    url: String,
    token: Secret,
}

impl FeatureStoreClient {
    /// A client of the feature store at `url` (`http://host:port`), which waits at
    /// most `timeout` for one answer.
    ///
    /// # Errors
    /// [`FeatureReadError::NoClient`]. Nothing is sent yet.
    pub fn new(url: &str, token: Secret, timeout: Duration) -> Result<Self, FeatureReadError> {
        let client = reqwest::Client::builder().timeout(timeout).build();
        let client = client.map_err(|error| FeatureReadError::NoClient(error.to_string()))?;
        Ok(Self { client, url: url.trim_end_matches('/').to_owned(), token })
    }

    async fn send_get(
        &self,
        path: &str,
        params: &[(&str, String)],
    ) -> Result<reqwest::Response, FeatureReadError> {
        let answer = self.send_get_optional(path, params).await?;
        answer.ok_or_else(|| FeatureReadError::NotFound { url: format!("{}{path}", self.url) })
    }

    /// The answer; none where the feature store does not have what was requested.
    async fn send_get_optional(
        &self,
        path: &str,
        params: &[(&str, String)],
    ) -> Result<Option<reqwest::Response>, FeatureReadError> {
        let url = format!("{}{path}", self.url);
        let mut request = self.client.get(&url).query(params);
        if let Some(token) = self.token.expose_secret() {
            request = request.bearer_auth(token);
        }
        let answer = match request.send().await {
            Ok(answer) => answer,
            Err(error) => {
                let cause = error.without_url().to_string();
                return Err(FeatureReadError::Unreachable { url, cause });
            }
        };
        let status = answer.status();
        if status.is_success() {
            return Ok(Some(answer));
        }
        if status == reqwest::StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let body = answer.text().await.unwrap_or_default();
        let body = body.chars().take(QUOTED_CHARS_MAX).collect();
        Err(FeatureReadError::Refused { url, status: status.to_string(), body })
    }

    async fn get_json<T: DeserializeOwned>(&self, path: &str) -> Result<T, FeatureReadError> {
        self.decode_json(path, self.send_get(path, &[]).await?).await
    }

    async fn decode_json<T: DeserializeOwned>(
        &self,
        path: &str,
        answer: reqwest::Response,
    ) -> Result<T, FeatureReadError> {
        answer.json().await.map_err(|error| self.answer_error(path, error.without_url()))
    }

    fn answer_error(&self, path: &str, cause: impl ToString) -> FeatureReadError {
        FeatureReadError::Answer { url: format!("{}{path}", self.url), cause: cause.to_string() }
    }
}

impl FeatureReader for FeatureStoreClient {
    fn list_zones(&self) -> FeatureReadFuture<'_, Vec<ZoneId>> {
        Box::pin(async {
            let answer: ZonesAnswer = self.get_json("/v1/zones").await?;
            Ok(answer.zones.into_iter().map(|zone| zone.zone).collect())
        })
    }

    fn feature_columns(&self) -> FeatureReadFuture<'_, BTreeSet<SmolStr>> {
        Box::pin(async {
            let answer: FeaturesAnswer = self.get_json("/v1/features").await?;
            Ok(answer.features.into_iter().collect())
        })
    }

    fn latest_features<'a>(
        &'a self,
        zone: &'a ZoneId,
    ) -> FeatureReadFuture<'a, Option<LatestFeatures>> {
        Box::pin(async move {
            let (path, zones) = ("/v1/features/latest", [("zones", zone.to_string())]);
            let Some(answer) = self.send_get_optional(path, &zones).await? else {
                return Ok(None);
            };
            let answer: LatestRowsAnswer = self.decode_json(path, answer).await?;
            Ok(answer.rows.into_iter().next().map(LatestRowItem::into_features))
        })
    }

    fn read_frame<'a>(
        &'a self,
        query: &'a FrameQuery,
        mode: RevisionMode,
    ) -> FeatureReadFuture<'a, DataFrame> {
        Box::pin(async move {
            let path = "/v1/dataset.parquet";
            let answer = self.send_get(path, &dataset_params(query, mode)).await?;
            let bytes = answer.bytes().await;
            let bytes = bytes.map_err(|error| self.answer_error(path, error.without_url()))?;
            let frame = ParquetReader::new(Cursor::new(bytes)).finish();
            frame.map_err(|error| self.answer_error(path, error))
        })
    }
}

/// The query parameters of `/v1/dataset.parquet`.
fn dataset_params(query: &FrameQuery, mode: RevisionMode) -> Vec<(&'static str, String)> {
    let FrameQuery { zones, from_ms, to_ms, columns, step_s, version } = query;
    let zones = zones.as_ref().map(|zones| {
        let names: Vec<String> = zones.iter().map(ZoneId::to_string).collect();
        names.join(",")
    });
    let optional = [
        ("zones", zones),
        ("from", from_ms.map(|ms| ms.to_string())),
        ("to", to_ms.map(|ms| ms.to_string())),
        ("columns", columns.as_ref().map(|columns| columns.join(","))),
        ("step_s", step_s.map(|step_s| step_s.to_string())),
        ("version", version.map(|version| version.to_string())),
    ];
    let given = optional.into_iter().filter_map(|(key, value)| Some((key, value?)));
    [("mode", mode.as_str().to_owned())].into_iter().chain(given).collect()
}

#[derive(Deserialize)]
struct ZonesAnswer {
    zones: Vec<ZoneItem>,
}

#[derive(Deserialize)]
struct ZoneItem {
    zone: ZoneId,
}

#[derive(Deserialize)]
struct FeaturesAnswer {
    features: Vec<SmolStr>,
}

#[derive(Deserialize)]
struct LatestRowsAnswer {
    rows: Vec<LatestRowItem>,
}

#[derive(Deserialize)]
struct LatestRowItem {
    at_ms: i64,
    status: RowStatus,
    features: HashMap<SmolStr, Option<f64>>,
}

impl LatestRowItem {
    fn into_features(self) -> LatestFeatures {
        let Self { at_ms, status, features } = self;
        let present = features.into_iter().filter_map(|(name, value)| Some((name, value?)));
        LatestFeatures { at_ms, status, features: present.collect() }
    }
}
