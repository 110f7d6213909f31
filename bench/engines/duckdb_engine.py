"""DuckDB: SQL from Parquet to Parquet."""

import duckdb

from .feature_set import SITE
from .window_sql import DUCKDB, feature_rows_sql, kpi_sql, metric_sql, quality_sql


class DuckDbEngine:
    def __init__(self, context):
        self.raw, self.out = context.raw, context.out
        self.database = duckdb.connect(config={"threads": context.workers, "temp_directory": str(self.out / "spill")})
        self.database.sql("SET TimeZone = 'UTC'")

    def bronze(self):
        stem = "regexp_extract(filename, '([^/]+)[.]csv$', 1)"
        self._write("bronze", f"""
            SELECT '{SITE}/' || split_part(filename, '/', -2) AS zone, {stem} AS device, {metric_sql(stem)} AS metric,
                   make_timestamp(epoch_s * 1000000) AS event, value
            FROM read_csv('{self.raw}/*/*.csv', header = false, filename = true, delim = ',',
                          columns = {{'epoch_s': 'BIGINT', 'value': 'DOUBLE'}})""")

    def silver(self):
        self._write("silver", f"""
            SELECT *, {quality_sql()} AS quality
            FROM (SELECT DISTINCT zone, device, metric, event, value FROM '{self.out}/bronze.parquet')""")

    def features(self):
        self._write("features", feature_rows_sql(DUCKDB, f"""
            SELECT zone, metric, epoch_us(event) // 1000000 AS epoch_s, value
            FROM '{self.out}/silver.parquet' WHERE quality = 'ok'"""))

    def gold(self):
        for period, unit in (("hourly", "hour"), ("daily", "day")):
            self._write(period, kpi_sql(f"date_trunc('{unit}', event)", f"'{self.out}/silver.parquet'"))

    def _write(self, table, query):
        self.database.sql(f"COPY ({query}) TO '{self.out}/{table}.parquet' (COMPRESSION zstd)")
