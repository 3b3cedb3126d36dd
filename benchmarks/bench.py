"""Compare the examples with other ways to serve the same model, on this machine: run `make bench`, and see README.md.

From top to bottom: setting up, starting the servers, sending load, measuring. The servers are listed in servers.py.
"""

import argparse
import csv
import json
import numpy as np
import os
import platform
import psutil
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from report import report
from servers import (
    BARE,
    CONNECTIONS,
    DOOR,
    DOOR_CONNECTIONS,
    NETWORKS,
    OURS,
    PHOTOS,
    ROUTE,
    SERVERS,
    WORKLOADS,
    Request,
    Server,
    check,
    request_of,
)
from statistics import median
from typing import IO, Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))
from examples import ROOT, SAFE, ask, docker, free_port, wait_for_answer

HERE = Path(__file__).resolve().parent
WORK = ROOT / ".run" / "bench"  # models, copies of the examples, output of the servers
EXAMPLES = {"hello": "hello_world", "iris": "simple_ml", "forest": "simple_ml", "frame": "simple_ml"}
EXAMPLES |= dict.fromkeys(["picture", "mobilenet_v2", "resnet50"], "image_classification")
DOOR_SETTINGS = {"API_KEY": "bench", "REGISTRY": "", "TAG": "bench", "PRIVATE": "/predict", "GRANIAN_WORKERS": "2"}
START_SECONDS = 120
WARM_SECONDS = 1
USERS = 50  # at the constant rate, at most
MAX_RATE = 200  # requests a second at the constant rate: with more, locust itself would be measured
NO_TELEMETRY = {"BENTOML_DO_NOT_TRACK": "True", "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}

Address = tuple[str, int]
FAILED: list[str] = []
EXPECTED: dict[str, Any] = {}  # our answer to each workload


class Row(NamedTuple):
    workload: str  # or the group, for start, memory and size
    server: str
    measure: str
    at: int | str  # connections, or rows in a request
    repeat: int
    value: float


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


@contextmanager
def noted(title: str) -> Iterator[None]:
    """Note a failure for the report, and go on."""
    try:
        yield
    except Exception as error:
        say(f"FAILED: {title}: {error}")
        FAILED.append(f"{title}: {' '.join(str(error).split())[:200]}")


def run(*command: str | Path, **options: Any) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, **options)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))}: {done.stderr[-1000:]}")
    return done.stdout.strip()


# ---- Setting up


def environment(peer: str) -> Path:
    """Install a peer's locked packages into an environment of its own, unless they are there."""
    folder, wanted = ROOT / ".venv" / "bench" / peer, HERE / peer / "requirements.txt"
    installed = folder / "requirements.txt"
    if not installed.exists() or installed.read_text() != wanted.read_text():
        say(f"installing {peer}")
        uv = ROOT / ".venv" / "scripts" / "bin" / "uv"
        shutil.rmtree(folder, ignore_errors=True)
        run(uv, "venv", "--quiet", "--python", sys.executable, folder)
        # compiled, because otherwise the first start would do it
        options: list[str | Path] = ["--quiet", "--compile-bytecode", "--require-hashes", "--python", folder]
        run(uv, "pip", "install", *options, "--requirement", wanted)
        shutil.copy(wanted, installed)
    return folder


def copy_example(example: str, name: str) -> Path:
    made = shutil.ignore_patterns("__pycache__", ".*_cache", "model.onnx", "model.pkl", "README.md")
    shutil.rmtree(WORK / name, ignore_errors=True)
    return Path(shutil.copytree(ROOT / example, WORK / name, ignore=made))


def with_forest(folder: Path) -> None:
    """Put the forest into the train.py of a copy of simple_ml, as a user would."""
    old, new = "make_pipeline(StandardScaler(), LogisticRegression())", "RandomForestClassifier(random_state=0)"
    text = (folder / "train.py").read_text()
    if old not in text:
        raise RuntimeError("simple_ml/train.py has another model now: change with_forest(), too")
    imported = "from sklearn.ensemble import RandomForestClassifier\n"
    text = text.replace("from sklearn.linear_model", imported + "from sklearn.linear_model").replace(old, new)
    (folder / "train.py").write_text(text)


