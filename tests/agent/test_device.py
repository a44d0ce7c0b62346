"""Where a hospital trains is its own matter; a device that is not there is said, with a code."""

import pytest
from consortium_in_memory import TASK, Consortium

from consortium.phases import Phase
from hospital_agent.agent import start
from hospital_agent.cohort import Cohort
from hospital_agent.folder import HospitalFolder
from hospital_agent.participant import Participant
from privacy.errors import DeviceMissing

ONE = "hospital-1"
NOWHERE = "cuda:999"


@pytest.mark.parametrize("device", [NOWHERE, "abacus"])
def test_an_agent_does_not_start_without_its_device(four: Consortium, device: str) -> None:
    with pytest.raises(DeviceMissing) as caught:
        start(HospitalFolder(four.folders[ONE].path), None, device)
    assert device in caught.value.what
    assert "cpu" in caught.value.resolve


def test_a_device_that_goes_away_is_a_signed_refusal_and_costs_nothing(four: Consortium) -> None:
    folder = HospitalFolder(four.folders[ONE].path)
    reply = Participant(folder, NOWHERE).answer(four.request(Phase.TRAIN))
    assert reply.error == "DeviceMissing"
    assert reply.entries
    status = folder.budget.status(Cohort.open(folder, TASK).id)
    assert status.spent.mu2 == 0
