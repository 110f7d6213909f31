"""Rows of frames, streams and snapshots."""

import itertools
import os
import random
import subprocess
from datetime import datetime, timezone

import duckdb
import polars as pl
import pyarrow as pa
import pytest
from rooms import METRICS, START_MS, assert_same_rows, simulated_rooms

import microclimate as mc


@pytest.fixture(scope="module")
def late():
    return simulated_rooms(late=True)


@pytest.fixture(scope="module")
def late_rows(late):
    return mc.features(late)


def test_a_row_for_each_zone_and_minute_with_its_mean():
    frame = pl.DataFrame(
        {
            "zone": ["farm/bay-1"] * 60,
            "event_ms": [START_MS + minute * 60_000 for minute in range(60)],
            "metric": ["temperature"] * 60,
            "value": [20.0 + minute / 10 for minute in range(60)],
        }
    )
    rows = mc.features(frame)
    assert len(rows) == 60
    last = rows.to_polars().row(-1, named=True)
    assert last["time"] == datetime(2025, 6, 2, 0, 59, tzinfo=timezone.utc)
    assert last["revision"] == 0
    assert last["temperature_mean_10m"] == pytest.approx(
        sum(20 + m / 10 for m in range(50, 60)) / 10, abs=1e-12
    )
    assert last["temperature_mean_1h"] == pytest.approx(22.95, abs=1e-12)
    assert last["temperature_last"] == 25.9
    assert len(rows.schema_hash) == 64


def test_every_library_gives_the_same_rows(late, late_rows):
    frames = {
        "polars": pl.DataFrame(late),
        "polars lazy": pl.DataFrame(late).lazy(),
        "polars categorical": pl.DataFrame(late).with_columns(
            pl.col("zone", "metric").cast(pl.Categorical)
        ),
        "pandas": late.to_pandas(),
        "pyarrow in batches": pa.RecordBatchReader.from_batches(late.schema, late.to_batches(1000)),
        "duckdb": duckdb.from_arrow(late),
        "large strings, microseconds": late.set_column(
            0, "zone", late["zone"].cast(pa.large_string())
        ).set_column(3, "event", late["event"].cast(pa.timestamp("us", tz="UTC"))),
        "another time zone": late.set_column(
            3, "event", late["event"].cast(pa.timestamp("ns", tz="Europe/Berlin"))
        ),
        "naive times are UTC": late.set_column(3, "event", late["event"].cast(pa.timestamp("ms"))),
        "numbers": late.set_column(3, "event_ms", late["event"].cast(pa.int64())),
    }
    for name, frame in frames.items():
        try:
            assert_same_rows(mc.features(frame), late_rows)
        except Exception as error:
            raise AssertionError(name) from error


def test_a_wide_frame_equals_a_long_one():
    long = simulated_rooms(zones=1, hours=5)
    # All metrics of a minute at one time, as a wide row has them.
    times = pa.compute.floor_temporal(long["event"], unit="minute")
    long = long.set_column(3, "event", times).set_column(
        1, "device", pa.array(["-"] * long.num_rows)
    )
    wide = pl.DataFrame(long).pivot("metric", index=["zone", "event"], values="value")
    assert wide.null_count().sum_horizontal().item() > 0
    assert_same_rows(mc.features(wide, order="sort"), mc.features(long, order="sort"))


def test_the_order_of_the_frame_does_not_matter_when_it_is_sorted(late, late_rows):
    shuffled = late.take(random.Random(1).sample(range(late.num_rows), late.num_rows))
    with pytest.raises(
        mc.OrderError,
        match=r"zone sim/room-\d: row \d+ arrived .* before row \d+(.|\n)*order=\"sort\"",
    ):
        mc.features(shuffled)
    assert_same_rows(mc.features(shuffled, order="sort"), mc.features(late, order="sort"))
    assert_same_rows(mc.features(late, order="sort"), late_rows)
    # Taken as a log has them, late readings of the file are late in the rows.
    as_log = mc.features(shuffled, order="log")
    assert as_log.num_rows != late_rows.num_rows


def test_threads_change_nothing(late, late_rows):
    for threads in (1, 2, 7):
        assert pa.table(mc.features(late, threads=threads)).equals(pa.table(late_rows))


