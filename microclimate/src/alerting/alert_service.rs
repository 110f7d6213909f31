use std::{
    collections::HashSet,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use alerts::{
    AcknowledgedBy, ActiveAlert, AlertBatch, AlertChange, AlertHistoryQuery, AlertId, AlertKey,
    AlertObservation, AlertOutcome, AlertRule, AlertStore, CheckedAlerts, NamedLimit, exposition,
    notify::{AlertView, delivery::AlertDelivery, mqtt::AlertTopics},
    silence::{MISSED_READINGS, SILENCE_S_MAX, ZoneSilence, check_silent_zone},
    system_checks::SystemSnapshot,
    zone_checks::{AnomalyFinding, TaskPrediction, ZoneSnapshot, check_anomaly, known_interval_s},
};
use anyhow::{Context, Result};
use eventlog::EventLog;
use feature_store::{FeatureStore, ZoneSummary};
use gateway::Gateway;
use service::{disk::DiskSpace, rest::Problem};
use telemetry::{SmolStr, ZoneId};
use tokio::{
    sync::{broadcast::error::RecvError, watch},
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;
use trainer::{Trainer, anomaly::TASK_NAME, settings::ComfortSettings};

use super::{
    alert_journal::{AlertJournal, ZoneTrack},
    past_scan::ScanProgress,
};
use crate::{overview::now_ms, settings::AppSettings};

/// Distance of rounds.
const ROUND_EVERY: Duration = Duration::from_secs(1);
/// Distance of rounds that check everything, ms.
const FULL_ROUND_MS: i64 = 10_000;
/// Distance of deletions of old history, ms.
const TRIM_MS: i64 = 3_600_000;
/// Distance at which the cursors of quiet zones are stored, ms.
const CURSORS_MS: i64 = 60_000;
/// Gap of rows beyond which the past is read before the newest row counts, ms.
pub(super) const GAP_MS_MAX: i64 = 10 * 60_000;
/// Log records that the store may be behind while it counts as listening.
const LISTENING_LAG_MAX: u64 = 1000;
const MS_PER_S: f64 = 1000.0;
const MS_PER_H: f64 = 3_600_000.0;
const BYTES_PER_MB: f64 = 1e6;

/// Where observations come from.
#[derive(Clone, Debug)]
pub(crate) struct AlertSources {
    pub(crate) gateway: Gateway,
    pub(crate) store: FeatureStore,
    pub(crate) trainer: Trainer,
    pub(crate) log: EventLog,
}

/// Alerts of this process. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct AlertService(Arc<AlertServiceState>);

#[derive(Debug)]
pub(super) struct AlertServiceState {
    pub(super) checked: Arc<CheckedAlerts>,
    pub(super) sources: AlertSources,
    comfort: trainer::TrainerSettings,
    engine: feature_store::settings::EngineSettings,
    co2_high_ppm: Option<f64>,
    /// Folders whose disks are watched, by what they hold.
    folders: Vec<(SmolStr, PathBuf)>,
    journal: Mutex<AlertJournal>,
    pub(super) delivery: Arc<AlertDelivery>,
    pub(super) topics: Mutex<AlertTopics>,
    /// Active alerts as people see them, and a number that grows with each change of a state.
    pub(super) views: RwLock<Arc<Vec<AlertView>>>,
    pub(super) refused: RwLock<usize>,
    pub(super) changes: watch::Sender<u64>,
    expects_readings: AtomicBool,
}

/// Zones and jobs of a round.
struct RoundScope {
    /// Zones with new rows.
    changed: HashSet<ZoneId>,
    /// Whether everything is checked.
    is_full: bool,
    is_trimming: bool,
    /// Whether the cursors of all zones are stored.
    is_saving: bool,
}

impl AlertService {
    /// Reads the alerts of the last run, and ends those whose rules no longer exist.
    pub(crate) fn open(settings: &AppSettings, sources: AlertSources) -> Result<Self> {
        let checked = Arc::new(settings.alerts.check()?);
        let store: Arc<dyn AlertStore> = Arc::new(sources.store.clone());
        let stored = store.load_alerts().context("the alerts of the last run cannot be read")?;
        let delivery = AlertDelivery::new(checked.clone(), store, &stored.outbox)?;
        let journal = AlertJournal::new(checked.raw.active_max, stored);
        let (data, log) = (&settings.feature_store.store.path, &settings.gateway.log);
        let data_dir = data.parent().map_or_else(|| PathBuf::from("."), PathBuf::from);
        let log_dir = if log.is_shared() { log.spool.dir.clone() } else { log.dir.clone() };
        let comfort_bands = &settings.feature_store.kpi.rules.comfort;
        let state = AlertServiceState {
            topics: Mutex::new(AlertTopics::new(&checked.raw.mqtt)),
            checked,
            sources,
            comfort: settings.trainer.clone(),
            engine: settings.feature_store.engine.clone(),
            co2_high_ppm: comfort_bands.get("co2").map(|band| band.high),
            folders: vec![("data".into(), data_dir), ("log".into(), log_dir)],
            journal: Mutex::new(journal),
            delivery: Arc::new(delivery),
            views: RwLock::default(),
            refused: RwLock::default(),
            changes: watch::Sender::new(0),
            expects_readings: AtomicBool::new(true),
        };
        state.assume_published_topics();
        state.end_alerts_of_removed_rules(now_ms());
        state.publish_views(now_ms(), true);
        Ok(Self(Arc::new(state)))
    }

    /// Says whether live readings are expected now. While they are not, as during the history of a
    /// demo, nothing counts as silent and no reading counts as live.
    pub(crate) fn expect_readings(&self, is_expected: bool) {
        self.0.expects_readings.store(is_expected, Ordering::Relaxed);
    }

    /// Active alerts that concern people: without those that only the past has shown.
    pub(crate) fn active_alerts(&self) -> Arc<Vec<AlertView>> {
        self.0.active_views()
    }

    /// Number of alerts for which there is no room.
    pub(crate) fn refused_count(&self) -> usize {
        *self.0.refused.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells of changes of states.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }

    pub(crate) fn checked(&self) -> &CheckedAlerts {
        &self.0.checked
    }

    /// The metrics in Prometheus' text format.
    pub(crate) fn render_metrics(&self) -> String {
        exposition::render_metrics(&self.active_alerts(), self.refused_count(), &self.0.delivery)
    }

    /// Past alerts, newest end first.
    pub(crate) async fn read_history(
        &self,
        query: AlertHistoryQuery,
    ) -> Result<Vec<AlertView>, Problem> {
        let own = self.0.clone();
        let read = move || {
            let found = own.sources.store.read_past_alerts(&query)?;
            Ok::<_, alerts::AlertStoreError>(found.iter().map(|past| own.view_past(past)).collect())
        };
        let read = tokio::task::spawn_blocking(read).await.map_err(Problem::internal)?;
        read.map_err(Problem::internal)
    }

    /// Acknowledges an alert, or takes the acknowledgement back, and stores that.
    pub(crate) async fn acknowledge(
        &self,
        id: AlertId,
        by: Option<AcknowledgedBy>,
    ) -> Result<AlertView, Problem> {
        let own = self.0.clone();
        let work = move || {
            let mut journal = own.lock_journal();
            let changed = match by {
                Some(by) => journal.book.acknowledge(&id, by),
                None => journal.book.unacknowledge(&id),
            };
            let change = changed.map_err(|error| match error {
                alerts::book::AcknowledgeError::NotActive => Problem::not_found(error.to_string())
                    .with_hint(
                        "GET /v1/alerts lists the active alerts, /v1/alerts/history past ones",
                    ),
                error => Problem::conflict(error.to_string()),
            })?;
            let view = own.view_active(&change.alert, now_ms());
            own.note_change(&mut journal, change, now_ms());
            let saved = own.save_changes(&mut journal, false);
            drop(journal);
            own.publish_views(now_ms(), false);
            // In memory it is acknowledged; the next round stores it.
            saved.map_err(Problem::internal)?;
            Ok(view)
        };
        tokio::task::spawn_blocking(work).await.map_err(Problem::internal)?
    }

    /// Makes rounds and delivers messages until `stop`. A last round stores what is not stored.
    pub(crate) async fn run(self, stop: CancellationToken) -> Result<()> {
        if !self.0.checked.raw.enabled {
            stop.cancelled().await;
            return Ok(());
        }
        let delivering = tokio::spawn(self.0.delivery.clone().run(stop.clone()));
        let mut rows = self.0.sources.store.subscribe_rows();
        let mut rounds = interval(ROUND_EVERY);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut changed = HashSet::new();
        let (mut full_ms, mut trimmed_ms, mut saved_ms) = (i64::MIN, now_ms(), now_ms());
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                row = rows.recv() => match row {
                    Ok(row) => { changed.insert(row.zone.clone()); }
                    // The next full round looks at every zone.
                    Err(RecvError::Lagged(_)) => full_ms = i64::MIN,
                    Err(RecvError::Closed) => break,
                },
                _ = rounds.tick() => {
                    let now_ms = now_ms();
                    // A clock that was set back must not stop full rounds.
                    let is_full = !(0..FULL_ROUND_MS).contains(&now_ms.saturating_sub(full_ms));
                    let is_trimming = (now_ms - trimmed_ms).abs() >= TRIM_MS;
                    let is_saving = (now_ms - saved_ms).abs() >= CURSORS_MS;
                    saved_ms = if is_saving { now_ms } else { saved_ms };
                    full_ms = if is_full { now_ms } else { full_ms };
                    trimmed_ms = if is_trimming { now_ms } else { trimmed_ms };
                    let changed = std::mem::take(&mut changed);
                    self.make_round(RoundScope { changed, is_full, is_trimming, is_saving }).await;
                }
            }
        }
        delivering.await.context("the delivery of alerts panicked")?;
        let is_saving = true;
        self.make_round(RoundScope { changed, is_full: false, is_trimming: false, is_saving })
            .await;
        Ok(())
    }

    async fn make_round(&self, scope: RoundScope) {
        let own = self.0.clone();
        let round = tokio::task::spawn_blocking(move || own.run_round(&scope)).await;
        if let Err(error) = round {
            tracing::error!(%error, "a round of alerts failed; the next one follows");
        }
    }
}

