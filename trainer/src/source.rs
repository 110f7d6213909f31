//! The feature store, in this process or over HTTP.

use std::{
    collections::{BTreeSet, HashMap},
    io::Cursor,
    time::Duration,
};

use feature_store::{FeatureStore, FrameQuery, Mode};
use polars::prelude::{DataFrame, ParquetReader, SerReader};
use serde::Deserialize;
use service::Secret;
use telemetry::{SmolStr, ZoneId};

use crate::{error::TrainError, settings};

/// Source of feature rows.
#[derive(Clone, Debug)]
pub enum FeatureSource {
    /// The feature store in this process.
    Local(FeatureStore),
    /// REST API of a feature store.
    Remote(RemoteStore),
}

/// REST API of a feature store.
#[derive(Clone, Debug)]
pub struct RemoteStore {
    client: reqwest::Client,
    url: String,
    token: Secret,
}

/// Latest feature row of a zone.
#[derive(Clone, Debug)]
pub struct LatestFeatures {
    /// Event time, UTC ms.
    pub at_ms: i64,
    /// `provisional` or `final`.
    pub status: String,
    /// Values by name; missing values are left out.
    pub features: HashMap<SmolStr, f64>,
}

impl LatestFeatures {
    /// Value of a feature, NaN where it is missing.
    #[must_use]
    pub fn feature_value(&self, name: &str) -> f64 {
        self.features.get(name).copied().unwrap_or(f64::NAN)
    }
}

impl FeatureSource {
    /// Creates a source that reads a feature store's REST API.
    ///
    /// # Errors
    /// No HTTP client can be created.
    pub fn new_remote(settings: &settings::FeatureSourceSettings) -> Result<Self, TrainError> {
        let timeout = Duration::from_secs_f64(settings.timeout_s);
        let built = reqwest::Client::builder().timeout(timeout).build();
        let client = built.map_err(|error| TrainError::Source(error.to_string()))?;
        let url = settings.url.trim_end_matches('/').to_owned();
        Ok(Self::Remote(RemoteStore { client, url, token: settings.token.clone() }))
    }

    /// Lists the zones.
    ///
    /// # Errors
    /// [`TrainError::Source`].
    pub async fn list_zones(&self) -> Result<Vec<ZoneId>, TrainError> {
        match self {
            Self::Local(store) => {
                Ok(store.zone_summaries().into_iter().map(|zone| zone.zone).collect())
            }
            Self::Remote(remote) => {
                let answer: ZonesAnswer = remote.get_json("/v1/zones", &[]).await?;
                Ok(answer.zones.into_iter().map(|zone| zone.zone).collect())
            }
        }
    }

    /// Lists the names of all feature columns.
    ///
    /// # Errors
    /// [`TrainError::Source`].
    pub async fn feature_columns(&self) -> Result<BTreeSet<SmolStr>, TrainError> {
        match self {
            Self::Local(store) => Ok(store.schema().names.iter().cloned().collect()),
            Self::Remote(remote) => {
                let answer: FeaturesAnswer = remote.get_json("/v1/features", &[]).await?;
                Ok(answer.features.into_iter().collect())
            }
        }
    }

    /// Reads the latest row of a zone, if there is one.
    ///
    /// # Errors
    /// [`TrainError::Source`].
    pub async fn latest_features(
        &self,
        zone: &ZoneId,
    ) -> Result<Option<LatestFeatures>, TrainError> {
        match self {
            Self::Local(store) => Ok(store.latest_row(zone).map(|row| LatestFeatures {
                at_ms: row.at_ms,
                status: "provisional".to_owned(),
                features: row
                    .schema
                    .names
                    .iter()
                    .cloned()
                    .zip(row.values.iter().copied())
                    .collect(),
            })),
            Self::Remote(remote) => {
                let zones = [("zones", zone.to_string())];
                let found = remote.get_optional("/v1/features/latest", &zones).await?;
                let Some(response) = found else { return Ok(None) };
                let parsed = response.json().await;
                let answer: LatestRowsAnswer =
                    parsed.map_err(|error| TrainError::Source(error.to_string()))?;
                Ok(answer.rows.into_iter().next().map(|row| LatestFeatures {
                    at_ms: row.at_ms,
                    status: row.status,
                    features: row.features.into_iter().filter_map(|(n, v)| Some((n, v?))).collect(),
                }))
            }
        }
    }

