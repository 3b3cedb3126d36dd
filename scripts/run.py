"""Start, stop and show the examples for the Makefile: in containers, or from virtual environments without Docker."""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STATE = ROOT / ".run"  # process ids and logs of what runs without Docker
IMAGES = {
    "hello_world": "simpleflask",
    "passing_arguments": "passingarguments",
    "simple_ml": "simpleml",
    "image_classification": "imageclassification",
}
SAFE = ["--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"]
START_SECONDS = 60


def docker_problem() -> str | None:
    """Say why containers cannot be used, and what to do about it; None if they can."""
    if shutil.which("docker") is None:
        return "Docker is not installed (see 'Install Docker' in README.md)"
    answer = subprocess.run(["docker", "info"], capture_output=True, text=True)
    if answer.returncode == 0:
        return None
    if "permission denied" in answer.stderr.lower():
        return "you may not use Docker's socket: `sudo usermod -aG docker $USER`, then log out and in"
    return "no Docker engine answers: start Docker Desktop, or `sudo systemctl start docker`"


def build(example: str) -> None:
    """Build an example's image, labelled with the commit where there is one: with -dirty, there is more than that."""
    describe = ["git", "-C", str(ROOT), "describe", "--always", "--exclude=*", "--abbrev=40", "--dirty"]
    git = subprocess.run(describe, capture_output=True, text=True) if shutil.which("git") else None
    label = ["--build-arg", f"REVISION={git.stdout.strip() if git else ''}"]
    command = ["docker", "build", "--quiet", *label, "--tag", IMAGES[example], str(ROOT / example)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def start_container(example: str, port: int) -> None:
    """Build the image of an example, and run it in a container of the example's name."""
    build(example)
    subprocess.run(["docker", "rm", "--force", example], capture_output=True)
    command = ["docker", "run", "--detach", "--name", example, "--publish", f"{port}:5000", *SAFE, IMAGES[example]]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def start_process(example: str, port: int) -> None:
    """Run an example's app.py from its own virtual environment, with its output in a file."""
    targets = [f".venv/{example}"] + (["simple_ml/model.onnx"] if example == "simple_ml" else [])
    subprocess.run(["make", "--silent", *targets], cwd=ROOT, check=True)
    STATE.mkdir(exist_ok=True)
    python = ROOT / ".venv" / example / "bin" / "python"
    with open(STATE / f"{example}.log", "wb") as log:
        command = [str(python), "app.py", "--port", str(port)]
        process = subprocess.Popen(
            command, cwd=ROOT / example, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    (STATE / f"{example}.pid").write_text(str(process.pid))


def process_of(example: str) -> int | None:
    """Return the process id of an example that start_process() started, if it still runs."""
    try:
        pid = int((STATE / f"{example}.pid").read_text())
        os.kill(pid, 0)
        if Path("/proc/self").exists() and b"app.py" not in Path(f"/proc/{pid}/cmdline").read_bytes():
            return None  # the number has been given to another process since
    except (FileNotFoundError, ProcessLookupError):
        return None
    return pid


def stop_process(example: str) -> bool:
    """End an example that start_process() started; say whether there was one."""
    pid = process_of(example)
    if pid is None:
        return False
    os.kill(pid, signal.SIGTERM)
    while process_of(example):
        time.sleep(0.05)
    return True


def is_running(example: str) -> bool:
    """Say whether an example runs, in a container or as a process."""
    if process_of(example):
        return True
    command = ["docker", "container", "inspect", "--format", "{{.State.Running}}", example]
    return bool(shutil.which("docker")) and "true" in subprocess.run(command, capture_output=True, text=True).stdout


def wait_until_healthy(example: str, port: int) -> None:
    """Return once /healthz answers 200; raise SystemExit if the example has ended, or after START_SECONDS."""
    for _ in range(START_SECONDS * 5):
        time.sleep(0.2)
        if not is_running(example):
            break
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=2):
                return
        except OSError:
            continue
    logs([example])
    raise SystemExit(f"{example} did not start on port {port}: see what it printed, above")


def request_of(example: str) -> tuple[str, str, bytes | None]:
    """Return what an example's README sends it first: method, path and body."""
    if example == "hello_world":
        return "GET", "/", None
    if example == "image_classification":
        return "POST", "/predict", (ROOT / example / "samples" / "seven.png").read_bytes()
    return "POST", "/predict", {"passing_arguments": b"5", "simple_ml": b'{"f1":4, "f2":5, "f3":10}'}[example]


def first_answer(example: str, port: int) -> str:
    """Send an example its first request, and return the answer."""
    method, path, body = request_of(example)
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data=body, method=method)
    with urllib.request.urlopen(request, timeout=10) as answer:
        return answer.read().decode().strip()


def start(examples: list[str], port: int) -> None:
    problem = docker_problem()
    if problem:
        print(f"Without containers, since {problem}.")
    start_one = start_process if problem else start_container
    for number, example in enumerate(examples):
        print(f"Starting {example} ...", flush=True)
        stop_process(example)
        start_one(example, port + number)
    for number, example in enumerate(examples):
        wait_until_healthy(example, port + number)
        print(f"{example:22}http://localhost:{port + number}  {first_answer(example, port + number)}")
    print("`make logs` shows what they print, `make stop` ends them.")


def stop(examples: list[str]) -> None:
    with_docker = docker_problem() is None
    for example in examples:
        stopped = stop_process(example)
        if with_docker and subprocess.run(["docker", "stop", example], capture_output=True).returncode == 0:
            stopped = subprocess.run(["docker", "rm", example], capture_output=True).returncode == 0
        if stopped:
            print(f"Stopped {example}")


def logs(examples: list[str]) -> None:
    with_docker = docker_problem() is None
    for example in examples:
        log = STATE / f"{example}.log"
        if with_docker and subprocess.run(["docker", "inspect", example], capture_output=True).returncode == 0:
            print(f"== {example} (container)", flush=True)
            subprocess.run(["docker", "logs", example], stderr=subprocess.STDOUT)
        elif log.exists():
            print(f"== {example} (process)\n{log.read_text()}", end="", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("start", "stop", "logs"):
        command = commands.add_parser(name)
        command.add_argument("examples", nargs="+", choices=IMAGES)
        if name == "start":
            command.add_argument("--port", type=int, required=True, help="of the first example; the next ones follow")
    arguments = parser.parse_args()
    if arguments.command == "start":
        try:
            start(arguments.examples, arguments.port)
        except subprocess.CalledProcessError as error:
            sys.exit(f"`{' '.join(map(str, error.cmd))}` failed with exit code {error.returncode}")
    else:
        {"stop": stop, "logs": logs}[arguments.command](arguments.examples)


if __name__ == "__main__":
    main()
