"""The picture of a run: seconds by stage, peak memory, largest difference by aggregate.

Engines on Spark have a scale of their own, or those of one box could not be seen.
"""

import textwrap

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from .engine_list import ENGINES
from .feature_set import AGGREGATES
from .results import ALL_STAGES

COLOURS = {
    "start": "#d9d9d9", "bronze": "#c49c6b", "silver": "#9aa5b1", "features": "#3182bd", "gold": "#e6b800",
    "one pass": "#31a354"}
#: What differs by less than this is drawn there.
SMALLEST = 1e-17


def draw_results(path, results, readings, source):
    shown = [result for result in results if result.total_s is not None]
    groups = [[result for result in shown if ENGINES[result.engine].needs_java == on_spark] for on_spark in (False, True)]
    groups = [group for group in groups if group]
    figure = plt.figure(figsize=(15, 2.2 + 0.42 * len(shown)), layout="constrained")
    grid = figure.add_gridspec(len(groups), 3, width_ratios=[4, 2, 3], height_ratios=[len(group) for group in groups])
    memory_gb_max = max(memory_gb(result) for result in shown)
    for row, group in enumerate(groups):
        times, memory = (figure.add_subplot(grid[row, column]) for column in (0, 1))
        draw_times(times, group)
        draw_memory(memory, group, memory_gb_max)
        if row == 0:
            times.set_title(f"seconds, {readings / 1e6:.1f} M readings to 140 columns ({source})")
            memory.set_title("peak memory, GB")
    handles = [plt.Rectangle((0, 0), 1, 1, color=COLOURS[stage]) for stage in ALL_STAGES]
    figure.legend(handles, ALL_STAGES, loc="outside lower left", ncols=len(ALL_STAGES), frameon=False)
    draw_differences(figure.add_subplot(grid[:, 2]), shown)
    for axis in figure.axes:
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=90)
    plt.close(figure)


def label(result):
    workers = f", {result.workers} worker{'s' * (result.workers > 1)}" if ENGINES[result.engine].needs_java else ""
    return result.title + workers


def memory_gb(result):
    return result.median(lambda run: run.peak_memory_mb) / 1000


def draw_times(axis, group):
    left = [0.0] * len(group)
    for stage in ALL_STAGES:
        widths = [result.stage_s(stage) or 0.0 for result in group]
        axis.barh(range(len(group)), widths, left=left, color=COLOURS[stage])
        left = [start + width for start, width in zip(left, widths)]
    for place, total in enumerate(left):
        axis.text(total, place, f" {total:.1f} s", va="center")
    axis.set(yticks=range(len(group)), yticklabels=[label(result) for result in group], xlim=(0, 1.15 * max(left)))
    axis.invert_yaxis()


def draw_memory(axis, group, memory_gb_max):
    values = [memory_gb(result) for result in group]
    axis.barh(range(len(group)), values, color="#74c476")
    for place, value in enumerate(values):
        axis.text(value, place, f" {value:.1f}", va="center")
    axis.set(yticks=[], xlim=(0, 1.2 * memory_gb_max))
    axis.invert_yaxis()


def draw_differences(axis, shown):
    others = [result for result in shown if result.features and result.features.rows_differ]
    equal = [label(result) for result in shown if result.features and not result.features.rows_differ]
    for number, result in enumerate(others):
        found = result.features.relative_by_aggregate()
        width = 0.8 / len(others)
        places = [place + (number - (len(others) - 1) / 2) * width for place in range(len(AGGREGATES))]
        axis.bar(places, [max(found[aggregate], SMALLEST) for aggregate in AGGREGATES], width, label=label(result))
    axis.set(title="largest relative difference from ours", yscale="log", ylim=(SMALLEST, 100),
             xticks=range(len(AGGREGATES)), xticklabels=AGGREGATES)
    if others:
        axis.legend(frameon=False, fontsize=8, loc="upper left")
    if equal:
        axis.set_xlabel(textwrap.fill("every bit equal: " + "; ".join(equal), 70), fontsize=8)
