"""Time, processor time and memory of a process and everything that it starts.

The process gets a session of its own (setsid), and every process of that session counts: the JVM,
Python's workers. Memory is the sum of their resident sets, every 0.1 s, so pages that two of them
share count twice. Processor time is what /proc says of each process that was ever seen. Linux only.
"""

import os
import resource
import signal
import subprocess
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

INTERVAL_S = 0.1
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PAGE_MB = resource.getpagesize() / 2**20


@dataclass(frozen=True)
class UsageSample:
    at_s: float
    cpu_s: float
    memory_mb: float


@dataclass
class MeteredProcess:
    """Starts a command and samples its session until it ends."""

    command: list
    environment: dict
    log: Path
    cores: int
    samples: list = field(default_factory=list)
    lines: list = field(default_factory=list)

    def run(self, limit_s, on_line=lambda line: None, on_sample=lambda sample: None):
        """Runs to the end. Returns the exit status, or None where the limit was passed."""
        with open(self.log, "w") as log:
            allowed = sorted(os.sched_getaffinity(0))[: self.cores]
            self.start_s = time.monotonic()
            child = subprocess.Popen(
                self.command, env=self.environment, stdout=subprocess.PIPE, stderr=log, text=True,
                start_new_session=True, preexec_fn=lambda: os.sched_setaffinity(0, allowed))
            reader = threading.Thread(target=self._read_lines, args=(child.stdout, on_line))
            reader.start()
            cpu_by_process = {}
            try:
                while child.poll() is None and time.monotonic() - self.start_s < limit_s:
                    self.samples.append(sample_session(child.pid, cpu_by_process))
                    on_sample(self.samples[-1])
                    time.sleep(INTERVAL_S)
            finally:
                self.end_s = time.monotonic()
                was_running = child.poll() is None
                end_session(child.pid)
                child.wait()
                reader.join()
        return None if was_running else child.returncode

    def _read_lines(self, stdout, on_line):
        for line in stdout:
            self.lines.append(line)
            on_line(line)

    def usage(self, from_s, to_s):
        """Processor seconds and largest memory (MB) between two moments."""
        before = max((s.cpu_s for s in self.samples if s.at_s <= from_s), default=0.0)
        during = [s for s in self.samples if from_s <= s.at_s <= to_s + INTERVAL_S]
        if not during:
            nearest = min(self.samples, key=lambda s: abs(s.at_s - to_s))
            return max(0.0, nearest.cpu_s - before), nearest.memory_mb
        return during[-1].cpu_s - before, max(s.memory_mb for s in during)


def sample_session(session, cpu_by_process):
    memory_pages = 0
    for process, start, cpu_ticks, pages in session_processes(session):
        cpu_by_process[process, start] = cpu_ticks
        memory_pages += pages
    return UsageSample(time.monotonic(), sum(cpu_by_process.values()) / TICKS_PER_S, memory_pages * PAGE_MB)


def session_processes(session):
    """Process id, start time, user and system ticks, resident pages of each process of a session."""
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            # The name, in parentheses, may hold anything.
            fields = Path("/proc", entry, "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        # Counted from the state, the third field of proc(5).
        if int(fields[3]) == session:
            yield int(entry), int(fields[19]), int(fields[11]) + int(fields[12]), int(fields[21])


def end_session(session):
    """Kills what is left of a session that this program started, the JVM after its driver for one."""
    for process, *_ in list(session_processes(session)):
        try:
            os.kill(process, signal.SIGKILL)
        except ProcessLookupError:
            pass
