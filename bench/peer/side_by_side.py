"""Runs the original and `mds bench` in turns, and prints what came out and the ratios.

Everything is measured once a round, one after the other, so that what else the machine does meets
both sides; ratios are taken within a round. Printed are the median, the least and the greatest.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

ORIGINAL = Path(__file__).with_name("original.py")
MODES = ("submit_many", "submit")
#: Records of a run: about 2 s of the original's, and half a second of ours.
ROWS = {"ours": 5_000_000, "original": 250_000}
#: Settings of the original among which its best are looked for. A larger batch, a smaller queue
#: and fewer workers save it switches between tasks; a flush interval other than its default cannot
#: help a queue that is never empty.
THROUGHPUT_SETTINGS = [
    [],
    ["--workers", "1"],
    ["--workers", "1", "--batch-size", "5000"],
    ["--workers", "1", "--batch-size", "5000", "--capacity", "100"],
    ["--workers", "1", "--capacity", "100"],
    ["--workers", "4", "--batch-size", "100"],
]
#: A flush interval of 0 is refused by the original, and a short one can stop it for good, since
#: its workers never take a record again once they had nothing to do for that long. What makes it
#: answer sooner are small batches.
LATENCY_SETTINGS = [
    ["--batch-size", "1"],
    ["--batch-size", "10"],
    ["--workers", "1", "--batch-size", "1"],
    ["--workers", "1", "--batch-size", "10"],
]
LOOPS = (["--loop", "asyncio"], ["--loop", "uvloop"])


class Figures:
    """Values by name, one a round."""

    def __init__(self):
        self.values = {}

    def add(self, name, unit, value):
        self.values.setdefault((name, unit), []).append(value)

    def rows(self):
        for (name, unit), values in self.values.items():
            yield {
                "name": name,
                "unit": unit,
                "median": statistics.median(values),
                "min": min(values),
                "max": max(values),
                "rounds": values,
            }


class Sides:
    """Starts measurements of either side, in a folder without settings of anybody."""

    def __init__(self, mds, folder):
        self.mds = mds
        self.folder = folder
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith("MDS_")}

    def start(self, command):
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, stdout=subprocess.PIPE, check=False
        )
        if done.returncode != 0:
            sys.exit(f"{' '.join(map(str, command))} ended with {done.returncode}")
        return json.loads(done.stdout)

    def original(self, *args):
        return self.start([sys.executable, ORIGINAL, *args])

    def ours(self, *args):
        """The figures of one report of one round, by name and unit."""
        report = self.start([self.mds, "bench", "--json", "--quiet", "--rounds", "1", *args])
        if report["debug_build"]:
            sys.exit(f"{self.mds} is a debug build; its figures mean nothing")
        return {(f["name"], f["unit"]): f["median"] for f in report["figures"]}


def note(text):
    print(text, file=sys.stderr, flush=True)


def best_settings(sides):
    """The settings at which the original is fastest here, for each mode, and for latency."""
    best = {}
    for mode in MODES:
        runs = []
        for settings in (s + loop for s in THROUGHPUT_SETTINGS for loop in LOOPS):
            run = sides.original("throughput", "--mode", mode, "--rows", "100000", *settings)
            runs.append((-run["rows_per_second"], settings))
        best[mode] = min(runs)[1]
    runs = []
    for settings in (s + loop for s in LATENCY_SETTINGS for loop in LOOPS):
        run = sides.original("latency", "--seconds", "2", *settings)
        runs.append((run["submit_p99_ms"], settings))
    best["latency"] = min(runs)[1]
    return best


def throughput(sides, best, figures):
    ours = sides.ours(
        "null", "--rows", str(ROWS["ours"]), "--producers", "1", "--workers", "4"
    )
    for mode in MODES:
        rate = ours[f"{mode}, 1 producer, 4 workers", "rows/s"]
        figures.add(f"{mode}, ours", "rows/s", rate)
        for name, settings in (("its defaults", []), ("its best settings", best[mode])):
            run = sides.original(
                "throughput", "--mode", mode, "--rows", str(ROWS["original"]), *settings
            )
            theirs = run["rows_per_second"]
            figures.add(f"{mode}, original, {name}", "rows/s", theirs)
            figures.add(f"{mode}, ours / original, {name}", "x", rate / theirs)


def latency(sides, best, figures, seconds):
    for name, settings in (
        ("ours, SQLite, flush_interval 0", ["--sink", "sqlite"]),
        ("ours, null sink, flush_interval 0", ["--sink", "null"]),
        ("ours, null sink, defaults", ["--sink", "null", "--flush-interval", "0.25"]),
    ):
        run = sides.ours("latency", "--rate", "10000", "--seconds", str(seconds), *settings)
        for part in ("p50", "p99"):
            figures.add(f"{name}, {part}", "ms", run[f"submit to commit, {part}", "ms"])
    for name, settings in (("defaults", []), ("best settings", best["latency"])):
        run = sides.original("latency", "--rate", "10000", "--seconds", str(seconds), *settings)
        for part in ("p50", "p99"):
            figures.add(f"original, null sink, {name}, {part}", "ms", run[f"submit_{part}_ms"])


def idle(sides, figures, seconds):
    ours = sides.ours("idle", "--seconds", str(seconds), "--workers", "4")
    figures.add("idle, ours", "% of a core", ours["idle", "% of a core"])
    # `mds bench idle` ends with an error if the record after the silence is not written.
    figures.add("written of 1 record after the silence, ours", "records", 1)
    original = sides.original("idle", "--seconds", str(seconds), "--workers", "4")
    figures.add("idle, original", "% of a core", original["idle_percent"])
    figures.add(
        "written of 1 record after the silence, original",
        "records",
        original["written_after_idle"],
    )


def shown(value):
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def print_table(rows):
    heads = ("figure", "unit", "median", "least", "greatest")
    lines = [heads] + [
        (r["name"], r["unit"], shown(r["median"]), shown(r["min"]), shown(r["max"])) for r in rows
    ]
    widths = [max(len(line[i]) for line in lines) for i in range(len(heads))]
    for line in lines:
        left = [cell.ljust(width) for cell, width in zip(line[:2], widths)]
        right = [cell.rjust(width) for cell, width in zip(line[2:], widths[2:])]
        print("  ".join(left + right))


def compare(args, sides, figures):
    """Everything but PostgreSQL; the best settings of the original."""
    note("looking for the best settings of the original")
    best = best_settings(sides)
    for number in range(args.rounds):
        note(f"round {number + 1} of {args.rounds}")
        throughput(sides, best, figures)
        latency(sides, best, figures, args.latency_seconds)
        idle(sides, figures, args.seconds)
    return {"rows": ROWS, "best_settings": {what: " ".join(s) for what, s in best.items()}}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mds", required=True, help="a release build of `mds`")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10, help="of silence a round")
    parser.add_argument("--latency-seconds", type=int, default=5, help="of offering a round")
    parser.add_argument("--store", help="a PostgreSQL server: compares what goes into it, only")
    parser.add_argument("--out", help="a file for the report as JSON")
    args = parser.parse_args()
    figures = Figures()
    with tempfile.TemporaryDirectory(prefix="mds-bench-peer-") as folder:
        sides = Sides(args.mds, folder)
        if args.store:
            from postgres import compare as compare_stores

            told = compare_stores(args, sides, figures)
        else:
            told = compare(args, sides, figures)
    report = {
        "bench": "peer-postgres" if args.store else "peer",
        "original": f"market-data-store {version('market-data-store')}",
        "python": platform.python_version(),
        "rounds": args.rounds,
        **told,
        "figures": list(figures.rows()),
    }
    if args.out:
        Path(args.out).write_text(json.dumps(report) + "\n", encoding="utf-8")
    print(f"{report['original']} on Python {report['python']}, {args.rounds} rounds")
    for what, settings in report["best_settings"].items():
        print(f"its best settings for {what}: {settings}")
    for text in report.get("notes", []):
        print(text)
    print()
    print_table(report["figures"])


if __name__ == "__main__":
    main()
