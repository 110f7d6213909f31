"""Feature rows on Apache Spark: whole tables, and streams from the gateway's Kafka topic.

The engine is the one of the feature store, so rows equal those of one box to the last bit. Spark
distributes zones; inside a zone the order of arrival counts, which Spark does not promise. Every
function here therefore sorts a zone itself, or checks the order and refuses.

>>> from microclimate import spark as mcs
>>> rows = mcs.features(readings)                               # a DataFrame of rows
>>> readings = mcs.kafka_readings(spark, "kafka:9092")
>>> mcs.stream(readings, columns=["temperature", "humidity"]).writeStream…

Batch needs PySpark 4.1 or later, or Sail (``pysail``); streams need PySpark 4.1 or later with
Java 17. See docs/scale.md.
"""

from __future__ import annotations

import json
import uuid
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from ._engine import InputError, OrderError
from ._features import Definitions, Engine, MetricTable, Settings, as_ms, read_definitions
from ._features import features as frame_features

if TYPE_CHECKING:
    import pandas
    from pyspark.sql import Column, DataFrame, SparkSession

__all__ = ["features", "kafka_readings", "row_schema", "stream"]

#: Columns of readings that the engine reads; others are dropped before a shuffle.
_USED = (
    *("site", "zone", "device", "metric", "value", "event", "time", "event_ms"),
    *("arrival", "arrival_ms", "boot", "seq", "source"),
)

#: The state store that keeps maps of chunks.
_ROCKSDB = "org.apache.spark.sql.execution.streaming.state.RocksDBStateStoreProvider"
#: Live engines that a Python worker keeps, the least recently used go first.
ENGINES_MAX = 256
#: Place of an hour in the state while nothing is known of it.
_NO_POSITION = (-1, -1, -1)


def row_schema(
    columns: Iterable[str],
    definitions: Definitions = None,
    metrics: MetricTable = None,
    settings: Settings = None,
) -> str:
    """Schema of rows, as Spark's DDL: ``zone``, ``time``, ``revision`` and the features.

    :param columns: metrics that have columns. The schema depends on these and on the
        definitions only, never on the data.
    """
    engine = Engine(definitions, metrics, columns=columns, settings=settings)
    names = [f"`{name}` double" for name in engine.feature_names]
    return ", ".join(["zone string", "time timestamp", "revision bigint", *names])


def _spark_table(table: pa.Table) -> pa.Table:
    """Rows as Spark has them: times in microseconds."""
    at = table.schema.get_field_index("time")
    return table.set_column(at, "time", table["time"].cast(pa.timestamp("us", tz="UTC")))


def _frozen(definitions: Definitions) -> Definitions:
    """Definitions as text, so that executors need no file of the driver."""
    found = read_definitions(definitions)
    return None if found is None else found[1] + "\n"


def _distinct_metrics(df: DataFrame) -> list[str]:
    if "metric" not in df.columns:
        raise InputError("the frame is wide; name its metrics as columns=[…], or melt it")
    return sorted(row[0] for row in df.select("metric").distinct().collect())


def features(
    df: DataFrame,
    definitions: Definitions = None,
    metrics: MetricTable = None,
    *,
    columns: Iterable[str] | None = None,
    settings: Settings = None,
    received: datetime | int | None = None,
    piece: timedelta | None = None,
    sort_in_spark: bool = False,
) -> DataFrame:
    """Computes the feature rows of a DataFrame of readings, one zone at a time on each core.

    :param df: readings as of :func:`microclimate.features`, long or wide, in any order: they are
        sorted by arrival, event, device, metric and value inside each zone.
    :param columns: metrics that have columns; without, one job finds those of a long frame.
    :param received: when the recording was taken in; now without. Fixed on the driver.
    :param piece: cuts zones that are too large for the memory of a worker into spans of time.
        Each is computed with the readings of the widest window before it, and its rows are
        exactly those of the whole. For readings without arrival times, numbers and sources only:
        late readings are counted over the whole of a zone.
    :param sort_in_spark: the other way for large zones, for any readings: Spark sorts (spilling
        to disk) and each zone streams through the engine, which refuses it if the order was not
        kept. Not on Sail, which drops the sort.
    :returns: the columns of :func:`row_schema`.
    :raises InputError: a column is missing, or ``piece`` does not fit the data.

    >>> rows = mcs.features(spark.read.parquet("s3a://farm/readings"))
    >>> rows.write.partitionBy("zone").parquet("s3a://farm/features")
    """
    text = _frozen(definitions)
    names = list(columns) if columns is not None else _distinct_metrics(df)
    wanted = [name for name in df.columns if name in _USED or name in names]
    df = df.select(*wanted)
    schema = row_schema(names, text, metrics, settings)
    received_ms = as_ms(received, "received")
    if received_ms is None:
        received_ms = int(datetime.now(timezone.utc).timestamp() * 1000)
    keys = ["site", "zone"] if "site" in df.columns else ["zone"]
    if piece is not None and sort_in_spark:
        raise InputError("give either piece or sort_in_spark")
    if piece is not None:
        return _features_by_piece(
            df, keys, text, metrics, names, settings, received_ms, piece, schema
        )
    if sort_in_spark:
        return _features_sorted(df, keys, text, metrics, names, settings, received_ms, schema)

    def of_zone(table: pa.Table) -> pa.Table:
        rows = frame_features(
            table,
            text,
            metrics,
            columns=names,
            settings=settings,
            order="sort",
            received=received_ms,
            threads=1,
        )
        return _spark_table(rows.to_arrow())

    return df.groupBy(*keys).applyInArrow(of_zone, schema)


