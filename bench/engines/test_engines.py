"""The benchmark's own arithmetic: without Spark, without the feature store, without data.

python/test runs these in its environment.
"""

import statistics
import sys
from pathlib import Path

import duckdb
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from engines.comparison import compare_features, compare_tables
from engines.engine_list import ENGINES, load_engine
from engines.feature_set import FEATURES, METRICS, SENSORS, STAGES, WINDOWS
from engines.input_readings import simulated_rooms
from engines.process_meter import MeteredProcess
from engines.worker import WorkerContext

PEERS = ["pandas", "polars", "duckdb"]


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    return simulated_rooms(1, 1, 120, tmp_path_factory.mktemp("raw"))


def run_stages(name, raw, out):
    out.mkdir()
    engine = load_engine(name)(WorkerContext(name, raw, out, 1, "1g", 6))
    for stage in STAGES:
        getattr(engine, stage)()
    return out


def valid_readings(raw, metric):
    """Times and values of a metric in range, copies left out."""
    low, high = METRICS[metric]
    lines = (raw / "room-0" / f"{SENSORS[metric]}.csv").read_text().splitlines()
    pairs = dict.fromkeys(tuple(map(float, line.split(","))) for line in lines)
    return [(time_s, value) for time_s, value in pairs if low <= value <= high]


@pytest.mark.parametrize("name", PEERS)
def test_rows_of_a_peer_are_what_the_definitions_say(name, raw, tmp_path):
    pytest.importorskip(name)
    out = run_stages(name, raw, tmp_path / name)
    path = out / "features.parquet" if (out / "features.parquet").exists() else out / "features" / "*.parquet"
    rows = duckdb.sql(f"SELECT * FROM '{path}' ORDER BY epoch_s")
    names = rows.columns
    rows = [dict(zip(names, row)) for row in rows.fetchall()]
    assert set(names) == {"zone", "epoch_s", *FEATURES}
    assert [b["epoch_s"] - a["epoch_s"] for a, b in zip(rows, rows[1:])] == [60] * (len(rows) - 1)
    for metric in ("temperature", "motion"):
        readings = valid_readings(raw, metric)
        for row in rows[5::97]:
            for window, width in WINDOWS.items():
                since_s = row["epoch_s"] - 60 * width
                own = [(t, v) for t, v in readings if since_s < t <= row["epoch_s"]]
                values = [v for _, v in own]
                found = {a: row[f"{metric}_{a}_{window}"] for a in ("count", "mean", "std", "min", "max", "last", "slope")}
                assert (found["count"] or 0) == len(own)
                if not own:
                    continue
                assert (found["min"], found["max"], found["last"]) == (min(values), max(values), values[-1])
                assert found["mean"] == pytest.approx(statistics.fmean(values))
                if len(own) > 1:
                    assert found["std"] == pytest.approx(statistics.stdev(values), abs=1e-6)
                    slope = statistics.linear_regression([t / 3600 for t, _ in own], values).slope
                    assert found["slope"] == pytest.approx(slope, abs=1e-6)


def test_peers_agree_with_each_other(raw, tmp_path):
    reference = run_stages("duckdb", raw, tmp_path / "duckdb")
    for name in ("pandas", "polars"):
        found = compare_features(run_stages(name, raw, tmp_path / name), reference)
        assert found.rows > 1400 and found.only_in_engine == found.only_in_reference == 0
        assert found.rows_one_sided == 0 and found.relative_max < 1e-4, found
        columns = [c for c, difference in found.relative_by_column.items() if difference]
        assert all("_std_" in c or "_slope_" in c or "_mean_" in c for c in columns), columns


def test_differences_are_found_and_named():
    database = duckdb.connect()
    database.sql("CREATE TABLE ours AS SELECT * FROM (VALUES ('a', 1.0, 100.0), ('b', 2.0, NULL), ('c', 3.0, 1.0)) t(k, x, y)")
    database.sql("CREATE TABLE other AS SELECT * FROM (VALUES ('a', 1.5, 101.0), ('b', 2.0, 0.0), ('d', 0.0, 0.0)) t(k, x, y)")
    found = compare_tables(database, "other", "ours", ["k"], ["x", "y"])
    assert (found.only_in_engine, found.only_in_reference) == (1, 1)
    assert (found.rows_differ, found.rows_differ_visibly, found.rows_one_sided) == (2, 2, 1)
    assert (found.absolute_max, found.absolute_column) == (1.0, "y")
    assert (found.relative_max, found.relative_column) == (0.5, "x")


def test_memory_and_time_of_children_count(tmp_path):
    child = "x = bytearray(200_000_000); import time; e = time.process_time() + 0.5\nwhile time.process_time() < e: pass"
    command = [sys.executable, "-c", f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"]
    process = MeteredProcess(command, {}, tmp_path / "log.txt", 1)
    assert process.run(limit_s=60) == 0
    cpu_s, memory_mb = process.usage(process.start_s, process.end_s)
    assert 0.3 < cpu_s < 5 and 190 < memory_mb < 400
    sleeping = MeteredProcess([sys.executable, "-c", "import time; time.sleep(60)"], {}, tmp_path / "log.txt", 1)
    assert sleeping.run(limit_s=0.3) is None


def test_every_engine_has_a_stage_or_says_that_it_has_none():
    assert all(entry.title for entry in ENGINES.values())
    assert [name for name, entry in ENGINES.items() if entry.location is None] == ["store", "store-rows"]
