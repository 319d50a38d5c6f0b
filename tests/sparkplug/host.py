"""A host's side of Sparkplug B, by somebody else's codec.

    host.py rebirth            the bytes of the command, in hexadecimal
    host.py state true|false   what a host says of itself
    host.py read               lines with a kind and bytes in hexadecimal, to lines of JSON
"""

import json
import sys

from pysparkplug import DataType, Metric, NBirth, NCmd, NData, NDeath, State, get_current_timestamp


def told(metric):
    return {
        "name": metric.name,
        "alias": metric.alias,
        "at": metric.timestamp,
        "kind": metric.datatype.name,
        "value": metric.value,
        "null": metric.is_null,
        "historical": metric.is_historical,
    }


def read():
    birth = None
    for line in sys.stdin:
        kind, raw = line.split()
        raw = bytes.fromhex(raw)
        if kind == "NDEATH":
            payload = NDeath.decode(raw)
            print(json.dumps({"kind": kind, "metrics": [told(payload.bd_seq_metric)]}))
            continue
        if kind == "NBIRTH":
            payload = birth = NBirth.decode(raw)
        else:
            payload = NData.decode(raw, birth=birth)
        metrics = [told(it) for it in payload.metrics]
        print(json.dumps({"kind": kind, "at": payload.timestamp, "seq": payload.seq, "metrics": metrics}))


now = get_current_timestamp()
match sys.argv[1:]:
    case ["rebirth"]:
        wanted = Metric(timestamp=now, name="Node Control/Rebirth", datatype=DataType.BOOLEAN, value=True)
        print(NCmd(timestamp=now, metrics=(wanted,)).encode(include_dtypes=True).hex())
    case ["state", online]:
        print(State(timestamp=now, online=online == "true").encode().decode())
    case ["read"]:
        read()
