"""Make tables and plots from results.csv. `report.py [FOLDER]` makes them again, without measuring.

After a complete run, the short table also goes into docs/performance.md.
"""

import csv
import matplotlib as mpl
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from servers import BARE, CONNECTIONS, DOOR, DOOR_CONNECTIONS, FRAME, NETWORKS, OURS, ROUTE
from servers import WORKLOADS as GROUPS
from statistics import median

mpl.use("svg")
mpl.rcParams["svg.hashsalt"] = "bench"  # the same figures give the same file
import matplotlib.pyplot as plt  # noqa: E402

HERE = Path(__file__).resolve().parent
PERFORMANCE = HERE.parent / "docs" / "performance.md"
SUMMARY = re.compile("(?s)(<!-- by make bench -->\n).*(<!-- end -->\n)")  # in docs/performance.md
MISSING = "-"
LIMITS = [ROUTE, BARE]
WORKLOADS = list(CONNECTIONS)
WITH_LIMITS = [workload for workload in WORKLOADS if workload not in (FRAME, *NETWORKS)]
BATCHES = {"iris batch": "rows", "frame batch": "rows of a frame", "picture batch": "pictures of 28x28"}
Rows = list[dict[str, str]]


def values(rows: Rows, workload: str, server: str, measure: str, at: str = "") -> list[float]:
    wanted = {"workload": workload, "server": server, "measure": measure, "at": at}
    return [float(row["value"]) for row in rows if wanted.items() <= row.items()]


def value(rows: Rows, workload: str, server: str, measure: str, at: str = "") -> float | None:
    """Return the median of the repeats."""
    found = values(rows, workload, server, measure, at)
    return median(found) if found else None


def rate(rows: Rows, workload: str, server: str) -> float | None:
    return value(rows, workload, server, "requests/s", str(CONNECTIONS[workload]))


def servers(rows: Rows, workload: str) -> list[str]:
    """Return the servers of a workload, the fastest first and the limits last."""
    names = list(dict.fromkeys(row["server"] for row in rows if row["workload"] == workload))
    return sorted(names, key=lambda name: (name in LIMITS, -(rate(rows, workload, name) or 0)))


def number(x: float | None, unit: str = "") -> str:
    if x is None:
        return MISSING
    return (f"{x:,.0f}" if x >= 100 else f"{x:.1f}" if x >= 10 else f"{x:.2f}") + unit


def ratio(x: float | None, y: float | None) -> str:
    return number(x / y if x is not None and y else None)


def table(head: Iterable[str], lines: Iterable[Iterable[str]]) -> str:
    head, lines = list(head), list(lines)
    rows = [head, ["---"] + ["---:"] * (len(head) - 1), *lines]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows) + "\n" if lines else ""


def goals(rows: Rows) -> str:
    """Compare our results with the goals."""

    def rates(workload: str, *others: str) -> str:
        return " · ".join(ratio(rate(rows, workload, OURS), rate(rows, workload, other)) for other in others)

    def takes(workload: str, other: str, *measures: str, at: str = "") -> str:
        pairs = [[value(rows, workload, name, measure, at) for name in (OURS, other)] for measure in measures]
        return " · ".join(ratio(*pair) for pair in pairs)

    iris = "FastAPI", "BentoML", "LitServe", "MLflow", "KServe"
    keras = "FastAPI + Keras", "BentoML + Keras", "LitServe + Keras"
    lines = [
        ("`GET /`: FastAPI · Flask's own server", "1.0 · 12", rates("GET /", "FastAPI", "Flask's own server")),
        (f"iris pipeline: {' · '.join(iris)}", "3 · 20 · 10 · 35 · -", rates("iris pipeline", *iris)),
        ("100-tree forest: FastAPI", "25", rates("100-tree forest", "FastAPI")),
        (f"{FRAME}: FastAPI", "1", rates(FRAME, "FastAPI")),
        (
            "28x28 PNG: the tutorials' way · FastAPI + Keras",
            "100 · 10",
            rates("28x28 PNG", "the tutorials' way", "FastAPI + Keras"),
        ),
        *((f"{network}: {' · '.join(keras)}", "1 · 1 · 1", rates(network, *keras)) for network in NETWORKS),
        *((f"{workload}: the smallest Flask route", "0.85", rates(workload, LIMITS[0])) for workload in WITH_LIMITS),
        *((f"{workload}: the bare WSGI app", MISSING, rates(workload, LIMITS[1])) for workload in WITH_LIMITS),
    ]
    text = "Our requests/s, divided by those of:\n\n" + table(["", "goal, at least", "result"], lines)
    lines = [
        (
            "time of 10,000 iris rows in one request: FastAPI",
            "0.5",
            takes("iris batch", "FastAPI", "ms", at="10000"),
        ),
        (
            "time of 10,000 rows of the frame in one request: FastAPI",
            "1",
            takes("frame batch", "FastAPI", "ms", at="10000"),
        ),
        (
            "pictures, first answer · memory after the smallest · after all: FastAPI + Keras",
            "0.15 · 0.15 · -",
            takes("picture", "FastAPI + Keras", "first answer", "memory", "memory at the end"),
        ),
    ]
    return text + "Our time and memory, divided by those of:\n\n" + table(["", "goal, at most", "result"], lines)