impl AlertServiceState {
    pub(super) fn lock_journal(&self) -> MutexGuard<'_, AlertJournal> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn expects_readings(&self) -> bool {
        self.expects_readings.load(Ordering::Relaxed)
    }

    fn run_round(&self, scope: &RoundScope) {
        let now_ms = now_ms();
        let mut journal = self.lock_journal();
        let lag = self.sources.store.log_lag();
        let is_listening = self.expects_readings()
            && lag.is_some_and(|records| records <= LISTENING_LAG_MAX)
            && self.sources.gateway.check_ready().is_ok();
        journal.listening.tick(now_ms, is_listening);
        if scope.is_full {
            for summary in self.sources.store.zone_summaries() {
                self.check_zone(&mut journal, &summary, now_ms);
                self.check_silence(&mut journal, &summary, now_ms);
                self.check_predictions(&mut journal, &summary, now_ms);
            }
            self.check_system(&mut journal, lag, now_ms);
            self.end_expired(&mut journal, now_ms);
        } else {
            let is_behind = |track: &&ZoneTrack| track.behind_since_ms.is_some();
            let behind = journal.zones.values().filter(is_behind);
            let behind: Vec<ZoneId> = behind.map(|track| track.cursor.zone.clone()).collect();
            for zone in scope.changed.iter().chain(&behind) {
                if let Some(summary) = self.sources.store.zone_summary(zone) {
                    self.check_zone(&mut journal, &summary, now_ms);
                }
            }
        }
        if (scope.is_saving || journal.has_urgent_changes())
            && let Err(error) = self.save_changes(&mut journal, scope.is_saving)
        {
            tracing::warn!(%error, "alerts cannot be stored; will retry");
        }
        drop(journal);
        self.publish_views(now_ms, scope.is_full);
        if scope.is_trimming {
            let raw = &self.checked.raw;
            let before_ms = now_ms - i64::from(raw.history_days) * 86_400_000;
            if let Err(error) = self.sources.store.trim_history(before_ms, raw.history_max) {
                tracing::warn!(%error, "old alerts cannot be deleted; will retry");
            }
        }
    }

    /// Evaluates the newest row of a zone, after the rows of the past that it has not seen.
    fn check_zone(&self, journal: &mut AlertJournal, summary: &ZoneSummary, now_ms: i64) {
        let zone = &summary.zone;
        let Some((row, _)) = self.sources.store.online_row(zone) else { return };
        let at_ms = row.row().at_ms;
        let evaluated_ms = journal.track(zone).cursor.evaluated_ms;
        if evaluated_ms.is_some_and(|evaluated_ms| at_ms <= evaluated_ms) {
            return;
        }
        let is_live = self.is_live(at_ms, now_ms);
        let is_gap = evaluated_ms.is_none_or(|evaluated_ms| at_ms - evaluated_ms > GAP_MS_MAX);
        if is_gap || !is_live {
            match self.scan_rows(journal, summary, now_ms) {
                Ok(ScanProgress::UpToDate) if is_live => {}
                Ok(_) => return,
                Err(error) => {
                    tracing::warn!(%zone, %error, "rows of the past cannot be read; will retry");
                    return;
                }
            }
        }
        let feature = |name: &str| row.feature_value(name);
        let predictions = self.fresh_predictions(zone);
        self.evaluate_row(journal, summary, at_ms, true, &feature, &predictions, now_ms);
        let track = journal.track(zone);
        track.cursor.live_ms = Some(at_ms);
        track.behind_since_ms = None;
    }

    pub(super) fn is_live(&self, at_ms: i64, now_ms: i64) -> bool {
        let age_s = (now_ms - at_ms) as f64 / MS_PER_S;
        self.expects_readings() && age_s <= self.checked.raw.live_age_s
    }

    /// Checks a row against all rules about rows.
    #[expect(clippy::too_many_arguments, reason = "a row is its time, its values and its zone")]
    pub(super) fn evaluate_row(
        &self,
        journal: &mut AlertJournal,
        summary: &ZoneSummary,
        at_ms: i64,
        is_live: bool,
        feature: &dyn Fn(&str) -> Option<f64>,
        predictions: &[TaskPrediction],
        now_ms: i64,
    ) {
        let ZoneSummary { zone, metrics, .. } = summary;
        let rhythm_s = zone_interval_s(metrics, feature).unwrap_or_default();
        let gap_s = (MISSED_READINGS * rhythm_s).clamp(self.checked.raw.live_age_s, SILENCE_S_MAX);
        let continuous_since_ms = journal.track(zone).follow_row(at_ms, (gap_s * MS_PER_S) as i64);
        let comfort = self.comfort.comfort_in(zone);
        let snapshot = ZoneSnapshot {
            zone,
            at_ms,
            is_live,
            metrics,
            feature,
            limit: &|name| self.named_limit(&comfort, name),
            drying_critical_pct: self.engine.drying_settings(zone).critical_pct,
            continuous_since_ms,
            predictions,
        };
        let found = snapshot.check_rules(&self.checked.rules);
        self.apply_observations(journal, found, now_ms);
    }

    fn named_limit(&self, comfort: &ComfortSettings, name: NamedLimit) -> Option<f64> {
        match name {
            NamedLimit::HeatBelow => Some(comfort.heat_below),
            NamedLimit::CoolAbove => Some(comfort.cool_above),
            NamedLimit::SoilMoistureCritical => Some(comfort.soil_moisture_critical),
            NamedLimit::Co2High => self.co2_high_ppm,
        }
    }

    /// Predictions that are of now and the model's own.
    fn fresh_predictions(&self, zone: &ZoneId) -> Vec<TaskPrediction> {
        let found = self.sources.trainer.newest_predictions().for_zone(zone);
        let fresh = found.predictions.iter().filter(|own| !own.is_stale && !own.fallback);
        fresh
            .filter(|own| own.task != TASK_NAME)
            .map(|own| TaskPrediction {
                task: own.task.as_str().into(),
                value: own.value,
                event_ms: own.features_at_ms,
            })
            .collect()
    }

    fn check_silence(&self, journal: &mut AlertJournal, summary: &ZoneSummary, now_ms: i64) {
        let ZoneSummary { zone, metrics, latest_ms, .. } = summary;
        let Some(newest_ms) = *latest_ms else { return };
        let row = self.sources.store.online_row(zone).map(|(row, _)| row);
        let feature = |name: &str| row.as_ref()?.feature_value(name);
        let silence = ZoneSilence {
            zone,
            newest_ms,
            was_live: journal.zones.get(zone).is_some_and(|own| own.cursor.live_ms.is_some()),
            interval_s: zone_interval_s(metrics, &feature),
        };
        let listening = journal.listening;
        let found = check_silent_zone(&self.checked.rules, &silence, &listening, now_ms);
        self.apply_observations(journal, found, now_ms);
    }

    /// Checks the anomaly score, after the minutes of the past that have not been scored. A zone
    /// without a score has no model, and its past waits for one.
    fn check_predictions(&self, journal: &mut AlertJournal, summary: &ZoneSummary, now_ms: i64) {
        let zone = &summary.zone;
        let found = self.sources.trainer.newest_predictions().for_zone(zone);
        let Some(own) = found.predictions.iter().find(|own| own.task == TASK_NAME) else { return };
        match self.scan_anomalies(journal, summary, now_ms) {
            Ok(ScanProgress::UpToDate) => {}
            Ok(ScanProgress::Behind) => return,
            Err(error) => {
                tracing::warn!(%zone, %error, "anomalies of the past cannot be found; will retry");
                return;
            }
        }
        let is_new = journal.track(zone).cursor.anomalies_ms < Some(own.features_at_ms);
        if !is_new || own.is_stale || !self.is_live(own.features_at_ms, now_ms) {
            return;
        }
        let finding = AnomalyFinding {
            event_ms: own.features_at_ms,
            value: own.value,
            metric: own.metric.as_deref().unwrap_or_default().into(),
            fault: own.fault.map(|fault| fault.name().into()),
        };
        let track = journal.track(zone);
        track.cursor.anomalies_ms = Some(own.features_at_ms);
        track.has_moved = true;
        let checks = check_anomaly(&self.checked.rules, zone, &finding, true);
        self.apply_observations(journal, checks, now_ms);
    }

    fn check_system(&self, journal: &mut AlertJournal, lag: Option<u64>, now_ms: i64) {
        let spools = self.sources.log.spool_statuses();
        let disks = self.folders.iter().filter_map(|(name, folder)| {
            let space = DiskSpace::at_path(folder).ok()?;
            Some((name.clone(), space.free_bytes as f64 / BYTES_PER_MB))
        });
        let summaries = self.sources.store.zone_summaries();
        let offsets = summaries.iter().flat_map(|summary| {
            summary.clock_offsets.iter().map(|(device, offset_ms)| {
                (summary.zone.clone(), device.clone(), *offset_ms as f64 / MS_PER_S)
            })
        });
        let snapshot = SystemSnapshot {
            now_ms,
            expects_readings: self.expects_readings(),
            lag_records: lag,
            spools_pct: spools
                .into_iter()
                .map(|(topic, own)| (topic.into(), 100.0 * own.bytes as f64 / own.bytes_max as f64))
                .collect(),
            disks_free_mb: disks.collect(),
            clock_offsets_s: offsets.collect(),
            listening_ms: journal.listening.listening_ms(now_ms),
        };
        let active: Vec<AlertKey> =
            journal.book.active_alerts().map(|alert| alert.key.clone()).collect();
        let found = snapshot.check_rules(&self.checked.rules, &active);
        self.apply_observations(journal, found, now_ms);
    }

    /// Ends alerts that nothing has been heard of for a long time. A process that was away for that
    /// long listens for an hour first.
    fn end_expired(&self, journal: &mut AlertJournal, now_ms: i64) {
        let expire_ms = (self.checked.raw.expire_h * MS_PER_H) as i64;
        if journal.listening.listening_ms(now_ms) < (MS_PER_H as i64).min(expire_ms) {
            return;
        }
        let is_old = |alert: &ActiveAlert| now_ms - alert.observed_ms > expire_ms;
        let outcome = |alert: &ActiveAlert| is_old(alert).then_some(AlertOutcome::Expired);
        for change in journal.book.end_where(now_ms, outcome) {
            self.note_change(journal, change, now_ms);
        }
    }

    fn end_alerts_of_removed_rules(&self, now_ms: i64) {
        let mut journal = self.lock_journal();
        let applies = |alert: &ActiveAlert| {
            let rule = self.checked.find_rule(&alert.key.rule).filter(|rule| rule.is_enabled);
            let zone = alert.key.zone.as_ref();
            rule.is_some_and(|rule| zone.is_none_or(|zone| rule.applies_to(zone)))
        };
        let outcome = |alert: &ActiveAlert| (!applies(alert)).then_some(AlertOutcome::RuleRemoved);
        for change in journal.book.end_where(now_ms, outcome) {
            self.note_change(&mut journal, change, now_ms);
        }
    }

    pub(super) fn apply_observations(
        &self,
        journal: &mut AlertJournal,
        found: Vec<(&AlertRule, AlertKey, AlertObservation)>,
        now_ms: i64,
    ) {
        for (rule, key, observation) in found {
            if let Some(change) = journal.book.observe(rule, &key, &observation) {
                self.note_change(journal, change, now_ms);
            }
        }
    }

    fn note_change(&self, journal: &mut AlertJournal, change: AlertChange, now_ms: i64) {
        let view = match &change.past {
            Some(past) => self.view_past(past),
            None => self.view_active(&change.alert, now_ms),
        };
        if let Some(event) = change.event {
            let AlertView { rule, message: finding, .. } = &view;
            tracing::info!(%rule, place = view.place(), event = event.as_str(), finding, "alert");
        }
        let messages = self.delivery.messages_about(&change, &view, now_ms);
        journal.note_change(change, messages);
    }

    /// Stores what is not stored, and only then gives the messages to their receivers.
    fn save_changes(
        &self,
        journal: &mut AlertJournal,
        with_all_cursors: bool,
    ) -> Result<(), alerts::AlertStoreError> {
        let batch = journal.unsaved_batch(with_all_cursors);
        if batch.is_empty() {
            return Ok(());
        }
        self.sources.store.save_batch(&batch)?;
        let messages = journal.mark_saved(&batch);
        let settled = self.delivery.enqueue(&messages);
        if !settled.is_empty() {
            self.sources.store.save_batch(&AlertBatch { settled, ..AlertBatch::default() })?;
        }
        Ok(())
    }
}

/// Interval of a zone's most frequent metric, s; `None` while none is known.
fn zone_interval_s(metrics: &[SmolStr], feature: &dyn Fn(&str) -> Option<f64>) -> Option<f64> {
    let intervals = metrics.iter().filter_map(|metric| known_interval_s(feature, metric));
    intervals.reduce(f64::min)
}
