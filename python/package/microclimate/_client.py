"""Client of a running Microclimate over HTTP: the REST API as frames. Standard library only."""

from __future__ import annotations

import csv
import io
import json
import ssl
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ._engine import InputError

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow

Time = datetime | date | str | int
Mode = Literal["as_known", "as_corrected"]

#: Readings or rows that one request asks for.
PAGE_ROWS = 1000
#: Bytes read at once from a long answer.
CHUNK_BYTES = 1 << 18


class ClientError(Exception):
    """The server refused a request, or could not be reached.

    ``code`` is stable (``unknown_zone``, ``bad_query``, ``unauthorized`` …, or ``unreachable``
    where there was no answer), ``hint`` says how to fix it where that is known, ``status`` is
    HTTP's.
    """

    def __init__(self, code: str, message: str, hint: str | None, status: int | None) -> None:
        super().__init__(code, message, hint, status)
        self.code = code
        self.message = message
        self.hint = hint
        self.status = status

    def __str__(self) -> str:
        where = f"{self.code} ({self.status})" if self.status else self.code
        hint = f"\n  hint: {self.hint}" if self.hint else ""
        return f"{where}: {self.message}{hint}"


class _Frame:
    """An answer that pyarrow or polars reads, whichever is wanted."""

    def to_arrow(self) -> pyarrow.Table:
        raise NotImplementedError

    def to_polars(self) -> polars.DataFrame:
        raise NotImplementedError

    def to_pandas(self) -> pandas.DataFrame:
        """The rows as ``pandas.DataFrame``; needs pyarrow."""
        return self.to_arrow().to_pandas()

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        try:
            frame: Any = self.to_arrow()
        except ImportError:
            frame = self.to_polars()
        return frame.__arrow_c_stream__(requested_schema)


class Records(_Frame, Sequence[dict[str, Any]]):
    """Rows of an answer: a sequence of dictionaries that becomes a frame.

    Keys that end in ``_ms`` are UTC milliseconds. In frames they are timestamps, under the name
    without the ending: ``event_ms`` becomes ``event``, ``at_ms`` becomes ``time``.
    """

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self._rows = rows

    def __getitem__(self, at: Any) -> Any:
        found = self._rows[at]
        return Records(found) if isinstance(at, slice) else found

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self._rows)

    def __repr__(self) -> str:
        return f"<microclimate.Records: {len(self)} rows>"

    def _columns(self) -> dict[str, list[Any]]:
        names: dict[str, None] = {}
        for row in self._rows:
            names.update(dict.fromkeys(row))
        return {name: [row.get(name) for row in self._rows] for name in names}

    def to_arrow(self) -> pyarrow.Table:
        """The rows as ``pyarrow.Table``."""
        import pyarrow

        columns = {}
        for name, values in self._columns().items():
            if name.endswith("_ms"):
                columns[_time_name(name)] = pyarrow.array(values, pyarrow.timestamp("ms", tz="UTC"))
            elif _is_nested(values):
                columns[name] = pyarrow.array(
                    [_as_text(value) for value in values], pyarrow.string()
                )
            elif _is_float(values):
                columns[name] = pyarrow.array(values, pyarrow.float64())
            else:
                columns[name] = pyarrow.array(values)
        return pyarrow.table(columns)

    def to_polars(self) -> polars.DataFrame:
        """The rows as ``polars.DataFrame``."""
        import polars

        columns = []
        for name, values in self._columns().items():
            if name.endswith("_ms"):
                times = polars.Series(_time_name(name), values, dtype=polars.Int64)
                columns.append(times.cast(polars.Datetime("ms", "UTC")))
            elif _is_nested(values):
                columns.append(polars.Series(name, [_as_text(value) for value in values]))
            elif _is_float(values):
                columns.append(polars.Series(name, values, dtype=polars.Float64, strict=False))
            else:
                columns.append(polars.Series(name, values))
        return polars.DataFrame(columns)


