"""The engines by name. Their modules are imported in the worker only, so that one engine's
libraries are not in the memory of another."""

import importlib
from dataclasses import dataclass


@dataclass(frozen=True)
class EngineEntry:
    title: str
    #: Module and class; None for the feature store, which is a program of its own.
    location: str | None
    #: Runs once for each number of workers; others run with the largest number only.
    by_workers: bool = False
    needs_java: bool = False


ENGINES = {
    "store": EngineEntry("ours: feature-store backfill", None),
    "store-rows": EngineEntry("ours: the same, --features-only", None),
    "package": EngineEntry("ours: Python package, polars around it", "microclimate_package:MicroclimatePackageEngine"),
    "pandas": EngineEntry("pandas", "pandas_engine:PandasEngine"),
    "polars": EngineEntry("polars", "polars_engine:PolarsEngine"),
    "duckdb": EngineEntry("DuckDB SQL", "duckdb_engine:DuckDbEngine"),
    "spark": EngineEntry("Spark SQL windows", "spark_engine:SparkEngine", needs_java=True),
    "spark-tree": EngineEntry(
        "Spark SQL windows, segment tree", "spark_engine:SparkSegmentTreeEngine", by_workers=True, needs_java=True),
    "spark-ours": EngineEntry(
        "ours on Spark, batch", "microclimate_spark:MicroclimateSparkEngine", by_workers=True, needs_java=True),
    "stream-ours": EngineEntry("ours on Spark, stream", "microclimate_spark:MicroclimateStreamEngine", needs_java=True),
}
#: The engine whose rows are the reference.
REFERENCE = "store"


def load_engine(name):
    module, class_name = ENGINES[name].location.split(":")
    return getattr(importlib.import_module(f".{module}", __package__), class_name)
