#!/usr/bin/env python3
"""Kills a streaming query twice in the middle of its work and prints what became of it.

    python/bench/stream_kill.py                        # needs Java 17 and PySpark, like the tests
    python/bench/stream_kill.py --zones 4 --hours 24 --kill-after 3 9

The query reads the log of simulated rooms, a tenth of whose readings are late, a file for each
trigger, and writes rows to Parquet. A kill is SIGKILL for driver, JVM and Python workers at once.
At the end every value is compared with that of one engine that read the log without a break.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from rooms import METRICS, assert_same_rows, simulated_rooms
from spark_session import in_milliseconds, write_log
from stream_program import begun_triggers, committed_triggers, run_and_kill, run_to_the_end

import microclimate as mc


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--zones", type=int, default=2)
    parser.add_argument("--hours", type=int, default=12)
    parser.add_argument("--triggers", type=int, default=12)
    parser.add_argument("--kill-after", type=int, nargs="+", default=[3, 7], metavar="TRIGGERS")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        trace_stream(Path(folder), options)


def trace_stream(folder, options):
    table = simulated_rooms(zones=options.zones, hours=options.hours, late=True, seed=9)
    log = write_log(folder / "log", table, files=options.triggers)
    start_s = time.monotonic()

    def report(text):
        print(f"{time.monotonic() - start_s:6.1f} s  {text}", flush=True)

    report(f"log: {log.num_rows:,} readings of {options.zones} rooms in {options.triggers} files")
    for commits in options.kill_after:
        report(f"start at trigger {committed_triggers(folder)}")
        if not run_and_kill(folder, METRICS, commits, is_begun=True):
            raise SystemExit("the query ended before it could be killed")
        visible, written = committed_rows(folder), written_rows(folder)
        committed = committed_triggers(folder)
        report(
            f"SIGKILL with {committed} triggers committed, {begun_triggers(folder) - committed} begun: "
            f"{visible.num_rows:,} rows committed, {written - visible.num_rows:,} written and not committed"
        )
    report(f"start at trigger {committed_triggers(folder)}")
    run_to_the_end(folder, METRICS)
    rows = committed_rows(folder)
    report(f"end, {committed_triggers(folder)} triggers committed, {rows.num_rows:,} rows")
    keys = rows.select(["zone", "time", "revision"])
    twice = rows.num_rows - keys.group_by(keys.column_names).aggregate([]).num_rows
    expected = mc.Engine(columns=METRICS).ingest(log, order="log").to_arrow()
    assert_same_rows(rows, expected)
    revisions = pa.compute.sum(pa.compute.greater(rows["revision"], 0)).as_py()
    report(
        f"{twice} rows twice, {expected.num_rows - rows.num_rows} missing, {revisions:,} of them revisions; "
        f"all {rows.num_rows * (rows.num_columns - 3):,} values equal to the last bit"
    )


def committed_rows(folder):
    """Rows that a reader of the query's output sees: those of the files that its log names."""
    names = {}
    for entry in sorted((folder / "rows" / "_spark_metadata").glob("[0-9]*")):
        for line in entry.read_text().splitlines()[1:]:
            file = json.loads(line)
            names[file["path"].rsplit("/", 1)[1]] = file["action"]
    found = [pa.parquet.read_table(folder / "rows" / name) for name in names]
    return in_milliseconds(pa.concat_tables(found)) if found else pa.table({"zone": []})


def written_rows(folder):
    """Rows of all complete files, those that no reader sees among them."""
    rows = 0
    for file in (folder / "rows").glob("*.parquet"):
        try:
            rows += pa.parquet.read_metadata(file).num_rows
        except pa.ArrowInvalid:
            pass  # The kill came in the middle of it.
    return rows


if __name__ == "__main__":
    main()
