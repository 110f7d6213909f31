//! Single faults with their expected values.

use microclimate_feature_store::sql_expressions::open_engine;
use microclimate_feature_store::{FeatureStoreSettings, engine::EngineOutput};
use telemetry::{MetricTable, QualityFlag, ReportSource};

use crate::{
    engine_run::{EngineRun, IngestPath, report_of, run_messages},
    schedule::{
        DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS, START_MS, SimulatedMessage, plausible_value,
    },
};

fn temperature_message(event_ms: i64, arrival_ms: i64, value: f64) -> SimulatedMessage {
    SimulatedMessage { zone: 0, device: 0, metric: "temperature", event_ms, arrival_ms, value }
}

/// Generates a punctual reading each minute.
fn punctual_messages(from_ms: i64, until_ms: i64) -> Vec<SimulatedMessage> {
    let minutes = (from_ms..until_ms).step_by(MINUTE_MS as usize);
    minutes
        .map(|ms| temperature_message(ms, ms, 20.0 + (ms / MINUTE_MS % 50) as f64 / 10.0))
        .collect()
}

fn feature_value(run: &EngineRun, at_ms: i64, is_as_known: bool, feature: &str) -> Option<f64> {
    let table = run.rows_by_time(0, is_as_known);
    let row = table.get(&at_ms)?.row.as_ref()?;
    let column = row.schema.names.iter().position(|name| name == feature).unwrap();
    Some(row.values[column]).filter(|value| !value.is_nan())
}

/// A timestamp of 2099, in a live report, in a report marked as replay, and in a file.
#[test]
fn one_stamp_of_the_future_changes_nothing_for_others() {
    let far_ms = 4_070_908_800_000;
    for source in [ReportSource::Live, ReportSource::Replay, ReportSource::Backfill] {
        let mut messages = punctual_messages(START_MS, START_MS + 3 * HOUR_MS);
        let without = run_messages(&messages, IngestPath::Live, 0);
        messages.insert(60, temperature_message(far_ms, far_ms, 20.0));
        let mut with = EngineRun::new(IngestPath::Live, 1);
        for message in &messages {
            let mut output = EngineOutput::default();
            let mut report = report_of(message, IngestPath::Live);
            let received_ms = message.arrival_ms.min(START_MS + 3 * HOUR_MS);
            if message.event_ms == far_ms {
                report.source = source;
                report.arrival_ms = if source == ReportSource::Live { received_ms } else { far_ms };
            }
            with.engine.ingest_report(&report, received_ms, &mut output);
            let expect =
                if message.event_ms == far_ms { QualityFlag::Future } else { QualityFlag::Ok };
            assert_eq!(output.qualities, [expect]);
            with.keep_rows(output.rows);
        }
        with.finish();
        let (with, without) = (with.rows_by_time(0, false), without.rows_by_time(0, false));
        assert_eq!(with.len(), 180);
        for (at_ms, row) in with {
            assert_eq!(row.revision, 0);
            assert_eq!(row.hash, without[&at_ms].hash, "{at_ms}");
        }
    }
}

/// A day that a sensor buffered and sends in order, to a new zone and to a live one.
#[test]
fn a_buffered_day_has_a_row_for_every_minute() {
    for before in [Vec::new(), punctual_messages(START_MS - HOUR_MS, START_MS)] {
        let mut messages = before.clone();
        let sent_ms = START_MS + DAY_MS;
        let buffered = punctual_messages(START_MS, sent_ms).into_iter().zip(0..);
        messages.extend(
            buffered.map(|(message, n)| SimulatedMessage { arrival_ms: sent_ms + n, ..message }),
        );
        let mut found = EngineRun::new(IngestPath::Live, 1);
        for message in &messages {
            if message.arrival_ms == sent_ms {
                found.tick(sent_ms);
            }
            assert_eq!(found.ingest_message(message), QualityFlag::Ok);
        }
        // Rows exist seconds after the last message, before further data arrives.
        for second in 2..12 {
            found.tick(sent_ms + second * SECOND_MS);
        }
        let rows = found.rows_by_time(0, false);
        let expect = START_MS..=sent_ms - 3 * MINUTE_MS;
        let missing = expect.step_by(MINUTE_MS as usize).find(|at_ms| !rows.contains_key(at_ms));
        assert_eq!(missing, None);
        found.finish();
        found.check_against_oracle(&messages, 1);
    }
}

