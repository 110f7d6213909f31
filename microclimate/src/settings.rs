//! One configuration for all services: each service has a table of its name, and shared keys are at
//! the top.

use std::{collections::BTreeMap, path::Path};

use service::{
    config::{self, ConfigError, ConfigSources},
    rest::RestConfig,
};
use telemetry::{MetricSpec, SmolStr};
use toml::{Table, Value};

/// Settings of all services in one process.
#[derive(Clone, Debug)]
pub(crate) struct AppSettings {
    /// The only REST listener.
    pub(crate) rest: RestConfig,
    pub(crate) gateway: gateway::GatewaySettings,
    pub(crate) feature_store: feature_store::FeatureStoreSettings,
    pub(crate) trainer: trainer::TrainerSettings,
    pub(crate) simulator: firmware_sim::SimulatorConfig,
    pub(crate) alerts: alerts::AlertSettings,
}

const SHARED_DEFAULTS: &str = r#"
[rest]
listen = "127.0.0.1:8080"
token = ""
allow_plaintext_token = false
host_names = []
connections_max = 128

[rest.tls]
cert_file = ""
key_file = ""

[metrics]
"#;
const OPEN_TABLES: [&str; 7] = [
    "feature_store.online.max_ages_s",
    "metrics",
    "feature_store.engine.drying_in",
    "feature_store.kpi.rules.intervals_s",
    "feature_store.kpi.rules.comfort",
    "trainer.zones",
    "simulator.replay.columns",
];
/// Keys of single services that have no meaning in one process, where the services share them or
/// talk directly. They are refused instead of ignored.
const SHARED_KEYS: [(&str, &[&str]); 5] = [
    ("gateway", &["log", "rest", "metrics"]),
    (
        "feature_store",
        &[
            "log",
            "metrics",
            "rest.listen",
            "rest.token",
            "rest.allow_plaintext_token",
            "rest.host_names",
            "rest.connections_max",
            "rest.tls",
        ],
    ),
    ("trainer", &["source", "rest"]),
    ("simulator", &["broker.host", "broker.port"]),
    ("alerts", &[]),
];

impl AppSettings {
    /// Loads the settings. The defaults are overridden by `defaults_set`, a file, the environment
    /// (`MICROCLIMATE__REST__TOKEN`) and flags, in this order.
    pub(crate) fn load(
        data_dir: &Path,
        defaults_set: &[(&str, Value)],
        file: Option<&Path>,
        set: &[String],
    ) -> Result<Self, ConfigError> {
        let services = [
            ("gateway", gateway::settings::DEFAULTS),
            ("feature_store", feature_store::settings::DEFAULTS),
            ("trainer", trainer::settings::DEFAULTS),
            ("simulator", firmware_sim::DEFAULTS),
            ("alerts", alerts::settings::DEFAULTS),
        ];
        let whole: BTreeMap<&str, Table> =
            services.iter().map(|(name, text)| (*name, parse_defaults(text))).collect();
        let mut defaults = parse_defaults(SHARED_DEFAULTS);
        let mut log = whole["gateway"]["log"].clone();
        set_key(&mut log, "dir", data_dir.join("log").display().to_string().into());
        set_key(&mut log, "spool.dir", data_dir.join("spool").display().to_string().into());
        defaults.insert("log".to_owned(), log);
        for (name, shared) in SHARED_KEYS {
            let mut service_defaults = whole[name].clone();
            shared.iter().for_each(|key| remove_key(&mut service_defaults, key));
            defaults.insert(name.to_owned(), Value::Table(service_defaults));
        }
        let mut defaults = Value::Table(defaults);
        let path = |name: &str| Value::from(data_dir.join(name).display().to_string());
        set_key(&mut defaults, "feature_store.store.path", path("microclimate.duckdb"));
        set_key(&mut defaults, "feature_store.lake.cache_dir", path("lake-cache"));
        set_key(&mut defaults, "trainer.registry_dir", path("models"));
        set_key(&mut defaults, "trainer.reports_dir", path("reports"));
        set_key(&mut defaults, "trainer.watch.journal_dir", path("predictions"));
        set_key(&mut defaults, "simulator.simulate.labels", path("labels.csv"));
        defaults_set.iter().for_each(|(key, value)| set_key(&mut defaults, key, value.clone()));
        let text = toml::to_string(&defaults).expect("a table has a TOML form");
        let loaded: Table = config::load_config(&ConfigSources {
            defaults: &text,
            open_tables: &OPEN_TABLES,
            file,
            env_prefix: "MICROCLIMATE",
            set,
        })?;
        let settings = Self::split_by_service(loaded, &whole)?;
        settings.rest.check_values()?;
        settings.gateway.check_values()?;
        settings.feature_store.check()?;
        settings.trainer.check()?;
        settings.simulator.check_values()?;
        settings.alerts.check()?;
        Ok(settings)
    }