def test_a_stream_in_frames_of_any_size_gives_the_same_rows(late, late_rows):
    rng = random.Random(3)
    engine = mc.Engine(columns=sorted(METRICS))
    tables, at = [], 0
    while at < late.num_rows:
        size = rng.choice([1, 5, 700, 3000])
        tables.append(engine.ingest(late.slice(at, size)).to_arrow())
        at += size
    tables.append(engine.finish().to_arrow())
    assert_same_rows(pa.concat_tables(tables), late_rows)
    counts = engine.quality_counts
    assert sum(counts.values()) == late.num_rows
    assert counts["out_of_range"] > 10 and counts["duplicate"] > 10


def test_snapshots_at_any_place_change_nothing(late, late_rows):
    rng = random.Random(4)
    engine, tables, at = mc.Engine(columns=sorted(METRICS)), [], 0
    stored = {}
    for number in itertools.count():
        size = rng.randrange(1, 2500)
        tables.append(engine.ingest(late.slice(at, size)).to_arrow())
        at += size
        if at >= late.num_rows:
            break
        again = mc.Engine(columns=sorted(METRICS))
        for zone in engine.zones:
            if number % 2:
                assert again.restore(engine.snapshot(zone)) == zone
            else:
                head, written, removed = engine.snapshot_changes(zone)
                hours = stored.setdefault(zone, {})
                hours.update(written)
                for hour in removed:
                    del hours[hour]
                assert again.restore_parts(head, hours) == zone
            assert again.snapshot(zone) == engine.snapshot(zone)
            assert again.progress(zone) == engine.progress(zone)
        # Whole snapshots do not continue incremental ones.
        stored = stored if number % 2 == 0 else {}
        engine = again
    tables.append(engine.finish().to_arrow())
    assert number > 10
    assert_same_rows(pa.concat_tables(tables), late_rows)


def test_a_snapshot_that_does_not_fit_is_refused():
    engine = mc.Engine()
    engine.ingest(simulated_rooms(zones=1, hours=2))
    snapshot = engine.snapshot("sim/room-0")
    assert engine.snapshot("sim/none") is None
    damaged = bytearray(snapshot)
    damaged[500] ^= 1
    for other, into, message in [
        (snapshot, mc.Engine(settings={"grid_s": 120}), "settings"),
        (snapshot, mc.Engine('version = 1\n[windows]\n1h = ["mean"]\n'), "definitions"),
        (snapshot, mc.Engine(metrics={"co2": {"unit": "ppm", "min": 0, "max": 900}}), "metrics"),
        (snapshot[:-7], mc.Engine(), "cut off"),
        (bytes(damaged), mc.Engine(), "damaged"),
        (b"something else", mc.Engine(), "not a snapshot"),
    ]:
        with pytest.raises(mc.SnapshotError, match=message):
            into.restore(other)
        assert into.zones == []


def test_arrivals_that_go_back_across_frames_are_refused_and_change_nothing():
    frame = simulated_rooms(zones=1, hours=3)
    engine = mc.Engine()
    engine.ingest(frame.slice(400))
    before = engine.snapshot("sim/room-0")
    with pytest.raises(mc.OrderError, match="begins at an arrival of"):
        engine.ingest(frame.slice(0, 400))
    assert engine.snapshot("sim/room-0") == before
    again = mc.Engine()
    again.restore(before)
    with pytest.raises(mc.OrderError):
        again.ingest(frame.slice(0, 400))
    assert engine.ingest(frame.slice(0, 400), order="log").num_rows >= 0
    assert engine.quality_counts["ok"] == frame.num_rows


