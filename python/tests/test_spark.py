"""Apache Spark: rows of batches and streams equal those of Python, to the last bit."""

import os
import subprocess
import time
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from rooms import METRICS, assert_same_rows, simulated_rooms

import microclimate as mc

pyspark = pytest.importorskip("pyspark")
if not (Path(pyspark.__file__).parent / "jars").exists():
    pytest.skip("this pyspark is the client without Spark", allow_module_level=True)

from spark_session import (
    MASTER,
    RECORDS,
    in_milliseconds,
    new_session,
    read_rows,
    start_stream,
    write_log,
)  # noqa: E402
from stream_program import run_and_kill, run_to_the_end  # noqa: E402

from microclimate import spark as mcs  # noqa: E402

pytestmark = pytest.mark.spark
RECEIVED_MS = 1_764_500_000_000


@pytest.fixture(scope="module")
def spark():
    session = new_session()
    yield session
    session.stop()


def shuffled(table):
    import random

    return table.take(random.Random(5).sample(range(table.num_rows), table.num_rows))


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("how", [{}, {"sort_in_spark": True}])
def test_rows_of_a_table_equal_those_of_python(spark, late, how):
    table = simulated_rooms(late=late)
    rows = mcs.features(
        spark.createDataFrame(shuffled(table)), received=RECEIVED_MS, **how
    ).toArrow()
    assert_same_rows(in_milliseconds(rows), mc.features(table, order="sort", received=RECEIVED_MS))


def test_pieces_of_a_zone_equal_the_whole(spark):
    """A month in spans of three days, with gaps, and a probe that dries for days."""
    import random

    table = simulated_rooms(zones=2, hours=24 * 30, interval_s=600)
    rng = random.Random(11)
    # Silences of a few hours and of four days, one of them over the end of a span.
    minutes = pa.compute.divide(table["event"].cast(pa.int64()), 60_000).to_pylist()
    start = min(minutes)
    gaps = [
        (start + 4200, start + 4600),
        (start + 12_000, start + 17_760),
        (start + 30_240, start + 30_300),
    ]
    keep = [not any(a <= minute < b for a, b in gaps) and rng.random() < 0.97 for minute in minutes]
    table = table.filter(pa.array(keep))
    # The last readings of a zone are impossible: no row is due to them.
    bad = table.slice(table.num_rows - 30).set_column(4, "value", pa.array([1e6] * 30))
    table = pa.concat_tables([table.slice(0, table.num_rows - 30), bad])
    settings = {"place": [52.5, 13.4], "time_zone": "Europe/Berlin"}
    whole = mc.features(table, order="sort", settings=settings, received=RECEIVED_MS)
    pieces = mcs.features(
        spark.createDataFrame(shuffled(table)),
        settings=settings,
        received=RECEIVED_MS,
        piece=timedelta(days=3),
    ).toArrow()
    assert_same_rows(in_milliseconds(pieces), whole)


def test_what_pieces_cannot_do_is_refused(spark):
    late = spark.createDataFrame(simulated_rooms(zones=1, hours=1, late=True))
    with pytest.raises(mc.InputError, match="has arrival(.|\n)*sort_in_spark=True"):
        mcs.features(late, piece=timedelta(days=1))
    with pytest.raises(mc.InputError, match="not a multiple of the grid"):
        mcs.features(late.drop("arrival"), piece=timedelta(seconds=90))


def test_the_schema_is_that_of_the_definitions(spark):
    frame = spark.createDataFrame(simulated_rooms(zones=1, hours=1))
    rows = mcs.features(frame, columns=["temperature", "humidity", *METRICS[2:], "battery"])
    names = mc.Engine(columns=["temperature", "humidity", *METRICS[2:], "battery"]).feature_names
    assert rows.columns == ["zone", "time", "revision", *names]


