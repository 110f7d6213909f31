use std::collections::BTreeMap;

use proptest::prelude::*;
use telemetry::{MetricTable, QualityFlag, ReportSource, SensorReading, SensorReport};

use super::*;
use crate::{
    FeatureDefinitions,
    engine::{EngineOutput, FeatureRow, MINUTE_MS, SNAPSHOT_VERSION},
    sql::SqlExpressions,
};

/// Midday of 2 June 2025, UTC, ms.
const START_MS: i64 = 1_748_865_600_000;
/// Metrics with derived metrics by day and night, drying soil, and none of it.
const METRICS: [&str; 6] =
    ["temperature", "humidity", "light", "soil_moisture", "irrigation", "battery"];

/// One step of a schedule.
#[derive(Clone, Debug)]
enum Step {
    /// Time passes and readings of one device arrive.
    Report {
        wait_ms: i64,
        late_ms: i64,
        zone: u8,
        device: u8,
        values: Vec<(u8, u16)>,
        source: ReportSource,
    },
    /// The report `back` steps before arrives again.
    Again { back: usize },
    /// The clock advances while nothing arrives.
    Tick { wait_ms: i64 },
    /// A file of the zone ends.
    Finish { zone: u8 },
}

/// Waits from a second to days, mostly about a minute.
fn wait() -> impl Strategy<Value = i64> {
    prop_oneof![
        8 => 1_000..90_000_i64,
        2 => 90_000..3_000_000_i64,
        1 => HOUR_MS..30 * HOUR_MS,
        1 => Just(9 * 24 * HOUR_MS),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let late_ms = prop_oneof![
        6 => Just(0),
        2 => 1..150_000_i64,
        2 => 150_000..7_200_000_i64,
        1 => HOUR_MS..80 * HOUR_MS,
        1 => -400_000..0_i64,
    ];
    let source = prop_oneof![3 => Just(ReportSource::Live), 1 => Just(ReportSource::Replay)];
    let values = prop::collection::vec((0..METRICS.len() as u8, 0..1000_u16), 1..4);
    let report = (wait(), late_ms, 0..2_u8, 0..3_u8, values, source).prop_map(
        |(wait_ms, late_ms, zone, device, values, source)| Step::Report {
            wait_ms,
            late_ms,
            zone,
            device,
            values,
            source,
        },
    );
    prop_oneof![
        12 => report,
        2 => (1..20_usize).prop_map(|back| Step::Again { back }),
        3 => wait().prop_map(|wait_ms| Step::Tick { wait_ms }),
        1 => (0..2_u8).prop_map(|zone| Step::Finish { zone }),
    ]
}

/// A call of the engine.
#[derive(Clone, Debug)]
enum Call {
    Ingest(SensorReport),
    Tick(i64),
    Finish(ZoneId),
}

fn zone_name(zone: u8) -> ZoneId {
    ZoneId::new("farm", format!("bay-{zone}"))
}

/// Turns steps into calls: an absolute clock, and sequence numbers for every other device.
fn calls(steps: &[Step]) -> Vec<(i64, Call)> {
    let (mut now_ms, mut sent) = (START_MS, Vec::<SensorReport>::new());
    let mut calls = Vec::new();
    for (number, step) in steps.iter().enumerate() {
        match step {
            Step::Report { wait_ms, late_ms, zone, device, values, source } => {
                now_ms += wait_ms;
                let is_numbered = *device == 1;
                let reading = |(metric, value): &(u8, u16)| {
                    let metric = METRICS[usize::from(*metric)];
                    let value = match metric {
                        "irrigation" => f64::from(value % 2),
                        "soil_moisture" => 20.0 + f64::from(*value) / 31.0,
                        _ => f64::from(*value) / 7.0,
                    };
                    SensorReading { metric: metric.into(), event_ms: now_ms - late_ms, value }
                };
                sent.push(SensorReport {
                    zone: zone_name(*zone),
                    device: format!("probe-{device}").into(),
                    boot: is_numbered.then(|| "1".into()),
                    seq: is_numbered.then_some(number as u64 % 64),
                    arrival_ms: now_ms,
                    source: *source,
                    readings: values.iter().map(reading).collect(),
                });
                calls.push((now_ms, Call::Ingest(sent[sent.len() - 1].clone())));
            }
            Step::Again { back } => {
                if let Some(at) = sent.len().checked_sub(*back) {
                    calls.push((now_ms, Call::Ingest(sent[at].clone())));
                }
            }
            Step::Tick { wait_ms } => {
                now_ms += wait_ms;
                calls.push((now_ms, Call::Tick(now_ms)));
            }
            Step::Finish { zone } => calls.push((now_ms, Call::Finish(zone_name(*zone)))),
        }
    }
    calls
}

fn settings() -> EngineSettings {
    EngineSettings { place: vec![52.5, 13.4], ..EngineSettings::default() }
}

fn engine_with(settings: &EngineSettings, metrics: MetricTable) -> FeatureEngine {
    let definitions = FeatureDefinitions::built_in();
    FeatureEngine::new(settings, definitions, metrics, &[], SqlExpressions::default()).unwrap()
}

fn engine() -> FeatureEngine {
    engine_with(&settings(), MetricTable::default())
}

/// Everything that a row has, with the bits of its values.
type RowBits = (ZoneId, i64, i64, Vec<SmolStr>, Vec<u64>);

fn row_bits(row: &FeatureRow) -> RowBits {
    let bits = row.values.iter().map(|value| value.to_bits()).collect();
    (row.zone.clone(), row.at_ms, row.revision, row.schema.names.clone(), bits)
}

/// The output of a call.
type CallOutput = (Vec<RowBits>, Vec<QualityFlag>, Vec<(ZoneId, i64)>);

fn run_call(engine: &mut FeatureEngine, received_ms: i64, call: &Call) -> CallOutput {
    let mut output = EngineOutput::default();
    match call {
        Call::Ingest(report) => engine.ingest_report(report, received_ms, &mut output),
        Call::Tick(now_ms) => engine.advance_clock(*now_ms, &mut output),
        Call::Finish(zone) => engine.finish_zone(zone, &mut output),
    }
    (output.rows.iter().map(row_bits).collect(), output.qualities, output.pushed_ahead)
}

fn finish(engine: &mut FeatureEngine) -> (Vec<RowBits>, Vec<RowBits>, Vec<Vec<(SmolStr, i64)>>) {
    let mut output = EngineOutput::default();
    engine.finish_all(&mut output);
    let offsets = (0..2).map(|zone| engine.clock_offsets(&zone_name(zone))).collect();
    let latest = engine.take_changed_rows();
    (output.rows.iter().map(row_bits).collect(), latest.iter().map(row_bits).collect(), offsets)
}

/// Keys and values, as a state store keeps them.
#[derive(Default)]
struct StoredZone {
    head: Vec<u8>,
    hours: BTreeMap<i64, Vec<u8>>,
}

impl StoredZone {
    fn apply(&mut self, changes: SnapshotChanges) {
        self.head = changes.head;
        self.hours.extend(changes.written_hours);
        self.hours.retain(|hour, _| !changes.removed_hours.contains(hour));
    }

    fn parts(&self) -> BTreeMap<i64, &[u8]> {
        self.hours.iter().map(|(hour, bytes)| (*hour, bytes.as_slice())).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    /// An engine that was cut off anywhere and restored emits what one that ran through emits:
    /// every row, flag and later snapshot, bit for bit.
    #[test]
    fn a_restored_engine_goes_on_as_if_nothing_had_happened(
        steps in prop::collection::vec(step(), 2..140), cut in any::<prop::sample::Index>(),
    ) {
        let calls = calls(&steps);
        let cut = cut.index(calls.len() + 1);
        let mut through = engine();
        for (received_ms, call) in &calls[..cut] {
            run_call(&mut through, *received_ms, call);
        }
        let mut restored = engine();
        let zones: Vec<ZoneId> = through.zones().map(|(zone, ..)| zone.clone()).collect();
        for zone in &zones {
            let bytes = through.snapshot(zone).unwrap();
            prop_assert_eq!(&restored.restore(&bytes).unwrap(), zone);
            prop_assert_eq!(restored.snapshot(zone).unwrap(), bytes, "a snapshot of what was restored");
        }
        // Both publish the newest row now.
        through.take_changed_rows();
        restored.take_changed_rows();
        for (received_ms, call) in &calls[cut..] {
            prop_assert_eq!(
                run_call(&mut restored, *received_ms, call),
                run_call(&mut through, *received_ms, call)
            );
        }
        prop_assert_eq!(finish(&mut restored), finish(&mut through));
        for zone in &zones {
            prop_assert_eq!(restored.snapshot(zone), through.snapshot(zone));
        }
    }

    /// The same for incremental snapshots, taken and restored every few calls by a program that
    /// ends each time.
    #[test]
    fn hours_that_changed_are_all_that_has_to_be_written(
        steps in prop::collection::vec(step(), 2..140), every in 1..12_usize,
    ) {
        let calls = calls(&steps);
        let (mut through, mut restored) = (engine(), engine());
        let mut stored: BTreeMap<ZoneId, StoredZone> = BTreeMap::new();
        for (number, (received_ms, call)) in calls.iter().enumerate() {
            prop_assert_eq!(
                run_call(&mut restored, *received_ms, call),
                run_call(&mut through, *received_ms, call)
            );
            if number % every != 0 {
                continue;
            }
            let zones: Vec<ZoneId> = restored.zones().map(|(zone, ..)| zone.clone()).collect();
            for zone in &zones {
                let changes = restored.snapshot_changes(zone).unwrap();
                stored.entry(zone.clone()).or_default().apply(changes);
            }
            // Every other time the engine stays, and its next changes continue from these.
            if number % (2 * every) == 0 {
                let mut again = engine();
                for metric in restored.metrics().to_vec() {
                    again.rules_and_catalog().1.add_metric(&metric);
                }
                for zone in &zones {
                    let stored = &stored[zone];
                    prop_assert_eq!(&again.restore_parts(&stored.head, &stored.parts()).unwrap(), zone);
                    prop_assert_eq!(again.snapshot(zone), through.snapshot(zone));
                }
                restored = again;
            }
        }
        prop_assert_eq!(finish(&mut restored).0, finish(&mut through).0);
    }

    /// No byte of a snapshot can change, and no end be missing, without a typed error.
    #[test]
    fn damage_is_noticed_and_changes_nothing(
        at in any::<prop::sample::Index>(), flip in 1..=255_u8, cut in any::<prop::sample::Index>(),
    ) {
        let (source, zone) = (filled_engine(40), zone_name(0));
        let bytes = source.snapshot(&zone).unwrap();
        let mut into = filled_engine(3);
        let before = into.snapshot(&zone).unwrap();
        let mut damaged = bytes.clone();
        damaged[at.index(bytes.len())] ^= flip;
        prop_assert!(into.restore(&damaged).is_err());
        let cut = cut.index(bytes.len());
        prop_assert!(into.restore(&bytes[..cut]).is_err());
        prop_assert_eq!(into.snapshot(&zone).unwrap(), before);
        prop_assert!(into.restore(&bytes).is_ok());
    }

    /// Content whose checksum holds, but which nobody wrote, is refused or restored. It neither
    /// panics nor allocates by a length that it claims.
    #[test]
    fn content_that_nobody_wrote_is_bounded(
        at in any::<prop::sample::Index>(), bytes in prop::collection::vec(any::<u8>(), 0..12),
    ) {
        let (source, zone) = (filled_engine(20), zone_name(0));
        let changes = engine_changes(source, &zone);
        let content = unframe_part(SnapshotPart::Head, &changes.head).unwrap();
        let at = at.index(content.len());
        let end = (at + bytes.len()).min(content.len());
        let other = [&content[..at], &bytes, &content[end..]].concat();
        let head = frame_part(SnapshotPart::Head, &other);
        let hours = changes.written_hours.iter().map(|(h, b)| (*h, b.as_slice())).collect();
        let _ = engine().restore_parts(&head, &hours);
        let (hour, part) = changes.written_hours.first_key_value().unwrap();
        let content = unframe_part(SnapshotPart::Hour, part).unwrap();
        let at = at % content.len();
        let end = (at + bytes.len()).min(content.len());
        let other = [&content[..at], &bytes, &content[end..]].concat();
        let slots = [SlotHead { metric: "temperature".into(), sequences: Vec::new(), has_state: true }];
        let _ = unpack_hour(*hour, &other, &slots);
    }
}

/// An engine with this many reports of one zone, a minute apart.
fn filled_engine(reports: i64) -> FeatureEngine {
    let mut engine = engine();
    let mut output = EngineOutput::default();
    for minute in 0..reports {
        let event_ms = START_MS + minute * MINUTE_MS;
        let reading =
            |(metric, value): (&str, f64)| SensorReading { metric: metric.into(), event_ms, value };
        let report = SensorReport {
            zone: zone_name(0),
            device: "probe".into(),
            boot: Some("1".into()),
            seq: Some(minute as u64),
            arrival_ms: event_ms,
            source: ReportSource::Live,
            readings: [("temperature", 20.0 + minute as f64 / 10.0), ("light", 800.0)]
                .map(reading)
                .to_vec(),
        };
        engine.ingest_report(&report, event_ms, &mut output);
    }
    engine
}

fn engine_changes(mut engine: FeatureEngine, zone: &ZoneId) -> SnapshotChanges {
    engine.snapshot_changes(zone).unwrap()
}

#[test]
fn a_zone_that_is_not_there_has_no_snapshot() {
    assert_eq!(engine().snapshot(&zone_name(0)), None);
    assert_eq!(engine().snapshot_changes(&zone_name(0)), None);
}

#[test]
fn a_punctual_reading_rewrites_one_hour() {
    let (mut engine, zone) = (filled_engine(200), zone_name(0));
    let first = engine.snapshot_changes(&zone).unwrap();
    assert_eq!(first.written_hours.len(), 5);
    assert_eq!(engine.snapshot_changes(&zone).unwrap().written_hours.len(), 0);
    let reading = SensorReading {
        metric: "temperature".into(),
        event_ms: START_MS + 201 * MINUTE_MS,
        value: 21.5,
    };
    let report = SensorReport {
        zone: zone.clone(),
        device: "probe".into(),
        boot: None,
        seq: None,
        arrival_ms: reading.event_ms,
        source: ReportSource::Live,
        readings: vec![reading],
    };
    engine.ingest_report(&report, report.arrival_ms, &mut EngineOutput::default());
    let next = engine.snapshot_changes(&zone).unwrap();
    let newest = first.written_hours.last_key_value().unwrap().0;
    assert_eq!(next.written_hours.keys().collect::<Vec<_>>(), [newest]);
    assert_eq!(next.removed_hours.len(), 0);
    assert!(next.written_hours[newest].len() > first.written_hours[newest].len());
}

#[test]
fn a_snapshot_fits_its_definitions_settings_and_metrics_only() {
    let zone = zone_name(0);
    let bytes = filled_engine(20).snapshot(&zone).unwrap();
    let error = |mut engine: FeatureEngine| engine.restore(&bytes).unwrap_err();
    let mut other = (*FeatureDefinitions::built_in()).clone();
    other.derived.get_mut("heating_degrees").unwrap().below = Some(17.0);
    let other = FeatureEngine::new(
        &settings(),
        other.into(),
        MetricTable::default(),
        &[],
        SqlExpressions::default(),
    );
    assert!(matches!(error(other.unwrap()), SnapshotError::OtherDefinitions { .. }));
    for other in [
        EngineSettings { grid_s: 30, ..settings() },
        EngineSettings { lateness_s: 60, ..settings() },
        EngineSettings { hold_max_s: 1, ..settings() },
        EngineSettings { place: Vec::new(), ..settings() },
        EngineSettings { time_zone: "Europe/Berlin".into(), ..settings() },
        EngineSettings {
            drying_in: [(zone, DryingSettings { critical_pct: 1.0, ..DryingSettings::default() })]
                .into(),
            ..settings()
        },
    ] {
        let other = engine_with(&other, MetricTable::default());
        assert!(matches!(error(other), SnapshotError::OtherSettings { .. }));
    }
    let spec = |max| MetricSpec { unit: "°C".into(), min: -50.0, max, resolution: None };
    let table =
        |name: &str| MetricTable::with_site_metrics([(SmolStr::from(name), spec(50.0))]).unwrap();
    let other = engine_with(&settings(), table("temperature"));
    assert!(matches!(error(other), SnapshotError::OtherMetrics { .. }));
    // What does not decide over the zone's rows may differ.
    let same = EngineSettings {
        zones_max: 7,
        clock_offsets_s: [("farm/bay-0/probe".into(), 3.0)].into(),
        drying_in: [(
            zone_name(1),
            DryingSettings { critical_pct: 1.0, ..DryingSettings::default() },
        )]
        .into(),
        ..settings()
    };
    assert!(engine_with(&same, table("something_else")).restore(&bytes).is_ok());
    let mut newer = bytes.clone();
    newer[4..6].copy_from_slice(&(SNAPSHOT_VERSION + 1).to_le_bytes());
    let expect =
        SnapshotError::OtherVersion { found: SNAPSHOT_VERSION + 1, expected: SNAPSHOT_VERSION };
    assert_eq!(engine().restore(&newer), Err(expect));
}

#[test]
fn parts_of_two_snapshots_are_not_mixed() {
    let (mut engine, zone) = (filled_engine(30), zone_name(0));
    let first = engine.snapshot_changes(&zone).unwrap();
    let hours: BTreeMap<i64, &[u8]> =
        first.written_hours.iter().map(|(hour, part)| (*hour, part.as_slice())).collect();
    let other = engine_changes(filled_engine(31), &zone);
    // The first reading is the last moment of an hour; all others are in the next one.
    let [first_hour, hour] = hours.keys().copied().collect::<Vec<_>>()[..] else { panic!() };
    let refused =
        |hour, problem| Err(SnapshotError::WrongHour { zone: zone.clone(), hour, problem });
    assert_eq!(
        engine.restore_parts(&other.head, &hours),
        refused(hour, "of another snapshot, expected that of its head")
    );
    assert_eq!(
        engine.restore_parts(&other.head, &BTreeMap::new()),
        refused(first_hour, "missing, expected as its head lists")
    );
    assert!(engine.restore_parts(&first.head, &hours).is_ok());
}
