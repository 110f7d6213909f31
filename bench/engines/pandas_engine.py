"""pandas, room by room, one Parquet file a room and stage."""

import numpy as np
import pandas as pd

from .feature_set import GRID_S, METRICS, SENSORS, SITE, TILE_SUMS, WINDOWS, feature_name


class PandasEngine:
    def __init__(self, context):
        self.raw, self.out = context.raw, context.out
        self.rooms = sorted(path.name for path in self.raw.iterdir() if path.is_dir())

    def bronze(self):
        for room in self.rooms:
            tables = []
            for metric, sensor in SENSORS.items():
                table = pd.read_csv(self.raw / room / f"{sensor}.csv", header=None, names=["epoch_s", "value"])
                event = pd.to_datetime(table.epoch_s, unit="s", utc=True)
                tables.append(pd.DataFrame(
                    {"zone": f"{SITE}/{room}", "device": sensor, "metric": metric, "event": event, "value": table.value}))
            pd.concat(tables, ignore_index=True).to_parquet(self._file("bronze", room), compression="zstd")

    def silver(self):
        for room in self.rooms:
            readings = pd.read_parquet(self._file("bronze", room)).drop_duplicates(["metric", "event", "value"])
            low, high = (readings.metric.map({m: limits[i] for m, limits in METRICS.items()}) for i in (0, 1))
            readings["quality"] = np.where(readings.value.between(low, high), "ok", "out_of_range")
            readings.to_parquet(self._file("silver", room), compression="zstd")

    def features(self):
        for room in self.rooms:
            readings = pd.read_parquet(self._file("silver", room), filters=[("quality", "==", "ok")])
            # Whole seconds: pandas 2 and 3 have timestamps of different units.
            readings["epoch_s"] = readings.event.astype("datetime64[s, UTC]").astype("int64")
            room_rows(readings, f"{SITE}/{room}").to_parquet(self._file("features", room), compression="zstd")

    def gold(self):
        for room in self.rooms:
            readings = pd.read_parquet(self._file("silver", room))
            readings["valid"] = readings.value.where(readings.quality == "ok")
            for period, length in (("hourly", "h"), ("daily", "D")):
                readings["start"] = readings.event.dt.floor(length)
                groups = readings.groupby(["zone", "metric", "start"]).valid
                kpis = groups.agg(["size", "count", "min", "mean", "max", "std"]).reset_index()
                kpis = kpis.rename(columns={"size": "readings"})
                kpis["valid_share"] = kpis.pop("count") / kpis.readings
                kpis.to_parquet(self._file(period, room), compression="zstd")

    def _file(self, stage, room):
        (self.out / stage).mkdir(exist_ok=True)
        return self.out / stage / f"{room}.parquet"


def room_rows(readings, zone):
    """A row for each minute of a room: rolling sums over tiles of a minute."""
    start_s, end_s = readings.epoch_s.min(), readings.epoch_s.max()
    grid = np.arange(-(-start_s // GRID_S) * GRID_S, end_s // GRID_S * GRID_S + 1, GRID_S)
    columns = {"zone": zone, "epoch_s": grid}
    for metric in METRICS:
        own = readings[readings.metric == metric].sort_values("epoch_s", kind="stable")
        center = own.value.mean()
        parts = pd.DataFrame({
            "tile": -(-own.epoch_s // GRID_S) * GRID_S, "value": own.value,
            "d": own.value - center, "h": (own.epoch_s - start_s) / 3600})
        parts["dd"], parts["hh"], parts["hd"] = parts.d * parts.d, parts.h * parts.h, parts.h * parts.d
        groups = parts.groupby("tile", sort=True)
        tiles = groups[["d", "h", "dd", "hh", "hd"]].sum()
        tiles["n"], tiles["last"] = groups.size(), groups.value.last()
        tiles["min"], tiles["max"] = groups.value.min(), groups.value.max()
        tiles = tiles.reindex(grid)
        sums = tiles[TILE_SUMS].fillna(0.0)
        for window, width in WINDOWS.items():
            total = sums.rolling(width, min_periods=1).sum()
            n = total.n.round()
            has_one, has_two = n > 0, n > 1
            variance = ((total.dd - total.d * total.d / n) / (n - 1)).clip(lower=0)
            spread_h = total.hh - total.h * total.h / n
            slope = (total.hd - total.h * total.d / n) / spread_h
            values = {
                "count": n,
                "mean": (total.d / n + center).where(has_one),
                "std": np.sqrt(variance).where(has_two),
                "min": tiles["min"].rolling(width, min_periods=1).min(),
                "max": tiles["max"].rolling(width, min_periods=1).max(),
                "last": tiles["last"].ffill(limit=width - 1),
                "slope": slope.where(has_two & (spread_h > 1e-9)),
            }
            for aggregate, column in values.items():
                columns[feature_name(metric, aggregate, window)] = column.to_numpy()
    return pd.DataFrame(columns)
