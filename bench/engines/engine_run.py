"""One run of one engine: start, stages, end."""

import json
import os
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path

from .engine_list import ENGINES
from .feature_set import DEFINITIONS, SITE
from .process_meter import MeteredProcess
from .worker import WorkerContext


@dataclass
class EngineRun:
    """What was measured. Seconds, processor seconds and memory by stage; `start` is what was before
    the first one, imports and the JVM's start. An engine that computes all tables in one pass has
    the one stage `one pass`."""

    engine: str
    workers: int
    repeat: int
    seconds: dict = field(default_factory=dict)
    cpu_s: dict = field(default_factory=dict)
    memory_mb: dict = field(default_factory=dict)
    facts: dict = field(default_factory=dict)
    error: str | None = None

    @property
    def total_s(self):
        return sum(self.seconds.values())

    @property
    def total_cpu_s(self):
        return sum(self.cpu_s.values())

    @property
    def peak_memory_mb(self):
        return max(self.memory_mb.values(), default=0.0)


def run_engine(name, workers, repeat, raw, out, options, progress):
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    if ENGINES[name].location is None:
        command = store_command(name, raw, out, options, workers)
    else:
        context = WorkerContext(name, raw, out, workers, options.spark_memory, options.trigger_hours)
        command = [sys.executable, "-m", f"{__package__}.worker", context.to_json()]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH")])),
        "PYSPARK_PYTHON": sys.executable,
        "POLARS_MAX_THREADS": str(workers),
        "PYTHONWARNINGS": "ignore",
    }
    process = MeteredProcess(command, environment, out / "log.txt", workers)
    status = process.run(options.limit_s, progress.show_line, progress.show_sample)
    run = EngineRun(name, workers, repeat)
    if status is None:
        run.error = f"stopped after {options.limit_s} s"
    elif status != 0:
        run.error = f"failed, see {name}-{workers}.log: {last_line(out / 'log.txt')[:80]}"
    if ENGINES[name].location is None:
        add_stage(run, process, "one pass", process.start_s, process.end_s)
        if run.error is None:
            run.facts = json.loads("".join(process.lines))
    else:
        add_stages(run, process)
    return run


def store_command(name, raw, out, options, workers):
    definitions = out / "features.toml"
    definitions.write_text(DEFINITIONS)
    command = [
        options.feature_store, "backfill", raw, "--layout", "keti", "--site", SITE, "--jobs", workers,
        "--set", f"store.path={out / 'store.duckdb'}", "--set", f"engine.features={definitions}"]
    if name == "store-rows":
        command.append("--features-only")
    return [str(part) for part in command]


def add_stages(run, process):
    stage_start_s, is_first = process.start_s, True
    for line in process.lines:
        if not line.startswith("{"):
            continue
        event = json.loads(line)
        if "facts" in event:
            run.facts = event["facts"]
        elif event["is_start"]:
            if is_first:
                add_stage(run, process, "start", process.start_s, event["at_s"])
                is_first = False
            stage_start_s = event["at_s"]
        else:
            add_stage(run, process, event["stage"], stage_start_s, event["at_s"])


def add_stage(run, process, name, from_s, to_s):
    run.seconds[name] = to_s - from_s
    run.cpu_s[name], run.memory_mb[name] = process.usage(from_s, to_s)


def last_line(log):
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else "no output"
