#!/usr/bin/env python3
"""Pulls each lever on the gateway's memory as hard as one sender can, and compares the largest
resident set with the bound.

    bench/gateway/ceilings.py --gateway PROGRAM [--only WORD…] [--bound-mb 64] [--scale 1.0]
    bench/gateway/ceilings.py --microclimate PROGRAM …   100,000 made-up devices on `microclimate up`

Every lever has a gateway of its own, with its own listener and the embedded log (or a Kafka that
is away), and the default configuration, but for what is said. Ends with 1 where the bound was
passed, a request was not answered, or a device that is there is in no line of the ledger
afterwards.
"""

import argparse
import json
import os
import socket
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

from processes import Gateway, Process, answers, free_ports, wait_until
from senders import connect, publish_packet, subscribe_packet

MB = 1_000_000
#: A lever is pulled at most for so long, seconds.
PULL_S_MAX = 60
CHUNK_PACKETS = 256
#: Between two looks at memory and open files, seconds.
LOOK_S = 0.1


class Pull:
    """What a lever did, and what it made of the gateway."""

    def __init__(self, process):
        self.process, self.looked = process, 0
        self.sent, self.sent_bytes, self.files, self.note = 0, 0, 0, ""

    def watch(self):
        """To be called often: notes the memory and the open files."""
        if time.monotonic() - self.looked < LOOK_S:
            return
        self.looked = time.monotonic()
        self.process.note_memory()
        try:
            self.files = max(self.files, len(os.listdir(f"/proc/{self.process.child.pid}/fd")))
        except OSError:
            pass

    def count(self, data, messages):
        self.sent += messages
        self.sent_bytes += len(data)


def stream_packets(port, packets, pull, watch, client="lever", window=2048, seconds=PULL_S_MAX):
    """Sends packets over one connection, again over another where it is closed, and reads what
    comes back; QoS 1 at most `window` ahead of the acknowledgements."""
    began, iterator, unacknowledged, closed = time.monotonic(), iter(packets), 0, 0
    stream = None
    while time.monotonic() - began < seconds:
        chunk = list(islice(iterator, CHUNK_PACKETS))
        if not chunk:
            break
        data = b"".join(chunk)
        try:
            if stream is None:
                stream, unacknowledged = connect(port, client), 0
                stream.settimeout(5)
            stream.sendall(data)
            if chunk[0][0] & 6:
                unacknowledged += len(chunk)
                while unacknowledged > window:
                    answer = stream.recv(65536)
                    if not answer:
                        raise OSError("closed")
                    unacknowledged -= len(answer) // 4
            pull.count(data, len(chunk))
        except OSError:
            closed += 1
            stream = None
            time.sleep(0.05)
        watch()
    if closed:
        pull.note = f"{pull.note} {closed} connections closed".strip()
    if stream is not None and unacknowledged > 0:
        try:
            while unacknowledged > 0 and (answer := stream.recv(65536)):
                unacknowledged -= len(answer) // 4
        except OSError:
            pull.note = f"{pull.note} {unacknowledged} unacknowledged".strip()
    return stream


def qos1(topic, payload, n):
    return publish_packet(topic, payload, n % 65535 + 1)


# The levers: functions of a running gateway, a scale, what is counted, and a `watch` to be called
# often, which notes the memory.


def made_up_devices(gateway, scale, pull, watch):
    packets = (qos1(f"sensors/farm/bay-1/made-up-{n}", b'{"temperature": 1}', n) for n in range(int(100_000 * scale)))
    stream_packets(gateway.mqtt, packets, pull, watch)


def made_up_zones(gateway, scale, pull, watch):
    packets = (qos1(f"sensors/farm/made-up-{n}/probe", b'{"temperature": 1}', n) for n in range(int(100_000 * scale)))
    stream_packets(gateway.mqtt, packets, pull, watch)


def junk_topics(gateway, scale, pull, watch):
    packets = (qos1(f"junk/{n}/{'x' * 200}", b"{", n) for n in range(int(100_000 * scale)))
    stream_packets(gateway.mqtt, packets, pull, watch)


