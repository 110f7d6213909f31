"""The client against a real feature store, and against answers that a server may also give."""

import json
import os
import socket
import subprocess
import threading
import time
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import polars as pl
import pyarrow as pa
import pytest
from rooms import START_MS, simulated_rooms

import microclimate as mc

FEATURE_STORE = os.environ.get("MICROCLIMATE_FEATURE_STORE")
ZONE = "sim/room-0"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A feature store with a backfill of simulated rooms, and its readings."""
    if not FEATURE_STORE:
        pytest.skip("MICROCLIMATE_FEATURE_STORE names no program")
    folder = tmp_path_factory.mktemp("store")
    frame = simulated_rooms(zones=2, hours=30)
    renamed = frame.rename_columns(
        ["time" if name == "event" else name for name in frame.column_names]
    )
    pl.DataFrame(renamed).write_parquet(folder / "readings.parquet")
    port = free_port()
    options = [
        *("--set", f"store.path={folder / 'store.duckdb'}"),
        *("--set", f"log.dir={folder / 'log'}"),
        *("--set", f"rest.listen=127.0.0.1:{port}"),
    ]
    load = [FEATURE_STORE, *options, "backfill", folder / "readings.parquet", "--layout", "parquet"]
    subprocess.run(load, check=True, capture_output=True, cwd=folder)
    service = subprocess.Popen([FEATURE_STORE, *options, "run"], cwd=folder, stderr=subprocess.PIPE)
    client = mc.Client(f"http://127.0.0.1:{port}", progress=False)
    deadline = time.monotonic() + 60
    while True:
        try:
            if len(client.zones()) == 2:
                break
        except mc.ClientError as error:
            assert time.monotonic() < deadline and service.poll() is None, error
        time.sleep(0.1)
    yield client, frame
    service.terminate()
    service.wait(30)


def test_zones_and_metrics(store):
    client, _ = store
    zones = client.zones().to_polars()
    assert zones["zone"].to_list() == ["sim/room-0", "sim/room-1"]
    assert zones["latest"].dtype == pl.Datetime("ms", "UTC")
    assert {"name": "temperature", "unit": "°C"}.items() <= next(
        row for row in client.metrics() if row["name"] == "temperature"
    ).items()
    assert len(client.definitions("vpd_kpa")["lineage"]) == 1


def test_all_pages_of_readings_are_those_that_were_loaded(store):
    client, frame = store
    readings = client.readings(zone=ZONE, quality="ok")
    assert len(readings) > 3000  # more than three pages
    found = readings.to_arrow()
    loaded = frame.filter(pa.compute.equal(frame["zone"], ZONE))
    assert sorted(
        zip(found["event"].to_pylist(), found["metric"].to_pylist(), found["value"].to_pylist())
    ) == sorted(
        zip(loaded["event"].to_pylist(), loaded["metric"].to_pylist(), loaded["value"].to_pylist())
    )
    assert readings.to_polars().shape == found.shape
    assert len(client.readings(zone=ZONE, limit=7)) == 7
    start = datetime.fromtimestamp(START_MS / 1000, timezone.utc).replace(hour=3)
    some = client.readings(
        zone=ZONE, metric="co2", start=start, end=start.replace(hour=4)
    ).to_polars()
    assert 40 < len(some) <= 60
    assert some["event"].min() >= start


def test_rows_of_the_server_are_recomputed_bit_for_bit(store):
    client, _ = store
    names = ["temperature_mean_1h", "co2_std_10m", "vpd_kpa", "drying_slope_pct_h"]
    served = client.history(ZONE, names=names, revisions="as_known").to_polars()
    assert len(served) > 1700
    computed = mc.features(client.readings(zone=ZONE, quality="ok"), order="sort").to_polars()
    both = served.join(computed, on=["zone", "time", "revision"], suffix="_here")
    assert len(both) == len(served)
    for name in names:
        assert both[name].cast(pl.Float64).equals(both[f"{name}_here"].rename(name)), name


def test_the_newest_row(store):
    client, _ = store
    (row,) = client.latest(zones=[ZONE], names=["temperature_last", "co2_last"])
    assert row["zone"] == ZONE and row["is_stale"] is True
    assert 10 < row["temperature_last"] < 30


def test_data_sets(store):
    client, _ = store
    at = datetime(2025, 6, 2, 5, 0, 20, tzinfo=timezone.utc)
    points = [(ZONE, at), ("sim/room-1", START_MS + 3_600_000)]
    table = client.dataset("as_known", points=points, names=["temperature_mean_1h"])
    rows = table.to_polars()
    assert rows["zone"].to_list() == ["sim/room-0", "sim/room-1"]
    assert rows["temperature_mean_1h"].null_count() == 0
    assert table.to_pandas().shape == rows.shape == table.to_arrow().shape
    grid = client.dataset(
        "as_corrected",
        zones=[ZONE],
        start="2025-06-02T01:00:00Z",
        end="2025-06-02T02:00:00Z",
        step_s=600,
    ).to_arrow()
    assert grid.num_rows == 7
    counted = client.sql("SELECT count(*) AS n FROM silver.readings").to_arrow()
    assert counted["n"][0].as_py() > 8000


def test_errors_have_the_code_and_the_hint_of_the_server(store):
    client, _ = store
    with pytest.raises(mc.ClientError) as refused:
        client.latest(names=["temperatur_last"])
    assert (refused.value.code, refused.value.status) == ("unknown_feature", 400)
    assert refused.value.hint == "did you mean `temperature_last`?"
    assert "hint: did you mean" in str(refused.value)
    with pytest.raises(mc.ClientError) as refused:
        client.get("/v1/features/history")
    assert refused.value.code == "bad_query"
    with pytest.raises(mc.ClientError) as refused:
        client.sql("SELECT * FROM glob('*')")
    assert refused.value.code == "sql_refused"
    with pytest.raises(mc.ClientError) as refused:
        client.get("/v1/none")
    assert refused.value.status == 404


@pytest.fixture
def server():
    """A server that gives the answers of a list and keeps the requests."""
    answers, requests = [], []

    class Handler(BaseHTTPRequestHandler):
        def answer(self):
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            requests.append((self.command, self.path, dict(self.headers), body))
            status, content = answers.pop(0)
            text = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = answer

        def log_message(self, *_):
            pass

    service = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=service.serve_forever, daemon=True).start()
    yield mc.Client(f"http://127.0.0.1:{service.server_port}/", token="secret"), answers, requests
    service.shutdown()
    service.server_close()


def test_pages_are_followed_and_the_token_is_sent(server):
    client, answers, requests = server
    answers += [
        (200, {"readings": [{"event_ms": 1}, {"event_ms": 2}], "next": "a b"}),
        (200, {"readings": [{"event_ms": 3}]}),
    ]
    assert [row["event_ms"] for row in client.readings(zone="farm/bay 1")] == [1, 2, 3]
    assert requests[0][1] == "/v1/readings?zone=farm%2Fbay+1&limit=1000"
    assert requests[1][1] == "/v1/readings?zone=farm%2Fbay+1&limit=1000&after=a+b"
    assert requests[0][2]["Authorization"] == "Bearer secret"


def test_a_page_that_repeats_does_not_go_on_for_ever(server):
    client, answers, _ = server
    answers += [(200, {"readings": [{"event_ms": 1}], "next": "a"})] * 3
    with pytest.raises(mc.ClientError, match="stays a"):
        client.readings()


def test_predictions(server):
    client, answers, requests = server
    answers.append(
        (
            200,
            {
                "predictions": [{"zone": "s/a", "value": 19.9, "interval": [19.8, 20.0]}],
                "errors": [],
            },
        )
    )
    frame = client.predict("temperature-10m", ["s/a"], explain=2).to_polars()
    assert frame["value"].to_list() == [19.9]
    assert requests[0][1] == "/v1/predict/temperature-10m?zones=s%2Fa&explain=2"
    answers.append(
        (200, {"predictions": [], "errors": [{"zone": "s/b", "message": "there are no features"}]})
    )
    with pytest.raises(mc.ClientError, match="s/b: there are no features"):
        client.predict("temperature-10m", "s/b")
    answers.append(
        (
            503,
            {"error": {"code": "no_champion", "message": "none yet", "hint": "`trainer compare`"}},
        )
    )
    with pytest.raises(
        mc.ClientError, match=r"no_champion \(503\): none yet\n  hint: `trainer compare`"
    ):
        client.predict("light", "s/a")


@pytest.mark.parametrize(
    ("status", "answer"),
    [(502, b"<html>bad gateway"), (200, b"<html>hello"), (500, b'{"error": "x"}')],
)
def test_an_answer_that_is_not_of_microclimate_is_said_to_be(server, status, answer):
    client, answers, _ = server
    answers.append((status, answer))
    with pytest.raises(mc.ClientError) as refused:
        client.zones()
    assert (refused.value.code, refused.value.status) == ("bad_answer", status)


def test_nobody_there():
    client = mc.Client(f"http://127.0.0.1:{free_port()}")
    with pytest.raises(
        mc.ClientError, match=r"unreachable: (.|\n)*hint: is `microclimate up` running"
    ):
        client.zones()
    with pytest.raises(mc.InputError, match="is not an address"):
        mc.Client("127.0.0.1:8080")


def test_what_is_missing_is_said_before_a_request():
    client = mc.Client("http://127.0.0.1:1")
    for call in (
        lambda: client.dataset("as_known"),
        lambda: client.dataset("as_known", zones=["a/b"]),
        lambda: client.dataset("as_known", zones=["a/b"], points=[]),
    ):
        with pytest.raises(mc.InputError):
            call()


def test_reports_of_comparisons(tmp_path):
    run = tmp_path / "run-1"
    run.mkdir()
    (run / "leaderboard.csv").write_text(
        "task,model,error,p\nlight,ridge,0.5,\nlight,persistence,0.7,1\n"
    )
    (tmp_path / "latest_run.json").write_text('{"run_id": "run-1", "dir": "run-1"}')
    rows = mc.reports(tmp_path).to_polars()
    assert rows.to_dicts()[0] == {
        "run_id": "run-1",
        "task": "light",
        "model": "ridge",
        "error": 0.5,
        "p": None,
    }
    assert len(mc.reports(tmp_path, "run-1")) == 2
    with pytest.raises(mc.InputError, match="no report"):
        mc.reports(tmp_path, "run-2")


def test_records_become_the_same_frame_everywhere():
    rows = mc.Records(
        [{"zone": "a/b", "at_ms": 0, "x": 1, "y": [1]}, {"zone": "a/c", "at_ms": None, "x": 1.5}]
    )
    arrow = rows.to_arrow()
    assert arrow.column_names == ["zone", "time", "x", "y"]
    assert arrow["x"].to_pylist() == [1.0, 1.5]
    assert rows.to_polars()["x"].to_list() == [1.0, 1.5]
    assert rows.to_polars()["y"].to_list() == ["[1]", None]
    assert list(rows.to_pandas().columns) == arrow.column_names
    assert len(rows[1:]) == 1 and rows[0]["zone"] == "a/b"
    assert pa.table(rows).equals(arrow)
