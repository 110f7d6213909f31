"""Results of a run that has ended, from its CSVs, to draw them again."""

import csv

from .comparison import TableDifference
from .engine_list import ENGINES
from .engine_run import EngineRun
from .results import EngineResult


def read_results(folder):
    """Results, and the number of readings."""
    runs, relatives = {}, {}
    for line in read_lines(folder / "runs.csv"):
        key = line["engine"], int(line["workers"])
        run = runs.setdefault(key, {}).setdefault(line["repeat"], EngineRun(*key, int(line["repeat"])))
        run.seconds[line["stage"]] = float(line["seconds"])
        run.cpu_s[line["stage"]] = float(line["cpu_s"])
        run.memory_mb[line["stage"]] = float(line["memory_mb"])
    for line in read_lines(folder / "differences.csv"):
        columns = relatives.setdefault((line["engine"], line["workers"]), {})
        columns[line["column"]] = float(line["relative_difference"])
    names = {entry.title: name for name, entry in ENGINES.items()}
    results, readings = [], 0
    for line in read_lines(folder / "results.csv"):
        key = names[line["engine"]], int(line["workers"])
        result = EngineResult(*key, runs=list(runs.get(key, {}).values()) if not line["error"] else [])
        if line["rows"]:
            result.features = TableDifference(
                *(int(line[name]) for name in (
                    "rows", "rows_only_in_engine", "rows_only_in_reference", "rows_differ", "rows_differ_over_1e-9",
                    "rows_without_value_on_one_side")),
                float(line["absolute_difference"]), line["absolute_difference_column"],
                float(line["relative_difference"]), line["relative_difference_column"],
                relatives[line["engine"], line["workers"]])
        results.append(result)
        readings = int(line["readings"])
    return results, readings


def read_lines(path):
    with open(path, newline="") as file:
        yield from csv.DictReader(file)
