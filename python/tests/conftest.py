"""Tests find their helpers beside them, and the package where it is installed."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:] = [
    str(HERE),
    *(path for path in sys.path if Path(path or ".").resolve() != HERE.parent),
]