def summary(rows: Rows) -> str:
    """Return the most important results: requests/s of each server, and what serving pictures costs."""
    main = [workload for workload in WORKLOADS if workload not in NETWORKS]
    titles = {workload: {name.removesuffix(" + Keras"): name for name in servers(rows, workload)} for workload in main}
    names = dict.fromkeys(name for each in titles.values() for name in each if name not in LIMITS)
    units, lines = {"first answer": " s", "memory": " MB", "size": " MB"}, []
    for name in sorted(names, key=lambda name: name != OURS):
        rates = [number(rate(rows, workload, titles[workload].get(name, ""))) for workload in main]
        pictures = titles["28x28 PNG"].get(name, "")
        lines.append([name, *rates, *(number(value(rows, "picture", pictures, m), unit) for m, unit in units.items())])
    text = table(["requests/s", *main, *(f"pictures: {measure}" for measure in units)], lines)
    lines = []
    for name in servers(rows, NETWORKS[0]):
        rates = [number(rate(rows, network, name)) for network in NETWORKS]
        lines.append([name, *rates, number(value(rows, "resnet50", name, "memory"), " MB")])
    return text + table(["photos/s", *NETWORKS, "ResNet50: memory"], lines)


def spread(rows: Rows) -> str:
    """Say how much the repeats differ."""
    parts = {}
    for workload in WORKLOADS:
        for name in servers(rows, workload):
            found = values(rows, workload, name, "requests/s", str(CONNECTIONS[workload]))
            if len(found) > 1:
                parts[f"{workload}, {name}"] = (max(found) - min(found)) / median(found)
    if not parts:
        return "Measured once.\n\n"
    worst = max(parts, key=lambda part: parts[part])
    return (
        "The tables show the median of the repeats. The requests/s of the repeats differ by"
        f" {median(parts.values()):.0%} of the median for the typical server, and by {parts[worst]:.0%} at the most"
        f" ({worst}).\n\n"
    )


def load(rows: Rows) -> str:
    text = (
        "The columns 2, 16 and 64 show requests/s with so many connections. The others show the latency (p50 / p99):\n"
        "with a number of connections, and at a constant rate. A server that cannot keep up with the rate has its\n"
        "requests/s instead.\n\n"
    )
    for workload, main in CONNECTIONS.items():
        of_it = [row for row in rows if row["workload"] == workload]
        counts = sorted({int(row["at"]) for row in of_it if row["measure"] == "requests/s"})
        pace = next((float(row["value"]) for row in of_it if row["measure"] == "rate"), 0)
        lines = []
        for name in servers(rows, workload):
            each = [number(value(rows, workload, name, "requests/s", str(count))) for count in counts]
            closed = " / ".join(number(value(rows, workload, name, p, str(main))) for p in ("p50", "p99"))
            steady = " / ".join(number(value(rows, workload, name, p)) for p in ("open p50", "open p99"))
            answered = value(rows, workload, name, "answered/s")
            if answered is None:
                steady = MISSING
            elif answered < 0.9 * pace:
                steady = f"only {number(answered)}/s"
            lines.append([name, *each, closed, steady])
        head = [f"ms, {main} connections", f"ms, {pace:,.0f}/s" if pace else "ms, constant rate"]
        text += table([workload, *map(str, counts), *head], lines)
    return text


def costs(rows: Rows) -> str:
    text = (
        "First answer: the time from the command that starts the server, for ours with the start of the container.\n"
        "Memory: the resident memory of all processes after the load (picture: after the smallest picture, and after\n"
        "all three). Size: of the packages, and for ours of the image with Python, without `ubuntu:24.04`.\n\n"
    )
    for group, workloads in GROUPS.items():
        lines = []
        for name in servers(rows, workloads[0]):
            after = ["memory", "memory at the end"] if len(workloads) > 1 else ["memory"]
            memory = " / ".join(number(value(rows, group, name, measure)) for measure in after) + " MB"
            start, size = value(rows, group, name, "first answer"), value(rows, group, name, "size")
            lines.append([name, number(start, " s"), memory, number(size, " MB")])
        text += table([group, "first answer", "memory", "size"], lines)
    return text


def workers(rows: Rows) -> str:
    lines = []
    for workload in WORKLOADS:
        for name in servers(rows, workload):
            one, two = value(rows, workload, name, "one worker", str(CONNECTIONS[workload])), rate(rows, workload, name)
            if one:
                lines.append([f"{workload}, {name}", number(one), number(two), ratio(two, one)])
    return "In requests/s.\n\n" + table(["", "one worker", "two workers", "ratio"], lines)


