"""A line on the terminal while engines run; elsewhere one line for each stage that ended."""

import json
import sys
import time


class ProgressLine:
    def __init__(self, runs):
        self.runs, self.number = runs, 0
        self.is_terminal = sys.stderr.isatty()

    def start(self, title, workers):
        self.number += 1
        self.title = f"[{self.number}/{self.runs}] {title}, workers {workers}"
        self.stage, self.start_s = "start", time.monotonic()

    def show_line(self, line):
        if not line.startswith("{"):
            return
        try:
            event = json.loads(line)
        except ValueError:
            return
        if "stage" in event:
            self.stage = event["stage"] if event["is_start"] else "next stage"

    def show_sample(self, sample):
        if self.is_terminal:
            took_s = time.monotonic() - self.start_s
            print(f"\r\x1b[K{self.title}: {self.stage}, {took_s:.0f} s, {sample.memory_mb:,.0f} MB",
                  end="", file=sys.stderr, flush=True)

    def end(self, run):
        stages = ", ".join(f"{name} {seconds:.1f}" for name, seconds in run.seconds.items())
        state = run.error or f"{run.total_s:.1f} s ({stages}), {run.peak_memory_mb:,.0f} MB"
        print(f"{chr(13) + chr(27) + '[K' if self.is_terminal else ''}{self.title}: {state}", file=sys.stderr, flush=True)