def test_definitions_and_settings_are_used(tmp_path):
    frame = simulated_rooms(zones=1, hours=3)
    text = 'version = 1\n[windows]\n30m = ["max"]\n'
    path = tmp_path / "features.toml"
    path.write_text(text)
    rows = mc.features(frame, path, settings={"grid_s": 300})
    assert rows.column_names[3:] == [
        name
        for metric in sorted(METRICS)
        for name in (f"{metric}_last", f"{metric}_age_s", f"{metric}_max_30m")
    ]
    times = rows.to_polars()["time"]
    assert (times.diff().drop_nulls().dt.total_seconds() == 300).all()
    assert_same_rows(mc.features(frame, text, settings={"grid_s": 300}), rows)
    fixed = mc.features(frame, columns=[*METRICS, "battery"])
    assert fixed.to_polars()["battery_last"].null_count() == len(fixed)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            lambda t: t.drop_columns("zone"),
            mc.InputError,
            "no column `zone`; its columns are device",
        ),
        (lambda t: t.drop_columns("event"), mc.InputError, "no column `event`"),
        (lambda t: t.drop_columns("value"), mc.InputError, "`value` beside `metric`"),
        (
            lambda t: t.append_column("event_ms", t["event"].cast(pa.int64())),
            mc.InputError,
            "more than one of",
        ),
        (
            lambda t: t.set_column(3, "event", t["event"].cast(pa.int64())),
            mc.InputError,
            "name milliseconds `event_ms`",
        ),
        (
            lambda t: t.set_column(3, "event", pa.nulls(len(t), pa.timestamp("ms"))),
            mc.InputError,
            "row 0: `event` is null",
        ),
        (
            lambda t: t.set_column(4, "value", pa.array(["1"] * len(t))),
            mc.InputError,
            "`value` is Utf8, expected numbers",
        ),
        (
            lambda t: t.set_column(0, "zone", pa.array(["room"] * len(t))),
            mc.InputError,
            "`room` is not a zone.*column `site`",
        ),
        (
            lambda t: t.set_column(2, "metric", pa.array(["temprature"] * len(t))),
            mc.InputError,
            "row 0:(.|\n)*temperature",
        ),
        (
            lambda t: t.append_column("seq", pa.array(range(len(t)))),
            mc.InputError,
            "`boot` and `seq` belong together",
        ),
    ],
)
def test_a_frame_that_cannot_be_read_is_refused_with_the_reason(change, error, message):
    with pytest.raises(error, match=message):
        mc.features(change(simulated_rooms(zones=1, hours=1)))


def test_other_arguments_are_refused_with_the_reason():
    frame = simulated_rooms(zones=1, hours=1)
    for call, error, message in [
        (lambda: mc.features([1, 2]), mc.InputError, "list is not a frame"),
        (
            lambda: mc.features(frame, order="any"),
            mc.InputError,
            "expected `refuse`, `sort` or `log`",
        ),
        (lambda: mc.features(frame, settings={"gird_s": 60}), mc.SettingsError, "gird_s"),
        (
            lambda: mc.features(frame, settings={"grid_s": 90}),
            mc.SettingsError,
            "90 is not a multiple of 60",
        ),
        (lambda: mc.features(frame, settings={"time_zone": "Mars"}), mc.SettingsError, "Mars"),
        (
            lambda: mc.features(frame, settings={"zones_max": 3}),
            mc.SettingsError,
            "of the feature store",
        ),
        (
            lambda: mc.features(frame, 'version = 1\n[windows]\n1h = ["maen"]\n'),
            mc.DefinitionsError,
            "did you mean `mean`",
        ),
        (
            lambda: mc.features(frame, 'version = 1\n[metrics.co2]\nwhere = "value > 1"\n'),
            mc.DefinitionsError,
            "SQL expressions are not evaluated here",
        ),
        (lambda: mc.features(frame, columns=["co2"]), mc.InputError, "not among the columns co2"),
        (lambda: mc.features(frame, columns="co2"), mc.InputError, "expected a list of metrics"),
        (lambda: mc.features(frame, received=datetime(2026, 1, 1)), mc.InputError, "no time zone"),
        (
            lambda: mc.features(frame, metrics={"ph": {"unit": "1", "min": 9, "max": 1}}),
            mc.SettingsError,
            "metrics.ph",
        ),
    ]:
        with pytest.raises(error, match=message):
            call()


def test_sequence_numbers_tell_copies_from_equal_values():
    # A counter of 100 messages a minute apart; the last two are delivered again at once.
    seqs = [*range(100), 98, 99]
    times = [START_MS + n * 60_000 for n in range(100)]
    times += [times[-1] + 10, times[-1] + 20]
    frame = pa.table(
        {
            "zone": ["farm/bay"] * len(seqs),
            "event_ms": times,
            "metric": ["co2"] * len(seqs),
            "value": [500.0] * len(seqs),
            "boot": ["1"] * len(seqs),
            "seq": seqs,
        }
    )
    engine = mc.Engine()
    engine.ingest(frame)
    assert engine.quality_counts == {"ok": 100, "duplicate": 2}
    # Without numbers they are readings of their own.
    engine = mc.Engine()
    engine.ingest(frame.drop_columns(["boot", "seq"]))
    assert engine.quality_counts == {"ok": 102}