    /// Splits the configuration into the services' own tables, with the shared keys in each.
    fn split_by_service(loaded: Table, whole: &BTreeMap<&str, Table>) -> Result<Self, ConfigError> {
        let service = |name: &str| {
            let mut service_table = Value::Table(whole[name].clone());
            merge_tables(&mut service_table, &loaded[name]);
            if service_table.get("log").is_some() {
                set_key(&mut service_table, "log", loaded["log"].clone());
            }
            if service_table.get("metrics").is_some() {
                set_key(&mut service_table, "metrics", loaded["metrics"].clone());
            }
            service_table
        };
        Ok(Self {
            rest: deserialize_table("rest", loaded["rest"].clone())?,
            gateway: deserialize_table("gateway", service("gateway"))?,
            feature_store: deserialize_table("feature_store", service("feature_store"))?,
            trainer: deserialize_table("trainer", service("trainer"))?,
            simulator: deserialize_table("simulator", service("simulator"))?,
            alerts: deserialize_table("alerts", service("alerts"))?,
        })
    }

    /// Metrics that the site has added.
    pub(crate) fn site_metrics(&self) -> &BTreeMap<SmolStr, MetricSpec> {
        &self.gateway.metrics
    }
}

fn parse_defaults(text: &str) -> Table {
    text.parse().expect("the compiled-in defaults are TOML")
}

fn deserialize_table<T: serde::de::DeserializeOwned>(
    name: &str,
    value: Value,
) -> Result<T, ConfigError> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let key = format!("{name}.{}", error.path());
        ConfigError::invalid(&key, error.inner().to_string().lines().next().unwrap_or_default())
    })
}

fn set_key(table: &mut Value, key: &str, value: Value) {
    let (head, rest) = key.split_once('.').map_or((key, None), |(head, rest)| (head, Some(rest)));
    let Some(table) = table.as_table_mut() else { return };
    match rest {
        Some(rest) => set_key(&mut table[head], rest, value),
        None => {
            table.insert(head.to_owned(), value);
        }
    }
}

fn remove_key(table: &mut Table, key: &str) {
    match key.split_once('.') {
        Some((head, rest)) => {
            if let Some(inner) = table.get_mut(head).and_then(Value::as_table_mut) {
                remove_key(inner, rest);
            }
        }
        None => {
            table.remove(key);
        }
    }
}

fn merge_tables(under: &mut Value, over: &Value) {
    match (under, over) {
        (Value::Table(under), Value::Table(over)) => {
            for (key, value) in over {
                match under.get_mut(key) {
                    Some(existing) => merge_tables(existing, value),
                    None => {
                        under.insert(key.clone(), value.clone());
                    }
                }
            }
        }
        (under, over) => *under = over.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load_settings(set: &[&str]) -> Result<AppSettings, ConfigError> {
        let set: Vec<String> = set.iter().map(|set| (*set).to_owned()).collect();
        AppSettings::load(Path::new("data"), &[], None, &set)
    }

    #[test]
    fn what_is_shared_reaches_every_service() {
        let settings =
            load_settings(&["log.queue_bytes_max=33554432", "gateway.mqtt.port=1999"]).unwrap();
        assert_eq!(settings.gateway.log.queue_bytes_max, 33_554_432);
        assert_eq!(settings.feature_store.log.queue_bytes_max, 33_554_432);
        assert_eq!(settings.feature_store.log.dir, Path::new("data/log"));
        assert_eq!(settings.trainer.registry_dir, Path::new("data/models"));
        assert_eq!(settings.gateway.mqtt.port, 1999);
    }

    #[test]
    fn keys_that_mean_nothing_here_are_refused_with_a_hint() {
        for key in ["trainer.source.url=http://x", "gateway.rest.listen=127.0.0.1:1", "rest.port=1"]
        {
            let error = load_settings(&[key]).unwrap_err().to_string();
            assert!(error.contains("--set"), "{key}: {error}");
        }
    }
}
