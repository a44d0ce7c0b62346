"""A query parameter that a route does not have is refused: mistyped, a filter gives everything."""

from fastapi import Request
from fastapi.dependencies.utils import get_flat_dependant
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute


class KnownQueries:
    """The names that each route takes, looked up once."""

    def __init__(self) -> None:
        self._by_route: dict[int, frozenset[str]] = {}

    def check(self, request: Request) -> None:
        """Refuses what the request's route does not take.

        Raises:
            RequestValidationError: if there is such a parameter.
        """
        if request.query_params.keys() - self._of(request.scope["route"]):
            raise RequestValidationError([{"type": "extra_forbidden", "loc": ("query",)}])

    def _of(self, route: APIRoute) -> frozenset[str]:
        if (known := self._by_route.get(id(route))) is None:
            parameters = get_flat_dependant(route.dependant).query_params
            known = self._by_route[id(route)] = frozenset(one.alias for one in parameters)
        return known
