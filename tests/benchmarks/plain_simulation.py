"""Plain Flower: FedAvg, train and evaluate, on a demo's own hospitals. Prints seconds a round.

The same training (`privacy.training`, the same terms) and nothing of ours around it: no proof, no
check, no ledger. Run as ``python -m tests.benchmarks.plain_simulation HOME ROUNDS``.
"""

import os
import sys
import time
import warnings
from decimal import Decimal
from pathlib import Path

from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation

from consortium import tasks
from consortium.rounds.score import auroc
from hospital_agent.cohort import Cohort
from hospital_agent.folder import HospitalFolder
from privacy.noise import SecureNoise
from privacy.training import train

TASK = "breast-cancer"


def client_app(folders: list[str], rounds: int) -> ClientApp:
    """Trains and evaluates as our hospitals do."""
    app = ClientApp()

    def cohort_of(context: Context) -> Cohort:
        folder = folders[int(context.node_config["partition-id"])]
        return Cohort.open(HospitalFolder(Path(folder)), TASK)

    @app.train()
    def fit(message: Message, context: Context) -> Message:
        cohort, task = cohort_of(context), tasks.get(TASK)
        terms = task.terms(rounds, Decimal(1), Decimal("0.00001"), cohort.declared_patients)
        model = task.model(0)
        model.load_state_dict(message.content["arrays"].to_torch_state_dict())
        x, y = cohort.tensors("train")
        train(model, task.loss, x, y, terms, SecureNoise())
        metrics = MetricRecord({"num-examples": float(cohort.declared_patients)})
        content = RecordDict({"arrays": ArrayRecord(model.state_dict()), "metrics": metrics})
        return Message(content, reply_to=message)

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        cohort, task = cohort_of(context), tasks.get(TASK)
        model = task.model(0)
        model.load_state_dict(message.content["arrays"].to_torch_state_dict())
        x, y = cohort.tensors("validation")
        found = auroc(y.numpy(), model(x).detach().squeeze(1).numpy())
        metrics = MetricRecord({"num-examples": float(len(y)), "auroc": float(found)})
        return Message(RecordDict({"metrics": metrics}), reply_to=message)

    return app


def main(home: Path, rounds: int) -> float:
    """Seconds a round, from the run's start as the demo's own figure counts it."""
    folders = sorted(str(path) for path in (home / "hospitals").iterdir())
    times: list[float] = []
    server = ServerApp()

    @server.main()
    def run(grid: Grid, context: Context) -> None:
        times.append(time.monotonic())
        strategy = FedAvg(
            min_train_nodes=len(folders),
            min_evaluate_nodes=len(folders),
            min_available_nodes=len(folders),
        )
        initial = ArrayRecord(tasks.get(TASK).model(0).state_dict())
        strategy.start(grid=grid, initial_arrays=initial, num_rounds=rounds)
        times.append(time.monotonic())

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run_simulation(
            server, client_app(folders, rounds), num_supernodes=len(folders),
            backend_config={
                "init_args": {"include_dashboard": False, "log_to_driver": False},
                "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
            },
        )  # fmt: skip
    return (times[1] - times[0]) / rounds


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    print(main(Path(sys.argv[1]), int(sys.argv[2])))
