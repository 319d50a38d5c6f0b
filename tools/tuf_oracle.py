"""What python-tuf says of repositories that the differential test makes up (`tools/conformance
differential`): one JSON object a line in, one line out.

In: the first root, the files of a repository before and after, a target's path and the time, all
bytes in hexadecimal. Out: `ok ROOT TIMESTAMP SNAPSHOT TARGETS HASH|none`, or `no REASON`, of a
client that saw the first state and then the second.
"""

import datetime
import json
import sys
import tempfile

from tuf.api.exceptions import DownloadHTTPError
from tuf.ngclient import Updater, UpdaterConfig
from tuf.ngclient.fetcher import FetcherInterface


class Shelf(FetcherInterface):
    """Files in memory."""

    def __init__(self, files):
        self.files = files

    def _fetch(self, url):
        name = url.removeprefix("shelf:/")
        if name not in self.files:
            raise DownloadHTTPError(f"{name} is not there", 404)
        return iter([bytes.fromhex(self.files[name])])


def visit(folder, case, files):
    updater = Updater(
        folder,
        "shelf:/",
        fetcher=Shelf(files),
        config=UpdaterConfig(),
        bootstrap=bytes.fromhex(case["anchor"]),
    )
    now = datetime.datetime.fromtimestamp(case["now"], datetime.timezone.utc)
    updater._trusted_set.reference_time = now
    updater.refresh()
    found = updater.get_targetinfo(case["target"])
    trusted = updater._trusted_set
    versions = [
        role.version
        for role in (trusted.root, trusted.timestamp, trusted.snapshot, trusted.targets)
    ]
    hash_ = "none" if found is None else found.hashes.get("sha256", "none")
    return " ".join(map(str, [*versions, hash_]))


def main():
    for line in sys.stdin:
        case = json.loads(line)
        with tempfile.TemporaryDirectory() as folder:
            visit(folder, case, case["before"])
            try:
                answer = "ok " + visit(folder, case, case["after"])
            except Exception as error:
                reasons = [type(error).__name__, str(error), str(error.__cause__ or "")]
                answer = "no " + ": ".join(reasons).replace("\n", " ")
        print(answer, flush=True)


main()
