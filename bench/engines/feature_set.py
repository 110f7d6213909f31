"""What every engine computes: metrics, windows, aggregates and KPIs.

A window of width w at t is (t - w, t]. A row is due at every minute from the first reading of a
room to its last. The peers work the way a careful user of them would: they sum up each minute once
(a tile), then roll over tiles. All aggregates here can be computed from tiles, and the minute is
the grid, so nothing is lost by it. What SQL cannot express over tiles (quantiles, crossing counts,
ages) is left out.
"""

import json

#: Plausible range of each metric, as in crates/telemetry/src/metrics.toml.
METRICS = {
    "temperature": (-30, 60),
    "humidity": (0, 100),
    "co2": (100, 10_000),
    "light": (0, 150_000),
    "motion": (0, 1_000),
}
#: File of each metric in a room's folder, without its extension.
SENSORS = {"temperature": "temperature", "humidity": "humidity", "co2": "co2", "light": "light", "motion": "pir"}
GRID_S = 60
#: Width of each window in rows of the grid.
WINDOWS = {"10m": 10, "1h": 60, "24h": 1440, "7d": 10_080}
AGGREGATES = ["count", "mean", "std", "min", "max", "last", "slope"]
FEATURES = [f"{m}_{a}_{w}" for m in METRICS for w in WINDOWS for a in AGGREGATES]
#: The definitions as the feature store and the Python package read them.
DEFINITIONS = "version = 1\n[windows]\n" + "".join(
    f"{window} = {json.dumps(AGGREGATES)}\n" for window in WINDOWS
)
#: Sums of a tile from which mean, deviation and slope of any window follow: count, deviation from
#: the metric's mean, hours since the start, and their products. Centred, or digits would be lost.
TILE_SUMS = ["n", "d", "h", "dd", "hh", "hd"]
KPIS = ["readings", "valid_share", "min", "mean", "max", "std"]
PERIODS = ["hourly", "daily"]
STAGES = ["bronze", "silver", "features", "gold"]
SITE = "keti"


def feature_name(metric, aggregate, window):
    return f"{metric}_{aggregate}_{window}"