def _time_name(name: str) -> str:
    return "time" if name == "at_ms" else name.removesuffix("_ms")


def _is_nested(values: list[Any]) -> bool:
    return any(isinstance(value, (dict, list)) for value in values)


def _as_text(value: Any) -> str | None:
    return None if value is None else json.dumps(value, ensure_ascii=False)


def _is_float(values: list[Any]) -> bool:
    """Whether numbers are to be floats: JSON writes 20.0 and 20 alike in some places."""
    known = [value for value in values if value is not None]
    numbers = all(
        isinstance(value, (int, float)) and not isinstance(value, bool) for value in known
    )
    return numbers and (not known or any(isinstance(value, float) for value in known))


class ProgressBar:
    """A line on standard error, where that is a terminal: what is done, and at what rate."""

    def __init__(self, what: str, unit: str, show: bool | None) -> None:
        self._what, self._unit = what, unit
        self._show = sys.stderr.isatty() if show is None else show
        self._done, self._start, self._drawn = 0, time.monotonic(), 0.0

    def __enter__(self) -> ProgressBar:
        return self

    def advance(self, done: int, total: int | None = None) -> None:
        """Adds what was done."""
        self._done += done
        now = time.monotonic()
        if self._show and now - self._drawn > 0.1:
            self._drawn = now
            share = f" of {total:,}" if total else ""
            elapsed = max(now - self._start, 1e-3)
            rate = f"{self._done / elapsed:,.0f}/s"
            print(
                f"\r{self._what}: {self._done:,}{share} {self._unit}, {elapsed:.0f} s, {rate}\x1b[K",
                end="",
                file=sys.stderr,
                flush=True,
            )

    def __exit__(self, *_: object) -> None:
        if self._show and self._drawn:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def time_text(value: Time | None) -> str | None:
    """A time as the API reads it: RFC 3339, a date, or a number since 1970. Times without a time
    zone are UTC."""
    if value is None or isinstance(value, (str, int)):
        return None if value is None else str(value)
    if isinstance(value, datetime):
        aware = value if value.tzinfo else value.replace(tzinfo=timezone.utc)
        return aware.astimezone(timezone.utc).isoformat().replace("+00:00", "Z")
    return value.isoformat()


def _joined(names: Iterable[str] | str | None) -> str | None:
    if names is None or isinstance(names, str):
        return names
    return ",".join(names)


