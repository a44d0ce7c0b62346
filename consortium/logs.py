"""Logs of the long-running processes: one JSON object a line on standard error.

What a line holds is made of codes, ids and counts by whoever logs it; exceptions are logged by
their class alone, because their text may hold somebody's data.
"""

import json
import logging
import sys
import time


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        content = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created)),
            "level": record.levelname.lower(),
            "part": record.name.removeprefix("medpole."),
            "what": record.getMessage(),
        }
        if record.exc_info and record.exc_info[0] is not None:
            content["error"] = record.exc_info[0].__name__
        return json.dumps(content)


def log_as_json() -> None:
    """Sends our own parts' logs there, and nobody else's below a warning."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("medpole").setLevel(logging.INFO)
    flower = logging.getLogger("flwr")
    flower.handlers[:], flower.propagate = [], True
    flower.setLevel(logging.ERROR)
