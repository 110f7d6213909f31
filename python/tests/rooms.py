"""Simulated rooms: readings of a few zones, punctual or as a network delivers them."""

import math
import random

import pyarrow as pa

START_MS = 1_748_822_400_000  # 2 June 2025, 0:00 UTC
METRICS = ["temperature", "humidity", "co2", "light", "soil_moisture"]


def room_value(metric, minute, rng):
    """A plausible value with a daily rhythm, as a sensor of the metric's resolution gives it."""
    day = math.sin(2 * math.pi * minute / 1440)
    value, digits = {
        "temperature": (21 + 3 * day + rng.gauss(0, 0.2), 2),
        "humidity": (55 - 10 * day + rng.gauss(0, 1), 1),
        "co2": (500 + 150 * day + rng.gauss(0, 10), 0),
        "light": (max(0.0, 600 * day + rng.gauss(0, 20)), 0),
        "soil_moisture": (45 - (minute % 2000) / 80 + rng.gauss(0, 0.05), 2),
    }[metric]
    return round(value, digits)


def simulated_rooms(zones=3, hours=30, seed=7, late=False, interval_s=60):
    """Readings as a long Arrow table, in the order of arrival within each zone.

    With ``late``, a part of the readings arrives up to three hours late, some arrive twice, some
    are early, and a few are impossible.
    """
    rng = random.Random(seed)
    rows = []
    for zone in range(zones):
        of_zone = []
        for step in range(hours * 3600 // interval_s):
            for number, metric in enumerate(METRICS):
                if rng.random() < 0.03:
                    continue
                event = START_MS + step * interval_s * 1000 + number * 1300 + zone * 17
                value = room_value(metric, step * interval_s / 60, rng)
                arrival = event
                if late:
                    kind = rng.random()
                    arrival += 40 if kind < 0.9 else rng.randrange(1000, 10_800_000)
                    if kind > 0.995:
                        value = 1e6
                    if kind > 0.99 and kind < 0.995:
                        arrival = event - rng.randrange(0, 200_000)
                row = (f"sim/room-{zone}", f"probe-{number % 2}", metric, event, arrival, value)
                of_zone.append(row)
                if late and rng.random() < 0.02:
                    of_zone.append(row[:4] + (arrival + rng.randrange(0, 60_000), value))
        of_zone.sort(key=lambda row: (row[4], row[3], row[1], row[2], row[5]))
        rows.extend(of_zone)
    columns = list(zip(*rows))
    table = {
        "zone": pa.array(columns[0]),
        "device": pa.array(columns[1]),
        "metric": pa.array(columns[2]),
        "event": pa.array(columns[3], pa.timestamp("ms", tz="UTC")),
        "arrival": pa.array(columns[4], pa.timestamp("ms", tz="UTC")),
        "value": pa.array(columns[5], pa.float64()),
    }
    if not late:
        del table["arrival"]
    return pa.table(table)


def sorted_rows(table):
    """Rows in an order that does not depend on who computed them."""
    keys = [("zone", "ascending"), ("time", "ascending"), ("revision", "ascending")]
    return pa.table(table).combine_chunks().sort_by(keys)


def assert_same_rows(left, right):
    """The same rows under the same names, to the last bit. Names the first that differs."""
    left, right = sorted_rows(left), sorted_rows(right)
    assert left.num_rows == right.num_rows, (left.num_rows, right.num_rows)
    assert left.column_names == right.column_names
    assert left.num_rows > 0
    for name in left.column_names:
        a, b = (table[name].combine_chunks() for table in (left, right))
        assert a.type == b.type, (name, a.type, b.type)
        if a.type == pa.float64():
            # As integers: equal bits, not equal numbers.
            a, b = (column.fill_null(float("nan")).to_numpy().view("int64") for column in (a, b))
            differ = (a != b).nonzero()[0]
            assert len(differ) == 0, (
                name,
                left.slice(differ[0], 1).to_pylist()[0][name],
                right.slice(differ[0], 1).to_pylist()[0][name],
                len(differ),
            )
        else:
            assert a.equals(b), name