class Client:
    """A running Microclimate: ``microclimate up``, ``feature-store`` or ``trainer serve``.

    :param url: address of the service, as in ``http://127.0.0.1:8080`` (all in one) or
        ``http://127.0.0.1:8082`` (the feature store alone).
    :param trainer_url: address of the trainer where it runs alone; ``url`` without.
    :param token: sent as ``Authorization: Bearer …``.
    :param timeout_s: longest wait for an answer to begin, seconds.
    :param progress: whether what takes long draws a line on standard error; by default where that
        is a terminal.
    :param tls: context for HTTPS with a certificate authority of one's own.

    >>> client = mc.Client("http://127.0.0.1:8080")
    >>> client.zones().to_polars()
    >>> readings = client.readings(zone="farm/bay-1", metric="temperature", quality="ok")
    >>> rows = mc.features(readings, order="sort")     # recomputed here, bit for bit
    """

    def __init__(
        self,
        url: str,
        *,
        trainer_url: str | None = None,
        token: str | None = None,
        timeout_s: float = 60.0,
        progress: bool | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        for address in (url, trainer_url or url):
            if urllib.parse.urlsplit(address).scheme not in ("http", "https"):
                raise InputError(f"`{address}` is not an address, expected http://… or https://…")
        self._url = url.rstrip("/")
        self._trainer_url = (trainer_url or url).rstrip("/")
        self._token = token
        self._timeout_s = timeout_s
        self._progress = progress
        self._tls = tls

    def zones(self) -> Records:
        """Zones, each with its metrics and its newest event and final row."""
        return self._pages("/v1/zones", {}, "zones")

    def metrics(self) -> Records:
        """Metrics with units and plausible ranges."""
        return _records(self.get("/v1/metrics"), "metrics")

    def definitions(self, names: Iterable[str] | str | None = None) -> dict[str, Any]:
        """Feature definitions with their hash, versions, and the lineage of features."""
        found: dict[str, Any] = self.get("/v1/definitions", names=_joined(names))
        return found

    def readings(
        self,
        *,
        zone: str | None = None,
        device: str | None = None,
        metric: str | None = None,
        quality: str | None = None,
        start: Time | None = None,
        end: Time | None = None,
        limit: int | None = None,
    ) -> Records:
        """Readings as they were kept, newest first: ``zone``, ``device``, ``metric``, ``event``,
        ``arrival``, ``value`` (in the metric's unit), ``quality``, ``source``.

        :param start: earliest event time, included; :param end: latest, included.
        :param limit: largest number of readings; all without.
        """
        query = {
            "zone": zone,
            "device": device,
            "metric": metric,
            "quality": quality,
            "from": time_text(start),
            "to": time_text(end),
        }
        return self._pages("/v1/readings", query, "readings", limit=limit)

    def latest(
        self,
        *,
        zones: Iterable[str] | str | None = None,
        names: Iterable[str] | str | None = None,
    ) -> Records:
        """The newest row of each zone, from memory: ``zone``, ``time``, ``age_s``, ``is_stale``,
        ``status`` and the features."""
        query = {"zones": _joined(zones), "names": _joined(names)}
        return Records([_flat(row) for row in self._pages("/v1/features/latest", query, "rows")])

    def history(
        self,
        zone: str,
        *,
        names: Iterable[str] | str | None = None,
        start: Time | None = None,
        end: Time | None = None,
        step_s: int | None = None,
        revisions: Literal["as_known", "as_corrected", "all"] = "as_corrected",
        limit: int | None = None,
    ) -> Records:
        """Final rows of a zone, oldest first: ``time``, ``revision``, ``status``, the features.

        :param step_s: only rows whose time is a multiple of this, seconds.
        :param limit: largest number of rows, of which the newest are taken; all without.
        """
        query = {
            "zone": zone,
            "names": _joined(names),
            "from": time_text(start),
            "to": time_text(end),
            "step_s": step_s,
            "revisions": revisions,
        }
        pages = self._pages("/v1/features/history", query, "rows", limit=limit, cursor="before")
        rows = [{"zone": zone, **_flat(row)} for row in pages]
        return Records(sorted(rows, key=lambda row: (row["at_ms"], row["revision"])))

    def dataset(
        self,
        mode: Mode,
        *,
        points: Iterable[tuple[str, Time]] | None = None,
        zones: Iterable[str] | None = None,
        start: Time | None = None,
        end: Time | None = None,
        step_s: int | None = None,
        names: Iterable[str] | None = None,
        age_s_max: int | None = None,
        version: int | None = None,
    ) -> ArrowTable:
        """A data set to train on: for each zone and time the newest row that is not after it.

        :param mode: ``"as_known"``: only what had arrived by then; ``"as_corrected"``: with what
            has arrived since. The two are never mixed.
        :param points: pairs of zone and time; or a grid of ``zones`` from ``start`` to ``end``
            every ``step_s`` seconds.
        :param names: features; all without.
        :param age_s_max: largest age of a row at its point, seconds.
        """
        body: dict[str, Any] = {"mode": mode}
        if (points is None) == (zones is None):
            raise InputError("give either points, or zones with start, end and step_s")
        if points is not None:
            body["points"] = [{"zone": zone, "at": time_text(at)} for zone, at in points]
        else:
            span = {"from": time_text(start), "to": time_text(end), "step_s": step_s}
            if None in (span["from"], span["to"]):
                raise InputError("a grid of zones needs start and end")
            grid = {"zones": list(zones or ()), **span}
            body["grid"] = {key: value for key, value in grid.items() if value is not None}
        optional = {"names": names and list(names), "age_s_max": age_s_max, "version": version}
        body.update({key: value for key, value in optional.items() if value is not None})
        return self._arrow("/v1/dataset", body, "data set")

    def sql(self, query: str, *, limit: int | None = None) -> ArrowTable:
        """Rows of one SELECT in DuckDB's SQL over bronze, silver, gold, features and meta."""
        body = {"sql": query, **({"limit": limit} if limit is not None else {})}
        return self._arrow("/v1/sql", body, "query")

    def predict(
        self, task: str, zones: Iterable[str] | str, *, explain: int | None = None
    ) -> Records:
        """Predictions of a task: ``value`` in ``unit``, ``interval``, ``model``, ``version``,
        ``is_stale``, ``fallback``.

        :param explain: number of inputs that moved the value most, as ``contributions``.
        :raises ClientError: code ``no_prediction`` names the zones for which there is none.

        >>> client.predict("temperature-10m", ["farm/bay-1"]).to_pandas()
        """
        wanted = [zones] if isinstance(zones, str) else list(zones)
        query = {"zones": ",".join(wanted), "explain": explain}
        found = self._request("GET", self._trainer_url, f"/v1/predict/{_part(task)}", query)
        if found.get("errors"):
            problems = "; ".join(f"{one['zone']}: {one['message']}" for one in found["errors"])
            raise ClientError("no_prediction", problems, None, 200)
        return Records(found["predictions"])

    def tasks(self) -> Records:
        """Tasks with their targets and horizons."""
        return _records(self._request("GET", self._trainer_url, "/v1/tasks", {}), "tasks")

    def models(self, task: str | None = None) -> Records:
        """Versions of models, of one task or of all, with the champion and the challenger."""
        path = "/v1/models" if task is None else f"/v1/models/{_part(task)}"
        return _records(self._request("GET", self._trainer_url, path, {}), "models", "versions")

    def scores(self) -> Records:
        """Errors of past predictions, against what came true."""
        return _records(self._request("GET", self._trainer_url, "/v1/scores", {}), "scores")

    def get(self, path: str, **query: Any) -> Any:
        """The JSON of any path: ``client.get("/v1/quality", metric="temperature")``."""
        return self._request("GET", self._url, path, query)

    def _pages(
        self,
        path: str,
        query: Mapping[str, Any],
        key: str,
        *,
        limit: int | None = None,
        cursor: str = "after",
    ) -> Records:
        rows: list[dict[str, Any]] = []
        position: Any = None
        with ProgressBar(f"{self._url}{path}", key, self._progress) as bar:
            while limit is None or len(rows) < limit:
                left = PAGE_ROWS if limit is None else min(PAGE_ROWS, limit - len(rows))
                asked = {**query, "limit": left, cursor: position}
                page = self._request("GET", self._url, path, asked)
                rows.extend(page[key])
                bar.advance(len(page[key]))
                before, position = position, page.get("next")
                if position is None or not page[key]:
                    break
                if position == before:
                    raise ClientError("bad_answer", f"`next` of {path} stays {before}", None, 200)
        return Records(rows)

    def _arrow(self, path: str, body: Mapping[str, Any], what: str) -> ArrowTable:
        with self._open("POST", self._url, path, {"format": "arrow"}, body) as answer:
            length = answer.headers.get("Content-Length")
            total = int(length) if length else None
            chunks = []
            with ProgressBar(f"{self._url}{path}", f"bytes of the {what}", self._progress) as bar:
                while chunk := answer.read(CHUNK_BYTES):
                    chunks.append(chunk)
                    bar.advance(len(chunk), total)
        return ArrowTable(b"".join(chunks))

    def _request(self, method: str, url: str, path: str, query: Mapping[str, Any]) -> Any:
        with self._open(method, url, path, query, None) as answer:
            text = answer.read()
        try:
            return json.loads(text)
        except ValueError:
            what = f"{url}{path} answered {text[:80]!r}, expected JSON"
            raise ClientError(
                "bad_answer", what, "is this the address of Microclimate?", 200
            ) from None

    def _open(
        self,
        method: str,
        url: str,
        path: str,
        query: Mapping[str, Any],
        body: Mapping[str, Any] | None,
    ) -> Any:
        given = {key: value for key, value in query.items() if value is not None}
        address = url + path + ("?" + urllib.parse.urlencode(given) if given else "")
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(address, data=data, method=method)
        if data is not None:
            request.add_header("Content-Type", "application/json")
        if self._token:
            # Not sent again to where an answer may redirect.
            request.add_unredirected_header("Authorization", f"Bearer {self._token}")
        try:
            return urllib.request.urlopen(request, timeout=self._timeout_s, context=self._tls)
        except urllib.error.HTTPError as error:
            raise _refusal(error) from None
        except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
            reason = getattr(error, "reason", error)
            hint = "is `microclimate up` running, and is this its address?"
            raise ClientError("unreachable", f"{url}: {reason}", hint, None) from error


class ArrowTable(_Frame):
    """An answer in Arrow's stream format, read by pyarrow or polars, whichever is wanted."""

    def __init__(self, stream: bytes) -> None:
        self._stream = stream

    def to_arrow(self) -> pyarrow.Table:
        """The answer as ``pyarrow.Table``."""
        import pyarrow.ipc

        return pyarrow.ipc.open_stream(self._stream).read_all()

    def to_polars(self) -> polars.DataFrame:
        """The answer as ``polars.DataFrame``."""
        import polars

        return polars.read_ipc_stream(io.BytesIO(self._stream))

    def __repr__(self) -> str:
        return f"<microclimate.ArrowTable: {len(self._stream):,} bytes>"


def _part(name: str) -> str:
    return urllib.parse.quote(name, safe="")


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row with its features beside its other keys."""
    return {**{key: value for key, value in row.items() if key != "features"}, **row["features"]}


def _records(answer: Any, *keys: str) -> Records:
    if isinstance(answer, list):
        return Records(answer)
    for key in keys:
        if isinstance(answer.get(key), list):
            return Records(answer[key])
        if isinstance(answer.get(key), dict):
            return Records([{"name": name, **value} for name, value in answer[key].items()])
    raise ClientError("bad_answer", f"the answer has none of {', '.join(keys)}", None, 200)


def _refusal(error: urllib.error.HTTPError) -> ClientError:
    with error:
        text = error.read(1 << 16)
    try:
        found = json.loads(text)["error"]
        return ClientError(found["code"], found["message"], found.get("hint"), error.code)
    except (ValueError, KeyError, TypeError):
        message = text[:200].decode("utf-8", "replace") or error.reason
        return ClientError("bad_answer", str(message), None, error.code)


def reports(folder: str | Path, run: str | None = None) -> Records:
    """The leaderboard of a report that ``trainer compare`` has written, as rows: one for each
    model.

    :param folder: the trainer's folder of reports.
    :param run: run id; the newest one without (``latest_run.json``).
    :raises InputError: there is no such report.
    """
    place = Path(folder)
    try:
        if run is None:
            latest = json.loads((place / "latest_run.json").read_text(encoding="utf-8"))
            run = str(latest["run_id"])
        text = (place / run / "leaderboard.csv").read_text(encoding="utf-8")
    except (OSError, KeyError, ValueError) as error:
        raise InputError(f"{place} has no report of `trainer compare`: {error}") from None
    rows = [
        {key: _cell(value) for key, value in row.items()}
        for row in csv.DictReader(io.StringIO(text))
    ]
    return Records([{"run_id": run, **row} for row in rows])


def _cell(text: str) -> str | float | None:
    if text == "":
        return None
    try:
        return float(text)
    except ValueError:
        return text
