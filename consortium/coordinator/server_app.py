"""The coordinator's Flower ServerApp: one job's rounds over whatever grid it is given."""

from flwr.app import ArrayRecord, Context
from flwr.serverapp import Grid, ServerApp

from consortium.coordinator.strategy import ProofOfLearning


def make_server_app(strategy: ProofOfLearning) -> ServerApp:
    """A ServerApp that runs the remaining rounds of the strategy's job, and ends it."""
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        strategy.start(grid, ArrayRecord())

    return app
