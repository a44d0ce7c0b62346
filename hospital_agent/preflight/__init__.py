"""Whether this hospital can take part: checks that change nothing, each with how to fix it.

Each check is a function of a `Site`; what it cannot find out it calls a failure, never "ok". No
result holds a secret, a patient's value or an exact count of patients.
"""

import json
from collections.abc import Callable
from typing import Any, Final

from consortium.errors import ConsortiumError
from consortium.tasks.errors import TaskError
from hospital_agent.connection import address_of
from hospital_agent.errors import AgentError, FolderInvalid
from hospital_agent.folder import HospitalFolder
from hospital_agent.preflight.local import budget, data, disk, keys, memory, replica, versions
from hospital_agent.preflight.network import api, clock, dns, proxy, superlink, tls
from hospital_agent.preflight.site import Check, Site, State
from ledger.errors import LedgerError
from privacy.errors import PrivacyError

NETWORK: Final = (proxy, dns, tls, api, clock, superlink)
HERE: Final = (disk, memory, versions, keys, data, budget, replica)


def preflight(folder: HospitalFolder, url: str | None) -> list[Check]:
    """All checks, in order. ``url``: the API's address; by default what `enrol` stored."""
    try:
        site = Site(folder, url or address_of(folder))
    except FolderInvalid as error:
        offline = Site(folder, "unix:none")
        missing = Check("connection", State.FAIL, error.what, error.resolve)
        return [missing, *(_run(check, offline) for check in HERE)]
    return [_run(check, site) for check in (*NETWORK, *HERE)]


def is_ready(checks: list[Check]) -> bool:
    """Whether nothing failed."""
    return all(check.state is not State.FAIL for check in checks)


def _run(check: Callable[[Site], Check], site: Site) -> Check:
    name = check.__name__
    try:
        return check(site)
    except (AgentError, ConsortiumError, LedgerError, PrivacyError, TaskError) as error:
        return Check(name, State.FAIL, f"{error.code}: {error.what}", error.resolve)
    except OSError as error:
        what = f"{error.strerror or type(error).__name__}"
        return Check(name, State.FAIL, what, "check the path, its owner and free space")
    except Exception as error:  # its text may hold what must not be shown
        return Check(
            name, State.FAIL, f"could not be checked ({type(error).__name__})",
            "run it again; report it if it stays",
        )  # fmt: skip


def to_json(checks: list[Check]) -> dict[str, Any]:
    """The table for programs."""
    listed = [json.loads(json.dumps(vars(check))) for check in checks]
    return {"ready": is_ready(checks), "checks": listed}
