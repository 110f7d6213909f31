"""polars, room by room, one Parquet file a room and stage."""

import polars as pl

from .feature_set import GRID_S, METRICS, SENSORS, SITE, WINDOWS, feature_name


class PolarsEngine:
    def __init__(self, context):
        self.raw, self.out = context.raw, context.out
        self.rooms = sorted(path.name for path in self.raw.iterdir() if path.is_dir())

    def bronze(self):
        for room in self.rooms:
            pl.concat([
                read_sensor(self.raw / room / f"{sensor}.csv").select(
                    pl.lit(f"{SITE}/{room}").alias("zone"), pl.lit(sensor).alias("device"), pl.lit(metric).alias("metric"),
                    event=pl.from_epoch("epoch_s", time_unit="s").cast(pl.Datetime("us", "UTC")), value="value")
                for metric, sensor in SENSORS.items()
            ]).write_parquet(self._file("bronze", room), compression="zstd")

    def silver(self):
        for room in self.rooms:
            readings = pl.read_parquet(self._file("bronze", room))
            readings = readings.unique(["metric", "event", "value"], keep="first", maintain_order=True)
            low, high = (pl.col("metric").replace_strict({m: float(limits[i]) for m, limits in METRICS.items()})
                         for i in (0, 1))
            quality = pl.when(pl.col("value").is_between(low, high)).then(pl.lit("ok")).otherwise(pl.lit("out_of_range"))
            readings.with_columns(quality=quality).write_parquet(self._file("silver", room), compression="zstd")

    def features(self):
        for room in self.rooms:
            readings = pl.scan_parquet(self._file("silver", room)).filter(pl.col("quality") == "ok")
            readings = readings.with_columns(epoch_s=pl.col("event").dt.epoch("s")).collect()
            room_rows(readings, f"{SITE}/{room}").write_parquet(self._file("features", room), compression="zstd")

    def gold(self):
        for room in self.rooms:
            readings = pl.read_parquet(self._file("silver", room)).with_columns(
                valid=pl.when(pl.col("quality") == "ok").then("value"))
            for period, length in (("hourly", "1h"), ("daily", "1d")):
                valid = pl.col("valid")
                readings.group_by("zone", "metric", start=pl.col("event").dt.truncate(length)).agg(
                    readings=pl.len(), valid_share=valid.count() / pl.len(), min=valid.min(), mean=valid.mean(),
                    max=valid.max(), std=valid.std(),
                ).write_parquet(self._file(period, room), compression="zstd")

    def _file(self, stage, room):
        (self.out / stage).mkdir(exist_ok=True)
        return self.out / stage / f"{room}.parquet"


def read_sensor(path):
    """Lines `epoch, value`. The space after the comma makes the value text for polars."""
    lines = pl.read_csv(
        path, has_header=False, new_columns=["epoch_s", "value"], schema_overrides=[pl.Int64, pl.String])
    return lines.with_columns(pl.col("value").str.strip_chars_start().cast(pl.Float64))


def room_rows(readings, zone):
    """A row for each minute of a room: rolling sums over tiles of a minute."""
    start_s, end_s = readings["epoch_s"].min(), readings["epoch_s"].max()
    times = pl.int_range(-(-start_s // GRID_S) * GRID_S, end_s // GRID_S * GRID_S + 1, GRID_S, eager=True)
    grid = pl.DataFrame({"epoch_s": times})
    rows = grid.select(pl.lit(zone).alias("zone"), "epoch_s")
    for metric in METRICS:
        own = readings.filter(pl.col("metric") == metric).sort("epoch_s", maintain_order=True)
        center = own["value"].mean() or 0.0
        d, h = pl.col("value") - center, (pl.col("epoch_s") - start_s) / 3600
        tile = ((pl.col("epoch_s") + GRID_S - 1) // GRID_S * GRID_S).alias("tile")
        tiles = own.lazy().group_by(tile).agg(
            n=pl.len().cast(pl.Float64), d=d.sum(), h=h.sum(), dd=(d * d).sum(), hh=(h * h).sum(), hd=(h * d).sum(),
            min=pl.col("value").min(), max=pl.col("value").max(), last=pl.col("value").last()).collect()
        tiles = grid.join(tiles, left_on="epoch_s", right_on="tile", how="left", maintain_order="left")
        expressions = [column for window, width in WINDOWS.items()
                       for column in window_columns(metric, window, width, center)]
        rows = rows.hstack(tiles.lazy().select(expressions).collect().get_columns())
    return rows


def window_columns(metric, window, width, center):
    def total(column):
        return pl.col(column).fill_null(0.0).rolling_sum(width, min_samples=1)

    n, d, h = total("n"), total("d"), total("h")
    variance = ((total("dd") - d * d / n) / (n - 1)).clip(lower_bound=0)
    spread_h = total("hh") - h * h / n
    values = {
        "count": n,
        "mean": pl.when(n > 0).then(d / n + center),
        "std": pl.when(n > 1).then(variance.sqrt()),
        "min": pl.col("min").rolling_min(width, min_samples=1),
        "max": pl.col("max").rolling_max(width, min_samples=1),
        "last": pl.col("last").forward_fill(limit=width - 1),
        "slope": pl.when((n > 1) & (spread_h > 1e-9)).then((total("hd") - h * d / n) / spread_h),
    }
    return [column.alias(feature_name(metric, aggregate, window)) for aggregate, column in values.items()]
