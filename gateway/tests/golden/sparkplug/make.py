"""Writes the payloads of this folder, independently of the gateway's own structs.

    pip install protobuf grpcio-tools
    python make.py PATH/TO/sparkplug_b.proto

The .proto is that of Eclipse Tahu, https://github.com/eclipse/tahu, folder
sparkplug_b.
"""

import importlib
import pathlib
import sys
import tempfile

from grpc_tools import protoc

proto = pathlib.Path(sys.argv[1]).resolve()
out = tempfile.mkdtemp()
assert protoc.main(["", f"-I{proto.parent}", f"--python_out={out}", str(proto)]) == 0
sys.path.insert(0, out)
Payload = importlib.import_module("sparkplug_b_pb2").Payload
here = pathlib.Path(__file__).parent
T = 1_700_000_000_000
INT8, INT16, INT32, INT64, UINT32, FLOAT, DOUBLE, BOOLEAN, STRING, DATASET = 1, 2, 3, 4, 7, 9, 10, 11, 12, 16


def payload(name, seq, metrics, timestamp=T):
    message = Payload(timestamp=timestamp)
    if seq is not None:
        message.seq = seq
    for fields in metrics:
        unit = fields.pop("unit", None)
        metric = message.metrics.add(**fields)
        if unit:
            metric.properties.keys.append("engUnit")
            metric.properties.values.add(type=STRING, string_value=unit)
    (here / f"{name}.bin").write_bytes(message.SerializeToString())


bd_seq = dict(name="bdSeq", timestamp=T, datatype=INT64, long_value=3)
payload("nbirth", 0, [
    bd_seq,
    dict(name="Node Control/Rebirth", timestamp=T, datatype=BOOLEAN, boolean_value=False),
    dict(name="Properties/Hardware", timestamp=T, datatype=STRING, string_value="RPi 5"),
    dict(name="Cabinet/Temperature", alias=0, timestamp=T, datatype=FLOAT, float_value=31.4, unit="°C"),
    dict(name="Log", alias=1, timestamp=T, datatype=DATASET,
         dataset_value=dict(num_of_columns=1, columns=["a"], types=[INT32], rows=[dict(elements=[dict(int_value=1)])])),
])
payload("dbirth", 1, [
    dict(name="Device Control/Reboot", timestamp=T, datatype=BOOLEAN, boolean_value=False),
    dict(name="Temperature", alias=10, timestamp=T, datatype=INT16, int_value=(-40) & 0xFFFFFFFF, unit="°F"),
    dict(name="Inputs/Soil", alias=11, timestamp=T, datatype=UINT32, long_value=315),
    dict(name="Pressure", alias=12, timestamp=T, datatype=DOUBLE, double_value=101.325, unit="kPa"),
    dict(name="Outputs/Valve", alias=13, timestamp=T, datatype=BOOLEAN, boolean_value=True),
    dict(name="Irrigation", alias=14, timestamp=T, datatype=BOOLEAN, boolean_value=True),
    dict(name="State", alias=15, timestamp=T, datatype=STRING, string_value="auto"),
])
payload("ddata", 2, [
    dict(alias=10, timestamp=T + 1000, int_value=50),
    dict(alias=11, timestamp=T - 60_000, datatype=UINT32, int_value=320, is_historical=True),
    dict(alias=12, timestamp=T + 1000, is_null=True),
], T + 1000)
payload("ddata-unknown-alias", 3, [dict(alias=99, timestamp=T, datatype=FLOAT, float_value=1.5)])
payload("ddata-gap", 7, [dict(alias=10, timestamp=T + 2000, datatype=INT16, int_value=68)])
payload("ndata", 2, [dict(alias=0, timestamp=T + 5000, datatype=FLOAT, float_value=32.1)])
payload("ndata-named", 3, [dict(name="Humidity", timestamp=T, datatype=INT8, int_value=55)])
payload("ndeath", None, [bd_seq])
payload("ndeath-stale", None, [dict(bd_seq, long_value=2)])
payload("ddeath", 3, [])
