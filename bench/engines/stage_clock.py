"""Start and end of each stage, as lines of JSON that the measuring process reads.

Times are of the system's monotonic clock, which all processes share, so that the measuring process
can say how much memory was in use during a stage.
"""

import json
import time
from contextlib import contextmanager


@contextmanager
def stage(name):
    write_event(stage=name, is_start=True)
    yield
    write_event(stage=name, is_start=False)


def write_event(**fields):
    print(json.dumps({"at_s": time.monotonic(), **fields}), flush=True)
