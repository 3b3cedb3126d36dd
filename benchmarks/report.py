"""From results.csv to tables and plots: report.py [FOLDER] writes them anew without measuring.

Those of the whole run also go to the end of README.md here, and in short into the one of the repository.
"""

import csv
import matplotlib as mpl
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from servers import BARE, CONNECTIONS, OURS, ROUTE
from servers import WORKLOADS as GROUPS
from statistics import median

mpl.use("svg")
mpl.rcParams["svg.hashsalt"] = "bench"  # the same figures give the same file
import matplotlib.pyplot as plt  # noqa: E402

HERE = Path(__file__).resolve().parent
README = HERE / "README.md"
MARK = "<!-- what follows is written by report.py -->\n"
SUMMARY = re.compile("(?s)(<!-- by make bench -->\n).*(<!-- end -->\n)")  # in the README of the repository
MISSING = "-"
LIMITS = [ROUTE, BARE]
WORKLOADS = list(CONNECTIONS)
BATCHES = {"iris batch": "rows", "picture batch": "pictures of 28x28"}
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
    """Return who took part, the fastest first and the limits last."""
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
    """The ratios that the examples set out to reach, and what came out."""

    def rates(workload: str, *others: str) -> str:
        return " · ".join(ratio(rate(rows, workload, OURS), rate(rows, workload, other)) for other in others)

    def takes(workload: str, other: str, *measures: str, at: str = "") -> str:
        pairs = [[value(rows, workload, name, measure, at) for name in (OURS, other)] for measure in measures]
        return " · ".join(ratio(*pair) for pair in pairs)

    iris = "FastAPI", "BentoML", "LitServe", "MLflow", "KServe"
    lines = [
        ("`GET /`: FastAPI · Flask's own server", "1.0 · 12", rates("GET /", "FastAPI", "Flask's own server")),
        (f"iris pipeline: {' · '.join(iris)}", "3 · 20 · 10 · 35 · -", rates("iris pipeline", *iris)),
        ("100-tree forest: FastAPI", "25", rates("100-tree forest", "FastAPI")),
        (
            "28x28 PNG: the tutorials' way · FastAPI + Keras",
            "100 · 10",
            rates("28x28 PNG", "the tutorials' way", "FastAPI + Keras"),
        ),
        *((f"{workload}: the smallest Flask route", "0.85", rates(workload, LIMITS[0])) for workload in WORKLOADS),
        *((f"{workload}: the bare WSGI app", MISSING, rates(workload, LIMITS[1])) for workload in WORKLOADS),
    ]
    text = "Our requests/s over those of:\n\n" + table(["", "at least", "came out"], lines)
    lines = [
        (
            "time of 10,000 iris rows in one request: FastAPI",
            "0.5",
            takes("iris batch", "FastAPI", "ms", at="10000"),
        ),
        (
            "pictures, first answer · memory after the smallest · after all: FastAPI + Keras",
            "0.15 · 0.15 · -",
            takes("picture", "FastAPI + Keras", "first answer", "memory", "memory at the end"),
        ),
    ]
    return text + "What ours takes, over what it takes:\n\n" + table(["", "at most", "came out"], lines)


def summary(rows: Rows) -> str:
    """What one wants to know first: requests/s of each, and what it takes to serve pictures."""
    titles = {
        workload: {name.removesuffix(" + Keras"): name for name in servers(rows, workload)} for workload in WORKLOADS
    }
    names = dict.fromkeys(name for each in titles.values() for name in each if name not in LIMITS)
    units, lines = {"first answer": " s", "memory": " MB", "size": " MB"}, []
    for name in sorted(names, key=lambda name: name != OURS):
        rates = [number(rate(rows, workload, titles[workload].get(name, ""))) for workload in WORKLOADS]
        pictures = titles["28x28 PNG"].get(name, "")
        lines.append([name, *rates, *(number(value(rows, "picture", pictures, m), unit) for m, unit in units.items())])
    return table(["requests/s", *WORKLOADS, *(f"pictures: {measure}" for measure in units)], lines)


def spread(rows: Rows) -> str:
    """Say how far the repeats lie apart."""
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
        "Medians of the repeats. Largest less smallest requests/s, as a share of the median:"
        f" {median(parts.values()):.0%} in the middle, {parts[worst]:.0%} at the most ({worst}).\n\n"
    )


def load(rows: Rows) -> str:
    text = (
        "Closed loop: requests/s by connections, and milliseconds (p50 / p99) with as many as the goals are about.\n"
        "Constant rate: milliseconds (p50 / p99) at the rate named, or how many requests/s were answered where it was\n"
        "not kept.\n\n"
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
        "Seconds from the command that starts it to the first answer; ours: with the start of its container. Resident\n"
        "memory of all processes after the load (pictures: after the smallest, and after all three). Size of the\n"
        "packages; ours: of the image, with Python, over `ubuntu:24.04`.\n\n"
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
    return "Requests/s.\n\n" + table(["", "one worker", "two workers", "times"], lines)


def batches(rows: Rows) -> str:
    text = "Milliseconds for one request with so many, and nothing else to do.\n\n"
    for workload, unit in BATCHES.items():
        counts = sorted({int(row["at"]) for row in rows if row["workload"] == workload})
        names = list(dict.fromkeys(row["server"] for row in rows if row["workload"] == workload))
        lines = [[n, *(number(value(rows, workload, n, "ms", str(count))) for count in counts)] for n in names]
        text += table([unit, *(f"{count:,}" for count in counts)], lines)
    return text


def plot(rows: Rows, folder: Path) -> None:
    names_of = {workload: servers(rows, workload)[::-1] for workload in WORKLOADS if servers(rows, workload)}
    lines = (len(names_of) + 2) // 3
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

    figure, axes = plt.subplots(1, 2, figsize=(11, 4))
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
    """Write results.md and the plots, and put those of the whole run at the end of README.md too."""
    with open(folder / "results.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    failed = (folder / "failed.txt").read_text()
    parts = {
        "In short": summary(rows),
        "Against the goals": goals(rows),
        "Requests a second, and latency": load(rows),
        "Start, memory, size": costs(rows),
        "One worker and two": workers(rows),
        "Many in one request": batches(rows),
        "What failed": failed or "Nothing.\n",
    }
    head = "## Results\n\n" + (folder / "conditions.txt").read_text() + "\n" + spread(rows)
    body = "".join(f"### {title}\n\n{text}" for title, text in parts.items())
    plot(rows, folder)
    (folder / "results.md").write_text(head + body)
    if folder == HERE / "results":
        pictures = "".join(f"![{name}](results/{name}.svg)\n\n" for name in ("throughput", "batches", "cost"))
        README.write_text(README.read_text().partition(MARK)[0] + MARK + "\n" + head + pictures + body)
        text = f"{summary(rows)}![requests/s of each](benchmarks/results/throughput.svg)\n\n"
        readme = HERE.parent / "README.md"
        readme.write_text(SUMMARY.sub(lambda found: f"{found[1]}\n{text}{found[2]}", readme.read_text()))


if __name__ == "__main__":
    report(Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else HERE / "results")
