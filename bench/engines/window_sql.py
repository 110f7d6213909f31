"""The SQL of DuckDB and Spark: one text, with the few words in which the dialects differ."""

from dataclasses import dataclass

from .feature_set import AGGREGATES, GRID_S, METRICS, TILE_SUMS, WINDOWS, feature_name


@dataclass(frozen=True)
class SqlDialect:
    """Words of one system; `{…}` are filled in."""

    #: Rows for the grid times from {first} to {last}, both included.
    grid_times: str
    #: Value at the newest time of a group.
    newest_value: str
    #: Newest value so far that is not null.
    last_so_far: str


DUCKDB = SqlDialect(
    grid_times=f"unnest(range({{first}}, {{last}} + 1, {GRID_S}))",
    newest_value="arg_max(value, epoch_s)",
    last_so_far="last_value(last IGNORE NULLS) OVER so_far",
)
SPARK = SqlDialect(
    grid_times=f"explode(sequence({{first}}, {{last}}, {GRID_S}L))",
    newest_value="max_by(value, epoch_s)",
    last_so_far="last_value(last) IGNORE NULLS OVER so_far",
)


def quality_sql():
    """Quality flag of a reading, by the plausible range of its metric."""
    ranges = " ".join(
        f"WHEN '{metric}' THEN value BETWEEN {low} AND {high}" for metric, (low, high) in METRICS.items())
    return f"CASE WHEN CASE metric {ranges} END THEN 'ok' ELSE 'out_of_range' END"


def metric_sql(file_stem):
    """Metric of a file by its name without the extension."""
    return f"CASE {file_stem} WHEN 'pir' THEN 'motion' ELSE {file_stem} END"


def kpi_sql(period_start, source):
    """KPIs of zone, metric and period."""
    return f"""
        SELECT zone, metric, {period_start} AS start, count(*) AS readings,
               count(valid) * 1e0 / count(*) AS valid_share, min(valid) AS min, avg(valid) AS mean,
               max(valid) AS max, CASE WHEN count(valid) > 1 THEN stddev_samp(valid) END AS std
        FROM (SELECT *, CASE WHEN quality = 'ok' THEN value END AS valid FROM {source}) AS checked
        GROUP BY zone, metric, {period_start}"""


def feature_rows_sql(dialect, readings):
    """Rows of 140 columns from a table of valid readings: zone, metric, epoch_s, value."""
    first = f"first_s + ({GRID_S} - first_s % {GRID_S}) % {GRID_S}"
    grid_times = dialect.grid_times.format(first=first, last=f"last_s - last_s % {GRID_S}")
    frames = ", ".join(
        f"over_{window} AS (PARTITION BY zone, metric ORDER BY time_s ROWS BETWEEN {width - 1} PRECEDING AND CURRENT ROW)"
        for window, width in WINDOWS.items())
    frames += ", so_far AS (PARTITION BY zone, metric ORDER BY time_s ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)"
    return f"""
        WITH readings AS ({readings}),
        rooms AS (SELECT zone, min(epoch_s) AS first_s, max(epoch_s) AS last_s FROM readings GROUP BY zone),
        series AS (SELECT zone, metric, avg(value) AS center FROM readings GROUP BY zone, metric),
        tiles AS (
            SELECT zone, metric, time_s, count(*) AS n, sum(d) AS d, sum(h) AS h, sum(d * d) AS dd, sum(h * h) AS hh,
                   sum(h * d) AS hd, min(value) AS min, max(value) AS max, {dialect.newest_value} AS last
            FROM (SELECT zone, metric, epoch_s, value, epoch_s + ({GRID_S} - epoch_s % {GRID_S}) % {GRID_S} AS time_s,
                         value - center AS d, (epoch_s - first_s) / 3600e0 AS h
                  FROM readings JOIN series USING (zone, metric) JOIN rooms USING (zone)) AS centred
            GROUP BY zone, metric, time_s),
        grid AS (
            SELECT zone, metric, center, {grid_times} AS time_s
            FROM rooms JOIN series USING (zone)),
        totals AS (
            SELECT zone, metric, center, time_s, {", ".join(window_totals(dialect))}
            FROM grid LEFT JOIN tiles USING (zone, metric, time_s)
            WINDOW {frames}),
        aggregates AS (SELECT zone, metric, time_s, {", ".join(window_aggregates())} FROM totals)
        SELECT zone, time_s AS epoch_s, {", ".join(pivoted_columns())} FROM aggregates GROUP BY zone, time_s"""


def window_totals(dialect):
    # One frame that only grows serves all windows: it costs a row what a sliding one costs a window.
    yield f"{dialect.last_so_far} AS last"
    yield "max(CASE WHEN last IS NOT NULL THEN time_s END) OVER so_far AS last_s"
    for window in WINDOWS:
        for column in TILE_SUMS:
            yield f"sum({column}) OVER over_{window} AS {column}_{window}"
        yield f"min(min) OVER over_{window} AS min_{window}"
        yield f"max(max) OVER over_{window} AS max_{window}"


def window_aggregates():
    for window, width in WINDOWS.items():
        n, d, h, dd, hh, hd = (f"{column}_{window}" for column in TILE_SUMS)
        spread_h = f"({hh} - {h} * {h} / {n})"
        yield f"coalesce({n}, 0) AS count_{window}"
        yield f"{d} / {n} + center AS mean_{window}"
        yield (f"CASE WHEN {n} > 1 THEN sqrt(greatest(0e0, ({dd} - {d} * {d} / {n}) / nullif({n} - 1, 0))) END"
               f" AS std_{window}")
        yield f"min_{window}"
        yield f"max_{window}"
        yield f"CASE WHEN last_s > time_s - {width * GRID_S} THEN last END AS last_{window}"
        yield (f"CASE WHEN {n} > 1 AND {spread_h} > 1e-9 THEN ({hd} - {h} * {d} / {n}) / nullif({spread_h}, 0e0) END"
               f" AS slope_{window}")


def pivoted_columns():
    for metric in METRICS:
        for window in WINDOWS:
            for aggregate in AGGREGATES:
                name = feature_name(metric, aggregate, window)
                yield f"max({aggregate}_{window}) FILTER (WHERE metric = '{metric}') AS {name}"
