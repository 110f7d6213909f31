use std::collections::HashSet;

use alerts::zone_checks::{AnomalyFinding, check_anomaly, needed_features};
use feature_store::{FrameQuery, RevisionMode, StoreError, ZoneSummary};
use telemetry::SmolStr;
use trainer::{anomaly, feature_frame::ZoneFrame};

use super::{
    alert_journal::AlertJournal,
    alert_service::{AlertServiceState, GAP_MS_MAX},
};

/// Span of rows that one query reads, ms. It bounds memory.
const CHUNK_MS: i64 = 2 * 86_400_000;
/// Rows that are not committed yet are waited for up to this time, ms.
const COMMIT_WAIT_MS: i64 = 3_000;
/// Rows of a backlog are computed when its burst has ended: they are waited for up to this time, ms.
const BACKLOG_WAIT_MS: i64 = 25_000;
/// Coverage of a day, %, above which a zone has a past: more than a few readings.
const PAST_COVERAGE_PCT: f64 = 0.35;
/// Distance up to which final rows and evaluated ones are the same, ms: rows are a minute apart.
const SAME_ROW_MS: i64 = 120_000;

/// Whether the past of a zone has been evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ScanProgress {
    /// Everything that is stored.
    UpToDate,
    /// More follows in the next round.
    Behind,
}

impl AlertServiceState {
    /// Evaluates the next rows that a zone has in the store, in the order of time, as recorded
    /// ones.
    pub(super) fn scan_rows(
        &self,
        journal: &mut AlertJournal,
        summary: &ZoneSummary,
        now_ms: i64,
    ) -> Result<ScanProgress, StoreError> {
        let track = journal.track(&summary.zone);
        let Some(final_ms) = summary.final_ms else { return Ok(ScanProgress::UpToDate) };
        if track.cursor.evaluated_ms.is_some_and(|own_ms| own_ms + SAME_ROW_MS >= final_ms) {
            track.behind_since_ms = None;
            return Ok(ScanProgress::UpToDate);
        }
        let is_known = track.cursor.evaluated_ms.is_some();
        let behind_since_ms = *track.behind_since_ms.get_or_insert(now_ms);
        let first_ms = final_ms - (self.checked.raw.look_back_days * 86_400_000.0) as i64;
        let mut from_ms = track.cursor.evaluated_ms.map_or(first_ms, |own_ms| own_ms + 1);
        from_ms = from_ms.max(first_ms);
        let known: HashSet<String> = self.sources.store.feature_names().into_iter().collect();
        let needed = needed_features(&self.checked.rules, &summary.metrics);
        let columns: Vec<String> = needed.into_iter().filter(|name| known.contains(name)).collect();
        while from_ms <= final_ms {
            let to_ms = from_ms + CHUNK_MS;
            let frame = self.read_zone_frame(summary, (from_ms, to_ms), columns.clone())?;
            let Some(frame) = frame else {
                from_ms = to_ms;
                continue;
            };
            for (row, at_ms) in frame.at_ms.iter().enumerate() {
                let feature = |name: &str| {
                    let value = frame.column(name)?.get(row).copied();
                    value.filter(|value| value.is_finite())
                };
                self.evaluate_row(journal, summary, *at_ms, false, &feature, &[], now_ms);
            }
            return Ok(ScanProgress::Behind);
        }
        // Nothing is stored after the cursor: what is final may be on its way to DuckDB.
        let is_committed = self.sources.store.log_lag() == Some(0);
        let has_past = is_known || self.has_past(summary);
        let wait_ms = if has_past { BACKLOG_WAIT_MS } else { COMMIT_WAIT_MS };
        let is_settled = is_committed && now_ms - behind_since_ms >= wait_ms;
        Ok(if is_settled { ScanProgress::UpToDate } else { ScanProgress::Behind })
    }

    /// Scores the minutes of a zone that have not been scored, once there is a champion, and checks
    /// the scores in the order of time, as recorded ones.
    pub(super) fn scan_anomalies(
        &self,
        journal: &mut AlertJournal,
        summary: &ZoneSummary,
        now_ms: i64,
    ) -> Result<ScanProgress, StoreError> {
        let zone = &summary.zone;
        let Some(final_ms) = summary.final_ms else { return Ok(ScanProgress::UpToDate) };
        let scored_ms = journal.track(zone).cursor.anomalies_ms;
        if scored_ms.is_some_and(|scored_ms| scored_ms + GAP_MS_MAX >= final_ms) {
            return Ok(ScanProgress::UpToDate);
        }
        // Without a champion there is nothing to do now; the past waits for one.
        let Some(columns) = self.sources.trainer.anomaly_columns(zone) else {
            return Ok(ScanProgress::Behind);
        };
        let first_ms = final_ms - (self.checked.raw.look_back_days * 86_400_000.0) as i64;
        let from_ms = scored_ms.map_or(first_ms, |scored_ms| scored_ms + 1).max(first_ms);
        // The detector compares with the hours before.
        let span = (from_ms - anomaly::HISTORY_S * 1000, final_ms);
        let frame = self.read_zone_frame(summary, span, columns)?;
        let scores = frame
            .map(|frame| self.sources.trainer.score_past_anomalies(&frame))
            .unwrap_or_default();
        let mut newest_ms = final_ms;
        for own in scores.into_iter().filter(|own| own.at_ms >= from_ms) {
            newest_ms = newest_ms.max(own.at_ms);
            let finding = AnomalyFinding {
                event_ms: own.at_ms,
                value: own.score.value,
                metric: own.score.metric.as_str().into(),
                fault: own.score.fault.map(|fault| fault.name().into()),
            };
            let checks = check_anomaly(&self.checked.rules, zone, &finding, false);
            self.apply_observations(journal, checks, now_ms);
        }
        let track = journal.track(zone);
        track.cursor.anomalies_ms = Some(newest_ms);
        track.has_moved = true;
        Ok(ScanProgress::UpToDate)
    }

    /// Whether a zone has sent more than its first readings.
    fn has_past(&self, summary: &ZoneSummary) -> bool {
        let Some((row, _)) = self.sources.store.online_row(&summary.zone) else { return false };
        let coverage = |metric: &SmolStr| row.feature_value(&format!("{metric}_coverage_24h"));
        summary.metrics.iter().filter_map(coverage).any(|share| share > PAST_COVERAGE_PCT)
    }

    /// Reads rows of a zone as corrected, because the rows of a backlog were not known at their
    /// time; `None` if there are none.
    fn read_zone_frame(
        &self,
        summary: &ZoneSummary,
        (from_ms, to_ms): (i64, i64),
        columns: Vec<String>,
    ) -> Result<Option<ZoneFrame>, StoreError> {
        let query = FrameQuery {
            zones: Some(vec![summary.zone.clone()]),
            from_ms: Some(from_ms),
            to_ms: Some(to_ms),
            columns: Some(columns),
            ..FrameQuery::default()
        };
        let table = self.sources.store.read_feature_frame_as(&query, RevisionMode::AsCorrected)?;
        let frames = ZoneFrame::by_zone(&table).unwrap_or_default();
        Ok(frames.into_iter().next())
    }
}