def prepare(groups: list[str]) -> None:
    """Make models, images and environments, and note our answers, which the peers must give, too."""
    WORK.mkdir(parents=True, exist_ok=True)
    for group in groups:
        folder = ROOT / EXAMPLES[group]
        if group != "hello":
            say(f"making the model for {group}")
            run(ROOT / ".venv" / f"{EXAMPLES[group]}-train" / "bin" / "python", HERE / "models.py", WORK, group)
        if group == "forest":
            with_forest(folder := copy_example("simple_ml", group))
        if group == "frame":
            folder = copy_example("simple_ml", group)
            shutil.copy(HERE / "frame.py", folder / "train.py")
        if EXAMPLES[group] == "image_classification":
            folder = copy_example("image_classification", group)
            shutil.copy(WORK / f"{group}.tflite", folder / "model.tflite")
            modules = WORK / "modules"  # for the peers, which prepare pictures as we do
            shutil.copytree(folder / "digit", modules / "digit", dirs_exist_ok=True)
            (modules / "runtime").mkdir(exist_ok=True)
            shutil.copy(folder / "runtime" / "decode.py", modules / "runtime")
        ours = next(server for server in SERVERS[group] if server.title == OURS)
        say(f"building {ours.image}")
        docker("build", "--quiet", "--tag", ours.image, folder)
        for peer in dict.fromkeys(server.peer for server in SERVERS[group] if server.peer):
            with noted(peer):
                python = environment(peer) / "bin" / "python"
                if peer == "mlflow":
                    saved = WORK / f"{group}.mlflow"
                    shutil.rmtree(saved, ignore_errors=True)
                    save = [python, HERE / "mlflow" / "save.py", WORK / f"{group}.joblib", saved]
                    run(*save, cwd=WORK, env=os.environ | NO_TELEMETRY)
        with started(group, ours) as ((host, port), _, _):
            for workload in WORKLOADS[group]:
                text = ask(port, request_of(ours, workload), host=host)
                EXPECTED[workload] = json.loads(text) if group != "hello" else {}


# ---- Starting


@contextmanager
def container(server: Server, workers: int, log: IO[bytes]) -> Iterator[tuple[Address, int]]:
    """Run one of our images, locked down as in production: (address, process id)."""
    options = ["--env", f"GRANIAN_WORKERS={workers}"]
    if server.title in (ROUTE, BARE):
        options += ["--volume", f"{HERE / 'limits'}:/limits:ro", "--env", "PYTHONPATH=/limits:/app:/packages"]
    name = docker("run", "--detach", *SAFE, *options, server.image, *server.command)
    try:
        details = json.loads(docker("inspect", name))[0]
        # the container's own address: a published port would also measure Docker's proxy
        yield (details["NetworkSettings"]["Networks"]["bridge"]["IPAddress"], 5000), details["State"]["Pid"]
    finally:
        subprocess.run(["docker", "logs", name], stdout=log, stderr=log)
        docker("rm", "--force", name)


@contextmanager
def process(server: Server, workers: int, log: IO[bytes], model: Path) -> Iterator[tuple[Address, int]]:
    """Run a peer with its own packages: (address, process id)."""
    folder, port = environment(server.peer), free_port()
    variables = NO_TELEMETRY | {
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": str(WORK / "modules"),
        "MODEL": str(model),
        "WORKERS": str(workers),
        "UVICORN_ACCESS_LOG": "0",  # for MLflow, which has no option for it
        "PYTHONWARNINGS": "ignore",  # KServe prints one for each request
        "BENTOML_HOME": str(WORK / "bentoml"),
    }
    command = [part.format(port=port, workers=workers, model=model) for part in server.command]
    first = subprocess.Popen(
        [str(folder / "bin" / command[0]), *command[1:]],
        cwd=HERE / server.peer,
        env=os.environ | variables,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,
    )
    try:
        yield ("127.0.0.1", port), first.pid
    finally:
        family = [first.pid, *(child.pid for child in children(first.pid))]
        first.terminate()
        with suppress(subprocess.TimeoutExpired):
            first.wait(10)
        for pid in family:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        first.wait()


@contextmanager
def started(group: str, server: Server, workers: int = 2) -> Iterator[tuple[Address, float, int]]:
    """Start a server and wait for its first answer: (address, seconds until then, process id)."""
    kind = "keras" if EXAMPLES[group] == "image_classification" else "mlflow" if server.peer == "mlflow" else "joblib"
    model = WORK / f"{group}.{kind}"
    path = WORK / f"{group}-{server.title.replace(' ', '-')}.log"
    request = request_of(server, WORKLOADS[group][0])
    with open(path, "wb") as log:
        begin = time.perf_counter()
        start = container(server, workers, log) if server.image else process(server, workers, log, model)
        with start as ((host, port), pid):
            try:
                wait_for_answer(port, request, lambda: alive(pid), host=host, seconds=START_SECONDS, pause=0.01)
            except RuntimeError as error:
                raise RuntimeError(f"{error}; see {path.relative_to(ROOT)}") from error
            yield (host, port), time.perf_counter() - begin, pid