@pytest.mark.skipif(not MASTER.startswith("local["), reason="the log of the test is on one machine")
def test_a_stream_gives_the_rows_of_its_log_and_goes_on_where_it_stopped(spark, tmp_path):
    log = write_log(tmp_path / "log", simulated_rooms(zones=2, hours=10, late=True), files=8)
    engine = mc.Engine(columns=METRICS)
    expect = engine.ingest(log, order="log")
    query = start_stream(spark, tmp_path, METRICS)
    # Stopped somewhere in between, started again by the same process: engines are cached.
    deadline = time.monotonic() + 120
    while not list((tmp_path / "checkpoint" / "commits").glob("2")) and time.monotonic() < deadline:
        time.sleep(0.05)
    query.stop()
    assert len(list((tmp_path / "checkpoint" / "commits").glob("[0-9]*"))) < 8
    start_stream(spark, tmp_path, METRICS).awaitTermination()
    rows = read_rows(spark, tmp_path / "rows")
    assert_same_rows(rows, expect)
    assert max(rows["revision"].to_pylist()) > 0


@pytest.mark.skipif(not MASTER.startswith("local["), reason="the log of the test is on one machine")
def test_a_stream_that_is_killed_goes_on_with_the_same_rows(spark, tmp_path):
    log = write_log(
        tmp_path / "log", simulated_rooms(zones=2, hours=8, late=True, seed=9), files=10
    )
    for commits in (2, 5):
        assert run_and_kill(tmp_path, METRICS, commits)
    run_to_the_end(tmp_path, METRICS)
    assert_same_rows(
        read_rows(spark, tmp_path / "rows"), mc.Engine(columns=METRICS).ingest(log, order="log")
    )


def test_a_stream_needs_the_store_of_rocksdb(spark, tmp_path):
    key = "spark.sql.streaming.stateStore.providerClass"
    before = spark.conf.get(key)
    spark.conf.set(
        key, "org.apache.spark.sql.execution.streaming.state.HDFSBackedStateStoreProvider"
    )
    (tmp_path / "log").mkdir()
    try:
        with pytest.raises(mc.InputError, match="expected the store of RocksDB"):
            start_stream(spark, tmp_path, METRICS)
    finally:
        spark.conf.set(key, before)


@pytest.mark.skipif(not MASTER.startswith("local["), reason="the log of the test is on one machine")
def test_a_silent_live_zone_advances_by_the_clock(spark, tmp_path):
    import json

    now_ms = int(time.time() * 1000)
    reports = [
        {
            "zone": "sim/live",
            "device": "probe",
            "arrival_ms": now_ms - 1_500_000 + minute * 60_000,
            "source": "live",
            "readings": [
                {
                    "metric": "co2",
                    "ts": now_ms - 1_500_000 + minute * 60_000,
                    "value": 500.0 + minute,
                }
            ],
        }
        for minute in range(20)
    ]
    (tmp_path / "log").mkdir()
    lines = [
        json.dumps({"value": json.dumps(report), "partition": 0, "offset": number})
        for number, report in enumerate(reports)
    ]
    (tmp_path / "log" / "0.json").write_text("\n".join(lines) + "\n")
    settings = {"lateness_s": 1}
    records = spark.readStream.schema(RECORDS).json(str(tmp_path / "log"))
    rows = mcs.stream(
        mcs.log_readings(records),
        columns=["co2"],
        settings=settings,
        advance_silent=timedelta(seconds=1),
    )
    writer = rows.writeStream.format("parquet").option("path", str(tmp_path / "rows"))
    writer = writer.option("checkpointLocation", str(tmp_path / "checkpoint"))
    query = writer.trigger(processingTime="1 second").start()
    newest_reading = reports[-1]["arrival_ms"]
    deadline = time.monotonic() + 90
    try:
        while True:
            assert query.exception() is None and time.monotonic() < deadline
            time.sleep(0.5)
            if not list((tmp_path / "rows").glob("_spark_metadata/[0-9]*")):
                continue
            found = read_rows(spark, tmp_path / "rows")
            times = found["time"].cast(pa.int64()).to_pylist()
            # Rows after the last reading: nothing but the clock can make them final.
            if times and max(times) > newest_reading + 180_000:
                break
    finally:
        query.stop()
    engine = mc.Engine(columns=["co2"], settings=settings)
    log = pa.table(
        {
            "zone": [report["zone"] for report in reports],
            "device": [report["device"] for report in reports],
            "metric": ["co2"] * len(reports),
            "event_ms": [report["arrival_ms"] for report in reports],
            "value": [report["readings"][0]["value"] for report in reports],
        }
    )
    expect = [engine.ingest(log, source="live").to_arrow()]
    expect.append(engine.advance_clock(int(time.time() * 1000)).to_arrow())
    expect = pa.concat_tables(expect)
    expect = expect.filter(pa.compute.less_equal(expect["time"].cast(pa.int64()), max(times)))
    assert_same_rows(found, expect)


