use std::sync::Arc;

use feature_engine::{
    EngineSettings, FeatureDefinitions, FeatureEngine, SqlExpressions, sql::NoSql,
};
use pyo3::prelude::*;
use telemetry::{MetricSpec, MetricTable, SmolStr};

use crate::errors::{DefinitionsError, SettingsError};

/// Definitions, metrics, settings and columns of an engine, checked.
#[derive(Clone, Debug)]
pub(crate) struct EngineConfig {
    pub(crate) definitions: Arc<FeatureDefinitions>,
    pub(crate) metrics: MetricTable,
    pub(crate) settings: EngineSettings,
    pub(crate) columns: Option<Vec<SmolStr>>,
}

impl EngineConfig {
    /// Checks what Python passes: the text of a definitions file with its name, a site's own
    /// metrics and the settings as JSON, and the metrics that have columns.
    pub(crate) fn new(
        definitions: Option<(String, String)>,
        metrics: &str,
        settings: &str,
        columns: Option<Vec<String>>,
    ) -> PyResult<Self> {
        let metrics = parse_metrics(metrics)?;
        let settings = parse_settings(settings)?;
        let definitions = match definitions {
            None => FeatureDefinitions::built_in(),
            Some((file, text)) => {
                let parsed = FeatureDefinitions::parse(&file, &text, &metrics, &mut NoSql);
                Arc::new(parsed.map_err(|error| DefinitionsError::new_err(error.to_string()))?)
            }
        };
        let columns = columns.map(|columns| columns.into_iter().map(SmolStr::from).collect());
        let config = Self { definitions, metrics, settings, columns };
        for metric in config.columns.iter().flatten() {
            config.check_metric(metric)?;
        }
        config.open_engine(&[])?;
        Ok(config)
    }

    /// Names of all metrics of the table.
    pub(crate) fn metric_names(&self) -> Vec<SmolStr> {
        let table = serde_json::to_value(&self.metrics).unwrap_or_default();
        table.as_object().into_iter().flatten().map(|(name, _)| name.into()).collect()
    }

    /// Refuses a metric that the table does not have.
    pub(crate) fn check_metric(&self, metric: &str) -> PyResult<()> {
        if self.metrics.get(metric).is_some() {
            return Ok(());
        }
        let what = self.metrics.explain_unknown(metric);
        Err(crate::errors::InputError::new_err(what))
    }

    /// Opens an engine with columns for these metrics.
    pub(crate) fn open_engine(&self, columns: &[SmolStr]) -> PyResult<FeatureEngine> {
        let (definitions, metrics) = (self.definitions.clone(), self.metrics.clone());
        let sql = SqlExpressions::default();
        FeatureEngine::new(&self.settings, definitions, metrics, columns, sql)
            .map_err(|error| SettingsError::new_err(error.to_string()))
    }
}

fn parse_metrics(json: &str) -> PyResult<MetricTable> {
    let site: std::collections::BTreeMap<SmolStr, MetricSpec> = serde_json::from_str(json)
        .map_err(|error| SettingsError::new_err(format!("metrics: {error}")))?;
    MetricTable::with_site_metrics(site).map_err(SettingsError::new_err)
}

/// Reads settings over the defaults. The keys are those of `[engine]` of the feature store.
fn parse_settings(json: &str) -> PyResult<EngineSettings> {
    let wrong = |error: serde_json::Error| SettingsError::new_err(format!("settings: {error}"));
    let given: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(json).map_err(wrong)?;
    let mut all = serde_json::to_value(EngineSettings::default()).map_err(wrong)?;
    for (key, value) in given {
        if ["features", "zones_max", "clock_offsets_s"].contains(&key.as_str()) {
            let what = format!("settings: `{key}` is of the feature store, not of the engine");
            return Err(SettingsError::new_err(what));
        }
        all[key] = value;
    }
    let settings: EngineSettings = serde_json::from_value(all).map_err(wrong)?;
    if settings.grid_s == 0 || !settings.grid_s.is_multiple_of(60) {
        let what = format!("settings: grid_s {} is not a multiple of 60", settings.grid_s);
        return Err(SettingsError::new_err(what));
    }
    if settings.interval_s == 0 {
        return Err(SettingsError::new_err("settings: interval_s 0 is not at least 1"));
    }
    for (key, drying) in settings.all_drying_settings() {
        let checked = drying.clone().into_checked();
        checked.map_err(|error| SettingsError::new_err(format!("{key}: {error}")))?;
    }
    Ok(settings)
}
