"""The hospital's Flower ClientApp: four phases in, four answers out, nothing else.

An exception never travels: `Participant` answers with a code, and what goes wrong before it can
is answered with a code here.
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from consortium.phases import Reply, Request
from hospital_agent.folder import HospitalFolder
from hospital_agent.participant import Participant

MakeParticipant = Callable[[Context], Participant]


def make_client_app(participant_of: MakeParticipant) -> ClientApp:
    """A ClientApp that answers for the hospital that ``participant_of`` gives."""
    app = ClientApp()

    def answer(message: Message, context: Context) -> Message:
        try:
            reply = participant_of(context).answer(Request.from_record_dict(message.content))
        except Exception:  # Flower would send the text of the exception
            reply = Reply("", error="InternalError")
        return Message(reply.to_record_dict(), reply_to=message)

    app.train()(answer)
    app.evaluate()(answer)
    app.query("close")(answer)
    app.query("reveal")(answer)
    return app


def simulation_client_app(
    folders: list[str], cheat: str | None = None, cheater: str | None = None
) -> ClientApp:
    """The ClientApp of a simulation: node i answers for the hospital in ``folders[i]``."""

    def participant_of(context: Context) -> Participant:
        path = folders[int(context.node_config["partition-id"])]
        return _simulated(path, tuple(folders), cheat, cheater)

    return make_client_app(participant_of)


@cache
def _simulated(
    path: str, everybody: tuple[str, ...], cheat: str | None, cheater: str | None
) -> Participant:
    """One hospital in this process: it keeps what it has read of the ledger between messages."""
    from hospital_agent.cheats import make_participant

    folder = HospitalFolder(Path(path))
    own = cheat if folder.institution == cheater else None
    return make_participant(own, folder, [Path(other) for other in everybody])