def alive(pid: int) -> bool:
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def children(pid: int) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).children(recursive=True)
    return []


def memory(pid: int) -> float:
    """Return the resident memory of a server's processes together, in MB."""
    return sum(each.memory_info().rss for each in [psutil.Process(pid), *children(pid)]) / 1e6


def size(server: Server) -> float:
    """Return the size of an image over its base, or of a peer's packages, in MB."""
    if server.image:
        sizes = [int(docker("inspect", "--format", "{{.Size}}", image)) for image in (server.image, "ubuntu:24.04")]
        return (sizes[0] - sizes[1]) / 1e6
    return int(run("du", "--summarize", "--bytes", ROOT / ".venv" / "bench" / server.peer).split()[0]) / 1e6


# ---- Sending load


def described(address: Address, request: Request) -> dict[str, str]:
    """Return a request as environment variables for wrk.lua and constant_rate.py."""
    variables = os.environ | {"METHOD": request.method, "TYPE": request.headers.get("Content-Type", "")}
    variables["KEY"] = request.headers.get("X-API-Key", "")
    variables["URL"] = f"{'https' if address[1] == 443 else 'http'}://{address[0]}:{address[1]}{request.path}"
    if request.body is not None:
        (WORK / "body").write_bytes(request.body)
        variables["BODY"] = str(WORK / "body")
    return variables


def wrk(address: Address, request: Request, connections: int, seconds: int) -> dict[str, float]:
    """Drive a closed loop: each connection sends its next request when it has the answer."""
    variables = described(address, request)
    options = ["--threads", "1", "--connections", str(connections), "--duration", f"{seconds}s", "--timeout", "60s"]
    text = run("wrk", *options, "--script", HERE / "wrk.lua", variables["URL"], env=variables)
    result = json.loads(text.splitlines()[-1])
    if result["errors"] or not result["requests"]:
        raise RuntimeError(f"{result['requests']} requests in {seconds} s, {result['errors']} of them failed")
    return {"requests/s": result["requests"] / result["seconds"], "p50": result["p50"], "p99": result["p99"]}


def warm_up(address: Address, request: Request) -> None:
    with suppress(RuntimeError):  # a slow server may not have answered yet
        wrk(address, request, 4, WARM_SECONDS)


def constant_rate(address: Address, request: Request, rate: int, seconds: int) -> dict[str, float]:
    """Drive an open loop: requests are sent at fixed times, whether or not the answers have come."""
    users = min(rate, USERS)
    variables = described(address, request) | {"PACE": str(rate / users), "WARM": "2", "TIMES": str(WORK / "times")}
    options: list[str | Path] = [
        "--headless",
        "--only-summary",
        "--locustfile",
        HERE / "constant_rate.py",
        "--host",
        variables["URL"],
    ]
    options += ["--users", str(users), "--spawn-rate", str(users), "--run-time", f"{seconds + 3}s"]
    options += ["--stop-timeout", "0", "--exit-code-on-error", "0"]
    run(sys.executable, "-m", "locust", *options, env=variables)
    result = json.loads((WORK / "times").read_text())
    times = np.array(result["times"] or [np.inf])  # infinity: an error
    p50, p99 = np.percentile(times, [50, 99], method="lower")
    return {"rate": rate, "answered/s": np.isfinite(times).sum() / result["seconds"], "open p50": p50, "open p99": p99}


# ---- Measuring


def measure_load(rows: list[Row], args: argparse.Namespace) -> None:
    """Measure requests a second, latency, start and memory of all servers, every other time in reverse order."""
    rates: dict[str, int] = {}  # the constant rate of each workload
    for repeat in range(args.repeats):
        for group in args.groups:
            for server in SERVERS[group][:: -1 if repeat % 2 else 1]:
                with noted(f"{server.title}, {group}"):
                    measure_server(rows, args, rates, group, server, repeat)
                    if repeat == 0:
                        rows.append(Row(group, server.title, "size", "", repeat, size(server)))


