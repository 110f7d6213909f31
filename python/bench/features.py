#!/usr/bin/env python3
"""Times the features of a recorded building: Python alone, Spark, Sail; and a zone's snapshot.

    python/bench/features.py DIR/KETI --rooms 8 python     # or: spark, sail, snapshot

Prints seconds, readings and rows. `spark` includes the start of the JVM and of Python's workers.
"""

import argparse
import sys
import time
from pathlib import Path

import pyarrow as pa

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from recorded import building_week

import microclimate as mc

COLUMNS = ["co2", "humidity", "light", "motion", "temperature"]
RECEIVED_MS = 1_764_500_000_000


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("what", choices=["python", "spark", "sail", "snapshot"])
    parser.add_argument("--rooms", type=int)
    parser.add_argument("--parquet", type=Path, default=Path("/tmp/microclimate-bench.parquet"))
    options = parser.parse_args()
    table = building_week(options.folder, options.rooms)
    start = time.monotonic()
    if options.what == "python":
        rows = mc.features(table, columns=COLUMNS, order="sort", received=RECEIVED_MS).num_rows
    elif options.what == "snapshot":
        return snapshot(table)
    else:
        import pyarrow.parquet

        from microclimate import spark as mcs

        pyarrow.parquet.write_table(table, options.parquet)
        start = time.monotonic()
        session = new_session(options.what)
        frame = session.read.parquet(str(options.parquet))
        found = mcs.features(frame, columns=COLUMNS, received=RECEIVED_MS)
        # A figure of every column, so that no column is left out and only the figures come here.
        rows = found.selectExpr(
            "count(*) AS rows", *[f"sum(`{name}`)" for name in found.columns[3:]]
        ).collect()[0][0]
    seconds = time.monotonic() - start
    print(f"{options.what}: {seconds:.1f} s, {table.num_rows:,} readings, {rows:,} rows")


def new_session(what):
    if what == "spark":
        from spark_session import new_session

        return new_session("bench")
    from pysail.spark import SparkConnectServer
    from pyspark.sql import SparkSession

    global server
    server = SparkConnectServer(ip="127.0.0.1", port=0)
    server.start()
    return SparkSession.builder.remote(
        f"sc://127.0.0.1:{server.listening_address[1]}"
    ).getOrCreate()


def snapshot(table):
    engine = mc.Engine(columns=COLUMNS)
    zone = table["zone"][0].as_py()
    own = table.filter(pa.compute.equal(table["zone"], zone))
    engine.ingest(own, order="sort", source="backfill", received=RECEIVED_MS)
    start = time.monotonic()
    saved = engine.snapshot(zone)
    written = time.monotonic()
    mc.Engine(columns=COLUMNS).restore(saved)
    restored = time.monotonic()
    changes = engine.snapshot_changes(zone)
    print(
        f"snapshot: {own.num_rows:,} readings, {len(saved):,} bytes, written in {1000 * (written - start):.1f} ms, "
        f"restored in {1000 * (restored - written):.1f} ms; {len(changes.written_hours)} hours, "
        f"largest {max(map(len, changes.written_hours.values())):,} bytes, head {len(changes.head):,} bytes"
    )


if __name__ == "__main__":
    main()
