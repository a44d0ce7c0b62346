"""`PUT /v1/institutions/self/offers`: for which tasks an institution says that it has patients."""

from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Body, Depends
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from consortium.api.callers import Permissions
from consortium.offers import Offers
from ledger.records import Name

MOST_TASKS = 100


def _whole(value: object) -> object:
    """JSON has one kind of number: 190.0 is 190."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


class TaskOffers(BaseModel):
    """Declared patients by task: public round numbers."""

    model_config = ConfigDict(extra="forbid", strict=True)
    tasks: Annotated[
        dict[Name, Annotated[int, Field(ge=1, le=10**9), BeforeValidator(_whole)]],
        Field(max_length=MOST_TASKS, json_schema_extra={"additionalProperties": False}),
    ]


def offers_router(home: Path, allowed: Permissions) -> APIRouter:
    """The route."""
    router = APIRouter(prefix="/v1", tags=["institutions"])

    @router.put("/institutions/self/offers", status_code=204)
    def put_offers(
        who: Annotated[str, Depends(allowed.members)], offers: Annotated[TaskOffers, Body()]
    ) -> None:
        """Replaces what the asking institution offers."""
        Offers(home).put(who, offers.tasks)

    return router