def test_live_zones_advance_by_the_clock():
    frame = simulated_rooms(zones=1, hours=2)
    end_ms = START_MS + 7_200_000
    engine = mc.Engine(columns=sorted(METRICS))
    final = engine.ingest(frame, source="live", received=end_ms).num_rows
    assert engine.advance_clock(end_ms + 60_000).num_rows == 0
    ticked = engine.advance_clock(end_ms + 600_000)
    assert final + ticked.num_rows > 120
    newest = engine.changed_rows().to_polars()
    assert newest["zone"].to_list() == ["sim/room-0"]
    assert len(engine.changed_rows()) == 0


def test_drying_of_two_probes():
    rows = []
    for hour in range(25):
        for device, slope in (("a", 0.5), ("b", 0.25)):
            rows.append((START_MS + hour * 3_600_000, device, 54.0 - slope * hour))
    frame = pa.table(
        {
            "zone": ["farm/bay"] * len(rows),
            "event_ms": [row[0] for row in rows],
            "device": [row[1] for row in rows],
            "metric": ["soil_moisture"] * len(rows),
            "value": [row[2] for row in rows],
        }
    )
    a, b = mc.drying(frame, settings={"critical_pct": 30.0}).to_polars().to_dicts()
    # The first is the documented example of agronomy::drying::DryingTracker: 42 % to 30 %.
    assert (a["device"], b["device"]) == ("a", "b")
    assert a["slope_pct_h"] == pytest.approx(-0.5, abs=1e-9)
    assert a["hours_to_critical"] == pytest.approx(24.0, abs=1e-6)
    assert b["slope_pct_h"] == pytest.approx(-0.25, abs=1e-9)
    assert a["tau_h"] is None and a["response_pct_min"] is None
    with pytest.raises(mc.InputError, match="soil_moisture"):
        mc.drying(frame.set_column(3, "metric", pa.array(["co2"] * len(rows))))
    with pytest.raises(mc.SettingsError, match="critical"):
        mc.drying(frame, settings={"critical": 1})


FEATURE_STORE = os.environ.get("MICROCLIMATE_FEATURE_STORE")


@pytest.mark.skipif(not FEATURE_STORE, reason="MICROCLIMATE_FEATURE_STORE names no program")
@pytest.mark.parametrize("is_late", [False, True])
def test_rows_equal_those_of_the_feature_store(tmp_path, is_late):
    """`feature-store backfill` of the same readings stores the same rows, bit for bit."""
    frame = simulated_rooms(late=is_late)
    stored = backfilled_rows(FEATURE_STORE, frame, tmp_path)
    rows = mc.features(frame, order="sort")
    computed = rows.to_arrow()
    assert set(stored.column_names) == {*computed.column_names, "schema_hash"}
    assert_same_rows(computed, stored.select(computed.column_names))
    if is_late:
        assert max(computed["revision"].to_pylist()) > 0


def backfilled_rows(program, frame, folder):
    """Rows that the feature store has after a backfill of a frame."""
    frame = frame.rename_columns(
        ["time" if name == "event" else name for name in frame.column_names]
    )
    pl.DataFrame(frame).write_parquet(folder / "readings.parquet")
    store = folder / "store.duckdb"
    command = [
        program,
        "--set",
        f"store.path={store}",
        "backfill",
        folder / "readings.parquet",
        "--layout",
        "parquet",
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with duckdb.connect(str(store), read_only=True) as connection:
        names = [row[0] for row in connection.execute("DESCRIBE features.rows").fetchall()]
        keys = ("site", "zone", "time", "revision")
        features = [name for name in names if name not in keys]
        columns = ", ".join(f'"{name}"' for name in features)
        query = (
            "SELECT site || '/' || zone AS zone, time::TIMESTAMP_MS AS time, revision::BIGINT AS revision, "
            f"{columns} FROM features.rows"
        )
        table = connection.sql(query).to_arrow_table()
    times = table["time"].cast(pa.timestamp("ms")).cast(pa.timestamp("ms", tz="UTC"))
    table = table.set_column(1, "time", times)
    # DuckDB keeps what has no value as NaN or null.
    for at, name in enumerate(table.column_names):
        if table[name].type == pa.float64():
            values = table[name].combine_chunks()
            table = table.set_column(
                at, name, pa.compute.if_else(pa.compute.is_nan(values), None, values)
            )
    return table