def numbered_messages(gateway, scale, pull, watch):
    """What is remembered to find duplicates: 2,000 devices, 1,100 numbers each."""
    packets = (
        qos1(f"sensors/farm/bay-1/probe-{n % 2000}", b'{"co2": 1, "boot": "b", "seq": %d}' % (n // 2000), n)
        for n in range(int(2_200_000 * scale))
    )
    stream_packets(gateway.mqtt, packets, pull, watch, seconds=240)


def retained_bytes(gateway, scale, pull, watch):
    payload = b"x" * 16_000
    packets = (publish_packet(f"status/made-up-{n}", payload, n % 65535 + 1, 1) for n in range(int(20_000 * scale)))
    stream_packets(gateway.mqtt, packets, pull, watch)


def unfinished_packets(gateway, scale, pull, watch):
    """A PUBLISH of 262,000 B whose last byte never comes, on each of 1,500 connections."""
    whole = publish_packet("sensors/farm/bay-1/probe", b"x" * 262_000, 1)
    streams = []
    for n in range(int(1500 * scale)):
        try:
            stream = connect(gateway.mqtt, f"unfinished-{n}", timeout=5)
            stream.sendall(whole[:-1])
            streams.append(stream)
            pull.count(whole, 1)
        except OSError:
            pull.note = "connections refused or not read"
            break
        watch()
    linger(watch)


def log_that_is_away(gateway, scale, pull, watch):
    """Messages of 16 kB on 20 connections, none of which can become durable."""
    payload = b'{"temperature": 1}' + b" " * 16_000
    streams = []
    for device in range(20):
        try:
            stream = connect(gateway.mqtt, f"device-{device}")
        except OSError:
            pull.note = "connections refused"
            break
        stream.settimeout(1)
        streams.append(stream)
        for first in range(0, int(600 * scale), 50):
            data = b"".join(qos1(f"sensors/farm/bay-1/d{device}", payload, n) for n in range(first, first + 50))
            try:
                stream.sendall(data)
                pull.count(data, 50)
            except OSError:
                break
            watch()
    linger(watch)


def slow_subscriber(gateway, scale, pull, watch, payload_bytes=1000, messages=600_000, subscribers=1):
    streams = []
    for n in range(subscribers):
        stream = connect(gateway.mqtt, f"slow-{n}")
        stream.sendall(subscribe_packet(1, "#", 1))
        stream.recv(5)
        streams.append(stream)
    payload = b'{"temperature": 1}' + b" " * payload_bytes
    packets = (qos1("sensors/farm/bay-1/probe", payload, n) for n in range(int(messages * scale)))
    stream_packets(gateway.mqtt, packets, pull, watch)


def slow_subscriber_large(gateway, scale, pull, watch):
    slow_subscriber(gateway, scale, pull, watch, payload_bytes=15_000, messages=60_000)


def many_slow_subscribers(gateway, scale, pull, watch):
    slow_subscriber(gateway, scale, pull, watch, messages=20_000, subscribers=200)


def subscriptions(gateway, scale, pull, watch):
    packets = (subscribe_packet(n % 65535 + 1, f"status/{n}/{'x' * 200}", 1) for n in range(int(200_000 * scale)))
    began, stream = time.monotonic(), None
    for subscription in packets:
        if time.monotonic() - began > PULL_S_MAX:
            break
        try:
            if stream is None:
                stream = connect(gateway.mqtt, "subscriber")
                stream.setblocking(True)
                stream.settimeout(5)
            stream.sendall(subscription)
            pull.count(subscription, 1)
            if pull.sent % 64 == 0:
                if not stream.recv(65536):
                    raise OSError("closed")
                watch()
        except OSError:
            pull.note, stream = "connections closed", None


def connections(gateway, scale, pull, watch):
    streams = []
    for n in range(int(2500 * scale)):
        try:
            streams.append(connect(gateway.mqtt, f"idle-{n}", timeout=2))
            pull.sent += 1
        except OSError:
            pull.note = "refused above"
            break
        watch()
    linger(watch)


def sessions_reconnecting(gateway, scale, pull, watch):
    """A new client name at each connection."""
    for n in range(int(20_000 * scale)):
        try:
            connect(gateway.mqtt, f"made-up-client-{n}-{'x' * 100}").close()
            pull.sent += 1
        except OSError:
            pull.note = "connections refused"
        watch()


def dead_letters(gateway, scale, pull, watch):
    """Dead letters of 250 kB, and the longest listing of them."""
    payload = b"{" + b"x" * 250_000
    packets = (qos1("sensors/farm/bay-1/probe", payload, n) for n in range(int(2000 * scale)))
    stream_packets(gateway.mqtt, packets, pull, watch, window=256)
    pull.note = f"listing {len(gateway.get('dead-letters?limit=1000000')):,} B"
    watch()


def duplicates(gateway, scale, pull, watch):
    payload = b'{"co2": 1, "boot": "b", "seq": 1, "ts": 1767225600000}' + b" " * 15_000
    packets = (qos1("sensors/farm/bay-1/probe", payload, n) for n in range(int(20_000 * scale)))
    stream_packets(gateway.mqtt, packets, pull, watch)
    pull.note = f"listing {len(gateway.get('duplicates?limit=1000000')):,} B"
    watch()


HOME_ASSISTANT = 'mappings=[{ convention = "home-assistant", site = "home", zone = "house" }]'
HOMIE = 'mappings=[{ convention = "homie", site = "home", zone = "house" }]'
SPARKPLUG = 'mappings=[{ convention = "sparkplug", site = "plant", zone = "hall" }]'
ZIGBEE = 'mappings=[{ convention = "zigbee2mqtt", site = "home", zone = "house" }]'


def home_assistant_entities(gateway, scale, pull, watch):
    filler = "x" * 500
    packets = (
        qos1(f"homeassistant/sensor/made-up-{n}/config",
             json.dumps({"state_topic": f"home/{filler}/{n}", "device_class": "humidity", "name": filler}).encode(), n)
        for n in range(int(100_000 * scale))
    )
    stream_packets(gateway.mqtt, packets, pull, watch)


def homie_properties(gateway, scale, pull, watch):
    packets = (
        qos1(f"homie/made-up-{n // 2}/node/temperature/{('$datatype', '$unit')[n % 2]}", (b"float", b"\xc2\xb0C")[n % 2], n)
        for n in range(int(200_000 * scale))
    )
    stream_packets(gateway.mqtt, packets, pull, watch)


def varint(value):
    out = b""
    while True:
        low, value = value & 0x7F, value >> 7
        out += bytes([low | (0x80 if value else 0)])
        if not value:
            return out


def field(number, data):
    return varint(number << 3 | 2) + varint(len(data)) + data


def sparkplug_births(gateway, scale, pull, watch):
    """Births of made-up nodes with 500 metrics each (org.eclipse.tahu.protobuf.Payload)."""
    metrics = b"".join(
        field(2, field(1, f"folder/made-up-metric-{n}-{'x' * 40}".encode()) + b"\x10" + varint(n) + b"\x20\x0a\x69" + bytes(8))
        for n in range(500)
    )
    payload = b"\x08\x01" + metrics + b"\x18\x00"
    packets = (qos1(f"spBv1.0/group/NBIRTH/made-up-{n}", payload, n) for n in range(int(2000 * scale)))
    stream_packets(gateway.mqtt, packets, pull, watch, window=256)


def zigbee_devices(gateway, scale, pull, watch):
    """Lists of 200 devices with 20 exposed values each, of made-up bases and names."""
    exposes = [{"type": "numeric", "name": f"value_{n}", "property": f"value_{n}", "unit": "%"} for n in range(20)]
    def packets():
        for n in range(int(300 * scale)):
            devices = [{"friendly_name": f"made-up-{n}-{d}", "definition": {"exposes": exposes}} for d in range(120)]
            yield qos1("zigbee2mqtt/bridge/devices", json.dumps(devices).encode()[:262_000], n)
    stream_packets(gateway.mqtt, packets(), pull, watch, window=64)


def http_bodies(gateway, scale, pull, watch):
    """Bodies of 1 MB whose last byte never comes, 300 at once."""
    head = b"POST /v1/readings HTTP/1.1\r\nHost: bench\r\nContent-Length: 1000000\r\n\r\n"
    streams = []
    for _ in range(int(300 * scale)):
        try:
            stream = socket.create_connection(("127.0.0.1", gateway.rest), timeout=5)
            stream.settimeout(0.05)
            streams.append(stream)
            stream.sendall(head)
            for _ in range(10):
                stream.sendall(b" " * 99_999)
                pull.count(b" " * 99_999, 0)
            pull.sent += 1
        except TimeoutError:
            pull.note = "most are not read"
        except OSError:
            pull.note = "connections closed"
        watch()


def http_lines(gateway, scale, pull, watch):
    """Bodies of 10,000 refused lines."""
    body = b"x\n" * 10_000
    head = b"POST /v1/readings HTTP/1.1\r\nHost: bench\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
    streams = []
    for _ in range(int(100 * scale)):
        try:
            stream = socket.create_connection(("127.0.0.1", gateway.rest), timeout=5)
            stream.sendall(head + body)
            streams.append(stream)
            pull.count(body, 1)
        except OSError:
            pull.note = "connections closed"
        watch()
    # Nobody reads the answers.
    linger(watch)


def linger(watch, seconds=3):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        watch()
        time.sleep(0.05)


AWAY = ("log.kind=kafka", "log.kafka.brokers=127.0.0.1:9", "log.kafka.connect_timeout_ms=1000")
LEVERS = [
    ("100,000 made-up devices", made_up_devices, ()),
    ("100,000 made-up zones", made_up_zones, ()),
    ("100,000 junk topics", junk_topics, ()),
    ("2,000 devices, 1,100 numbered messages each", numbered_messages, ()),
    ("320 MB of retained messages", retained_bytes, ()),
    ("unfinished packets of 262 kB", unfinished_packets, ()),
    ("200 MB in flight, Kafka away, spool not used yet", log_that_is_away, (*AWAY, "log.spool.after_ms=3600000")),
    ("subscriber that does not read, 600 MB of 1 kB", slow_subscriber, ()),
    ("subscriber that does not read, 900 MB of 15 kB", slow_subscriber_large, ()),
    ("200 subscribers that do not read", many_slow_subscribers, ()),
    ("200,000 subscriptions", subscriptions, ()),
    ("2,500 connections", connections, ()),
    ("20,000 client names", sessions_reconnecting, ()),
    ("2,000 dead letters of 250 kB, listed", dead_letters, ()),
    ("20,000 duplicates of 15 kB, listed", duplicates, ()),
    ("Home Assistant: 100,000 entities", home_assistant_entities, (HOME_ASSISTANT, 'mqtt.forward=["status/#"]')),
    ("Homie: 100,000 properties", homie_properties, (HOMIE,)),
    ("Sparkplug: 1,000,000 birth metrics", sparkplug_births, (SPARKPLUG,)),
    ("Zigbee2MQTT: 36,000 devices", zigbee_devices, (ZIGBEE,)),
    ("HTTP: 300 unfinished bodies of 1 MB", http_bodies, ()),
    ("HTTP: 100 bodies of refused lines, answers unread", http_lines, ()),
]


def pull_lever(program, lever, settings, scale):
    with tempfile.TemporaryDirectory(prefix="ceiling-") as folder:
        gateway = Gateway(program, folder, settings=settings)
        gateway.start()
        try:
            wait_until("listening", lambda: answers(gateway.mqtt) and answers(gateway.rest))
            at_rest, pull = gateway.status_bytes("VmRSS"), Pull(gateway)
            began = time.monotonic()
            try:
                lever(gateway, scale, pull, pull.watch)
            except OSError as error:
                pull.note = f"{pull.note} {error}".strip()
            took_s = time.monotonic() - began
            problem = health_problem(gateway, settings)
            gateway.note_memory()
            return at_rest, pull, took_s, gateway.peak_rss_bytes, problem
        finally:
            gateway.kill()


def health_problem(gateway, settings):
    """What a gateway must still do after the lever: answer, and know a real device by name."""
    if gateway.child.poll() is not None:
        return f"ended with {gateway.child.returncode}"
    if settings[:1] == AWAY[:1]:
        return ""
    real = publish_packet("sensors/real/zone/device", b'{"temperature": 21}', 1)
    try:
        with connect(gateway.mqtt, "real", timeout=20) as stream:
            stream.sendall(real)
            if len(stream.recv(4)) < 4:
                return "a real device is not acknowledged"
    except OSError as error:
        return f"a real device is not acknowledged ({error})"
    text = gateway.get("ledger")
    if not text:
        return "/ledger does not answer"
    is_named = '"real/zone"' in text
    return "" if is_named else "a real device is in no line of the ledger"


def microclimate_lever(program, scale, bound_mb):
    """`microclimate up` with made-up device names."""
    with tempfile.TemporaryDirectory(prefix="ceiling-") as folder:
        mqtt, rest = free_ports(), free_ports()
        command = [program, "up", "--data-dir", folder, "--set", f"gateway.mqtt.listen=127.0.0.1:{mqtt}",
                   "--set", f"rest.listen=127.0.0.1:{rest}"]
        house = Process(command, Path(folder) / "up.log")
        pull = Pull(house)
        house.start()
        try:
            wait_until("listening", lambda: answers(mqtt))
            packets = (qos1(f"sensors/farm/bay-{n % 100}/made-up-{n}", b'{"temperature": 1}', n) for n in range(int(100_000 * scale)))
            stream_packets(mqtt, packets, pull, pull.watch, seconds=300)
            linger(pull.watch, 60)
            return pull, house.note_memory()
        finally:
            house.kill()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--gateway", help="the program `gateway`")
    parser.add_argument("--microclimate", help="the program `microclimate`")
    parser.add_argument("--only", nargs="*", default=[], help="words in the names of levers")
    parser.add_argument("--bound-mb", type=float, default=64, help="of the gateway, MiB as in 64 << 20")
    parser.add_argument("--microclimate-bound-mb", type=float, default=1024)
    parser.add_argument("--scale", type=float, default=1.0, help="of what is sent")
    args = parser.parse_args()
    bound, is_over = args.bound_mb * (1 << 20), False
    print("| lever | sent | MB sent | s | files | RSS at rest, MB | RSS at most, MB | bound, MB | |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|---|")
    for title, lever, settings in LEVERS if args.gateway else ():
        if args.only and not any(word in title for word in args.only):
            continue
        at_rest, pull, took_s, peak, problem = pull_lever(args.gateway, lever, settings, args.scale)
        over = "OVER" if peak > bound else ""
        is_over |= bool(over or problem)
        notes = "; ".join(note for note in (over, problem, pull.note) if note)
        print(f"| {title} | {pull.sent:,} | {pull.sent_bytes / MB:,.0f} | {took_s:.0f} | {pull.files} | {at_rest / MB:.0f} | "
              f"{peak / MB:.0f} | {bound / MB:.0f} | {notes} |", flush=True)
    if args.microclimate:
        pull, peak = microclimate_lever(args.microclimate, args.scale, args.microclimate_bound_mb)
        bound = args.microclimate_bound_mb * (1 << 20)
        is_over |= peak > bound
        print(f"| microclimate up: 100,000 made-up devices | {pull.sent:,} | {pull.sent_bytes / MB:,.0f} | | | | {peak / MB:.0f} | "
              f"{bound / MB:.0f} | {'OVER' if peak > bound else ''} |")
    sys.exit(is_over)


if __name__ == "__main__":
    main()
