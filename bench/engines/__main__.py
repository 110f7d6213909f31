"""The same readings through pandas, polars, DuckDB, Spark and Microclimate, stage by stage.

Every engine makes a bronze table of the raw files, a silver one of checked readings, feature rows
(five metrics × four windows × seven aggregates, each minute) and hourly and daily KPIs, on disk, in
a process of its own. Measured are seconds, processor time and memory of all processes that it
starts; every value is compared with that of `feature-store backfill`.
"""

import argparse
import os
import random
import shutil
import signal
import sys
from pathlib import Path

from .comparison import compare_features, compare_kpis, write_reference
from .engine_list import ENGINES, REFERENCE
from .engine_run import run_engine
from .input_readings import count_readings, recorded_rooms, simulated_rooms
from .progress_line import ProgressLine
from .results import EngineResult, markdown_table, spark_table, write_csv, write_difference_csv

EXAMPLES = """examples:
  bench/engines/run --rooms 4 --days 7                        # recorded, where MICROCLIMATE_DATA is set
  bench/engines/run --simulated --rooms 2 --days 2            # without data
  bench/engines/run --engines pandas polars duckdb            # without Java
  bench/engines/run --workers 1 2 --repeats 3 --once spark    # cost a row by workers, medians of three

Ctrl-C ends a run and keeps what was measured. Writes results.csv, differences.csv, runs.csv, table.md and engines.png to --out.
"""


