"""The same features of the same building data by pandas, polars, DuckDB SQL and ours.

    cargo build --workspace --bin feature-store
    pip install pandas==3.1.1 polars==2.1.0 duckdb==2.0.1 pyarrow==26.0.1 matplotlib==3.11.2
    MICROCLIMATE_DATA=~/data python bench/features_peers.py target/debug/feature-store target/features-bench

Reads `$MICROCLIMATE_DATA/KETI/<room>/<sensor>.csv` (lines `epoch, value`) and makes a row a room a
minute: five metrics x four windows (10 min, 1 h, 24 h, 7 d) x count, mean, std, min, max, last,
slope = 140 columns. A window of width w at t is (t - w, t]; readings outside the plausible range of
`crates/telemetry/src/metrics.toml` do not count. Each tool runs in a process of its own, one after the
other, with all processors, and ends with its columns in a file. The peers work the way a user of
them would: one-minute tiles, then rolling sums over tiles (pandas, polars: room by room; DuckDB:
SQL, RANGE over tiles).

Writes peers.csv and peers.png: time by stage, peak memory, and how far each is from ours by kind of
column (counts, minima, maxima and last values are to be equal).
"""

import csv
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

METRICS = {"temperature": (-30, 60), "humidity": (0, 100), "co2": (100, 10_000), "light": (0, 150_000),
           "motion": (0, 1_000)}
FILES = {"motion": "pir"}
WINDOWS = {"10m": 10, "1h": 60, "24h": 1440, "7d": 10_080}
AGGREGATES = ["count", "mean", "std", "min", "max", "last", "slope"]
DEFINITIONS = "version = 1\n[windows]\n" + "".join(
    f"{name} = {json.dumps(AGGREGATES)}\n" for name in WINDOWS)
NAMES = [f"{m}_{a}_{w}" for m in METRICS for w in WINDOWS for a in AGGREGATES]


def rooms(data):
    return sorted(path for path in data.iterdir() if path.is_dir())


class Stages:
    """Seconds by stage."""

    def __init__(self):
        self.seconds, self.since = {}, time.perf_counter()

    def end(self, stage):
        now = time.perf_counter()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self.since
        self.since = now


