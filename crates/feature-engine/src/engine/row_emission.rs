use super::{
    catalog::FeatureCatalog,
    drying::SoilTrends,
    feature_row::FeatureRow,
    metric_state::MetricBatch,
    pending_readings::PendingReading,
    progress::{round_down_to_grid, round_up_to_grid},
    recompute_schedule::{RowAgeClass, age_classes},
    zone::{EngineRules, ZoneState},
};

/// Largest number of rows of one recomputation, so that no zone holds up the others for long.
const RECOMPUTED_ROWS_MAX: usize = 20_000;
/// Silence after which a burst of late readings has ended, ms.
const BURST_END_MS: i64 = 5_000;
/// Longest wait for the end of a burst, ms.
const BURST_MAX_MS: i64 = 20_000;
/// Silence after which recorded data has ended, ms.
const DATA_END_MS: i64 = 10_000;

impl ZoneState {
    /// Advances time to the arrival of a reading that is not ingested yet. Rows whose readings
    /// can no longer arrive become final, as known at their time. Rows that late readings changed
    /// are recomputed when that is due.
    pub(super) fn advance_to(
        &mut self,
        arrival_ms: i64,
        catalog: &FeatureCatalog,
        rules: &EngineRules,
        rows: &mut Vec<FeatureRow>,
    ) {
        let before_ms = self.progress.arrival_ms.unwrap_or(i64::MIN);
        if arrival_ms <= before_ms {
            return;
        }
        self.progress.arrival_ms = Some(arrival_ms);
        let until_ms = round_down_to_grid(arrival_ms - rules.lateness_ms(), rules.grid_ms());
        match self.progress.final_ms {
            None => self.progress.final_ms = Some(until_ms),
            Some(final_ms) if until_ms > final_ms => {
                self.emit_final_rows(final_ms, until_ms, catalog, rules, rows);
                if !self.progress.recompute.is_empty() {
                    self.recompute_rows(Some(arrival_ms), catalog, rules, rows);
                }
            }
            Some(_) => {}
        }
    }

    /// Emits the rows after `final_ms` up to `until_ms`, each from the readings that had arrived
    /// by its time.
    fn emit_final_rows(
        &mut self,
        final_ms: i64,
        until_ms: i64,
        catalog: &FeatureCatalog,
        rules: &EngineRules,
        rows: &mut Vec<FeatureRow>,
    ) {
        let grid_ms = rules.grid_ms();
        let mut at_ms = final_ms + grid_ms;
        while at_ms <= until_ms {
            if !self.pending.is_empty() {
                let arrived = self.pending.take_arrived(at_ms);
                self.admit_arrived(&arrived, rules);
            }
            let next_ms = if self.has_recent_reading(at_ms, rules) {
                rows.push(self.compute_row(at_ms, 0, catalog, rules));
                at_ms + grid_ms
            } else {
                // Skip to the first reading after the silence, if it exists.
                let next_event_ms = self.next_event_ms(at_ms);
                let next_ms = next_event_ms.into_iter().chain(self.pending.next_arrival_ms()).min();
                let next_ms = next_ms.map_or(i64::MAX, |ms| round_up_to_grid(ms, grid_ms));
                next_ms.clamp(at_ms + grid_ms, until_ms + grid_ms)
            };
            // Later arrivals change these rows, which are therefore recomputed.
            if let Some(event_ms) = self.pending.oldest_event_ms() {
                let first_ms = round_up_to_grid(event_ms, grid_ms).max(at_ms);
                self.progress.recompute.add_range(first_ms, next_ms - grid_ms, grid_ms);
            }
            at_ms = next_ms;
        }
        self.progress.final_ms = Some(until_ms);
    }

    /// Inserts the pending readings whose arrival time the rows have passed.
    fn admit_arrived(&mut self, arrived: &[PendingReading], rules: &EngineRules) {
        arrived.iter().for_each(|reading| self.note_changed_hour(reading.point.event_ms()));
        let batches = self.group_by_slot(arrived.iter(), rules);
        for (slot, batch) in self.slots.iter_mut().zip(&batches) {
            let Some(state) = slot.state.as_mut() else { continue };
            state.insert_batch(batch);
            if let Some(event_ms) = batch.oldest_event_ms().filter(|_| slot.feeds_soil) {
                self.soil.invalidate_from(event_ms);
            }
        }
    }