def _features_sorted(
    df: DataFrame,
    keys: list[str],
    definitions: Definitions,
    metrics: MetricTable,
    columns: list[str],
    settings: Settings,
    received_ms: int,
    schema: str,
) -> DataFrame:
    """Rows of sorted partitions, a zone after the other, batch by batch."""
    from pyspark.sql import functions as F

    event_ms = _event_ms(df)
    arrival_ms = _millis(df, ("arrival", "arrival_ms"))
    arrival_ms = event_ms if arrival_ms is None else F.coalesce(arrival_ms, event_ms)
    order: list[Column | str | int] = [*keys, arrival_ms, event_ms]
    order += [name for name in ("device", "metric", "seq", "value") if name in df.columns]

    def of_partition(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        engine: Engine | None = None
        current: tuple[str, ...] | None = None
        done: set[tuple[str, ...]] = set()
        for batch in batches:
            table = pa.Table.from_batches([batch])
            for key, part in _runs(table, keys):
                if key != current:
                    if engine is not None:
                        yield from _spark_table(engine.finish().to_arrow()).to_batches()
                    if key in done:
                        where = "/".join(key)
                        raise OrderError(f"zone {where} comes twice: Spark did not keep the sort")
                    if current is not None:
                        done.add(current)
                    engine = Engine(definitions, metrics, columns=columns, settings=settings)
                    current = key
                assert engine is not None
                rows = engine.ingest(part, received=received_ms, source="backfill")
                yield from _spark_table(rows.to_arrow()).to_batches()
        if engine is not None:
            yield from _spark_table(engine.finish().to_arrow()).to_batches()

    sorted_df = df.repartition(*keys).sortWithinPartitions(*order)
    return sorted_df.mapInArrow(of_partition, schema)


def _event_ms(df: DataFrame) -> Column:
    """Event times, UTC ms."""
    found = _millis(df, ("event", "time", "event_ms"))
    if found is None:
        raise InputError("the frame has no column `event` or `time` (timestamps), or `event_ms`")
    return found


def _millis(df: DataFrame, names: tuple[str, ...]) -> Column | None:
    """The time of the first of these columns that there is, UTC ms."""
    from pyspark.sql import functions as F

    name = next((name for name in names if name in df.columns), None)
    if name is None or name.endswith("_ms"):
        return None if name is None else F.col(name)
    if dict(df.dtypes)[name] == "timestamp_ntz":
        # Spark would take it for local time, where the engine takes it for UTC.
        raise InputError(f"`{name}` has no time zone, expected timestamps with one, or `{name}_ms`")
    return F.unix_millis(F.col(name))


def _runs(table: pa.Table, keys: list[str]) -> Iterator[tuple[tuple[str, ...], pa.Table]]:
    """Runs of rows with equal keys."""
    columns = [table[key].to_pylist() for key in keys]
    start = 0
    for at in range(1, table.num_rows + 1):
        if at == table.num_rows or any(column[at] != column[start] for column in columns):
            key = tuple(str(column[start]) for column in columns)
            yield key, table.slice(start, at - start)
            start = at


def _features_by_piece(
    df: DataFrame,
    keys: list[str],
    definitions: Definitions,
    metrics: MetricTable,
    columns: list[str],
    settings: Settings,
    received_ms: int,
    piece: timedelta,
    schema: str,
) -> DataFrame:
    """Rows of spans of time, each with the readings that its first row needs."""
    from pyspark.sql import functions as F

    other = [
        name for name in ("arrival", "arrival_ms", "boot", "seq", "source") if name in df.columns
    ]
    if other:
        raise InputError(
            f"piece is for readings that arrived at their event times, and the frame has {', '.join(other)}"
            "\n  hint: sort_in_spark=True computes zones of any size with late readings"
        )
    if not {"metric", "value"} <= set(df.columns):
        raise InputError("piece needs a long frame with `metric` and `value`")
    piece_ms = int(piece.total_seconds() * 1000)
    engine = Engine(definitions, metrics, columns=columns, settings=settings)
    grid_ms = int((settings or {}).get("grid_s", 60)) * 1000
    if piece_ms < grid_ms or piece_ms % grid_ms:
        raise InputError(f"piece {piece} is not a multiple of the grid, {grid_ms // 1000} s")
    # The widest window, and the days that drying trends look back. Without late readings nothing
    # before it can matter.
    punctual = Engine(
        definitions, metrics, columns=columns, settings={**(settings or {}), "late_max_s": 0}
    )
    overlap_ms = punctual.retention_ms
    ranges = {name: engine.plausible_ranges[name] for name in columns}
    future_ms = int((settings or {}).get("future_max_s", 300)) * 1000

    event_ms = _event_ms(df)
    # The newest valid reading of each zone, up to which it has rows: the engine's own rule.
    is_plausible = F.lit(False)
    for metric, (low, high) in ranges.items():
        inside = (F.col("value") >= low) & (F.col("value") <= high)
        is_plausible = is_plausible | ((F.col("metric") == metric) & inside)
    is_known = event_ms <= received_ms + future_ms
    ends = df.filter(is_plausible & is_known).groupBy(*keys).agg(F.max(event_ms).alias("_end_ms"))
    # Span k has the rows of (k·piece, (k + 1)·piece].
    first = F.floor((event_ms - 1) / piece_ms).cast("long")
    last = F.least(
        F.floor((event_ms - 1 + overlap_ms) / piece_ms).cast("long"),
        F.floor((F.col("_end_ms") - 1) / piece_ms).cast("long"),
    )
    pieces = df.join(ends, keys).withColumn(
        "_piece", F.explode(F.sequence(first, F.greatest(first, last)))
    )

    def of_piece(table: pa.Table) -> pa.Table:
        number = table["_piece"][0].as_py()
        end_ms = table["_end_ms"][0].as_py()
        zone = table["zone"][0].as_py()
        if "site" in table.column_names:
            zone = f"{table['site'][0].as_py()}/{zone}"
        own = Engine(definitions, metrics, columns=columns, settings=settings)
        readings = table.drop_columns(["_piece", "_end_ms"])
        start_ms, until_ms = number * piece_ms, (number + 1) * piece_ms
        tables = [
            own.ingest(readings, order="sort", received=received_ms, source="backfill").to_arrow()
        ]
        tables.append(own.complete_zone(zone, min(until_ms, end_ms)).to_arrow())
        rows = pa.concat_tables(tables)
        times = rows["time"].cast(pa.int64())
        inside = pc.and_(pc.greater(times, start_ms), pc.less_equal(times, until_ms))
        return _spark_table(rows.filter(inside))

    return pieces.groupBy(*keys, "_piece").applyInArrow(of_piece, schema)


def kafka_readings(
    spark: SparkSession,
    servers: str,
    topic: str = "sensor.readings",
    *,
    starting_offsets: str = "earliest",
    records_per_trigger: int | None = None,
    options: dict[str, str] | None = None,
) -> DataFrame:
    """Readings of the gateway's topic as a stream, one row for each, for :func:`stream`.

    Columns: ``zone``, ``device``, ``boot``, ``seq`` (as text), ``source``, ``arrival_ms``, ``metric``,
    ``event_ms``, ``value``, and the place in the log: ``partition``, ``offset``, ``position``
    (within the record).

    :param options: further options of Spark's Kafka source, such as ``kafka.security.protocol``.
    """
    source = spark.readStream.format("kafka").option("kafka.bootstrap.servers", servers)
    source = source.option("subscribe", topic).option("startingOffsets", starting_offsets)
    if records_per_trigger is not None:
        source = source.option("maxOffsetsPerTrigger", records_per_trigger)
    for key, value in (options or {}).items():
        source = source.option(key, value)
    return log_readings(source.load())


#: The form of a report in the log: telemetry::SensorReport as JSON.
_REPORT = (
    "zone string, device string, boot string, seq string, arrival_ms bigint, source string, "
    "readings array<struct<metric: string, ts: bigint, value: double>>"
)


def log_readings(records: DataFrame) -> DataFrame:
    """Readings of records of the log: a DataFrame with ``value`` (the report as JSON),
    ``partition`` and ``offset``."""
    from pyspark.sql import functions as F

    report = F.from_json(F.col("value").cast("string"), _REPORT, {"mode": "FAILFAST"})
    parsed = records.select(report.alias("report"), "partition", "offset")
    readings = F.posexplode("report.readings").alias("position", "reading")
    exploded = parsed.select("report", "partition", "offset", readings)
    return exploded.select(
        "report.zone",
        "report.device",
        "report.boot",
        "report.seq",
        F.coalesce("report.source", F.lit("live")).alias("source"),
        "report.arrival_ms",
        "reading.metric",
        F.col("reading.ts").alias("event_ms"),
        # The log writes what is no number as null.
        F.coalesce("reading.value", F.lit(float("nan"))).alias("value"),
        "partition",
        "offset",
        "position",
    )


def stream(
    readings: DataFrame,
    definitions: Definitions = None,
    metrics: MetricTable = None,
    *,
    columns: Iterable[str],
    settings: Settings = None,
    advance_silent: timedelta | None = None,
) -> DataFrame:
    """Feature rows of a stream of readings: final rows as the watermark passes them, and revisions
    of rows that late readings changed.

    The state of a zone is in Spark's RocksDB store, cut into hours: a trigger writes the hours
    that it changed and a small head. Live engines stay in the Python workers and are rebuilt from
    the state where it is not theirs, after a restart or when a zone has moved. With a checkpoint,
    a query that was killed goes on with the same rows, and no row comes twice.

    A zone's rows become final as its own readings arrive. A silent zone waits for its next one, or
    advances by the clock, as in the feature store, with ``advance_silent``.

    :param readings: a stream with the columns of :func:`kafka_readings`. In each trigger a zone is
        sorted by partition, offset and position; what lies before the place of the last trigger
        is refused.
    :param columns: metrics that are read and have columns; readings of others are left out.
    :param advance_silent: how long after the last trigger of a zone, and how often from then on,
        time advances by the clock of the trigger: rows of live zones become final, and a replay
        is complete. A trigger that is repeated after a failure has the same clock.
    :returns: a stream with the columns of :func:`row_schema`, in append mode.
    :raises InputError: the state store of the session is not RocksDB.

    >>> rows = mcs.stream(mcs.kafka_readings(spark, "kafka:9092"), columns=["temperature"])
    >>> (rows.writeStream.format("parquet").option("path", "s3a://farm/features")
    ...     .option("checkpointLocation", "s3a://farm/checkpoints/features").start())
    """
    key = "spark.sql.streaming.stateStore.providerClass"
    provider = readings.sparkSession.conf.get(key, "")
    if provider != _ROCKSDB:
        raise InputError(
            f"{key} is `{provider}`, expected the store of RocksDB\n  hint: --conf {key}={_ROCKSDB}"
        )
    names = list(columns)
    text = _frozen(definitions)
    schema = row_schema(names, text, metrics, settings)
    wanted = readings.filter(readings["metric"].isin(names))
    return wanted.groupBy("zone").transformWithStateInPandas(
        statefulProcessor=_processor(text, metrics, names, settings, advance_silent),
        outputStructType=schema,
        outputMode="append",
        timeMode="None" if advance_silent is None else "ProcessingTime",
    )


#: Live engines of this worker process: configuration and zone → token of the state, engine.
_engines: OrderedDict[tuple[str, str], tuple[str, Engine]] = OrderedDict()


def _processor(
    definitions: Definitions,
    metrics: MetricTable,
    columns: list[str],
    settings: Settings,
    advance_silent: timedelta | None,
) -> Any:
    from pyspark.sql.streaming.stateful_processor import StatefulProcessor

    class FeatureProcessor(StatefulProcessor):
        """Feeds the readings of a zone to its engine and keeps the engine's state."""

        def init(self, handle: Any) -> None:
            head = "token string, head binary, partition bigint, offset bigint, position bigint"
            self._head = handle.getValueState("head", head)
            self._hours = handle.getMapState("hours", "hour bigint", "readings binary")
            self._config = json.dumps([definitions, metrics, columns, settings], sort_keys=True)
            self._handle = handle

        def handleInputRows(
            self, key: Any, rows: Iterator[pandas.DataFrame], timerValues: Any
        ) -> Iterator[pandas.DataFrame]:
            zone = key[0]
            table = pa.concat_tables(
                [pa.Table.from_pandas(part, preserve_index=False) for part in rows]
            )
            place = ["partition", "offset", "position"]
            table = table.sort_by([(name, "ascending") for name in place])
            first, last = (tuple(table[name][at].as_py() for name in place) for at in (0, -1))
            engine, before = self._restore(zone)
            if first <= before and first[0] == before[0]:
                raise OrderError(
                    f"zone {zone}: a reading at partition, offset, position {first} comes after {before}"
                )
            # A log has its own order: late readings are where they arrived.
            output = engine.ingest(_readings(table), order="log").to_arrow()
            self._store(zone, engine, last)
            self._set_timer(timerValues.getCurrentProcessingTimeInMs())
            yield from _spark_rows(output)

        def handleExpiredTimer(
            self, key: Any, timerValues: Any, expiredTimerInfo: Any
        ) -> Iterator[pandas.DataFrame]:
            zone = key[0]
            engine, place = self._restore(zone)
            now_ms = timerValues.getCurrentProcessingTimeInMs()
            output = engine.advance_clock(now_ms).to_arrow()
            self._store(zone, engine, place)
            progress = engine.progress(zone)
            # A replay is complete after one step of the clock, unless much is to be recomputed.
            if progress is not None and (progress.is_live or output.num_rows):
                self._set_timer(now_ms)
            yield from _spark_rows(output)

        def _set_timer(self, now_ms: int) -> None:
            """Sets the one timer of the zone."""
            if advance_silent is None:
                return
            for timer_ms in list(self._handle.listTimers()):
                self._handle.deleteTimer(timer_ms)
            self._handle.registerTimer(now_ms + int(advance_silent.total_seconds() * 1000))

        def _restore(self, zone: str) -> tuple[Engine, tuple[int, int, int]]:
            """The engine of a zone: the live one if it is at the state, or one made of it."""
            if not self._head.exists():
                return self._new_engine(), _NO_POSITION
            token, head, *place = self._head.get()
            cached = _engines.pop((self._config, zone), None)
            if cached is not None and cached[0] == token:
                return cached[1], tuple(place)
            engine = self._new_engine()
            hours = {hour: bytes(readings) for (hour,), (readings,) in self._hours.iterator()}
            engine.restore_parts(bytes(head), hours)
            return engine, tuple(place)

        def _store(self, zone: str, engine: Engine, place: tuple[int, int, int]) -> None:
            changes = engine.snapshot_changes(zone)
            assert changes is not None
            for hour, readings in changes.written_hours.items():
                self._hours.updateValue((hour,), (readings,))
            for hour in changes.removed_hours:
                self._hours.removeKey((hour,))
            # A new token each time: an engine that went on in an attempt that failed has another.
            token = uuid.uuid4().hex
            self._head.update((token, changes.head, *place))
            _engines[(self._config, zone)] = (token, engine)
            while len(_engines) > ENGINES_MAX:
                _engines.popitem(last=False)

        def _new_engine(self) -> Engine:
            return Engine(definitions, metrics, columns=columns, settings=settings)

        def close(self) -> None:
            """Engines stay for the next trigger."""

    return FeatureProcessor()


def _spark_rows(rows: pa.Table) -> Iterator[pandas.DataFrame]:
    """Rows as Spark's workers send them; nothing for none."""
    if rows.num_rows:
        yield _spark_table(rows).to_pandas(date_as_object=False)


def _readings(table: pa.Table) -> pa.Table:
    """The columns that the engine reads. Numbers without a run are no sequence."""
    table = table.drop_columns(["partition", "offset", "position"])
    if "seq" in table.column_names:
        at = table.schema.get_field_index("seq")
        # Text all the way: pandas would make floats of numbers where some are null.
        table = table.set_column(at, "seq", table["seq"].cast(pa.uint64()))
    return table
