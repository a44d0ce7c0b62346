"""A client that hands in numbered records, and what an observer reads from the API.

Its records are erasures, the smallest that a member may submit: number N erases the digest of the
text ``record N``. An acknowledgement is written to a synced file before the next record is sent.
"""

import itertools
import json
import os
import time
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

_RETRY_S = 0.02


def digest_of(number: int) -> str:
    """What record ``number`` erases."""
    return sha256(b"record %d" % number).hexdigest()


def acknowledged(path: Path) -> set[str]:
    """Digests in a file of acknowledgements."""
    lines = path.read_text().splitlines() if path.exists() else []
    return {line.split()[1] for line in lines if line.startswith("acknowledged ")}


def main(arguments: Sequence[str]) -> None:
    """``client API ACKNOWLEDGED EVERY FOLDER...`` hands in records until it is stopped.

    Started again, it begins with the last record that it tried: a repeat is harmless.
    """
    from hospital_agent.approvals import Approvals
    from hospital_agent.connection import connect
    from hospital_agent.errors import ApiUnreachable
    from hospital_agent.folder import HospitalFolder
    from hospital_agent.ledger_api import LedgerApi
    from ledger.entry import sign_record
    from ledger.keys import Role
    from ledger.records import Erasure

    api, path, every = arguments[0], Path(arguments[1]), float(arguments[2])
    folders = [HospitalFolder(Path(folder)) for folder in arguments[3:]]
    lines = path.read_text().splitlines() if path.exists() else []
    tried = [int(line.split()[1]) for line in lines if line.startswith("tried ")]
    output = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with connect(api) as http:
        for number in itertools.count(max(tried, default=1)):
            folder = folders[number % len(folders)]
            assert folder.ledger is not None
            erasure = Erasure(
                v=1, type="erasure", ledger=folder.ledger, author=folder.institution,
                disclosure=digest_of(number),
            )  # fmt: skip
            entry = sign_record(erasure, [folder.keys[Role.RECORD]])
            Approvals(folder.path / "approvals.sqlite").keep(entry)
            os.write(output, b"tried %d\n" % number)
            refused = False
            while True:
                try:
                    LedgerApi(http, folder).submit(entry.data)
                    break
                except ApiUnreachable:
                    if not refused:
                        os.write(output, b"refused %d\n" % number)
                    refused = True
                    time.sleep(_RETRY_S)
            os.write(output, f"acknowledged {digest_of(number)}\n".encode())
            os.fsync(output)
            time.sleep(every)


def collect(arguments: Sequence[str]) -> None:
    """``collect API OUT FOLDER`` writes what the API shows to one member: all signed lines."""
    from hospital_agent.connection import connect
    from hospital_agent.folder import HospitalFolder
    from hospital_agent.ledger_api import LedgerApi

    with connect(arguments[0]) as http:
        api = LedgerApi(http, HospitalFolder(Path(arguments[2])))
        heads, newest = api.heads(), api.newest()
        blocks = []
        for height in range(newest.height + 1):
            block, lines = api.block(height)
            blocks.append([block.header.hash, lines, list(block.parent_cert)])
    content = {
        "heads": [[name, head.text()] for name, head in heads.newest],
        "conflicts": [list(conflict) for conflict in heads.conflicts],
        "blocks": blocks,
    }
    Path(arguments[1]).write_text(json.dumps(content))