def by_pandas(data, out):
    import numpy as np
    import pandas as pd

    stages, whole = Stages(), []
    for room in rooms(data):
        sensors = {}
        for metric, (low, high) in METRICS.items():
            frame = pd.read_csv(room / f"{FILES.get(metric, metric)}.csv", header=None, names=["t", "v"])
            sensors[metric] = frame[(frame.v >= low) & (frame.v <= high)]
        stages.end("read")
        first = min(s.t.min() for s in sensors.values())
        last = max(s.t.max() for s in sensors.values())
        grid = np.arange(-(-first // 60) * 60, last // 60 * 60 + 1, 60)
        columns = {"zone": room.name, "time": grid}
        for metric, s in sensors.items():
            v0 = s.v.mean()
            d = pd.DataFrame({"tile": -(-s.t // 60) * 60, "v": s.v, "d": s.v - v0, "h": (s.t - first) / 3600})
            d["dd"], d["hh"], d["hd"] = d.d * d.d, d.h * d.h, d.h * d.d
            g = d.groupby("tile", sort=True)
            tiles = g[["d", "h", "dd", "hh", "hd"]].sum()
            tiles["n"], tiles["min"], tiles["max"], tiles["last"] = g.size(), g.v.min(), g.v.max(), g.v.last()
            tiles = tiles.reindex(grid)
            sums = tiles[["n", "d", "h", "dd", "hh", "hd"]].fillna(0.0)
            for window, width in WINDOWS.items():
                r = sums.rolling(width, min_periods=1).sum()
                n = r.n.round()
                has, two = n > 0, n > 1
                var = ((r.dd - r.d * r.d / n) / (n - 1)).clip(lower=0)
                shh = r.hh - r.h * r.h / n
                name = f"{metric}_{{}}_{window}".format
                columns[name("count")] = n
                columns[name("mean")] = (r.d / n + v0).where(has)
                columns[name("std")] = np.sqrt(var).where(two)
                columns[name("min")] = tiles["min"].rolling(width, min_periods=1).min()
                columns[name("max")] = tiles["max"].rolling(width, min_periods=1).max()
                columns[name("last")] = tiles["last"].ffill(limit=width - 1)
                columns[name("slope")] = ((r.hd - r.h * r.d / n) / shh).where(two & (shh > 1e-9))
        whole.append(pd.DataFrame({k: (v if np.isscalar(v) else np.asarray(v)) for k, v in columns.items()}))
        stages.end("windows")
    frame = pd.concat(whole)
    frame.to_parquet(out, compression="zstd")
    stages.end("write")
    return stages.seconds, len(frame)


def by_polars(data, out):
    import polars as pl

    stages, whole = Stages(), []
    for room in rooms(data):
        sensors = {}
        for metric, (low, high) in METRICS.items():
            path = room / f"{FILES.get(metric, metric)}.csv"
            s = pl.read_csv(path, has_header=False, new_columns=["t", "v"], schema_overrides=[pl.Int64, pl.String])
            s = s.with_columns(pl.col("v").str.strip_chars_start().cast(pl.Float64))
            sensors[metric] = s.filter(pl.col("v").is_between(low, high))
        stages.end("read")
        first = min(s["t"].min() for s in sensors.values())
        last = max(s["t"].max() for s in sensors.values())
        grid = pl.DataFrame({"time": pl.int_range(-(-first // 60) * 60, last // 60 * 60 + 1, 60, eager=True)})
        result = grid.select(pl.lit(room.name).alias("zone"), "time")
        for metric, s in sensors.items():
            v0 = s["v"].mean()
            d, h = pl.col("v") - v0, (pl.col("t") - first) / 3600
            tiles = s.lazy().with_columns(time=(pl.col("t") + 59) // 60 * 60).group_by("time").agg(
                n=pl.len().cast(pl.Float64), d=d.sum(), h=h.sum(), dd=(d * d).sum(), hh=(h * h).sum(),
                hd=(h * d).sum(), min=pl.col("v").min(), max=pl.col("v").max(), last=pl.col("v").last()).collect()
            tiles = grid.join(tiles, on="time", how="left", maintain_order="left")
            expressions = []
            for window, width in WINDOWS.items():
                def total(column, width=width):
                    return pl.col(column).fill_null(0.0).rolling_sum(width, min_samples=1)
                n, sd, sh = total("n"), total("d"), total("h")
                var = ((total("dd") - sd * sd / n) / (n - 1)).clip(lower_bound=0)
                shh = total("hh") - sh * sh / n
                name = f"{metric}_{{}}_{window}".format
                expressions += [
                    n.alias(name("count")),
                    pl.when(n > 0).then(sd / n + v0).alias(name("mean")),
                    pl.when(n > 1).then(var.sqrt()).alias(name("std")),
                    pl.col("min").rolling_min(width, min_samples=1).alias(name("min")),
                    pl.col("max").rolling_max(width, min_samples=1).alias(name("max")),
                    pl.col("last").forward_fill(limit=width - 1).alias(name("last")),
                    pl.when((n > 1) & (shh > 1e-9)).then((total("hd") - sh * sd / n) / shh).alias(name("slope")),
                ]
            result = result.hstack(tiles.lazy().select(expressions).collect().get_columns())
        whole.append(result)
        stages.end("windows")
    frame = pl.concat(whole)
    frame.write_parquet(out, compression="zstd")
    stages.end("write")
    return stages.seconds, frame.height


def by_duckdb(data, out):
    import duckdb

    stages = Stages()
    db = duckdb.connect(str(out))
    limits = ", ".join(f"('{FILES.get(m, m)}', '{m}', {low}, {high})" for m, (low, high) in METRICS.items())
    db.sql(f"""
        CREATE TEMP TABLE readings AS
        SELECT split_part(filename, '/', -2) AS zone, l.metric, column0 AS t, column1 AS v
        FROM read_csv('{data}/*/*.csv', header = false, filename = true, delim = ',',
                      columns = {{'column0': 'BIGINT', 'column1': 'DOUBLE'}}) r
        JOIN (VALUES {limits}) l(file, metric, low, high)
          ON split_part(filename, '/', -1) = l.file || '.csv'
        WHERE column1 BETWEEN low AND high""")
    stages.end("read")
    db.sql("""
        CREATE TEMP TABLE tiles AS
        SELECT zone, metric, (t + 59) // 60 * 60 AS time, count(*) AS n, sum(v - v0) AS d, sum((t - t0) / 3600.0) AS h,
               sum((v - v0) ^ 2) AS dd, sum(((t - t0) / 3600.0) ^ 2) AS hh, sum((t - t0) / 3600.0 * (v - v0)) AS hd,
               min(v) AS min, max(v) AS max, arg_max(v, t) AS last, any_value(v0) AS v0
        FROM readings JOIN (SELECT zone, metric, avg(v) AS v0 FROM readings GROUP BY ALL) USING (zone, metric)
                      JOIN (SELECT zone, min(t) AS t0 FROM readings GROUP BY ALL) USING (zone)
        GROUP BY zone, metric, time""")
    db.sql("""
        CREATE TEMP TABLE grid AS
        SELECT zone, metric, unnest(range(-(-lo // 60) * 60, hi // 60 * 60 + 1, 60)) AS time
        FROM (SELECT zone, min(t) AS lo, max(t) AS hi FROM readings GROUP BY ALL)
        CROSS JOIN (SELECT DISTINCT metric FROM readings)""")
    parts, frames = [], []
    for window, width in WINDOWS.items():
        over = f"w{window}"
        frames.append(f"{over} AS (PARTITION BY zone, metric ORDER BY time ROWS BETWEEN {width - 1} PRECEDING AND CURRENT ROW)")
        n = f"sum(n) OVER {over}"
        sums = {c: f"sum({c}) OVER {over}" for c in ["d", "h", "dd", "hh", "hd"]}
        shh = f"({sums['hh']} - {sums['h']} ^ 2 / {n})"
        parts += [
            f"coalesce({n}, 0) AS count_{window}",
            f"{sums['d']} / {n} + max(v0) OVER {over} AS mean_{window}",
            f"CASE WHEN {n} > 1 THEN sqrt(greatest(0, ({sums['dd']} - {sums['d']} ^ 2 / {n}) / ({n} - 1))) END AS std_{window}",
            f"min(min) OVER {over} AS min_{window}", f"max(max) OVER {over} AS max_{window}",
            f"last_value(last IGNORE NULLS) OVER {over} AS last_{window}",
            f"CASE WHEN {n} > 1 AND {shh} > 1e-9 THEN ({sums['hd']} - {sums['h']} * {sums['d']} / {n}) / {shh} END AS slope_{window}",
        ]
    db.sql(f"""CREATE TEMP TABLE long AS SELECT zone, metric, time, {', '.join(parts)}
               FROM grid LEFT JOIN tiles USING (zone, metric, time) WINDOW {', '.join(frames)}""")
    wide = ", ".join(f"max({a}_{w}) FILTER (metric = '{m}') AS {m}_{a}_{w}"
                     for m in METRICS for w in WINDOWS for a in AGGREGATES)
    stages.end("windows")
    db.sql(f"CREATE TABLE result AS SELECT zone, time, {wide} FROM long GROUP BY zone, time")
    rows = db.sql("SELECT count(*) FROM result").fetchall()[0][0]
    db.close()
    stages.end("write")
    return stages.seconds, rows


def ours(program, data, out, keep_readings):
    """Our program in a process of its own; its stages are seconds of its threads together."""
    out.unlink(missing_ok=True)
    definitions = out.with_suffix(".toml")
    definitions.write_text(DEFINITIONS)
    command = [program, "backfill", str(data), "--layout", "keti", "--site", "keti",
               "--set", f"store.path={out}", "--set", f"engine.features={definitions}"]
    if not keep_readings:
        command.append("--features-only")
    started = time.perf_counter()
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    said = json.load(child.stdout)
    _, status, usage = os.wait4(child.pid, 0)
    took = time.perf_counter() - started
    assert status == 0, status
    stages = said["stages_s"]
    share = took / sum(stages.values())
    seconds = {"read": stages["read"] * share, "windows": stages["engine"] * share, "write": stages["write"] * share}
    return {"seconds": seconds, "took_s": took, "rows": said["rows"], "memory_mb": usage.ru_maxrss / 1024,
            "readings": said["readings"]}


def peer(name, data, out):
    """One peer in a process of its own."""
    out.unlink(missing_ok=True)
    started = time.perf_counter()
    child = subprocess.Popen([sys.executable, __file__, "--peer", name, str(data), str(out)], stdout=subprocess.PIPE)
    said = json.load(child.stdout)
    _, status, usage = os.wait4(child.pid, 0)
    assert status == 0, (name, status)
    return {**said, "took_s": time.perf_counter() - started, "memory_mb": usage.ru_maxrss / 1024}


def differences(store, results):
    """For each peer, by kind of column, the largest difference from ours.

    Relative to the larger of the value and 1: deviations and slopes of flat windows are 0, and what
    sums of moments leave there would be infinitely far from it.
    """
    import duckdb

    db = duckdb.connect()
    db.sql(f"ATTACH '{store}' AS own (READ_ONLY)")
    found = {}
    for name, path in results.items():
        if path.suffix == ".duckdb":
            db.sql(f"ATTACH '{path}' AS peer (READ_ONLY)")
            source = "peer.result"
        else:
            source = f"read_parquet('{path}')"
        worst = {}
        for a in AGGREGATES:
            terms = []
            for m in METRICS:
                for w in WINDOWS:
                    x, y = f"o.{m}_{a}_{w}", f"p.{m}_{a}_{w}"
                    if a == "count":
                        terms.append(f"max(abs(coalesce({x}, 0) - coalesce({y}, 0)))")
                        continue
                    scale = f"greatest(1, abs({x}))"
                    terms.append(f"max(abs({x} - {y}) / {scale})")
            worst[a] = db.sql(f"""SELECT greatest({', '.join(terms)}) FROM own.features.rows o
                                  JOIN {source} p ON o.zone = p.zone AND epoch_ms(o.time) // 1000 = p.time""").fetchall()[0][0]
        found[name] = worst
        if path.suffix == ".duckdb":
            db.sql("DETACH peer")
    return found


def plot(table, worst, path, readings):
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    fig, (times, memory, off) = plt.subplots(1, 3, figsize=(15, 4.2), width_ratios=[3, 2, 3])
    names = [row["name"] for row in table]
    left = [0.0] * len(table)
    for stage, colour in [("read", "#9ecae1"), ("windows", "#3182bd"), ("write", "#bdbdbd")]:
        widths = [row["seconds"].get(stage, 0.0) for row in table]
        times.barh(names, widths, left=left, color=colour, label=stage)
        left = [a + b for a, b in zip(left, widths)]
    for i, row in enumerate(table):
        times.text(left[i], i, f" {row['took_s']:.1f} s", va="center")
        memory.text(row["memory_mb"], i, f" {row['memory_mb']:.0f}", va="center")
    times.set(title=f"seconds, {readings / 1e6:.1f} M readings to 140 columns", xlim=(0, max(left) * 1.18))
    times.legend(loc="upper right", frameon=False)
    memory.barh(names, [row["memory_mb"] for row in table], color="#74c476")
    memory.set(title="peak memory, MB", xlim=(0, max(row["memory_mb"] for row in table) * 1.25), yticklabels=[])
    kinds = AGGREGATES
    for i, (name, own) in enumerate(worst.items()):
        off.bar([x + (i - 1) * 0.27 for x in range(len(kinds))], [max(own[k], 1e-17) for k in kinds], 0.27, label=name)
    off.set(title="largest difference from ours (relative)", yscale="log", ylim=(1e-17, None),
            xticks=range(len(kinds)), xticklabels=kinds)
    off.legend(frameon=False)
    for axis in (times, memory):
        axis.invert_yaxis()
    for axis in (times, memory, off):
        axis.spines[["top", "right"]].set_visible(False)
    fig.tight_layout()
    fig.savefig(path, dpi=110)


PEERS = {"pandas": (by_pandas, "parquet"), "polars": (by_polars, "parquet"), "DuckDB SQL": (by_duckdb, "duckdb")}


def main():
    if sys.argv[1] == "--peer":
        name, data, out = sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4])
        seconds, rows = PEERS[name][0](data, out)
        json.dump({"seconds": seconds, "rows": rows}, sys.stdout)
        return
    program, out = sys.argv[1], Path(sys.argv[2])
    data = Path(os.environ["MICROCLIMATE_DATA"]) / "KETI"
    out.mkdir(parents=True, exist_ok=True)
    table, results = [], {}
    store = out / "ours.duckdb"
    for name, keep in [("ours", False), ("ours, readings kept", True)]:
        table.append({"name": name, **ours(program, data, store if not keep else out / "kept.duckdb", keep)})
    readings = table[0]["readings"]
    for name, (_, suffix) in PEERS.items():
        path = out / f"{name.split()[0].lower()}.{suffix}"
        table.append({"name": name, **peer(name, data, path)})
        results[name] = path
    worst = differences(store, results)
    with open(out / "peers.csv", "w", newline="") as file:
        rows = csv.writer(file)
        stages = ["read", "windows", "write"]
        rows.writerow(["tool", "seconds", *stages, "memory_mb", "rows", *(f"difference_{a}" for a in AGGREGATES)])
        for row in table:
            off = worst.get(row["name"], {})
            rows.writerow([row["name"], f"{row['took_s']:.2f}", *(f"{row['seconds'].get(s, 0):.2f}" for s in stages),
                           f"{row['memory_mb']:.0f}", row["rows"], *(f"{off[a]:.2g}" if off else "" for a in AGGREGATES)])
    print((out / "peers.csv").read_text())
    plot(table, worst, out / "peers.png", readings)


if __name__ == "__main__":
    main()
