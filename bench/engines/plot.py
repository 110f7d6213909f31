"""The picture of a run: seconds by stage, peak memory, largest difference by aggregate."""

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
    labels = [result.title + (f", {result.workers} worker{'s' * (result.workers > 1)}" if ENGINES[result.engine].needs_java else "")
              for result in shown]
    figure, (times, memory, differences) = plt.subplots(
        1, 3, figsize=(15, 1.4 + 0.42 * len(shown)), width_ratios=[4, 2, 3])
    draw_times(times, shown, labels)
    times.set_title(f"seconds, {readings / 1e6:.1f} M readings to 140 columns ({source})")
    memory_gb = [result.median(lambda run: run.peak_memory_mb) / 1000 for result in shown]
    memory.barh(range(len(shown)), memory_gb, color="#74c476")
    for place, value in enumerate(memory_gb):
        memory.text(value, place, f" {value:.1f}", va="center")
    memory.set(title="peak memory, GB", yticks=[], xlim=(0, 1.2 * max(memory_gb)))
    draw_differences(differences, shown, labels)
    for axis in (times, memory):
        axis.invert_yaxis()
    for axis in (times, memory, differences):
        axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, dpi=100)
    plt.close(figure)


def draw_times(axis, shown, labels):
    left = [0.0] * len(shown)
    for stage in ALL_STAGES:
        widths = [result.stage_s(stage) or 0.0 for result in shown]
        if any(widths):
            axis.barh(range(len(shown)), widths, left=left, color=COLOURS[stage], label=stage)
        left = [start + width for start, width in zip(left, widths)]
    # A few slow engines must not make the others invisible: their bars end at the edge.
    ordered = sorted(left)
    edge = 1.2 * max([total for total in ordered if total <= 4 * ordered[len(ordered) // 2]])
    for place, total in enumerate(left):
        is_cut = total > edge
        axis.text(0.99 * edge if is_cut else total, place, f"{total:.0f} s ▶ " if is_cut else f" {total:.1f} s", va="center",
                  ha="right" if is_cut else "left", color="white" if is_cut else "black", weight="bold" if is_cut else None)
    axis.set(yticks=range(len(shown)), yticklabels=labels, xlim=(0, edge))
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.06), ncols=6, frameon=False)


def draw_differences(axis, shown, labels):
    others = [(result, label) for result, label in zip(shown, labels) if result.features and result.features.rows_differ]
    equal = [label for result, label in zip(shown, labels) if result.features and not result.features.rows_differ]
    for number, (result, label) in enumerate(others):
        found = result.features.relative_by_aggregate()
        width = 0.8 / len(others)
        places = [place + (number - (len(others) - 1) / 2) * width for place in range(len(AGGREGATES))]
        axis.bar(places, [max(found[aggregate], SMALLEST) for aggregate in AGGREGATES], width, label=label)
    axis.set(title="largest relative difference from ours", yscale="log", ylim=(SMALLEST, 10),
             xticks=range(len(AGGREGATES)), xticklabels=AGGREGATES)
    if others:
        axis.legend(frameon=False, fontsize=8, loc="upper left")
    if equal:
        axis.set_xlabel("every bit equal: " + "; ".join(equal), fontsize=8, wrap=True)
