"""Hello World: a Flask app in a container, behind a server that is made for production."""

import multiprocessing
import os
from flask import Flask
from granian.cli import cli
from werkzeug.exceptions import HTTPException

app = Flask(__name__)


@app.get("/")
def index() -> str:
    return "Hello World\n"


@app.get("/healthz")  # for Docker's HEALTHCHECK and for load balancers
def healthz() -> dict[str, str]:
    return {"status": "ok"}


@app.errorhandler(HTTPException)  # as problem+json (RFC 9457), with the error's own headers, such as Allow
def problem(error: HTTPException) -> tuple[dict, int, dict]:
    body = {"title": error.name, "status": error.code, "detail": error.description}
    return body, error.code or 500, dict(error.get_headers()) | {"Content-Type": "application/problem+json"}


if __name__ == "__main__":  # every option of Granian's can be given, and overrides these: see --help
    if os.environ.get("GRANIAN_METRICS_ENABLED"):  # it starts threads, and a worker forked beside threads can hang
        multiprocessing.set_start_method("spawn")
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    serve = {"app": "__main__:app", "interface": "wsgi", "host": "0.0.0.0", "port": 5000, "workers": cpus}
    cli(default_map=serve | {"respawn_failed_workers": True, "workers_kill_timeout": 8}, auto_envvar_prefix="GRANIAN")
