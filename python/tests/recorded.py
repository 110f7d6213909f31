"""Readings of a recorded building: `<room>/<sensor>.csv`, lines of epoch seconds and a value."""

import pyarrow as pa
from pyarrow import csv

METRICS = {
    "temperature": "temperature",
    "humidity": "humidity",
    "co2": "co2",
    "light": "light",
    "pir": "motion",
}


def building_week(folder, rooms=None):
    """A long table of the first rooms, as the files have them."""
    tables = []
    for room in sorted(path for path in folder.iterdir() if path.is_dir())[:rooms]:
        for name, metric in METRICS.items():
            file = room / f"{name}.csv"
            if not file.exists():
                continue
            read = csv.read_csv(
                file,
                read_options=csv.ReadOptions(column_names=["s", "value"]),
                convert_options=csv.ConvertOptions(
                    column_types={"s": pa.int64(), "value": pa.float64()}
                ),
            )
            rows = read.num_rows
            tables.append(
                pa.table(
                    {
                        "zone": pa.array([f"keti/{room.name}"] * rows),
                        "device": pa.array([name] * rows),
                        "metric": pa.array([metric] * rows),
                        "event_ms": pa.compute.multiply(read["s"], 1000),
                        "value": read["value"],
                    }
                )
            )
    return pa.concat_tables(tables)
