"""Microclimate inside Spark, as a batch and as a stream."""

import os

from microclimate import spark as microclimate_on_spark

from .feature_set import DEFINITIONS, METRICS, SITE
from .spark_engine import SparkEngine
from .window_sql import metric_sql


class MicroclimateSparkEngine(SparkEngine):
    """Bronze, silver and gold are Spark's own; features are `microclimate.spark.features`."""

    def features(self):
        silver = self.session.read.parquet(self._path("silver")).where("quality = 'ok'")
        rows = microclimate_on_spark.features(
            silver.select("zone", "device", "metric", "event", "value"), DEFINITIONS, columns=list(METRICS))
        rows.write.parquet(self._path("features"))


class MicroclimateStreamEngine(SparkEngine):
    """Bronze is the log, as the gateway writes it to Kafka; features are `microclimate.spark.stream`
    over it, with its state in RocksDB and a checkpoint. A stream checks readings itself and computes
    no KPIs, so there is no silver and no gold."""

    silver = None
    gold = None

    def __init__(self, context):
        super().__init__(context)
        self.trigger_s = context.trigger_hours * 3600

    def bronze(self):
        """One file of records for each trigger: report as JSON, partition and offset, by time."""
        stem = "regexp_extract(_metadata.file_name, '^([^.]+)', 1)"
        lines = self.session.read.schema("epoch_s BIGINT, value DOUBLE").csv(
            f"{self.raw}/*/*.csv", ignoreLeadingWhiteSpace=True)
        lines.selectExpr(
            f"concat('{SITE}/', element_at(split(_metadata.file_path, '/'), -2)) AS zone", f"{stem} AS device",
            f"{metric_sql(stem)} AS metric", "epoch_s", "value").createOrReplaceTempView("lines")
        records = self.session.sql(f"""
            SELECT to_json(struct(zone, device, epoch_s * 1000 AS arrival_ms, 'replay' AS source,
                                  array(struct(metric, epoch_s * 1000 AS ts, value)) AS readings)) AS value,
                   crc32(zone) % 32 AS partition,
                   row_number() OVER (PARTITION BY crc32(zone) % 32 ORDER BY epoch_s, zone, device) AS offset,
                   floor(epoch_s / {self.trigger_s}) AS trigger
            FROM lines""")
        records.repartition("trigger").write.partitionBy("trigger").parquet(self._path("log"))
        # Spark reads files in the order of their times of change.
        files = sorted(self.out.glob("log/trigger=*/*.parquet"), key=lambda file: int(file.parent.name.split("=")[1]))
        for number, file in enumerate(files):
            os.utime(file, (1_700_000_000 + number, 1_700_000_000 + number))

    def features(self):
        records = self.session.readStream.schema("value STRING, partition BIGINT, offset BIGINT").option(
            "maxFilesPerTrigger", 1).parquet(self._path("log/*"))
        readings = microclimate_on_spark.log_readings(records)
        rows = microclimate_on_spark.stream(readings, DEFINITIONS, columns=list(METRICS))
        query = (
            rows.writeStream.format("parquet").option("path", self._path("features"))
            .option("checkpointLocation", self._path("checkpoint")).trigger(availableNow=True).start())
        query.awaitTermination()

    def facts(self):
        return {"triggers": len(list((self.out / "checkpoint" / "commits").glob("[0-9]*")))}
