"""The feature engine: whole frames, streams, drying trends."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal, NamedTuple

from . import _engine
from ._engine import InputError
from ._table import ArrowStream, Table, as_stream

Order = Literal["refuse", "sort", "log"]
Source = Literal["live", "replay", "backfill", "retained"]
Definitions = str | os.PathLike[str] | None
MetricTable = Mapping[str, Mapping[str, Any]] | None
Settings = Mapping[str, Any] | None


def read_definitions(definitions: Definitions) -> tuple[str, str] | None:
    """Name and text of definitions: a path, or the text of a file."""
    if definitions is None:
        return None
    if isinstance(definitions, str) and "\n" in definitions:
        return "definitions", definitions
    path = Path(definitions)
    return str(path), path.read_text(encoding="utf-8")


def as_ms(time: datetime | int | None, name: str) -> int | None:
    """Milliseconds since 1970 of a time with a time zone, or of a number of them."""
    if time is None or isinstance(time, int):
        return time
    if time.tzinfo is None:
        raise InputError(f"{name}={time.isoformat()} has no time zone, expected one as in UTC")
    elapsed = time - datetime(1970, 1, 1, tzinfo=timezone.utc)
    return (elapsed.days * 86_400 + elapsed.seconds) * 1000 + elapsed.microseconds // 1000


def _columns(columns: Iterable[str] | None) -> list[str] | None:
    if isinstance(columns, str):
        raise InputError(f"columns={columns!r} is one text, expected a list of metrics")
    return None if columns is None else list(columns)


def features(
    frame: ArrowStream,
    definitions: Definitions = None,
    metrics: MetricTable = None,
    *,
    columns: Iterable[str] | None = None,
    settings: Settings = None,
    order: Order = "refuse",
    received: datetime | int | None = None,
    threads: int = 0,
) -> Table:
    """Computes the feature rows of a frame of readings: those of ``feature-store backfill``.

    The frame is long or wide. A long one has the columns ``zone``, ``event``, ``metric``,
    ``value`` and optionally ``device``, ``site``, ``arrival``, ``boot`` and ``seq``, ``source``;
    other columns are ignored. A wide one has a column for each metric, named as the metric, in
    place of ``metric`` and ``value``; null is no reading.

    - ``zone`` is ``site/zone``, or the zone alone beside a column ``site``.
    - ``event`` (or ``time``) is when a value was measured, ``arrival`` when the gateway received it; without
      it, readings arrived at their event times. Timestamps of any unit, UTC if they have no
      zone; or ``event_ms``, ``arrival_ms``: milliseconds since 1970.
    - ``value`` is in the unit of the metric table (°C, %RH, ppm, lux, %, hPa, …).

    :param definitions: a ``features.toml``, as a path or as its text; the built-in ones without.
        SQL expressions are refused by name: those are for the feature store.
    :param metrics: a site's own metrics, ``{"ph": {"unit": "1", "min": 0, "max": 14}}``.
    :param columns: metrics that have columns, for a schema that does not depend on the data;
        without, those of the frame, by name.
    :param settings: keys of ``[engine]`` of the feature store: ``grid_s``, ``lateness_s``,
        ``late_max_s``, ``time_zone``, ``place`` …
    :param order: ``"refuse"`` a frame in which a zone's readings are not in the order of arrival;
        ``"sort"`` them by arrival, event, device, metric and value; or take the rows as the
        order of a ``"log"``.
    :param received: when the recording was taken in; a reading of later is flagged ``future``.
        Now without.
    :param threads: zones at a time; 0 for one per processor. Does not change the result.
    :returns: ``zone``, ``time`` (UTC, ms), ``revision`` (0: as known; the highest: as corrected)
        and a column for each feature, null where it has no value; sorted by zone.
    :raises InputError: a column is missing or of the wrong type; a metric is not known.
    :raises OrderError: the order of arrival is not kept and ``order`` is ``"refuse"``.
    :raises DefinitionsError: names each mistake with line and hint.
    :raises SettingsError: a setting is not known or has an invalid value.

    >>> import polars as pl, microclimate as mc
    >>> from datetime import datetime, timedelta, timezone
    >>> start = datetime(2025, 6, 2, tzinfo=timezone.utc)
    >>> frame = pl.DataFrame({
    ...     "zone": ["farm/bay-1"] * 60,
    ...     "event": [start + timedelta(minutes=n) for n in range(60)],
    ...     "temperature": [20.0 + n / 10 for n in range(60)],
    ... })
    >>> mc.features(frame).to_polars()["temperature_mean_10m"][-1]
    25.45
    """
    return Table(
        _engine.compute_features(
            as_stream(frame),
            read_definitions(definitions),
            json.dumps(metrics or {}),
            json.dumps(settings or {}),
            _columns(columns),
            order,
            as_ms(received, "received"),
            threads,
        )
    )


def drying(frame: ArrowStream, *, settings: Settings = None, order: Order = "refuse") -> Table:
    """Drying trend of each soil probe, as of the newest reading of its zone.

    :param frame: readings as of :func:`features`; of the metrics, ``soil_moisture`` (%) and
        ``irrigation`` (0 or 1) count.
    :param settings: keys of ``[engine.drying]``: ``critical_pct``, ``target_pct``,
        ``rise_min_pct``, ``horizon_h`` …
    :returns: ``zone``, ``device``, ``time``, ``moisture_pct``, ``since_watering_h``,
        ``watering_rise_pct``, ``slope_pct_h`` with ``slope_se_pct_h`` and ``r2`` (since the last
        watering), ``tau_h`` and ``residual_pct`` (exponential dry-down), ``rate_pct_h`` (mean of
        the last days), ``response_pct_min`` and ``irrigation_min`` (per cent a minute of
        irrigation; minutes to the target), ``hours_to_critical`` with its interval. Null is
        unknown, never 0.
    :raises InputError: the frame has no readings of ``soil_moisture``.

    >>> mc.drying(frame, settings={"critical_pct": 30}).to_pandas()[["zone", "hours_to_critical"]]
    """
    engine_settings = {"drying": dict(settings or {})}
    return Table(_engine.drying_trends(as_stream(frame), json.dumps(engine_settings), order))


class Progress(NamedTuple):
    """Progress of a zone, UTC ms; ``None`` before the first valid reading."""

    final_ms: int | None
    """Time up to which rows are final."""
    newest_ms: int | None
    """Newest event time."""
    arrival_ms: int | None
    """Newest arrival time."""
    is_live: bool
    """Whether the zone has live readings, so that it advances by the clock while it is silent."""


class SnapshotChanges(NamedTuple):
    """An incremental snapshot: see :meth:`Engine.snapshot_changes`."""

    head: bytes
    written_hours: dict[int, bytes]
    removed_hours: list[int]


class Engine:
    """The feature engine for streams of readings, with snapshots.

    Rows are returned as they become final. The same readings in the same order give the same
    rows, however they are cut into frames, and wherever a snapshot was restored in between.

    :param definitions: as of :func:`features`.
    :param metrics: as of :func:`features`.
    :param columns: metrics that have columns. Without, columns are added as metrics appear, and
        the tables of later calls have more columns.
    :param settings: as of :func:`features`.

    >>> engine = mc.Engine(columns=["temperature", "humidity"])
    >>> for frame in frames:
    ...     rows = engine.ingest(frame)            # a microclimate.Table
    >>> rows = engine.finish()
    """

    def __init__(
        self,
        definitions: Definitions = None,
        metrics: MetricTable = None,
        *,
        columns: Iterable[str] | None = None,
        settings: Settings = None,
    ) -> None:
        self._native = _engine.StreamEngine(
            read_definitions(definitions),
            json.dumps(metrics or {}),
            json.dumps(settings or {}),
            _columns(columns),
        )

    @property
    def feature_names(self) -> list[str]:
        """Names of the features, in the order of columns."""
        return self._native.feature_names

    @property
    def schema_hash(self) -> str:
        """Hash of definitions and columns, which models compare."""
        return self._native.schema_hash

    @property
    def definitions_hash(self) -> str:
        """Hash of the definitions and of the version of the computation."""
        return self._native.definitions_hash

    @property
    def quality_counts(self) -> dict[str, int]:
        """Readings ingested by this object, by quality flag: ``{"ok": 90, "late": 1}``."""
        return self._native.quality_counts

    @property
    def zones(self) -> list[str]:
        """Zones in memory, by name."""
        return self._native.zones

    @property
    def retention_ms(self) -> int:
        """How far behind a zone's newest reading others are still needed, ms."""
        return self._native.retention_ms

    @property
    def plausible_ranges(self) -> dict[str, tuple[float, float]]:
        """Smallest and largest plausible value of every metric; other values are flagged
        ``out_of_range``."""
        return self._native.plausible_ranges

    def progress(self, zone: str) -> Progress | None:
        """Progress of a zone; ``None`` for one that is not in memory."""
        found = self._native.progress(zone)
        return None if found is None else Progress(*found)

    def ingest(
        self,
        frame: ArrowStream,
        *,
        order: Order = "refuse",
        received: datetime | int | None = None,
        source: Source = "replay",
    ) -> Table:
        """Ingests the next readings and returns the rows that became final or were recomputed.

        :param frame: as of :func:`features`.
        :param order: as of :func:`features`; across calls, arrivals must not go back unless it is
            ``"log"``. A frame that is refused changes nothing.
        :param received: when the frame was received, UTC; now without.
        :param source: of readings in a frame without that column. ``"live"`` zones also advance
            by :meth:`advance_clock`.
        :raises OrderError: arrivals go back.
        """
        received_ms = as_ms(received, "received")
        return Table(self._native.ingest(as_stream(frame), order, received_ms, source))

    def finish(self) -> Table:
        """Handles the end of the data: completes the rows of all zones."""
        return Table(self._native.finish())

    def finish_zone(self, zone: str) -> Table:
        """Handles the end of a file with readings of one zone."""
        return Table(self._native.finish_zone(zone))

    def complete_zone(self, zone: str, until: datetime | int) -> Table:
        """Completes the rows of a zone up to a time, whatever may still arrive."""
        until_ms = as_ms(until, "until")
        assert until_ms is not None
        return Table(self._native.complete_zone(zone, until_ms))

    def advance_clock(self, now: datetime | int) -> Table:
        """Advances time while nothing arrives: rows of live zones become final."""
        now_ms = as_ms(now, "now")
        assert now_ms is not None
        return Table(self._native.advance_clock(now_ms))

    def changed_rows(self) -> Table:
        """The newest row of each zone that has changed since the last call: provisional rows."""
        return Table(self._native.changed_rows())

    def remove_zone(self, zone: str) -> None:
        """Removes a zone with all its state."""
        self._native.remove_zone(zone)

    def snapshot(self, zone: str) -> bytes | None:
        """All state of a zone as bytes; ``None`` for one that is not in memory.

        Keep with it, in one transaction: the position of the next reading of the zone in its
        log, and the rows that were returned so far (a snapshot has none).
        """
        return self._native.snapshot(zone)

    def restore(self, snapshot: bytes) -> str:
        """Restores a zone and returns its name.

        :raises SnapshotError: of another version, other definitions, settings or metrics, cut
            off, or damaged. The engine is then as before.
        """
        return self._native.restore(snapshot)

    def snapshot_changes(self, zone: str) -> SnapshotChanges | None:
        """Head of the state of a zone, and the hours of readings that have changed since the call
        before. For stores of keys and values."""
        found = self._native.snapshot_changes(zone)
        return None if found is None else SnapshotChanges(*found)

    def restore_parts(self, head: bytes, hours: Mapping[int, bytes]) -> str:
        """Restores a zone from the newest head and the hours as last written.

        :raises SnapshotError: as of :meth:`restore`, and if an hour is missing or of another head.
        """
        return self._native.restore_parts(head, dict(hours))
