"""An answer that is made where its content was read: in one thread, and only once."""

from fastapi import Response
from pydantic import BaseModel


def answer(content: BaseModel) -> Response:
    """The JSON of a form. FastAPI would check it once more, in another thread."""
    data = content.__pydantic_serializer__.to_json(content)
    return Response(data, media_type="application/json")