    /// Reads final rows as a table: `site`, `zone`, `at_ms`, features, each as it was known at its
    /// own time or with late readings.
    ///
    /// # Errors
    /// [`TrainError::Source`].
    pub async fn read_frame(
        &self,
        query: &FrameQuery,
        mode: Mode,
    ) -> Result<DataFrame, TrainError> {
        match self {
            Self::Local(store) => {
                let (store, query) = (store.clone(), query.clone());
                let joined =
                    tokio::task::spawn_blocking(move || store.read_feature_frame_as(&query, mode))
                        .await;
                let frame = joined.map_err(|error| TrainError::Source(error.to_string()))?;
                frame.map_err(|error| TrainError::Source(error.to_string()))
            }
            Self::Remote(remote) => {
                let mode = match mode {
                    Mode::AsKnown => "as_known",
                    Mode::AsCorrected => "as_corrected",
                };
                let mut params = vec![("mode", mode.to_owned())];
                let mut add = |key, value: Option<String>| {
                    if let Some(value) = value {
                        params.push((key, value));
                    }
                };
                let zones = query.zones.as_ref();
                add(
                    "zones",
                    zones
                        .map(|all| all.iter().map(ZoneId::to_string).collect::<Vec<_>>().join(",")),
                );
                add("from", query.from_ms.map(|ms| ms.to_string()));
                add("to", query.to_ms.map(|ms| ms.to_string()));
                add("columns", query.columns.as_ref().map(|columns| columns.join(",")));
                add("step_s", query.step_s.map(|step_s| step_s.to_string()));
                add("version", query.version.map(|version| version.to_string()));
                let body = remote.get("/v1/dataset.parquet", &params).await?.bytes().await;
                let bytes = body.map_err(|error| TrainError::Source(error.to_string()))?;
                Ok(ParquetReader::new(Cursor::new(bytes)).finish()?)
            }
        }
    }
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
    status: String,
    features: HashMap<SmolStr, Option<f64>>,
}

impl RemoteStore {
    async fn get(
        &self,
        path: &str,
        params: &[(&str, String)],
    ) -> Result<reqwest::Response, TrainError> {
        let answer = self.get_optional(path, params).await?;
        answer.ok_or_else(|| TrainError::Source(format!("{}{path}: 404 Not Found", self.url)))
    }

    /// Sends a request; `None` if the answer is 404.
    async fn get_optional(
        &self,
        path: &str,
        params: &[(&str, String)],
    ) -> Result<Option<reqwest::Response>, TrainError> {
        let url = format!("{}{path}", self.url);
        let mut request = self.client.get(&url).query(params);
        if let Some(token) = self.token.expose_secret() {
            request = request.bearer_auth(token);
        }
        let answer = request.send().await.map_err(|error| {
            TrainError::Source(format!(
                "{url}: {}\nhint: is `feature-store run` running at source.url?",
                error.without_url()
            ))
        })?;
        let status = answer.status();
        if status.is_success() {
            return Ok(Some(answer));
        }
        if status == reqwest::StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let body = answer.text().await.unwrap_or_default();
        Err(TrainError::Source(format!(
            "{url}: {status}: {}",
            body.chars().take(500).collect::<String>()
        )))
    }

    async fn get_json<T: serde::de::DeserializeOwned>(
        &self,
        path: &str,
        params: &[(&str, String)],
    ) -> Result<T, TrainError> {
        let answer = self.get(path, params).await?.json().await;
        answer.map_err(|error| TrainError::Source(format!("{path}: {}", error.without_url())))
    }
}
