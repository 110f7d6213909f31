"""Devices, byte by byte (MQTT 3.1.1): they number their messages, keep each of QoS 1 until it is
acknowledged, and know what was."""

import json
import selectors
import socket
import struct
import threading
import time

WINDOW = 64
RECONNECT_S = 0.1


def text(value):
    value = value.encode()
    return struct.pack(">H", len(value)) + value


def packet(first, body):
    head, length = bytes([first]), len(body)
    while True:
        low, length = length & 0x7F, length >> 7
        head += bytes([low | (0x80 if length else 0)])
        if not length:
            return head + body


def connect_packet(client, clean=True, keep_alive_s=0):
    flags = 2 if clean else 0
    return packet(0x10, text("MQTT") + bytes([4, flags]) + struct.pack(">H", keep_alive_s) + text(client))


def publish_packet(topic, payload, packet_id=None, flags=0):
    first, ident = (0x30, b"") if packet_id is None else (0x32, struct.pack(">H", packet_id))
    return packet(first | flags, text(topic) + ident + payload)


def subscribe_packet(packet_id, topic_filter, qos):
    return packet(0x82, struct.pack(">H", packet_id) + text(topic_filter) + bytes([qos]))


def connect(port, client, timeout=10):
    stream = socket.create_connection(("127.0.0.1", port), timeout=timeout)
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    stream.sendall(connect_packet(client))
    welcome = b""
    while len(welcome) < 4:
        chunk = stream.recv(4 - len(welcome))
        if not chunk:
            raise OSError("refused")
        welcome += chunk
    if welcome[3]:
        raise OSError(f"refused with code {welcome[3]}")
    return stream


def reading(device, seq, padding=0):
    """A message of the bench: two numbers by which it is found again."""
    body = {"seq": seq, "boot": "b1", "temperature": 21.5, "light": seq, "co2": device}
    return json.dumps(body).encode() + b" " * padding


class Fleet:
    """Devices that send at a rate, or as fast as they are acknowledged."""

    def __init__(self, port, site, devices=4, per_s=None, messages=None, qos=1, padding=0):
        self.port, self.site, self.devices, self.qos = port, site, devices, qos
        self.every_s = devices / per_s if per_s else 0
        self.messages, self.padding = messages, padding
        self.acknowledged = [0] * devices
        self.sent = [0] * devices
        self.is_over = threading.Event()
        self.threads = [threading.Thread(target=self.run, args=(n,), daemon=True) for n in range(devices)]
        for thread in self.threads:
            thread.start()

    def topic(self, device):
        return f"sensors/{self.site}/bay-{device}/probe-{device}"

    def run(self, device):
        while not self.is_done(device):
            try:
                with connect(self.port, f"{self.site}-{device}") as stream:
                    self.talk(stream, device)
            except OSError:
                time.sleep(RECONNECT_S)

    def has_more(self, device):
        if self.messages is not None:
            return self.sent[device] < self.messages // self.devices
        return not self.is_over.is_set()

    def is_done(self, device):
        return not self.has_more(device) and (self.qos == 0 or self.acknowledged[device] == self.sent[device])

    def talk(self, stream, device):
        """One connection. Acknowledgements come in order, so a count of them is enough."""
        topic, due, cut = self.topic(device), time.monotonic(), b""
        # What the last connection left unacknowledged goes again.
        first_open = self.acknowledged[device]
        for seq in range(first_open, self.sent[device] if self.qos else first_open):
            stream.sendall(publish_packet(topic, reading(device, seq, self.padding), seq % 65535 + 1, 8))
        selector = selectors.DefaultSelector()
        selector.register(stream, selectors.EVENT_READ)
        while not self.is_done(device):
            outgoing = []
            while self.has_more(device) and due <= time.monotonic() and len(outgoing) < WINDOW and (
                self.qos == 0 or self.sent[device] - self.acknowledged[device] < WINDOW
            ):
                seq = self.sent[device]
                ident = seq % 65535 + 1 if self.qos else None
                outgoing.append(publish_packet(topic, reading(device, seq, self.padding), ident))
                self.sent[device] += 1
                due += self.every_s
            if outgoing:
                stream.sendall(b"".join(outgoing))
            if self.qos == 0:
                if self.has_more(device) and self.every_s:
                    time.sleep(max(0, due - time.monotonic()))
                continue
            is_full = self.sent[device] - self.acknowledged[device] >= WINDOW or not self.has_more(device)
            wait = 0.2 if is_full else min(0.2, max(0, due - time.monotonic()))
            if selector.select(wait):
                chunk = stream.recv(4096)
                if not chunk:
                    raise OSError("closed")
                chunk = cut + chunk
                self.acknowledged[device] += len(chunk) // 4
                cut = chunk[len(chunk) // 4 * 4:]
        if self.qos == 0:
            # Until the other side has read all of it: it answers a ping.
            stream.sendall(b"\xc0\x00")
            while b"\xd0\x00" not in cut:
                chunk = stream.recv(4096)
                if not chunk:
                    raise OSError("closed")
                cut += chunk
        stream.sendall(b"\xe0\x00")

    def wait_for(self, messages):
        """Waits until so many are acknowledged (QoS 1) or sent."""
        while sum(self.acknowledged if self.qos else self.sent) < messages:
            time.sleep(0.005)

    def finish(self, seconds=120):
        """No new messages. Returns what is owed: (device, number) of each message that was
        acknowledged, or at QoS 0 read by the broker."""
        self.is_over.set()
        for thread in self.threads:
            thread.join(seconds)
            if thread.is_alive():
                raise TimeoutError(f"{self.acknowledged} of {self.sent} messages acknowledged, and then none")
        counts = self.acknowledged if self.qos else self.sent
        return {(device, seq) for device in range(self.devices) for seq in range(counts[device])}


def deliver(port, topic, payload):
    """One message of QoS 1 over a connection of its own; whether it was acknowledged."""
    with connect(port, f"single-{time.monotonic_ns()}") as stream:
        stream.sendall(publish_packet(topic, payload, 1))
        try:
            return len(stream.recv(4)) == 4
        except OSError:
            return False
