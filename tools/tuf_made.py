"""A repository of packages as python-tuf makes it, for the operator's tool and the device's client to
read (`tools/conformance fleet`).

    tuf_made.py FOLDER PACKAGE.json

Root with a threshold of two and a second version with other keys, targets that delegate to `offline`,
`rollout` and `packages` in this order, a ring and a package's manifest, consistent snapshots.
"""

import hashlib
import json
import pathlib
import sys
from datetime import datetime, timedelta, timezone

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)
from tuf.api.serialization.json import JSONSerializer

NOW = datetime.now(timezone.utc).replace(microsecond=0)
PATTERNS = {
    "offline": ["rollout/offline*.json"],
    "rollout": ["rollout/*.json"],
    "packages": ["*.json"],
}


def expires(days):
    return NOW + timedelta(days=days)


def signed(content, *signers):
    metadata = Metadata(content)
    for signer in signers:
        metadata.sign(signer, append=True)
    return metadata.to_bytes(JSONSerializer(compact=True))


def main():
    folder, manifest = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    (folder / "metadata").mkdir(parents=True)
    keys = {name: CryptoSigner.generate_ed25519() for name in ("ann", "cleo", "online", *PATTERNS)}
    keys["ben"] = CryptoSigner.generate_ecdsa()

    def write(name, content):
        (folder / "metadata" / name).write_bytes(content)

    root = Root(expires=expires(365))
    for name in ("ann", "ben"):
        root.add_key(keys[name].public_key, "root")
    root.roles["root"].threshold = 2
    root.add_key(keys["ann"].public_key, "targets")
    for role in ("snapshot", "timestamp"):
        root.add_key(keys["online"].public_key, role)
    write("1.root.json", signed(root, keys["ann"], keys["ben"]))
    root.version = 2
    root.revoke_key(keys["ann"].public_key.keyid, "root")
    root.add_key(keys["cleo"].public_key, "root")
    write("2.root.json", signed(root, keys["ann"], keys["ben"], keys["cleo"]))

    contents = {name: Targets(expires=expires(90)) for name in PATTERNS}

    def add(role, path, data):
        target = TargetFile.from_data(path, data, ["sha256"])
        contents[role].targets[path] = target
        place = folder / "targets" / target.get_prefixed_paths()[0]
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)

    data = manifest.read_bytes()
    package = json.loads(data)
    ring = {
        "format": 1,
        "ring": "canary",
        "package": package["name"],
        "seq": package["seq"],
        "share_permille": 1000,
        "halted": False,
    }
    add("packages", manifest.name, data)
    add("rollout", "rollout/canary.json", json.dumps(ring).encode())

    top = Targets(expires=expires(365))
    top.delegations = Delegations(
        {keys[name].public_key.keyid: keys[name].public_key for name in PATTERNS},
        {
            name: DelegatedRole(name, [keys[name].public_key.keyid], 1, True, paths=paths)
            for name, paths in PATTERNS.items()
        },
    )
    snapshot = Snapshot(expires=expires(30), meta={})
    for name, content in {"targets": top, **contents}.items():
        file = signed(content, keys["ann" if name == "targets" else name])
        write(f"1.{name}.json", file)
        snapshot.meta[f"{name}.json"] = MetaFile(
            1, len(file), {"sha256": hashlib.sha256(file).hexdigest()}
        )
    file = signed(snapshot, keys["online"])
    write("1.snapshot.json", file)
    described = MetaFile(1, len(file), {"sha256": hashlib.sha256(file).hexdigest()})
    write("timestamp.json", signed(Timestamp(expires=expires(7), snapshot_meta=described), keys["online"]))


main()
