"""A trivial application of FastAPI."""

import measured
from fastapi import FastAPI
from fastapi.responses import PlainTextResponse

application = FastAPI()


@application.get("/", response_class=PlainTextResponse)
async def hello() -> str:
    """Answer."""
    return "ok"


app = measured.asgi(application)