    /// Groups readings by slot, sorted by time.
    fn group_by_slot<'a>(
        &mut self,
        readings: impl Iterator<Item = &'a PendingReading>,
        rules: &EngineRules,
    ) -> Vec<MetricBatch> {
        let mut batches: Vec<MetricBatch> = Vec::new();
        batches.resize_with(self.slots.len(), MetricBatch::default);
        for PendingReading { slot, point, derived, .. } in readings {
            let is_up = self.sun.is_up(point.event_ms(), rules.place);
            if let Some(state) = &self.slots[*slot].state {
                state.collect_reading(&mut batches[*slot], *point, derived.as_deref(), is_up);
            }
        }
        batches.iter_mut().for_each(MetricBatch::sort_by_time);
        batches
    }

    /// Runs `act` with the pending readings inserted, and restores the state afterwards.
    /// `first_row_ms` is the oldest row time that `act` computes.
    fn with_pending<T>(
        &mut self,
        first_row_ms: i64,
        rules: &EngineRules,
        act: impl FnOnce(&mut Self) -> T,
    ) -> T {
        let pending = std::mem::take(&mut self.pending);
        let batches = self.group_by_slot(pending.iter(), rules);
        let mut soil_from_ms = first_row_ms.saturating_add(1);
        for (slot, batch) in self.slots.iter_mut().zip(&batches) {
            if let Some(state) = slot.state.as_mut().filter(|_| !batch.is_empty()) {
                state.insert_batch(batch);
                if let Some(event_ms) = batch.oldest_event_ms().filter(|_| slot.feeds_soil) {
                    soil_from_ms = soil_from_ms.min(event_ms);
                }
            }
        }
        // The next final row continues from the drying state at the newest final row, so `act`
        // works on a fork.
        let fork: SoilTrends = self.soil.fork_before(soil_from_ms);
        let soil = std::mem::replace(&mut self.soil, fork);
        let result = act(self);
        self.soil = soil;
        for (slot, batch) in self.slots.iter_mut().zip(&batches) {
            if let Some(state) = slot.state.as_mut().filter(|_| !batch.is_empty()) {
                state.remove_batch(batch);
            }
        }
        self.pending = pending;
        result
    }

    /// Recomputes the rows that late readings changed, from all readings that are known now, and
    /// adds rows that exist only because of them. With `now_ms`, handles the age classes that are
    /// due at that time; without, all of them.
    fn recompute_rows(
        &mut self,
        now_ms: Option<i64>,
        catalog: &FeatureCatalog,
        rules: &EngineRules,
        rows: &mut Vec<FeatureRow>,
    ) {
        let grid_ms = rules.grid_ms();
        let Some(final_ms) = self.progress.final_ms else { return };
        // The youngest rows come first, as they are read most.
        let classes: Vec<RowAgeClass> = match now_ms {
            Some(now_ms) => self.progress.schedule.due_classes(now_ms).collect(),
            None => age_classes().collect(),
        };
        let mut due: Vec<(RowAgeClass, Vec<(i64, i64)>)> = Vec::new();
        for class in classes {
            let until_ms = round_down_to_grid(final_ms - class.youngest_ms, grid_ms);
            let after_ms = round_down_to_grid(final_ms - class.oldest_ms, grid_ms);
            let ranges = self.progress.recompute.take_range(after_ms, until_ms, grid_ms);
            if !ranges.is_empty() {
                due.push((class, ranges));
            }
        }
        let Some((first_ms, _)) = due.last().map(|(_, ranges)| ranges[0]) else { return };
        self.progress.corrections += 1;
        let mut left = RECOMPUTED_ROWS_MAX;
        let mut not_done = Vec::new();
        self.with_pending(first_ms, rules, |zone| {
            for (class, ranges) in due {
                for (first_ms, last_ms) in ranges {
                    let mut at_ms = first_ms;
                    while at_ms <= last_ms && left > 0 {
                        if zone.has_recent_reading(at_ms, rules) {
                            left -= 1;
                            rows.push(zone.compute_row(
                                at_ms,
                                zone.progress.corrections,
                                catalog,
                                rules,
                            ));
                            at_ms += grid_ms;
                        } else {
                            let next_ms = zone.next_event_ms(at_ms);
                            at_ms = next_ms.map_or(i64::MAX, |ms| round_up_to_grid(ms, grid_ms));
                        }
                    }
                    if at_ms <= last_ms {
                        not_done.push((at_ms, last_ms));
                    }
                }
                // A class that is not completed stays due.
                if let Some(now_ms) = now_ms.filter(|_| left > 0) {
                    zone.progress.schedule.note_recomputed(class, now_ms);
                }
            }
        });
        for (first_ms, last_ms) in not_done {
            self.progress.recompute.add_range(first_ms, last_ms, grid_ms);
        }
        self.activity.late_since_ms = None;
    }

    /// Returns whether the passing of time can produce rows.
    pub(super) fn is_waiting(&self) -> bool {
        self.progress.live || !self.activity.is_finished || !self.progress.recompute.is_empty()
    }

    /// Advances time while nothing arrives. `now_ms` is the clock of this machine. By it, rows of
    /// live zones become final, and the end of a burst or of a recording is detected. Recorded
    /// readings have their own time; the end of the recording completes their rows.
    pub(super) fn advance_clock(
        &mut self,
        now_ms: i64,
        catalog: &FeatureCatalog,
        rules: &EngineRules,
        rows: &mut Vec<FeatureRow>,
    ) {
        let activity = &mut self.activity;
        if std::mem::take(&mut activity.has_reading) {
            activity.reading_ms = Some(now_ms);
        }
        // After a start, the end of the data is awaited again.
        activity.reading_ms.get_or_insert(now_ms);
        if std::mem::take(&mut activity.has_late_reading) {
            activity.late_reading_ms = Some(now_ms);
            activity.late_since_ms.get_or_insert(now_ms);
        }
        let has_passed =
            |since_ms: Option<i64>, ms| since_ms.is_none_or(|since_ms| now_ms - since_ms >= ms);
        let is_settled = has_passed(activity.late_reading_ms, BURST_END_MS)
            || has_passed(activity.late_since_ms, BURST_MAX_MS);
        let is_at_end = !activity.is_finished && has_passed(activity.reading_ms, DATA_END_MS);
        if self.progress.live {
            // The arrival time that a punctual reading could have now.
            self.advance_to(now_ms - rules.lateness_ms(), catalog, rules, rows);
            if is_settled && !self.progress.recompute.is_empty() {
                self.recompute_rows(Some(now_ms), catalog, rules, rows);
            }
        }
        if is_at_end && !self.progress.live {
            self.finish_some(catalog, rules, rows);
        }
    }

    /// Handles the end of the data: completes rows up to the newest reading, in steps. Returns
    /// whether there are more.
    pub(super) fn finish_some(
        &mut self,
        catalog: &FeatureCatalog,
        rules: &EngineRules,
        rows: &mut Vec<FeatureRow>,
    ) -> bool {
        let Some(arrival_ms) = self.progress.arrival_ms else { return false };
        let newest_ms = self.progress.newest_ms.unwrap_or(arrival_ms).max(arrival_ms);
        self.emit_until(newest_ms, catalog, rules, rows);
        self.recompute_rows(None, catalog, rules, rows);
        self.activity.is_finished = self.progress.recompute.is_empty();
        !self.activity.is_finished
    }

    /// Makes rows up to a time final, whatever may still arrive.
    pub(super) fn emit_until(
        &mut self,
        until_ms: i64,
        catalog: &FeatureCatalog,
        rules: &EngineRules,
        rows: &mut Vec<FeatureRow>,
    ) {
        let until_ms = round_down_to_grid(until_ms, rules.grid_ms());
        if let Some(final_ms) = self.progress.final_ms.filter(|final_ms| *final_ms < until_ms) {
            self.emit_final_rows(final_ms, until_ms, catalog, rules, rows);
        }
    }

    /// Recomputes all rows that late readings changed.
    pub(super) fn recompute_all(
        &mut self,
        catalog: &FeatureCatalog,
        rules: &EngineRules,
        rows: &mut Vec<FeatureRow>,
    ) {
        while !self.progress.recompute.is_empty() && self.progress.final_ms.is_some() {
            self.recompute_rows(None, catalog, rules, rows);
        }
    }

    /// Returns the row at the newest event time, from all readings that are known now.
    pub(super) fn latest_row(
        &mut self,
        catalog: &FeatureCatalog,
        rules: &EngineRules,
    ) -> Option<FeatureRow> {
        let at_ms = self.progress.newest_ms?;
        Some(self.with_pending(at_ms, rules, |zone| zone.compute_row(at_ms, 0, catalog, rules)))
    }

    /// Returns whether any metric had a reading within the longest allowed silence before
    /// `at_ms`.
    fn has_recent_reading(&self, at_ms: i64, rules: &EngineRules) -> bool {
        let silence_max_ms = i64::from(rules.engine.silence_max_s) * 1000;
        let mut states = self.slots.iter().filter_map(|slot| slot.state.as_ref());
        states.any(|state| {
            state.series.readings().last_in_span(at_ms - silence_max_ms, at_ms).is_some()
        })
    }
}