def door(rows: Rows) -> str:
    text = "simple_ml as compose.yaml runs it, alone and through the front door of compose.https.yaml, in turns.\n\n"
    names, at, lines = ("alone", "through it"), str(DOOR_CONNECTIONS), []
    for name in names:
        found = [value(rows, DOOR, name, measure, at) for measure in ("requests/s", "p50", "p99")]
        lines.append([name, *map(number, found)])
    pairs = zip(*(values(rows, DOOR, name, "requests/s", at) for name in names), strict=True)
    if ratios := [through / alone for alone, through in pairs]:
        text += f"Through it, requests/s are {number(median(ratios))} of those alone (the median of the pairs; from "
        text += f"{number(min(ratios))} to {number(max(ratios))}).\n\n"
    return text + table([f"{at} connections", "requests/s", "ms, p50", "ms, p99"], lines)


def batches(rows: Rows) -> str:
    text = "Milliseconds for one request with many rows or pictures, on an idle server.\n\n"
    for workload, unit in BATCHES.items():
        counts = sorted({int(row["at"]) for row in rows if row["workload"] == workload})
        names = list(dict.fromkeys(row["server"] for row in rows if row["workload"] == workload))
        lines = [[n, *(number(value(rows, workload, n, "ms", str(count))) for count in counts)] for n in names]
        text += table([unit, *(f"{count:,}" for count in counts)], lines)
    return text


def plot(rows: Rows, folder: Path) -> None:
    names_of = {workload: servers(rows, workload)[::-1] for workload in WORKLOADS if servers(rows, workload)}
    lines = max(1, (len(names_of) + 2) // 3)
    figure, axes = plt.subplots(lines, 3, figsize=(13, 3 * lines), squeeze=False)
    for axis, (workload, names) in zip(axes.flat, names_of.items(), strict=False):
        rates = [rate(rows, workload, name) or 0 for name in names]
        axis.barh(names, rates, color=[colour(name) for name in names])
        axis.set(title=workload, xlabel="requests/s", xscale="log")
        axis.bar_label(axis.containers[0], [number(each) for each in rates], padding=2, fontsize=8)
        axis.set_xlim(1, 20 * max(1, *rates))  # room for the labels; all bars begin at 1
    for axis in list(axes.flat)[len(names_of) :]:
        axis.remove()
    save(figure, folder / "throughput.svg")

    figure, axes = plt.subplots(1, 3, figsize=(16, 4))
    for axis, (workload, unit) in zip(axes, BATCHES.items(), strict=True):
        for name in dict.fromkeys(row["server"] for row in rows if row["workload"] == workload):
            points = [row for row in rows if (row["workload"], row["server"]) == (workload, name)]
            axis.plot([int(row["at"]) for row in points], [float(row["value"]) for row in points], "o-", label=name)
            axis.legend()
        axis.set(title=f"{unit} in one request", xscale="log", yscale="log", ylabel="ms")
    save(figure, folder / "batches.svg")

    figure, axes = plt.subplots(1, 3, figsize=(13, 4))
    for axis, (measure, unit) in zip(axes, {"first answer": "s", "memory": "MB", "size": "MB"}.items(), strict=True):
        for group in ("picture", "iris"):
            for name in [name for name in servers(rows, GROUPS[group][0])[::-1] if name not in LIMITS]:
                axis.barh(f"{group}: {name}", value(rows, group, name, measure) or 0, color=colour(name))
        axis.set(title=measure, xlabel=unit)
    save(figure, folder / "cost.svg")


def colour(name: str) -> str:
    return "tab:orange" if name == OURS else "lightgrey" if name in LIMITS else "tab:blue"


def save(figure: plt.Figure, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def report(folder: Path) -> None:
    """Write results.md and the plots. After a complete run, put the short table into docs/performance.md, too."""
    with open(folder / "results.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    parts = {
        "In short": summary(rows),
        "Compared with the goals": goals(rows),
        "Requests a second, and latency": load(rows),
        "Start, memory, size": costs(rows),
        "One worker and two": workers(rows),
        "Many rows or pictures in one request": batches(rows),
        "The front door": door(rows),
        "What failed": (folder / "failed.txt").read_text() or "Nothing.\n",
    }
    plot(rows, folder)
    pictures = "".join(f"![{name}]({name}.svg)\n\n" for name in ("throughput", "batches", "cost"))
    head = "# Results\n\n" + (folder / "conditions.md").read_text() + "\n" + spread(rows) + pictures
    (folder / "results.md").write_text(head + "".join(f"## {title}\n\n{text}" for title, text in parts.items()))
    if folder == HERE / "results":
        text = f"{summary(rows)}![requests/s of each](../benchmarks/results/throughput.svg)\n\n"
        PERFORMANCE.write_text(SUMMARY.sub(lambda found: f"{found[1]}\n{text}{found[2]}", PERFORMANCE.read_text()))


if __name__ == "__main__":
    report(Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else HERE / "results")
