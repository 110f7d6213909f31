#!/usr/bin/env python3
"""The same senders and faults against this gateway and against Telegraf, in one run.

    bench/gateway/peers.py --gateway PROGRAM [--runs 3] [--only WORD…] [--scale 1.0]

Who lost, repeated and reordered what, what of the loss it says itself, and at what rate it
carries messages from Mosquitto to Apache Kafka. Needs Java and Maven (Kafka), Mosquitto and Go
(Telegraf is built from its Go module); what is missing is named and left out.

Counts are messages. *Owed* is what the broker acknowledged to the devices (at QoS 1), or had
read (at QoS 0). *Waiting* is what the consumer says it still holds at the end: on disk the gateway,
in memory Telegraf. *Lost* is owed, not waiting, and neither in the topic of the readings nor in
that of the dead letters. *Silent* is what of that is in no count and no log line. *Repeated* are
second copies in the log. *Reordered* are first copies behind a later message of their device.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from processes import CACHE, Gateway, Kafka, Missing, Mosquitto, Telegraf, build_telegraf
from senders import Fleet, deliver

#: The log is looked at until nothing has come for so long, seconds.
QUIET_S = 8
RATE_MESSAGES = 60_000


class Arena:
    """One consumer between a Mosquitto and a Kafka of its own."""

    def __init__(self, name, folder, programs, topic_config=None):
        self.name = name
        self.kafka = Kafka(folder / "kafka")
        self.broker = Mosquitto(folder / "mosquitto")
        consumer = {"Telegraf": self.telegraf, "gateway": self.gateway}[name]
        self.consumer = consumer(programs[name], folder / "consumer")
        for topic in (self.consumer.topic, self.consumer.dead_letters):
            if topic:
                self.kafka.create_topic(topic, **(topic_config or {}))
        self.consumer.ready()
        self.warmed_up = self.warm_up()

    def warm_up(self):
        """Sends messages, which do not count, until one has come through: from then on nobody
        can say that the subscription was not there yet."""
        for sent in range(1, 1000):
            deliver(self.broker.port, "sensors/warm/up/probe", b'{"light": 0}')
            if self.records():
                return sent
            time.sleep(0.1)
        raise TimeoutError("nothing comes through")

    def telegraf(self, program, folder):
        return Telegraf(program, folder, self.kafka, self.broker)

    def gateway(self, program, folder):
        return Gateway(program, folder, self.kafka, self.broker)

    def records(self):
        topics = [topic for topic in (self.consumer.topic, self.consumer.dead_letters) if topic]
        return sum(self.kafka.end_offset(topic) for topic in topics)

    def settle(self, expected):
        """Waits until all that is expected has come, or for long nothing has."""
        expected += self.warmed_up
        count, since = self.records(), time.monotonic()
        while count < expected and time.monotonic() - since < QUIET_S:
            time.sleep(0.1)
            now = self.records()
            if now != count:
                count, since = now, time.monotonic()

    def found(self):
        """(device, number) of each record in the order of the log, and those of dead letters."""
        logged = [key_of(value) for value in self.kafka.read(self.consumer.topic)]
        dead = self.consumer.dead_letters
        letters = [key_of(value) for value in self.kafka.read(dead)] if dead else []
        return [key for key in logged if key], {key for key in letters if key}

    def close(self):
        self.consumer.kill()
        self.broker.kill()
        self.kafka.kill()


def key_of(value):
    """The message in a record: of the gateway, of Telegraf, or a dead letter as it was sent."""
    try:
        record = json.loads(value)
    except ValueError:
        return None
    if "readings" in record:
        fields = {reading["metric"]: reading["value"] for reading in record["readings"]}
    else:
        fields = record.get("fields", record)
    try:
        return int(fields["co2"]), int(fields["light"])
    except (KeyError, TypeError, ValueError):
        return None


def judge(arena, owed):
    arena.settle(len(owed))
    logged, letters = arena.found()
    seen, newest, repeated, reordered = set(), {}, 0, 0
    for key in logged:
        if key in seen:
            repeated += 1
            continue
        seen.add(key)
        device, seq = key
        if seq < newest.get(device, -1):
            reordered += 1
        newest[device] = max(newest.get(device, -1), seq)
    missing = len(owed - seen - letters)
    waiting = min(missing, arena.consumer.waiting()) if missing else 0
    lost = missing - waiting
    arena.consumer.note_memory()
    return {
        "owed": len(owed), "waiting": waiting, "lost": lost, "silent": max(0, lost - arena.consumer.reported_lost()),
        "repeated": repeated, "reordered": reordered,
        "MB": arena.consumer.peak_rss_bytes / 1e6,
    }


# Each scenario: a function of an arena and a scale of its durations; returns what is owed.


def no_fault(arena, scale):
    fleet = Fleet(arena.broker.port, "farm", per_s=2000, messages=int(20_000 * scale))
    return fleet.finish()


def killed(arena, scale):
    fleet = Fleet(arena.broker.port, "farm", per_s=2000, messages=int(20_000 * scale))
    for share in (0.3, 0.6):
        fleet.wait_for(int(20_000 * scale * share))
        arena.consumer.kill()
        time.sleep(1)
        arena.consumer.ready()
    return fleet.finish()


def restarted(arena, scale, qos=1):
    fleet = Fleet(arena.broker.port, "farm", per_s=1000, messages=int(10_000 * scale), qos=qos)
    for share in (0.3, 0.6):
        fleet.wait_for(int(10_000 * scale * share))
        arena.consumer.stop()
        time.sleep(1)
        arena.consumer.ready()
    return fleet.finish()


def restarted_qos_0(arena, scale):
    return restarted(arena, scale, qos=0)


def kafka_frozen(arena, scale):
    fleet = Fleet(arena.broker.port, "farm", per_s=1000)
    fleet.wait_for(3000)
    arena.kafka.signal(signal.SIGSTOP)
    time.sleep(20 * scale)
    arena.kafka.signal(signal.SIGCONT)
    time.sleep(2)
    return fleet.finish()


def kafka_killed(arena, scale):
    fleet = Fleet(arena.broker.port, "farm", per_s=1000)
    fleet.wait_for(3000)
    arena.kafka.kill()
    time.sleep(15 * scale)
    arena.kafka.begin()
    time.sleep(2)
    return fleet.finish()


def kafka_frozen_qos_0(arena, scale):
    fleet = Fleet(arena.broker.port, "farm", per_s=250, qos=0)
    fleet.wait_for(500)
    arena.kafka.signal(signal.SIGSTOP)
    time.sleep(28 * scale)
    arena.kafka.signal(signal.SIGCONT)
    time.sleep(2)
    return fleet.finish()


def burst_qos_0(arena, scale):
    return Fleet(arena.broker.port, "farm", messages=int(40_000 * scale), qos=0).finish()


def oversized(arena, scale):
    """One message above what a Kafka takes by default, 1 MB, among others."""
    return with_one_other(arena, scale, b'{"co2": 9, "light": 0, "temperature": 1' + b" " * 1_200_000 + b"}")


def refused(arena, scale):
    """One message that becomes a record which this topic of Kafka refuses (see SCENARIOS)."""
    fields = ", ".join(f'"field_of_many_{n}_{"x" * 80}": {n}' for n in range(110))
    return with_one_other(arena, scale, f'{{"co2": 9, "light": 0, {fields}}}'.encode())


def with_one_other(arena, scale, payload):
    fleet = Fleet(arena.broker.port, "farm", per_s=1000, messages=int(10_000 * scale))
    fleet.wait_for(int(3000 * scale))
    assert deliver(arena.broker.port, "sensors/farm/bay-9/probe-9", payload)
    return fleet.finish() | {(9, 0)}


SCENARIOS = [
    ("no fault, QoS 1, 2,000 msg/s", no_fault, {}),
    ("killed (SIGKILL) twice", killed, {}),
    ("restarted (SIGTERM) twice, QoS 1", restarted, {}),
    ("restarted (SIGTERM) twice, QoS 0", restarted_qos_0, {}),
    ("Kafka frozen 20 s, QoS 1, 1,000 msg/s", kafka_frozen, {}),
    ("Kafka killed, back after 15 s", kafka_killed, {}),
    ("Kafka frozen 28 s, QoS 0, 250 msg/s", kafka_frozen_qos_0, {}),
    ("burst of 40,000 at QoS 0", burst_qos_0, {}),
    ("one message of 1.2 MB among others", oversized, {}),
    ("one record of 11 kB, topic takes 8 KiB", refused, {"max_message_bytes": 8192}),
]


def rate(arena):
    """Messages a second from the first PUBLISH to the last record in Kafka."""
    padding, began, before = 150, time.monotonic(), arena.warmed_up
    fleet = Fleet(arena.broker.port, "farm", devices=8, messages=RATE_MESSAGES, padding=padding)
    owed = fleet.finish()
    arena.settle(len(owed))
    count = arena.records() - before
    took_s = time.monotonic() - began - (QUIET_S if count < len(owed) else 0)
    return count / took_s


def run_one(name, programs, topic_config, work):
    with tempfile.TemporaryDirectory(prefix="peers-") as folder:
        arena = None
        try:
            arena = Arena(name, Path(folder), programs, topic_config)
            return work(arena)
        except (TimeoutError, AssertionError, subprocess.TimeoutExpired) as error:
            return {"failed": str(error) or type(error).__name__}
        finally:
            if arena:
                arena.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--gateway", help="the program `gateway`; without it Telegraf alone")
    parser.add_argument("--telegraf", help="a Telegraf; without it one is built")
    parser.add_argument("--runs", type=int, default=3, help="of the rate, whose median is shown")
    parser.add_argument("--only", nargs="*", default=[], help="words in the names of scenarios")
    parser.add_argument("--scale", type=float, default=1.0, help="of messages and durations")
    args = parser.parse_args()
    programs = {"gateway": args.gateway} if args.gateway else {}
    try:
        programs["Telegraf"] = args.telegraf or build_telegraf(CACHE)
    except Missing as missing:
        print(f"left out: {missing}", file=sys.stderr)
    print("| fault | consumer | owed | waiting | lost | silent | repeated | reordered | RSS, MB |")
    print("|---|---|--:|--:|--:|--:|--:|--:|--:|")
    is_wanted = lambda title: not args.only or any(word in title for word in args.only)
    for title, scenario, topic_config in SCENARIOS:
        for name in programs if is_wanted(title) else ():
            row = run_one(name, programs, topic_config, lambda arena: judge(arena, scenario(arena, args.scale)))
            if "failed" in row:
                print(f"| {title} | {name} | | | | | | | {row['failed']} |", flush=True)
                continue
            cells = [row[key] for key in ("owed", "waiting", "lost", "silent", "repeated", "reordered")]
            print(f"| {title} | {name} | {' | '.join(map(str, cells))} | {row['MB']:.0f} |", flush=True)
    if is_wanted("rate"):
        print(f"\n| rate, msg/s | {' | '.join(f'run {n + 1}' for n in range(args.runs))} | median |")
        print("|---|" + "--:|" * (args.runs + 1))
        for name in programs:
            rates = []
            for _ in range(args.runs):
                measured = run_one(name, programs, None, rate)
                if isinstance(measured, dict):
                    print(f"{name}: {measured['failed']}", file=sys.stderr)
                else:
                    rates.append(measured)
            if rates:
                shown = " | ".join(f"{one:,.0f}" for one in rates)
                print(f"| {name} | {shown} | {statistics.median(rates):,.0f} |", flush=True)
    load = Path("/proc/loadavg").read_text().split()[:3]
    print(f"\n{os.cpu_count()} cores shared by senders, Mosquitto, consumer and Kafka; load averages at the end {' '.join(load)}")


if __name__ == "__main__":
    try:
        main()
    except Missing as missing:
        sys.exit(f"left out: {missing}")
