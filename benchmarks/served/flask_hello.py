"""A trivial application of Flask."""

import measured
from flask import Flask

application = Flask(__name__)


@application.get("/")
def hello() -> str:
    """Answer."""
    return "ok"


app = measured.wsgi(application)
