"""Microclimate's Python package on one machine. What the package does not do, polars does."""

import microclimate
import polars as pl

from .feature_set import DEFINITIONS, METRICS
from .polars_engine import PolarsEngine


class MicroclimatePackageEngine(PolarsEngine):
    """Bronze, silver and gold are polars's; features are `microclimate.features`, all rooms at once."""

    def features(self):
        silver = pl.scan_parquet(self.out / "silver" / "*.parquet").filter(pl.col("quality") == "ok")
        readings = silver.select("zone", "device", "metric", "event", "value").collect()
        rows = microclimate.features(readings, DEFINITIONS, columns=list(METRICS), order="sort")
        rows.to_polars().write_parquet(self._file("features", "rows"), compression="zstd")