@pytest.fixture(scope="module")
def kafka(tmp_path_factory):
    """A real Kafka, by scripts/kafka, and its address."""
    import socket

    if not os.environ.get("MICROCLIMATE_SPARK_JARS"):
        pytest.skip("MICROCLIMATE_SPARK_JARS names no folder with Spark's Kafka source")
    script = Path(__file__).parents[2] / "scripts" / "kafka"
    with socket.socket() as first, socket.socket() as second:
        # The broker takes the port and the one after it.
        first.bind(("127.0.0.1", 0))
        port = first.getsockname()[1]
        second.bind(("127.0.0.1", port + 1))
    folder = tmp_path_factory.mktemp("kafka")
    with subprocess.Popen(
        [script, "run", str(port), folder], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as broker:
        deadline = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert time.monotonic() < deadline and broker.poll() is None
                time.sleep(0.2)
        yield f"127.0.0.1:{port}"
        broker.terminate()


def test_a_stream_from_kafka_gives_the_rows_of_the_log(spark, kafka, tmp_path):
    from spark_session import as_reports, write_log

    table = simulated_rooms(zones=3, hours=5, late=True, seed=13)
    log = write_log(tmp_path / "files", table, files=1)
    jvm = spark._jvm
    options = jvm.java.util.HashMap()
    options.put("bootstrap.servers", kafka)
    admin = jvm.org.apache.kafka.clients.admin.AdminClient.create(options)
    topic = jvm.org.apache.kafka.clients.admin.NewTopic("sensor.readings", 2, 1)
    admin.createTopics(jvm.java.util.Collections.singletonList(topic)).all().get()
    admin.close()
    reports = sorted(as_reports(table), key=lambda report: report["arrival_ms"])
    # One task, so that records arrive in their order, keyed by zone as the gateway keys them.
    import json

    records = spark.createDataFrame(
        [(r["zone"], json.dumps(r)) for r in reports], "key string, value string"
    )
    writer = records.coalesce(1).write.format("kafka").option("kafka.bootstrap.servers", kafka)
    writer.option("topic", "sensor.readings").option("kafka.acks", "all").save()

    def start():
        readings = mcs.kafka_readings(spark, kafka, records_per_trigger=800)
        return start_stream(spark, tmp_path, METRICS, readings)

    query = start()
    deadline = time.monotonic() + 120
    while not list((tmp_path / "checkpoint" / "commits").glob("1")) and time.monotonic() < deadline:
        time.sleep(0.05)
    query.stop()
    before = len(list((tmp_path / "checkpoint" / "commits").glob("[0-9]*")))
    start().awaitTermination()
    after = len(list((tmp_path / "checkpoint" / "commits").glob("[0-9]*")))
    assert 2 <= before < after
    assert_same_rows(
        read_rows(spark, tmp_path / "rows"), mc.Engine(columns=METRICS).ingest(log, order="log")
    )


DATA = os.environ.get("MICROCLIMATE_DATA")


@pytest.mark.skipif(not DATA, reason="MICROCLIMATE_DATA names no folder")
def test_rooms_of_a_real_building(spark):
    from recorded import building_week

    table = building_week(Path(DATA) / "KETI", rooms=4)
    rows = mcs.features(spark.createDataFrame(table), received=RECEIVED_MS).toArrow()
    assert_same_rows(in_milliseconds(rows), mc.features(table, order="sort", received=RECEIVED_MS))
