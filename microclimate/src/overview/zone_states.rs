use std::{
    collections::BTreeMap,
    time::{SystemTime, UNIX_EPOCH},
};

use feature_store::{FeatureStore, ZoneSummary};
use serde::Serialize;
use telemetry::{SmolStr, ZoneId};
use trainer::Trainer;
use utoipa::ToSchema;

use super::zone_state::{StateLevel, ZoneFacts, ZoneOverview};
use crate::{alerting::AlertService, settings::AppSettings};

/// Age of a zone's readings beyond which they are none of now, where serving has no limit of its
/// own, seconds.
const STALE_AFTER_S: f64 = 900.0;
/// Predictions that are made for an answer where the watch has made none yet; it will.
const ZONES_PREDICTED_MAX: usize = 20;

/// The states of all zones. Clones share everything.
#[derive(Clone, Debug)]
pub(crate) struct ZoneStates {
    store: FeatureStore,
    trainer: Trainer,
    alerts: AlertService,
    comfort: trainer::TrainerSettings,
    co2_high_ppm: Option<f64>,
    stale_after_s: f64,
    time_zone: String,
}

/// How many zones are at each level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct LevelCounts {
    alarm: usize,
    stale: usize,
    warning: usize,
    notice: usize,
    ok: usize,
}

impl LevelCounts {
    pub(crate) fn count(levels: impl IntoIterator<Item = StateLevel>) -> Self {
        let mut counts = Self::default();
        for level in levels {
            *match level {
                StateLevel::Alarm => &mut counts.alarm,
                StateLevel::Stale => &mut counts.stale,
                StateLevel::Warning => &mut counts.warning,
                StateLevel::Notice => &mut counts.notice,
                StateLevel::Ok => &mut counts.ok,
            } += 1;
        }
        counts
    }
}

/// A site and how urgent its most urgent zone is.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SiteState {
    #[schema(value_type = String)]
    site: SmolStr,
    zones: usize,
    state: StateLevel,
}

/// The order of zones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum StateOrder {
    /// The most urgent first, those of the same level by name.
    #[default]
    Attention,
    Name,
}

/// Which zones are asked for, and how many.
#[derive(Clone, Debug)]
pub(crate) struct StateSelection {
    pub(crate) zones: Option<Vec<ZoneId>>,
    /// A part of the zone's name, in small letters.
    pub(crate) search: String,
    pub(crate) site: Option<String>,
    pub(crate) levels: Option<Vec<StateLevel>>,
    pub(crate) order: StateOrder,
    /// From 0.
    pub(crate) page: usize,
    pub(crate) limit: usize,
}

/// The states of a page of zones, and figures of all.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Overview {
    /// The server's clock, UTC ms.
    now_ms: i64,
    /// The site's time zone.
    #[schema(example = "Europe/Berlin")]
    time_zone: String,
    /// Age beyond which readings are none of now, seconds.
    stale_after_s: f64,
    /// Units by metric.
    #[schema(value_type = BTreeMap<String, String>)]
    units: BTreeMap<SmolStr, SmolStr>,
    /// Zones by level, whatever levels were asked for.
    counts: LevelCounts,
    /// Every site.
    sites: Vec<SiteState>,
    /// Zones that were asked for, on all pages.
    total: usize,
    zones: Vec<ZoneOverview>,
}

impl ZoneStates {
    pub(crate) fn new(
        settings: &AppSettings,
        store: FeatureStore,
        trainer: Trainer,
        alerts: AlertService,
    ) -> Self {
        let own = settings.trainer.serving.stale_s;
        Self {
            store,
            trainer,
            alerts,
            comfort: settings.trainer.clone(),
            co2_high_ppm: settings.feature_store.kpi.rules.comfort.get("co2").map(|band| band.high),
            stale_after_s: if own > 0.0 { own } else { STALE_AFTER_S },
            time_zone: settings.feature_store.engine.time_zone.clone(),
        }
    }

    pub(crate) fn alerts(&self) -> &AlertService {
        &self.alerts
    }

    pub(crate) fn store(&self) -> &FeatureStore {
        &self.store
    }

    pub(crate) const fn stale_after_s(&self) -> f64 {
        self.stale_after_s
    }

