"""Values of an engine against those of `feature-store backfill`, every row and column.

Differences are absolute, and relative to the larger of the value and 1: deviations and slopes of
flat windows are 0, and what sums of moments leave there would be infinitely far from it. No value
(null, NaN) on one side only counts as a row that differs; counts of empty windows are 0.
"""

from dataclasses import dataclass

import duckdb

from .feature_set import AGGREGATES, FEATURES, KPIS

#: Rows that differ by more than this in any column are counted apart from those that differ at all.
TOLERANCE = 1e-9


@dataclass(frozen=True)
class TableDifference:
    """Rows of one table of an engine beside those of the reference."""

    rows: int
    only_in_engine: int
    only_in_reference: int
    rows_differ: int
    rows_differ_visibly: int
    rows_one_sided: int
    absolute_max: float
    absolute_column: str
    relative_max: float
    relative_column: str
    relative_by_column: dict

    def relative_by_aggregate(self):
        """Largest relative difference of the columns of each aggregate."""
        found = {}
        for column, difference in self.relative_by_column.items():
            aggregate = next(a for a in AGGREGATES if f"_{a}_" in column)
            found[aggregate] = max(found.get(aggregate, 0.0), difference)
        return found


def write_reference(store, folder):
    """The reference's feature rows and KPIs as Parquet files."""
    folder.mkdir(parents=True, exist_ok=True)
    with duckdb.connect() as database:
        database.sql(f"ATTACH '{store}' AS store (READ_ONLY)")
        columns = ", ".join(FEATURES)
        database.sql(f"""
            COPY (SELECT site || '/' || zone AS zone, epoch_ms(time) // 1000 AS epoch_s, {columns}
                  FROM store.features.rows QUALIFY row_number() OVER (PARTITION BY site, zone, time ORDER BY revision DESC) = 1)
            TO '{folder}/features.parquet'""")
        for period, start in (("hourly", "hour"), ("daily", "day_start")):
            database.sql(f"""
                COPY (SELECT site || '/' || zone AS zone, metric, epoch_ms({start}) // 1000 AS epoch_s, {", ".join(KPIS)}
                      FROM store.gold.{period} WHERE readings > 0) TO '{folder}/{period}.parquet'""")


def compare_features(out, reference):
    source = table_source(out, "features")
    with duckdb.connect() as database:
        database.sql("SET TimeZone = 'UTC'")
        names = {row[0] for row in database.sql(f"DESCRIBE SELECT * FROM {source}").fetchall()}
        if "time" in names:
            # Rows of Microclimate: the newest revision of a time is the row as corrected.
            source = f"""(SELECT * EXCLUDE (time), epoch_ms(time) // 1000 AS epoch_s FROM {source}
                          QUALIFY row_number() OVER (PARTITION BY zone, time ORDER BY revision DESC) = 1)"""
        return compare_tables(database, source, f"'{reference}/features.parquet'", ["zone", "epoch_s"], FEATURES)


def compare_kpis(out, reference, period):
    with duckdb.connect() as database:
        database.sql("SET TimeZone = 'UTC'")
        source = f"(SELECT * EXCLUDE (start), epoch_ms(start::TIMESTAMP) // 1000 AS epoch_s FROM {table_source(out, period)})"
        return compare_tables(database, source, f"'{reference}/{period}.parquet'", ["zone", "metric", "epoch_s"], KPIS)


def table_source(out, table):
    """SQL of a table that an engine wrote: one file, or a folder of files."""
    file = out / f"{table}.parquet"
    return f"read_parquet('{file if file.exists() else out / table / '*.parquet'}')"


def compare_tables(database, source, reference, keys, columns):
    using = ", ".join(keys)
    pairs = [(number, column, empty_as_zero(f"r.{column}", column), empty_as_zero(f"e.{column}", column))
             for number, column in enumerate(columns)]
    database.sql(f"CREATE OR REPLACE TEMP TABLE engine AS SELECT {using}, {', '.join(columns)} FROM {source}")
    database.sql(f"CREATE OR REPLACE TEMP TABLE reference AS SELECT {using}, {', '.join(columns)} FROM {reference}")
    joined = f"FROM reference r JOIN engine e USING ({using})"
    differs = " OR ".join(f"{x} IS DISTINCT FROM {y}" for _, _, x, y in pairs)
    one_sided = " OR ".join(f"(({x}) IS NULL) <> (({y}) IS NULL)" for _, _, x, y in pairs)
    visibly = " OR ".join(f"coalesce({relative(x, y)} > {TOLERANCE}, false)" for _, _, x, y in pairs)
    rows, differ, differ_visibly, differ_one_sided = database.sql(f"""
        SELECT count(*), count(*) FILTER ({differs}), count(*) FILTER ({visibly} OR {one_sided}),
               count(*) FILTER ({one_sided}) {joined}""").fetchall()[0]
    largest = database.sql(f"""
        SELECT {", ".join(f"coalesce(max(abs({x} - {y})), 0), coalesce(max({relative(x, y)}), 0)" for _, _, x, y in pairs)}
        {joined}""").fetchall()[0]
    absolutes = {column: largest[2 * number] for number, column, *_ in pairs}
    relatives = {column: largest[2 * number + 1] for number, column, *_ in pairs}
    total, total_reference = (
        database.sql(f"SELECT count(*) FROM {table}").fetchall()[0][0] for table in ("engine", "reference"))
    absolute_column, relative_column = (max(found, key=found.get) for found in (absolutes, relatives))
    return TableDifference(
        rows=total, only_in_engine=total - rows, only_in_reference=total_reference - rows,
        rows_differ=differ, rows_differ_visibly=differ_visibly, rows_one_sided=differ_one_sided,
        absolute_max=absolutes[absolute_column], absolute_column=absolute_column if absolutes[absolute_column] else "",
        relative_max=relatives[relative_column], relative_column=relative_column if relatives[relative_column] else "",
        relative_by_column=relatives)


def empty_as_zero(value, column):
    value = f"nullif({value}::DOUBLE, 'nan'::DOUBLE)"
    return f"coalesce({value}, 0)" if "_count_" in column else value


def relative(x, y):
    return f"abs({x} - {y}) / greatest(1, abs({x}))"
