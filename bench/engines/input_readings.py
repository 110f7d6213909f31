"""Raw files of a run: `<room>/<sensor>.csv`, lines of epoch seconds and a value.

Recorded ones are a part of `$MICROCLIMATE_DATA/KETI`; simulated ones need no data and no network.
They are made before anything is timed, and kept for the next run with the same options.
"""

import random
import shutil
import sys
from pathlib import Path

from .feature_set import METRICS, SENSORS

DAY_S = 86_400


def recorded_rooms(folder, rooms, days, work):
    """The first rooms and days of a recording. Returns the folder with their files."""
    sources = sorted(path for path in folder.iterdir() if path.is_dir())[:rooms]
    if not sources:
        raise SystemExit(f"{folder} has no rooms\n  hint: MICROCLIMATE_DATA/KETI has a folder for each room")
    target = work / f"raw-recorded-{len(sources)}-rooms-{days}-days"
    if (target / "complete").exists():
        return target
    start_s = min(int(file.open().readline().split(",")[0]) for room in sources for file in room.glob("*.csv"))
    end_s = start_s + days * DAY_S
    for room in sources:
        (target / room.name).mkdir(parents=True, exist_ok=True)
        for sensor in SENSORS.values():
            with open(room / f"{sensor}.csv") as lines, open(target / room.name / f"{sensor}.csv", "w") as part:
                part.writelines(line for line in lines if int(line.split(",", 1)[0]) < end_s)
    (target / "complete").touch()
    return target


def simulated_rooms(rooms, days, interval_s, work):
    """Rooms with a daily rhythm, the simulation of the Python package's tests, with some
    impossible values, some copies and a silence. Returns the folder with their files."""
    sys.path.insert(0, str(Path(__file__).parents[2] / "python" / "tests"))
    from rooms import START_MS, room_value

    target = work / f"raw-simulated-{rooms}-rooms-{days}-days-{interval_s}-s"
    if (target / "complete").exists():
        return target
    shutil.rmtree(target, ignore_errors=True)
    start_s, steps = START_MS // 1000, days * DAY_S // interval_s
    for room in range(rooms):
        folder = target / f"room-{room}"
        folder.mkdir(parents=True)
        rng = random.Random(room)
        for number, (metric, sensor) in enumerate(SENSORS.items()):
            with open(folder / f"{sensor}.csv", "w") as file:
                for step in range(steps):
                    # Six hours of silence on the second day.
                    if steps * 1.2 / days < step < steps * 1.45 / days or rng.random() < 0.01:
                        continue
                    time_s = start_s + step * interval_s + number
                    if metric == "motion":
                        value = rng.choice([0, 0, 0, 1, 4])
                    else:
                        value = room_value(metric, step * interval_s / 60, rng)
                    if rng.random() < 0.001:
                        value = METRICS[metric][1] * 10
                    file.write(f"{time_s}, {value}\n" * (2 if rng.random() < 0.001 else 1))
    (target / "complete").touch()
    return target


def count_readings(raw):
    """Lines of all files."""
    return sum(file.open("rb").read().count(b"\n") for file in raw.glob("*/*.csv"))
