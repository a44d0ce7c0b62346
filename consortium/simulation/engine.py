"""Flower's simulation engine, behind one door: a job's rounds on Ray, in this process tree.

`flwr.simulation.run_simulation` works and is marked deprecated in favour of `flwr run`, which
needs a SuperLink of its own; only this module knows which is used.
"""

import logging
import os
import time
import warnings
from typing import Any, NoReturn

import ray
from flwr.app import ArrayRecord, Context
from flwr.serverapp import Grid, ServerApp
from flwr.simulation import run_simulation

from consortium.coordinator.strategy import ProofOfLearning
from consortium.errors import ConsortiumError, SimulationFailed
from consortium.simulation.reaper import reaped
from ledger.errors import LedgerError

_QUIET_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "FLWR_TELEMETRY_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS": "0",
    "OMP_NUM_THREADS": "1",
}
_OBJECT_STORE_BYTES = 100 * 1024 * 1024


def run_rounds(
    strategy: ProofOfLearning,
    client_app: Any,
    hospitals: int,
) -> tuple[float, float]:
    """Runs all of a job's remaining rounds and ends the job.

    Returns when the first round began, the engine's workers not yet there, and when the job had
    ended, the engine still running (both monotonic).

    Raises:
        SimulationFailed: if the engine did not come to the end.
        LedgerError, ConsortiumError: what a round raised.
    """
    os.environ.update(_QUIET_ENVIRONMENT)
    for name in ("flwr", "ray"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    failures: list[BaseException] = []
    times: list[float] = []
    server_app = ServerApp()

    @server_app.main()
    def main(grid: Grid, context: Context) -> None:
        try:
            times.append(time.monotonic())
            strategy.start(grid, ArrayRecord())
            times.append(time.monotonic())
        except BaseException as error:
            failures.append(error)
            raise

    try:
        with reaped(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # Not left to Flower, which asks for an environment that Ray's first workers lack: they
            # would be started, thrown away, and started anew.
            ray.init(
                include_dashboard=False,
                log_to_driver=False,
                configure_logging=False,
                object_store_memory=_OBJECT_STORE_BYTES,
            )
            run_simulation(
                server_app,
                client_app,
                num_supernodes=hospitals,
                backend_config={"client_resources": {"num_cpus": 1, "num_gpus": 0.0}},
            )
    except Exception as error:
        _raise_known(failures, error)
    finally:
        ray.shutdown()
    if failures or len(times) < 2:
        _raise_known(failures, None)
    return times[0], times[1]


def _raise_known(failures: list[BaseException], engine: Exception | None) -> NoReturn:
    for failure in failures:
        if isinstance(failure, ConsortiumError | LedgerError):
            raise failure
    cause = failures[0] if failures else engine
    raise SimulationFailed(
        f"Flower's simulation engine ended early ({type(cause).__name__})",
        "run the command again with the same --home; if it stays, report it with the traceback",
    ) from cause
