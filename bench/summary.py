"""Makes tables of what `bench/all` wrote into a folder: machine, targets, every figure.

    python3 bench/summary.py FOLDER
"""

import json
import re
import statistics
import sys
from pathlib import Path

#: The order of the reports in the summary; others come behind.
ORDER = ("null", "peer", "latency", "latency-null", "idle", "file", "sqlite", "reads")

#: What the project promises: description, report, figure, unit, at least or at most, limit.
TARGETS = [
    (
        "`submit_many` of 500 into a null sink",
        "null",
        "submit_many, 1 producer, 4 workers",
        "rows/s",
        ">=",
        5e6,
    ),
    (
        "`submit` into a null sink",
        "null",
        "submit, 1 producer, 4 workers",
        "rows/s",
        ">=",
        1e6,
    ),
    (
        "`submit_many` against the original at its defaults",
        "peer",
        "submit_many, ours / original, its defaults",
        "x",
        ">=",
        50,
    ),
    (
        "`submit` against the original at its defaults",
        "peer",
        "submit, ours / original, its defaults",
        "x",
        ">=",
        50,
    ),
    ("10,000 rows/s into SQLite, p99", "latency", "submit to commit, p99", "ms", "<=", 20),
    ("idle, 4 workers", "idle", "idle", "% of a core", "<=", 0.5),
    ("a file end to end against the bare loop", "file", "ratio, 500", "x", ">=", 0.8),
    (
        "peak memory of that",
        "file",
        "ingest, batches of 500, peak memory",
        "MiB",
        "<=",
        300,
    ),
    ("many symbols against the bare loop", "sqlite", "ratio, 500", "x", ">=", 0.7),
    ("a week of minutes of a symbol, p95", "reads", "all minutes of a symbol, p95", "ms", "<=", 20),
    ("a year of days of a symbol, p95", "reads", "all days of a symbol, p95", "ms", "<=", 5),
    ("`mds latest` for 1,000 symbols", "reads", "`mds latest`, whole process", "ms", "<=", 100),
]

SCALES = {"elem/s": 1.0, "Kelem/s": 1e3, "Melem/s": 1e6, "Gelem/s": 1e9}


def reports(folder):
    """All reports by their name, in order; a file has one JSON object a line."""
    found = {}
    for path in sorted(folder.glob("*.json")):
        for line in path.read_text(encoding="utf-8").splitlines():
            report = json.loads(line)
            name = path.stem if path.stem.startswith("latency") else report["bench"]
            found[name] = report
    order = [name for name in ORDER if name in found]
    return {name: found[name] for name in order + [n for n in found if n not in order]}


def criterion(folder, name):
    """The throughputs that criterion printed, by name, a value a round."""
    values = {}
    for path in sorted(folder.glob(f"{name}-*.txt")):
        current = None
        for line in path.read_text(encoding="utf-8").splitlines():
            if line and not line[0].isspace() and not line.startswith("Benchmarking"):
                current = line.split("  ")[0].strip()
            match = re.search(r"thrpt:\s+\[\S+ \S+ (\S+) (\S+) ", line)
            if match and current:
                rate = float(match[1]) * SCALES[match[2]]
                values.setdefault(current, []).append(rate)
    return values


def shown(value):
    if value == int(value) and value < 1000:
        return str(int(value))
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    digits = 0 if value >= 100 else 1 if value >= 10 else 2 if value >= 1 else 3
    return f"{value:.{digits}f}"


def table(heads, rows):
    print("| " + " | ".join(heads) + " |")
    print("|" + "---|" * 2 + "---:|" * (len(heads) - 2))
    for row in rows:
        print("| " + " | ".join(row) + " |")
    print()


def figure_rows(figures):
    for f in figures:
        yield f["name"], f["unit"], shown(f["median"]), shown(f["min"]), shown(f["max"])


def print_targets(found):
    rows = []
    for what, report, name, unit, sign, limit in TARGETS:
        figures = found.get(report, {}).get("figures", [])
        values = [f["median"] for f in figures if f["unit"] == unit and f["name"] == name]
        if not values:
            rows.append((what, unit, f"{sign} {shown(limit)}", "not measured", ""))
            continue
        value = values[0]
        met = value >= limit if sign == ">=" else value <= limit
        rows.append((what, unit, f"{sign} {shown(limit)}", shown(value), "yes" if met else "**no**"))
    table(("target", "unit", "wanted", "median", "met"), rows)


def print_report(name, report):
    print(f"## {name}\n")
    if name == "peer":
        print(f"{report['original']} on Python {report['python']}, {report['rounds']} rounds.")
        for what, settings in report["best_settings"].items():
            print(f"Its best settings for {what}: `{settings}`.")
    else:
        settings = " ".join(f"{k}={v}" for k, v in report["settings"].items())
        print(f"{report['what']}.\n\n`{settings}`\n")
        print(f"Load {report['load_before']} before and {report['load_after']} after.")
    print()
    heads = ("figure", "unit", "median", "least", "greatest")
    table(heads, figure_rows(report["figures"]))


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    folder = Path(sys.argv[1])
    found = reports(folder)
    print("# Benchmarks\n")
    for line in (folder / "machine.txt").read_text(encoding="utf-8").splitlines():
        print(f"- {line}")
    print("\n## Targets\n")
    print_targets(found)
    for name, report in found.items():
        print_report(name, report)
    for name in ("queue", "parsers"):
        values = criterion(folder, name)
        if values:
            print(f"## {name}\n")
            figures = [
                {"name": n, "unit": "rows/s", "median": statistics.median(v), "min": min(v), "max": max(v)}
                for n, v in values.items()
            ]
            table(("figure", "unit", "median", "least", "greatest"), figure_rows(figures))


if __name__ == "__main__":
    main()