    /// The state of one zone; none of one that does not exist.
    pub(crate) fn find_state(&self, zone: &ZoneId, now_ms: i64) -> Option<ZoneOverview> {
        self.store.zone_summary(zone).map(|summary| self.compute_state(&summary, now_ms))
    }

    /// The state of every zone, by name.
    pub(crate) fn all_states(&self, now_ms: i64) -> Vec<ZoneOverview> {
        self.store
            .zone_summaries()
            .iter()
            .map(|summary| self.compute_state(summary, now_ms))
            .collect()
    }

    fn compute_state(&self, summary: &ZoneSummary, now_ms: i64) -> ZoneOverview {
        let ZoneSummary { zone, metrics, .. } = summary;
        let row = self.store.online_row(zone).map(|(row, _)| row);
        let feature = |name: &str| row.as_ref()?.feature_value(name);
        let predictions = self.trainer.newest_predictions().for_zone(zone);
        ZoneFacts {
            zone,
            metrics,
            at_ms: row.as_ref().map(|row| row.row().at_ms),
            feature: &feature,
            predictions: &predictions,
            comfort: self.comfort.comfort_in(zone),
            co2_high_ppm: self.co2_high_ppm,
            stale_after_s: self.stale_after_s,
            now_ms,
        }
        .compute_state()
        .with_alerts(&self.alerts.active_alerts())
    }

    /// A page of the zones that are asked for, and figures of all.
    pub(crate) async fn overview(&self, selection: &StateSelection) -> Overview {
        let now_ms = now_ms();
        let mut states = self.all_states(now_ms);
        let sites = summarise_sites(&states);
        states.retain(|state| selection.has_zone(&state.zone));
        let counts = LevelCounts::count(states.iter().map(|state| state.state));
        if let Some(levels) = &selection.levels {
            states.retain(|state| levels.contains(&state.state));
        }
        // They come by name.
        if selection.order == StateOrder::Attention {
            states.sort_by_key(|state| state.state);
        }
        let total = states.len();
        let first = selection.page.saturating_mul(selection.limit);
        let mut zones: Vec<ZoneOverview> =
            states.into_iter().skip(first).take(selection.limit).collect();
        self.predict_missing(&mut zones, now_ms).await;
        Overview {
            now_ms,
            time_zone: self.time_zone.clone(),
            stale_after_s: self.stale_after_s,
            units: self.metric_units(),
            counts,
            sites,
            total,
            zones,
        }
    }

    /// Predicts for zones that the watch has not come to yet, as after a start.
    async fn predict_missing(&self, zones: &mut [ZoneOverview], now_ms: i64) {
        let is_missing = |state: &&mut ZoneOverview| {
            state.state != StateLevel::Stale
                && !self.trainer.newest_predictions().has_zone(&state.zone)
        };
        for state in zones.iter_mut().filter(is_missing).take(ZONES_PREDICTED_MAX) {
            self.trainer.predict_all_tasks(&state.zone).await;
            if let Some(newer) = self.find_state(&state.zone, now_ms) {
                *state = newer;
            }
        }
    }

    fn metric_units(&self) -> BTreeMap<SmolStr, SmolStr> {
        let table = self.store.metrics();
        let metrics = self.store.zone_summaries().into_iter().flat_map(|zone| zone.metrics);
        metrics
            .filter_map(|metric| Some((metric.clone(), table.get(&metric)?.unit.clone())))
            .collect()
    }
}

impl StateSelection {
    fn has_zone(&self, zone: &ZoneId) -> bool {
        self.zones.as_ref().is_none_or(|zones| zones.contains(zone))
            && self.site.as_ref().is_none_or(|site| zone.site == *site)
            && (self.search.is_empty() || zone.to_string().to_lowercase().contains(&self.search))
    }
}

/// Every site by name, with the level of its most urgent zone.
fn summarise_sites(states: &[ZoneOverview]) -> Vec<SiteState> {
    let mut by_site: BTreeMap<SmolStr, SiteState> = BTreeMap::new();
    for ZoneOverview { zone, state, .. } in states {
        let site = zone.site.clone();
        let new = || SiteState { site: site.clone(), zones: 0, state: StateLevel::Ok };
        let own = by_site.entry(site.clone()).or_insert_with(new);
        own.zones += 1;
        own.state = own.state.min(*state);
    }
    by_site.into_values().collect()
}

/// Now, UTC ms.
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
