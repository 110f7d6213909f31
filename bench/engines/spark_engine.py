"""Apache Spark, local mode: plain SQL, with its window functions as they are by default, or with
the segment tree of Spark 4.2, whose block size is set to what was fastest here."""

import os

from pyspark.sql import SparkSession

from .feature_set import SITE
from .window_sql import SPARK, feature_rows_sql, kpi_sql, metric_sql, quality_sql

ROCKSDB = "org.apache.spark.sql.execution.streaming.state.RocksDBStateStoreProvider"


def new_session(context, **settings):
    """A session with as many threads as the run has workers. The same for every engine on Spark."""
    builder = SparkSession.builder.master(f"local[{context.workers}]").appName(context.engine)
    settings = {
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.memory": context.spark_memory,
        "spark.local.dir": str(context.out / "spark"),
        # The data is small for Spark: it would join all partitions to one task.
        "spark.sql.shuffle.partitions": "8",
        "spark.sql.adaptive.coalescePartitions.enabled": "false",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.parquet.compression.codec": "zstd",
        "spark.sql.streaming.stateStore.providerClass": ROCKSDB,
        "spark.executorEnv.PYTHONPATH": os.environ.get("PYTHONPATH", ""),
        **settings,
    }
    for key, value in settings.items():
        builder = builder.config(key, value)
    session = builder.getOrCreate()
    session.sparkContext.setLogLevel("ERROR")
    return session


class SparkEngine:
    settings = {}

    def __init__(self, context):
        self.raw, self.out = context.raw, context.out
        self.session = new_session(context, **self.settings)

    def bronze(self):
        stem = "regexp_extract(_metadata.file_name, '^([^.]+)', 1)"
        lines = self.session.read.schema("epoch_s BIGINT, value DOUBLE").csv(
            f"{self.raw}/*/*.csv", ignoreLeadingWhiteSpace=True)
        lines.selectExpr(
            f"concat('{SITE}/', element_at(split(_metadata.file_path, '/'), -2)) AS zone", f"{stem} AS device",
            f"{metric_sql(stem)} AS metric", "timestamp_seconds(epoch_s) AS event", "value",
        ).write.parquet(self._path("bronze"))

    def silver(self):
        readings = self.session.read.parquet(self._path("bronze")).distinct()
        readings.selectExpr("*", f"{quality_sql()} AS quality").write.parquet(self._path("silver"))

    def features(self):
        self.session.read.parquet(self._path("silver")).createOrReplaceTempView("silver")
        self.session.sql(feature_rows_sql(SPARK, """
            SELECT zone, metric, unix_seconds(event) AS epoch_s, value FROM silver WHERE quality = 'ok'"""
        )).write.parquet(self._path("features"))

    def gold(self):
        self.session.read.parquet(self._path("silver")).createOrReplaceTempView("silver")
        for period, unit in (("hourly", "hour"), ("daily", "day")):
            self.session.sql(kpi_sql(f"date_trunc('{unit}', event)", "silver")).write.parquet(self._path(period))

    def _path(self, table):
        return str(self.out / table)


class SparkSegmentTreeEngine(SparkEngine):
    # A block is a leaf that is scanned; by default it is larger than a whole series is here.
    settings = {"spark.sql.window.segmentTree.enabled": "true", "spark.sql.window.segmentTree.blockSize": "256"}
