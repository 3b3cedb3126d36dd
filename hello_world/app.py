"""Hello World: a Flask app in a container."""

import os
from flask import Flask
from granian.cli import cli  # Granian is the web server: the one that Flask brings is for development only

app = Flask(__name__)


@app.get("/")
def index() -> str:
    return "Hello World\n"


@app.get("/healthz")  # Docker asks here every 5 seconds whether the app still answers
def healthz() -> dict[str, str]:
    return {"status": "ok"}


if __name__ == "__main__":  # any option of Granian can be set: `python3 app.py --workers 4`, or GRANIAN_WORKERS=4
    settings = {"app": "__main__:app", "interface": "wsgi", "host": "0.0.0.0", "port": os.environ.get("PORT") or 5000}
    cli(default_map=settings, auto_envvar_prefix="GRANIAN")
