"""A Spark session of the tests, and the log of simulated rooms as files."""

import json
import os
from pathlib import Path

import pyarrow as pa

MASTER = os.environ.get("MICROCLIMATE_SPARK_MASTER", "local[2]")
ROCKSDB = "org.apache.spark.sql.execution.streaming.state.RocksDBStateStoreProvider"


def new_session(name="microclimate tests", **conf):
    from pyspark.sql import SparkSession

    builder = SparkSession.builder.master(MASTER).appName(name)
    settings = {
        "spark.ui.enabled": "false",
        "spark.sql.shuffle.partitions": "2",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.streaming.stateStore.providerClass": ROCKSDB,
        "spark.driver.memory": "1g",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.executorEnv.PYTHONPATH": os.environ.get("PYTHONPATH", ""),
        **conf,
    }
    if jars := os.environ.get("MICROCLIMATE_SPARK_JARS"):
        settings["spark.jars"] = ",".join(str(path) for path in sorted(Path(jars).glob("*.jar")))
    for key, value in settings.items():
        builder = builder.config(key, value)
    return builder.getOrCreate()


def as_reports(table):
    """The log's form of a long table: a report for each reading, numbered for one device."""
    reports = []
    for number, row in enumerate(table.to_pylist()):
        arrival = row.get("arrival", row["event"])
        report = {
            "zone": row["zone"],
            "device": row["device"],
            "arrival_ms": int(arrival.timestamp() * 1000),
            "source": "replay",
            "readings": [
                {
                    "metric": row["metric"],
                    "ts": int(row["event"].timestamp() * 1000),
                    "value": row["value"],
                }
            ],
        }
        if row["device"] == "probe-1":
            report.update(boot="1", seq=number)
        reports.append(report)
    return reports


def write_log(folder, table, files):
    """Files of records: `value`, `partition` (of the zone), `offset`. Returns the readings as a
    frame in the order of the log."""
    folder.mkdir(parents=True)
    zones = sorted(set(table["zone"].to_pylist()))
    offsets = dict.fromkeys(zones, 0)
    # All zones side by side in time, as a gateway has them.
    reports = sorted(as_reports(table), key=lambda report: report["arrival_ms"])
    size = -(-len(reports) // files)
    for number in range(files):
        lines = []
        for report in reports[number * size : (number + 1) * size]:
            zone = report["zone"]
            record = {
                "value": json.dumps(report),
                "partition": zones.index(zone),
                "offset": offsets[zone],
            }
            offsets[zone] += 1
            lines.append(json.dumps(record))
        unfinished = folder / f".{number:04}.json"
        unfinished.write_text("\n".join(lines) + "\n")
        unfinished.rename(folder / f"{number:04}.json")
        os.utime(folder / f"{number:04}.json", (1_700_000_000 + number, 1_700_000_000 + number))
    one = [report["readings"][0] for report in reports]
    return pa.table(
        {
            "zone": [report["zone"] for report in reports],
            "device": [report["device"] for report in reports],
            "boot": pa.array([report.get("boot") for report in reports], pa.string()),
            "seq": pa.array([report.get("seq") for report in reports], pa.uint64()),
            "source": [report["source"] for report in reports],
            "arrival_ms": [report["arrival_ms"] for report in reports],
            "metric": [reading["metric"] for reading in one],
            "event_ms": [reading["ts"] for reading in one],
            "value": pa.array([reading["value"] for reading in one], pa.float64()),
        }
    )


RECORDS = "value string, partition int, offset bigint"


def start_stream(spark, folder, columns, readings=None):
    """Starts the query of the tests, over files of records without `readings`: rows to Parquet,
    checkpointed."""
    from microclimate import spark as mcs

    if readings is None:
        records = spark.readStream.schema(RECORDS).option("maxFilesPerTrigger", 1)
        readings = mcs.log_readings(records.json(str(folder / "log")))
    rows = mcs.stream(readings, columns=columns)
    writer = rows.writeStream.format("parquet").option("path", str(folder / "rows"))
    return (
        writer.option("checkpointLocation", str(folder / "checkpoint"))
        .trigger(availableNow=True)
        .start()
    )


def read_rows(spark, path):
    """Rows of a query, in the types of `microclimate.features`."""
    return in_milliseconds(spark.read.parquet(str(path)).toArrow())


def in_milliseconds(table):
    at = table.schema.get_field_index("time")
    times = table["time"].cast(pa.timestamp("ms", tz="UTC"))
    return pa.table(table.set_column(at, "time", times)).cast(
        pa.schema(
            [
                pa.field(
                    f.name,
                    pa.timestamp("ms", tz="UTC")
                    if f.name == "time"
                    else (pa.string() if f.name == "zone" else f.type),
                )
                for f in table.schema
            ]
        )
    )