def parse_options(arguments):
    parser = argparse.ArgumentParser(
        prog="bench/engines/run", description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rooms", type=int, default=4, help="rooms of the building [%(default)s]")
    parser.add_argument("--days", type=int, default=7, help="days from the first reading on [%(default)s]")
    parser.add_argument("--simulated", action="store_true", help="simulated rooms, though there is a recording")
    parser.add_argument("--interval-s", type=int, default=5, help="seconds between simulated readings [%(default)s]")
    parser.add_argument("--engines", nargs="+", choices=list(ENGINES), metavar="NAME",
                        help=f"of {', '.join(ENGINES)} [all; without Java those that need none]")
    parser.add_argument("--workers", nargs="+", type=int, default=[min(2, os.cpu_count())], metavar="N",
                        help="processors; with several numbers, engines on Spark run once with each [%(default)s]")
    parser.add_argument("--repeats", type=int, default=1, help="runs of each engine, in random order; medians [%(default)s]")
    parser.add_argument("--once", nargs="+", choices=[name for name in ENGINES if name != REFERENCE], metavar="NAME", default=[],
                        help="engines that do not take part in the repeats, because they are slow")
    parser.add_argument("--limit-s", type=int, default=1800, help="stops an engine after this time [%(default)s]")
    parser.add_argument("--spark-memory", default="2g", help="heap of Spark's JVM [%(default)s]")
    parser.add_argument("--trigger-hours", type=int, default=6, help="recorded time in one trigger of the stream [%(default)s]")
    parser.add_argument("--feature-store", type=Path, default=os.environ.get("MICROCLIMATE_FEATURE_STORE"),
                        help="the program [MICROCLIMATE_FEATURE_STORE]")
    parser.add_argument("--out", type=Path, default=Path("target/engines"), help="folder of results [%(default)s]")
    parser.add_argument("--draw", action="store_true", help="measures nothing: draws the results in --out again")
    options = parser.parse_args(arguments)
    if options.draw:
        return options
    if options.feature_store is None or not Path(options.feature_store).exists():
        parser.error("--feature-store names no program (cargo build -p microclimate-feature-store)")
    options.out = options.out.resolve()
    return options


def choose_engines(options):
    """Pairs of engine and workers. The reference is always among them."""
    names = options.engines or list(ENGINES)
    if shutil.which("java") is None:
        print("Java is not installed: the engines on Spark are left out", file=sys.stderr)
        names = [name for name in names if not ENGINES[name].needs_java]
    if REFERENCE not in names:
        names = [REFERENCE, *names]
    most = max(options.workers)
    return [(name, workers) for name in ENGINES if name in names
            for workers in (sorted(options.workers) if ENGINES[name].by_workers else [most])]


def prepare_input(options):
    data = os.environ.get("MICROCLIMATE_DATA")
    recorded = Path(data, "KETI") if data else None
    if recorded is None or options.simulated:
        return simulated_rooms(options.rooms, options.days, options.interval_s, options.out), "simulated"
    return recorded_rooms(recorded, options.rooms, options.days, options.out), "KETI"


def main():
    options = parse_options(sys.argv[1:])
    if options.draw:
        return draw_again(options.out)
    options.out.mkdir(parents=True, exist_ok=True)
    pairs = choose_engines(options)
    raw, source = prepare_input(options)
    readings = count_readings(raw)
    print(f"{readings:,} readings of {len(list(raw.glob('*/')))} rooms ({source})", file=sys.stderr)
    results = {pair: EngineResult(*pair, runs=[]) for pair in pairs}
    # SIGTERM counts as much as Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        run_all(options, results, raw)
    except KeyboardInterrupt:
        print("interrupted: these are the runs that ended", file=sys.stderr)
    ended = [result for result in results.values() if result.runs]
    finish(options, ended, readings, source)
    return 1 if any(result.error for result in ended) else 0


def draw_again(folder):
    from .plot import draw_results
    from .results_reader import read_results

    results, readings = read_results(folder)
    source = "KETI" if any(folder.glob("raw-recorded-*")) else "simulated"
    draw_results(folder / "engines.png", results, readings, source)
    print(f"{markdown_table(results)}\n\n{spark_table(results)}")


def run_all(options, results, raw):
    pairs = list(results)
    repeated = [pair for pair in pairs if pair[0] not in options.once]
    progress = ProgressLine(len(pairs) + len(repeated) * (options.repeats - 1))
    reference, out = options.out / "reference", options.out / "work"
    rng = random.Random(options.repeats)
    for repeat in range(options.repeats):
        own = pairs if repeat == options.repeats - 1 else repeated
        order = rng.sample(own, len(own))
        # The reference comes first, since the others are compared with it as soon as they have
        # ended. What runs once comes last, so that it is not between repeats of the others.
        order.sort(key=lambda pair: (pair[0] != REFERENCE, pair[0] in options.once))
        for name, workers in order:
            progress.start(ENGINES[name].title, workers)
            run = run_engine(name, workers, repeat, raw, out, options, progress)
            progress.end(run)
            results[name, workers].runs.append(run)
            if run.error is None:
                compare_run(results[name, workers], out, reference)
            shutil.copy(out / "log.txt", options.out / f"{name}-{workers}.log")
            shutil.rmtree(out)


def compare_run(result, out, reference):
    """Of repeats, the values of the first are compared."""
    if len(result.finished) > 1:
        return
    if result.engine == REFERENCE:
        write_reference(out / "store.duckdb", reference)
        return
    if ENGINES[result.engine].location is None:
        write_reference(out / "store.duckdb", out)
        result.features = compare_features(out, reference)
        return
    result.features = compare_features(out, reference)
    if (out / "hourly").exists() or (out / "hourly.parquet").exists():
        result.kpis = compare_kpis(out, reference, "hourly")


def finish(options, results, readings, source):
    from .plot import draw_results

    write_csv(options.out / "results.csv", results, readings)
    write_difference_csv(options.out / "differences.csv", results)
    write_runs_csv(options.out / "runs.csv", results)
    tables = f"{markdown_table(results)}\n\n{spark_table(results)}\n"
    (options.out / "table.md").write_text(tables)
    draw_results(options.out / "engines.png", results, readings, source)
    print(tables)


def write_runs_csv(path, results):
    """One line for each stage of each run."""
    with open(path, "w") as file:
        file.write("engine,workers,repeat,stage,seconds,cpu_s,memory_mb\n")
        for result in results:
            for run in result.runs:
                for stage, seconds in run.seconds.items():
                    file.write(f"{run.engine},{run.workers},{run.repeat},{stage},{seconds:.2f},{run.cpu_s[stage]:.2f},"
                               f"{run.memory_mb[stage]:.0f}\n")


if __name__ == "__main__":
    sys.exit(main())