def measure_server(
    rows: list[Row], args: argparse.Namespace, rates: dict[str, int], group: str, server: Server, repeat: int
) -> None:
    def add(subject: str, measures: dict[str, float], at: int | str = "") -> None:
        rows.extend(Row(subject, server.title, name, at, repeat, value) for name, value in measures.items())

    with started(group, server) as (address, seconds, pid):
        host, port = address
        add(group, {"first answer": seconds})
        for workload in WORKLOADS[group]:
            first, main = workload == WORKLOADS[group][0], CONNECTIONS[workload]
            patience = 3 if workload in PHOTOS else 1
            with noted(f"{server.title}, {workload}"):
                request = request_of(server, workload)
                check(server, workload, ask(port, request, timeout=60, host=host), EXPECTED[workload])
                warm_up(address, request)
                for connections in sorted({main, *(args.connections if first and workload not in PHOTOS else [])}):
                    result = wrk(address, request, connections, args.seconds * patience)
                    add(workload, result, connections)
                    if connections == main:
                        rate = result["requests/s"]
                say(f"{repeat + 1}/{args.repeats} {workload:18} {server.title:22} {rate:10,.1f} requests/s")
                if server.title.startswith("FastAPI"):
                    rates.setdefault(workload, max(1, min(MAX_RATE, int(rate / 2))))
                last = repeat == args.repeats - 1 and workload not in NETWORKS
                if last and workload in rates and server.title not in (ROUTE, BARE):
                    add(workload, constant_rate(address, request, rates[workload], 2 * args.seconds * patience))
            if first:
                add(group, {"memory": memory(pid)})
        add(group, {"memory at the end": memory(pid)})


def measure_batches(rows: list[Row], args: argparse.Namespace) -> None:
    """Measure the time of one request with many rows, or many pictures, on an idle server."""
    for group, counts in {"iris": args.rows, "frame": args.rows, "picture": args.pictures}.items():
        workload = WORKLOADS[group][0]
        for server in [server for server in SERVERS[group] if server.many and group in args.groups]:
            with noted(f"{server.title}, batches"), started(group, server) as ((host, port), _, _):
                for count in counts:
                    request, times = request_of(server, workload, count), []
                    for _ in range(3 if args.quick or count > 10_000 else 7):
                        begin = time.perf_counter()
                        text = ask(port, request, timeout=60, host=host)
                        times.append(1000 * (time.perf_counter() - begin))
                    check(server, workload, text, EXPECTED[workload], count)
                    rows.append(Row(f"{group} batch", server.title, "ms", count, 0, median(times)))
                    say(f"{group} {server.title:18} {count:7,} in one request: {median(times):10,.1f} ms")


def measure_workers(rows: list[Row], args: argparse.Namespace) -> None:
    """Measure requests a second with one worker, to compare with two."""
    for group in [group for group in ("iris", "picture") if group in args.groups]:
        workload = WORKLOADS[group][0]
        for server in SERVERS[group]:
            with noted(f"{server.title}, one worker"), started(group, server, workers=1) as (address, _, _):
                request = request_of(server, workload)
                warm_up(address, request)
                value = wrk(address, request, CONNECTIONS[workload], args.seconds)["requests/s"]
                rows.append(Row(workload, server.title, "one worker", CONNECTIONS[workload], 0, value))
                say(f"one worker: {workload:18} {server.title:22} {value:10,.1f} requests/s")


@contextmanager
def front_door(project: str = "bench_door") -> Iterator[tuple[Address, Address]]:
    """Run compose.yaml and compose.https.yaml: the addresses of simple_ml and of the front door.

    The front door gets a certificate for its own address, so that wrk can ask it past Docker's proxy, too.
    """
    own = "DOMAIN=$$(hostname -i) exec caddy run --config /etc/caddy/Caddyfile --adapter caddyfile"
    (WORK / "door.json").write_text(json.dumps({"services": {DOOR: {"command": ["sh", "-c", own]}}}))
    files = [ROOT / "compose.yaml", ROOT / "compose.https.yaml", WORK / "door.json"]
    compose: list[str | Path] = ["compose", "--project-name", project, *(f"--file={file}" for file in files)]
    settings = DOOR_SETTINGS | {"HTTP_PORT": str(free_port()), "HTTPS_PORT": str(free_port())}
    try:
        docker(*compose, "up", "--build", "--wait", env=os.environ | settings)
        found = []
        for service, port in {"simple_ml": 5000, DOOR: 443}.items():
            name = docker(*compose, "ps", "--quiet", service, env=os.environ | settings)
            networks = json.loads(docker("inspect", name))[0]["NetworkSettings"]["Networks"]
            found.append((networks[f"{project}_default"]["IPAddress"], port))
        yield found[0], found[1]
    finally:
        docker(*compose, "down", "--volumes", env=os.environ | settings)


