"""GET / in Flask, as in its quickstart."""

import logging
from flask import Flask

logging.getLogger("werkzeug").setLevel(logging.ERROR)  # no access lines from its own server: nobody here writes them
app = Flask(__name__)


@app.get("/")
def hello_world() -> str:
    return "Hello World\n"
