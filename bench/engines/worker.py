"""Runs one engine in this process: `python -m engines.worker '{"engine": …}'` (a `WorkerContext`).

Prints the start and end of each stage. `start` is everything before the first stage: imports, and
the start of the JVM.
"""

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from .engine_list import load_engine
from .feature_set import STAGES
from .stage_clock import stage, write_event


@dataclass(frozen=True)
class WorkerContext:
    engine: str
    raw: Path
    out: Path
    workers: int
    spark_memory: str
    trigger_hours: int

    def to_json(self):
        return json.dumps({name: str(value) if isinstance(value, Path) else value for name, value in asdict(self).items()})

    @classmethod
    def from_json(cls, text):
        fields = json.loads(text)
        return cls(**{**fields, "raw": Path(fields["raw"]), "out": Path(fields["out"])})


def main():
    context = WorkerContext.from_json(sys.argv[1])
    engine = load_engine(context.engine)(context)
    for name in STAGES:
        method = getattr(engine, name)
        if method is not None:
            with stage(name):
                method()
    write_event(facts=engine.facts() if hasattr(engine, "facts") else {})


if __name__ == "__main__":
    main()