/// 28 hours of five sensors arrive at once: more readings than earlier versions remembered.
#[test]
fn what_was_known_is_exact_however_much_comes_late() {
    let minutes = |metric: &'static str, device: usize| {
        punctual_messages(START_MS, START_MS + 28 * HOUR_MS)
            .into_iter()
            .flat_map(move |message| (0..12).map(move |n| (message.clone(), n)))
            .map(move |(original, n)| {
                let event_ms = original.event_ms + n * 5 * SECOND_MS;
                let arrival_ms = START_MS + 28 * HOUR_MS + 30 * SECOND_MS;
                let value = plausible_value(metric, (original.value * 10.0).round() as i64);
                SimulatedMessage { device, metric, event_ms, arrival_ms, value, ..original }
            })
    };
    let mut messages = punctual_messages(START_MS, START_MS + 29 * HOUR_MS);
    for (device, metric) in ["humidity", "co2", "soil_temperature", "soil_moisture", "temperature"]
        .into_iter()
        .enumerate()
    {
        messages.extend(minutes(metric, device + 1));
    }
    messages.sort_by_key(|message| message.arrival_ms);
    assert!(messages.len() > 100_000);
    let found = run_messages(&messages, IngestPath::Live, 0);
    found.check_against_oracle(&messages, 211);
    let at_ms = START_MS + 28 * HOUR_MS;
    assert_eq!(feature_value(&found, at_ms, true, "humidity_count_24h"), None);
    assert_eq!(
        feature_value(&found, at_ms + MINUTE_MS, true, "humidity_count_24h"),
        Some(17_267.0)
    );
    assert_eq!(feature_value(&found, at_ms, false, "humidity_count_24h"), Some(17_279.0));
}

/// A clock four minutes fast: a row as known has what had arrived by its time.
#[test]
fn a_fast_clock_hides_nothing_that_had_arrived() {
    let mut messages = punctual_messages(START_MS, START_MS + 2 * HOUR_MS);
    messages.extend(punctual_messages(START_MS, START_MS + 2 * HOUR_MS).into_iter().map(
        |message| SimulatedMessage {
            device: 1,
            metric: "humidity",
            event_ms: message.event_ms + 4 * MINUTE_MS,
            ..message
        },
    ));
    messages.sort_by_key(|message| message.arrival_ms);
    let found = run_messages(&messages, IngestPath::Live, 0);
    found.check_against_oracle(&messages, 1);
    let at_ms = START_MS + 90 * MINUTE_MS;
    assert_eq!(feature_value(&found, at_ms, true, "temperature_count_1h"), Some(60.0));
    assert_eq!(feature_value(&found, at_ms, true, "humidity_count_1h"), Some(60.0));
}

/// Rows before a gap of any length are those of the readings before it.
#[test]
fn a_gap_takes_nothing_from_the_rows_before_it() {
    for days in [1, 3, 4, 10, 40] {
        let end_ms = START_MS + 8 * DAY_MS;
        let mut messages = punctual_messages(START_MS, end_ms);
        messages
            .extend(punctual_messages(end_ms + days * DAY_MS, end_ms + days * DAY_MS + HOUR_MS));
        for door in [IngestPath::Live, IngestPath::Recorded] {
            let found = run_messages(&messages, door, 0);
            found.check_against_oracle(&messages, 1009);
            let last_ms = end_ms - MINUTE_MS;
            for at_ms in [last_ms - 2 * MINUTE_MS, last_ms] {
                let count = feature_value(&found, at_ms, true, "temperature_count_7d");
                assert_eq!(count, Some(10_080.0), "{days} days, {door:?}");
            }
        }
    }
}

