"""Start, stop and show the examples for the Makefile: in containers, or as plain processes where there is no Docker."""

import argparse
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from examples import IMAGES, ROOT, SAFE, ask, build, docker, request_of, runs, wait_until_healthy
from pathlib import Path

STATE = ROOT / ".run"  # process ids and logs of the processes
OURS = "started-by=make-run"  # a label: containers of the same name without it belong to someone else
# the same as in the Dockerfiles
SETTINGS = {
    "GRANIAN_WORKERS": "2",
    "GRANIAN_RESPAWN_FAILED_WORKERS": "true",
    "GRANIAN_WORKERS_KILL_TIMEOUT": "8",
    "GRANIAN_HTTP": "1",
}
PORT_IN_USE = "port is already allocated|address already in use|ports are not available"  # in messages of Docker


def docker_problem() -> str | None:
    """Say why containers cannot be used, and what to do about it; None if they can."""
    if shutil.which("docker") is None:
        return "Docker is not installed (see 'Install Docker' in README.md)"
    answer = subprocess.run(["docker", "info"], capture_output=True, text=True)
    if answer.returncode == 0:
        return None
    if "permission denied" in answer.stderr.lower():
        return "you may not use Docker yet: run `sudo usermod -aG docker $USER`, then log out and in"
    return "Docker is not running: start Docker Desktop, or run `sudo systemctl start docker`"


def labels(example: str) -> list[str]:
    """Return options for `docker build` that label an image with its name, and with the commit if git knows it."""
    title = ["--label", f"org.opencontainers.image.title={IMAGES[example]}"]
    if shutil.which("git") is None:
        return title
    describe = ["git", "-C", str(ROOT), "describe", "--always", "--exclude=*", "--abbrev=40", "--dirty"]
    commit = subprocess.run(describe, capture_output=True, text=True).stdout.strip()  # ends in -dirty if files changed
    return [*title, "--label", f"org.opencontainers.image.revision={commit}"] if commit else title


def start_container(example: str, port: int) -> Callable[[], bool]:
    """Build an example's image and run it in a container of the example's name. Return how to ask if it still runs."""
    build(example, *labels(example))
    options = ["--name", example, "--label", OURS, "--publish", f"{port}:5000", *SAFE]
    try:
        docker("run", "--detach", *options, IMAGES[example])
    except RuntimeError as error:
        if re.search(PORT_IN_USE, str(error)):
            raise port_in_use(port) from error
        raise
    return lambda: runs(example)


def start_process(example: str, port: int) -> Callable[[], bool]:
    """Run an example's app.py, with its output going to a file. Return how to ask if it still runs."""
    model = "model.pkl" if (ROOT / example / "model.pkl").exists() else "model.onnx"
    targets = [f".venv/{example}", f"simple_ml/{model}"] if example == "simple_ml" else [f".venv/{example}"]
    subprocess.run(["make", "--silent", *targets], cwd=ROOT, check=True)
    STATE.mkdir(exist_ok=True)
    packages = f"{example}-train" if (ROOT / example / "model.pkl").exists() else example
    command: list[str | Path] = [ROOT / ".venv" / packages / "bin" / "python", "app.py", "--port", str(port)]
    with open(STATE / f"{example}.log", "wb") as log:
        process = subprocess.Popen(
            command,
            cwd=ROOT / example,
            env=os.environ | SETTINGS,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    (STATE / f"{example}.pid").write_text(str(process.pid))
    return lambda: process.poll() is None


def port_in_use(port: int) -> RuntimeError:
    return RuntimeError(f"Port {port} is in use by another program. Choose other ports, as in: make PORT=6001 run")


def is_taken(port: int) -> bool:
    """Return whether a program answers on a port. Only so is it found: a second Granian would share the port."""
    with socket.socket() as client:
        client.settimeout(1)
        return client.connect_ex(("127.0.0.1", port)) == 0


def process_of(example: str) -> int | None:
    """Return the process id of an example that start_process() started, if it still runs."""
    try:
        pid = int((STATE / f"{example}.pid").read_text())
        os.kill(pid, 0)
        if Path("/proc/self").exists() and b"app.py" not in Path(f"/proc/{pid}/cmdline").read_bytes():
            return None  # another process has this number now
    except OSError:
        return None
    return pid


def stop_process(example: str) -> bool:
    """Stop an example that start_process() started. Return whether there was one."""
    pid = process_of(example)
    if pid is None:
        return False
    os.kill(pid, signal.SIGTERM)
    while process_of(example):
        time.sleep(0.05)
    return True


def container_of(example: str) -> str:
    """Return the id of the container that start_container() made for an example, or "" if there is none."""
    return docker("ps", "--all", "--quiet", "--filter", f"label={OURS}", "--filter", f"name=^{example}$")


def stop_container(example: str) -> bool:
    """Stop and remove the container that start_container() made. Return whether there was one."""
    container = container_of(example)
    if container:
        docker("stop", container)
        docker("rm", container)
    return bool(container)


def start(examples: list[str], first_port: int) -> None:
    problem = docker_problem()
    if problem:
        print(f"Starting without containers, because {problem}.")
    start_one = start_process if problem else start_container
    ports = dict(zip(examples, range(first_port, first_port + len(examples)), strict=True))
    stop(examples, say=False)
    try:
        for port in ports.values():
            if is_taken(port):
                raise port_in_use(port)
        is_running = {}
        for example, port in ports.items():
            print(f"Starting {example} ...", flush=True)
            is_running[example] = start_one(example, port)
        for example, port in ports.items():
            wait_for(example, port, is_running[example])
    except BaseException:  # also Ctrl-C
        stop(examples)
        raise
    print("`make logs` shows what they print, `make stop` ends them.")


def wait_for(example: str, port: int, is_running: Callable[[], bool]) -> None:
    """Print an example's first answer. Raises RuntimeError if there is none."""
    try:
        wait_until_healthy(port, is_running)
        answer = ask(port, request_of(example)).decode().strip()
    except (OSError, RuntimeError) as error:
        logs([example])
        raise RuntimeError(f"{example} did not start on port {port} ({error}). Its output is above.") from error
    print(f"{example:22}http://localhost:{port}  {answer}")


def stop(examples: list[str], say: bool = True) -> None:
    with_docker = docker_problem() is None
    for example in examples:
        stopped = stop_process(example)
        if with_docker and stop_container(example):
            stopped = True
        if stopped and say:
            print(f"Stopped {example}")


def logs(examples: list[str]) -> None:
    with_docker = docker_problem() is None
    for example in examples:
        log = STATE / f"{example}.log"
        if with_docker and (container := container_of(example)):
            print(f"== {example} (container)", flush=True)
            subprocess.run(["docker", "logs", container], stderr=subprocess.STDOUT)
        elif log.exists():
            print(f"== {example} (process)\n{log.read_text()}", end="", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("start", "stop", "logs"):
        command = commands.add_parser(name)
        command.add_argument("examples", nargs="+", choices=IMAGES)
        if name == "start":
            command.add_argument("--port", type=int, required=True, help="port of the first example; the others follow")
    arguments = parser.parse_args()
    try:
        if arguments.command == "start":
            start(arguments.examples, arguments.port)
        else:
            {"stop": stop, "logs": logs}[arguments.command](arguments.examples)
    except RuntimeError as error:  # of a docker command, with what it printed
        sys.exit(str(error))
    except subprocess.CalledProcessError as error:  # of make, which has printed why
        sys.exit(f"`{' '.join(error.cmd)}` failed")


if __name__ == "__main__":
    main()
