"""Medians over repeats, as CSV and as the table of docs/engines.md."""

import csv
import statistics
from dataclasses import dataclass

from .engine_list import ENGINES
from .feature_set import STAGES

#: Stages of a run in their order. An engine has the last one, or the others.
ALL_STAGES = ["start", *STAGES, "one pass"]


@dataclass
class EngineResult:
    """The runs of one engine with one number of workers, and its values beside the reference's."""

    engine: str
    workers: int
    runs: list
    features: object = None
    kpis: object = None

    @property
    def title(self):
        return ENGINES[self.engine].title

    @property
    def finished(self):
        return [run for run in self.runs if run.error is None]

    @property
    def error(self):
        return next((run.error for run in self.runs if run.error), None)

    def median(self, read):
        """Median over the runs that ended well of what `read` finds; None where it finds nothing."""
        values = [value for run in self.finished if (value := read(run)) is not None]
        return statistics.median(values) if values else None

    def stage_s(self, stage):
        return self.median(lambda run: run.seconds.get(stage))

    @property
    def total_s(self):
        return self.median(lambda run: run.total_s)

    def cpu_us_a_row(self, stage):
        """Processor time for each feature row, microseconds."""
        cpu_s = self.median(lambda run: run.cpu_s.get(stage))
        return None if cpu_s is None or not self.features else 1e6 * cpu_s / self.features.rows


def write_csv(path, results, readings):
    header = [
        "engine", "workers", "repeats", "readings", *(f"{stage.replace(' ', '_')}_s" for stage in ALL_STAGES), "total_s",
        "total_s_min", "total_s_max", "cpu_s", "features_cpu_s", "features_cpu_us_a_row", "memory_mb",
        "features_memory_mb", "rows", "rows_only_in_engine", "rows_only_in_reference", "rows_differ",
        "rows_differ_over_1e-9", "rows_without_value_on_one_side", "absolute_difference", "absolute_difference_column",
        "relative_difference", "relative_difference_column", "kpi_rows", "kpi_rows_only_in_engine",
        "kpi_rows_only_in_reference", "kpi_relative_difference", "kpi_relative_difference_column", "error"]
    with open(path, "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(header)
        for result in results:
            totals = [run.total_s for run in result.finished]
            numbers = [
                *(result.stage_s(stage) for stage in ALL_STAGES), result.total_s, min(totals, default=None),
                max(totals, default=None), result.median(lambda run: run.total_cpu_s),
                result.median(lambda run: run.cpu_s.get("features")), result.cpu_us_a_row("features"),
                result.median(lambda run: run.peak_memory_mb), result.median(lambda run: run.memory_mb.get("features"))]
            rows, kpis = result.features, result.kpis
            table.writerow([
                result.title, result.workers, len(result.finished), readings,
                *("" if number is None else f"{number:.2f}" for number in numbers),
                *([rows.rows, rows.only_in_engine, rows.only_in_reference, rows.rows_differ, rows.rows_differ_visibly,
                   rows.rows_one_sided, f"{rows.absolute_max:.3g}", rows.absolute_column, f"{rows.relative_max:.3g}",
                   rows.relative_column] if rows else [""] * 10),
                *([kpis.rows, kpis.only_in_engine, kpis.only_in_reference, f"{kpis.relative_max:.3g}",
                   kpis.relative_column] if kpis else [""] * 5),
                result.error or ""])


def write_difference_csv(path, results):
    """Largest relative difference of each column."""
    with open(path, "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["engine", "workers", "column", "relative_difference"])
        for result in results:
            if result.features:
                for column, difference in result.features.relative_by_column.items():
                    table.writerow([result.title, result.workers, column, f"{difference:.3g}"])


def markdown_table(results):
    lines = [
        "| engine | workers | start | bronze | silver | features | gold | total | CPU s | peak memory | largest difference |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|---|"]
    for result in results:
        stages = [result.stage_s(stage) for stage in ALL_STAGES]
        cells = ["–" if seconds is None else f"{seconds:.1f}" for seconds in stages[:-1]]
        if stages[-1] is not None:
            cells = ["", "in one pass", "", "", ""]
        total, cpu_s = result.total_s, result.median(lambda run: run.total_cpu_s)
        if total is None:
            lines.append(f"| {result.title} | {result.workers} | {' | '.join(cells)} | {result.error} | | | |")
            continue
        memory_mb = result.median(lambda run: run.peak_memory_mb)
        lines.append(
            f"| {result.title} | {result.workers} | {' | '.join(cells)} | {total:.1f} s | {cpu_s:.1f} "
            f"| {memory_mb / 1000:.1f} GB | {describe_difference(result)} |")
    return "\n".join(lines)


def describe_difference(result):
    found = result.features
    if found is None:
        return "reference"
    if found.rows_differ == 0:
        text = "every bit equal"
    elif found.relative_column:
        text = f"{found.relative_max:.0e} ({found.relative_column})"
    else:
        text = "values on one side only"
    if found.only_in_reference:
        text += f"; {found.only_in_reference:,} rows missing"
    if found.only_in_engine:
        text += f"; {found.only_in_engine:,} rows more"
    return text


def spark_table(results):
    """Seconds, memory and cost a row of the features alone, inside Spark."""
    inside = [result for result in results if result.stage_s("features") and ENGINES[result.engine].needs_java]
    if not inside:
        return ""
    lines = ["| features inside Spark | workers | seconds | CPU s | CPU µs a row | peak memory |", "|---|--:|--:|--:|--:|--:|"]
    for result in inside:
        cpu_s = result.median(lambda run: run.cpu_s["features"])
        memory_mb = result.median(lambda run: run.memory_mb["features"])
        lines.append(
            f"| {result.title} | {result.workers} | {result.stage_s('features'):.1f} | {cpu_s:.1f} "
            f"| {result.cpu_us_a_row('features'):.0f} | {memory_mb / 1000:.2f} GB |")
    return "\n".join(lines)