/// The end of a recording completes its rows, and so does the unannounced end of a replay.
#[test]
fn the_end_of_data_is_an_end() {
    let mut messages = punctual_messages(START_MS, START_MS + 3 * HOUR_MS);
    // Some are late, the last one at the very end.
    for message in messages.iter_mut().skip(2).step_by(3) {
        message.arrival_ms += 20 * MINUTE_MS;
    }
    let end_ms = START_MS + 3 * HOUR_MS - MINUTE_MS;
    messages.iter_mut().for_each(|message| message.arrival_ms = message.arrival_ms.min(end_ms));
    messages.sort_by_key(|message| message.arrival_ms);
    let finished = run_messages(&messages, IngestPath::Recorded, 0);
    finished.check_against_oracle(&messages, 1);
    assert!(finished.rows_by_time(0, false).contains_key(&end_ms));
    let mut replayed = EngineRun::new(IngestPath::Recorded, 1);
    messages
        .iter()
        .for_each(|message| assert_eq!(replayed.ingest_message(message), QualityFlag::Ok));
    // Years later by the clock of the machine, for twelve seconds.
    (0..12).for_each(|second| replayed.tick(1_800_000_000_000 + second * SECOND_MS));
    replayed.check_against_oracle(&messages, 1);
    assert!(replayed.rows_by_time(0, false).contains_key(&end_ms));
}

/// A machine's clock was a month ahead for five seconds: once it has been right for ten minutes,
/// its zones must be set back. A clock that was a month behind for five seconds does no harm.
#[test]
fn a_clock_of_the_gateway_that_was_ahead_is_found_out() {
    let mut engine =
        open_engine(&FeatureStoreSettings::default().engine, MetricTable::default(), &[]).unwrap();
    let mut take = |at_ms: i64| {
        let mut output = EngineOutput::default();
        let message = temperature_message(at_ms, at_ms, 20.0 + (at_ms / 1000 % 50) as f64 / 10.0);
        engine.ingest_report(&report_of(&message, IngestPath::Live), at_ms, &mut output);
        output.pushed_ahead
    };
    let second = |second: i64| START_MS + second * SECOND_MS;
    (0..600).for_each(|n| assert_eq!(take(second(n)), []));
    // Behind, and right again.
    (600..605).for_each(|n| assert_eq!(take(second(n) - 30 * DAY_MS), []));
    (605..1205).for_each(|n| assert_eq!(take(second(n)), []));
    // Ahead, and right again.
    (1205..1210).for_each(|n| assert_eq!(take(second(n) + 30 * DAY_MS), []));
    (1210..1810).for_each(|n| assert_eq!(take(second(n)), []));
    let found = take(second(1810));
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].1, second(1810) + 300 * SECOND_MS);
}

/// The same with devices whose clocks are right: only arrivals were ahead.
#[test]
fn arrivals_that_were_ahead_are_found_out() {
    let mut engine =
        open_engine(&FeatureStoreSettings::default().engine, MetricTable::default(), &[]).unwrap();
    let mut take = |at_ms: i64, arrival_ms: i64| {
        let mut output = EngineOutput::default();
        let message =
            temperature_message(at_ms, arrival_ms, 20.0 + (at_ms / 1000 % 50) as f64 / 10.0);
        engine.ingest_report(&report_of(&message, IngestPath::Live), arrival_ms, &mut output);
        (output.qualities[0], output.pushed_ahead.len())
    };
    let second = |second: i64| START_MS + second * SECOND_MS;
    (0..600).for_each(|n| assert_eq!(take(second(n), second(n) + 40), (QualityFlag::Ok, 0)));
    (600..605).for_each(|n| {
        assert_eq!(take(second(n), second(n) + 30 * DAY_MS), (QualityFlag::Ok, 0));
    });
    (605..1205).for_each(|n| assert_eq!(take(second(n), second(n) + 40), (QualityFlag::Ok, 0)));
    assert_eq!(take(second(1206), second(1206) + 40), (QualityFlag::Ok, 1));
}

/// A recorded arrival in the future is as impossible as a timestamp in the future.
#[test]
fn an_arrival_of_the_future_moves_nothing() {
    let mut engine =
        open_engine(&FeatureStoreSettings::default().engine, MetricTable::default(), &[]).unwrap();
    let mut output = EngineOutput::default();
    let mut replayed =
        report_of(&temperature_message(START_MS, 4_102_444_799_000, 20.0), IngestPath::Recorded);
    replayed.source = ReportSource::Replay;
    engine.ingest_report(&replayed, START_MS + DAY_MS, &mut output);
    assert_eq!(output.qualities, [QualityFlag::Future]);
    assert!(engine.zones().all(|(.., progress)| progress.arrival_ms.is_none()));
}
