"""The streaming query as a program of its own, to be killed: `stream_program.py FOLDER METRICS`."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from spark_session import new_session, start_stream


def committed_triggers(folder):
    """Triggers that the query has committed to its checkpoint."""
    return len(list((folder / "checkpoint" / "commits").glob("[0-9]*")))


def begun_triggers(folder):
    """Triggers whose readings the query has fixed in its checkpoint, committed or not."""
    return len(list((folder / "checkpoint" / "offsets").glob("[0-9]*")))


def run_and_kill(folder, metrics, commits, timeout_s=180, is_begun=False):
    """Runs the program until that many triggers are committed, and with ``is_begun`` the next one has
    begun, then kills it: SIGKILL for the whole group, driver, JVM and Python workers. Returns whether
    it was still running."""
    with subprocess.Popen(
        stream_command(folder, metrics), start_new_session=True, stderr=subprocess.PIPE
    ) as process:
        deadline = time.monotonic() + timeout_s
        while process.poll() is None and time.monotonic() < deadline:
            begun = begun_triggers(folder) > committed_triggers(folder) if is_begun else True
            if committed_triggers(folder) >= commits and begun:
                os.killpg(process.pid, signal.SIGKILL)
                return True
            time.sleep(0.02)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        return False


def run_to_the_end(folder, metrics, timeout_s=300):
    """Runs the program until the log is read. Fails with what it printed."""
    done = subprocess.run(
        stream_command(folder, metrics), capture_output=True, text=True, timeout=timeout_s
    )
    assert done.returncode == 0, done.stderr[-3000:]


def stream_command(folder, metrics):
    return [sys.executable, __file__, str(folder), ",".join(metrics)]


if __name__ == "__main__":
    session = new_session("microclimate stream")
    query = start_stream(session, Path(sys.argv[1]), sys.argv[2].split(","))
    query.awaitTermination()
    session.stop()