def measure_door(rows: list[Row], args: argparse.Namespace) -> None:
    """Measure requests a second to simple_ml, alone and through the front door, in pairs."""
    if not args.door:
        return
    with noted(DOOR), front_door() as (alone, through):
        request = request_of(next(server for server in SERVERS["iris"] if server.title == OURS), "iris pipeline")
        key = request._replace(path="/simple_ml/predict", headers=request.headers | {"X-API-Key": "bench"})
        for repeat in range(args.pairs):
            for server, address, each in [("alone", alone, request), ("through it", through, key)]:
                warm_up(address, each)
                result = wrk(address, each, DOOR_CONNECTIONS, 2 * args.seconds)
                rows.extend(Row(DOOR, server, name, DOOR_CONNECTIONS, repeat, value) for name, value in result.items())
                say(f"{repeat + 1}/{args.pairs} simple_ml {server:10} {result['requests/s']:10,.1f} requests/s")


def conditions(groups: list[str]) -> str:
    """Return the machine and the versions of all software."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    processor = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "")
    here = f"{len(os.sched_getaffinity(0))} processors, {processor}, {platform.system()} {platform.release()}"
    engine = docker("version", "--format", "{{.Server.Version}}")
    ours_of = [next(server.image for server in SERVERS[group] if server.title == OURS) for group in groups]
    python = docker("run", "--rm", *(ours_of or ["simpleml:bench"])[:1], "--version")
    load = (
        f"{subprocess.run(['wrk', '-v'], capture_output=True, text=True).stdout.split()[1]}, locust {version('locust')}"
    )
    ours = locked(ROOT / example for example in EXAMPLES.values())
    peers = locked(HERE / server.peer for group in SERVERS.values() for server in group if server.peer)
    return (
        f"- {here}; Docker {engine}\n- load: wrk {load}\n- ours: {python}, {ours}\n"
        f"- the others: Python {platform.python_version()}, {peers}\n"
    )


def locked(folders: Iterable[Path]) -> str:
    """Return the packages that the folders' requirements.in name, with their locked versions."""
    found = set()
    for folder in folders:
        wanted = re.findall(r"^[\w-]+", (folder / "requirements.in").read_text(), re.MULTILINE)
        pairs = re.findall(r"^([\w-]+)==(\S+) \\$", (folder / "requirements.txt").read_text(), re.MULTILINE)
        found |= {f"{name} {number}" for name, number in pairs if name in wanted}
    return ", ".join(sorted(found))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="once, for a second each, to see whether everything works")
    names = [*SERVERS, "door"]
    parser.add_argument("--groups", nargs="+", choices=names, default=names, help="only these")
    args = parser.parse_args()
    whole = not args.quick and set(args.groups) == set(names)
    args.door = "door" in args.groups
    args.groups = [group for group in args.groups if group in SERVERS]
    args.repeats, args.seconds, args.pairs = (1, 1, 2) if args.quick else (3, 2, 7)
    args.connections = [] if args.quick else [2, 64]  # and those of CONNECTIONS
    args.rows = [1, 100, 10_000] if args.quick else [1, 10, 100, 1000, 10_000, 100_000]
    args.pictures = [1, 16] if args.quick else [1, 4, 16, 64, 256]
    if not shutil.which("wrk"):
        sys.exit("wrk is missing: on Debian and Ubuntu, `sudo apt install wrk`.")
    if subprocess.run(["docker", "info"], capture_output=True).returncode:
        sys.exit("Docker is not running: `docker info` says why.")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # so that the running server is stopped, too
    begin, rows = time.monotonic(), list[Row]()
    folder = HERE / "results" if whole else WORK / "results"
    folder.mkdir(parents=True, exist_ok=True)
    prepare(args.groups)
    for measure in measure_load, measure_batches, measure_workers, measure_door:
        measure(rows, args)
    with open(folder / "results.csv", "w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(
            [Row._fields, *([*row[:-1], f"{row.value:.6g}"] for row in rows)]
        )
    (folder / "conditions.md").write_text(conditions(args.groups))
    (folder / "failed.txt").write_text("".join(f"- {note}\n" for note in FAILED))
    report(folder)
    say(f"done in {(time.monotonic() - begin) / 60:.0f} minutes: see {folder.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
