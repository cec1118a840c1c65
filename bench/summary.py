"""Makes tables of what `bench/all` wrote into a folder: machine, targets, every figure.

    python3 bench/summary.py FOLDER                             prints them
    python3 bench/summary.py FOLDER --into docs/benchmarks.md   puts them into a page

What `bench/all` wrote stands below a mark at the end of the page; what `bench/postgres` wrote alone
stands between two marks of its own, and so does the durable queue alone (`ONLY="wal queue
queue-postgres" bench/all`).
"""

import argparse
import contextlib
import io
import json
import re
import statistics
import sys
from pathlib import Path

#: In a page, all below this line is written by this program.
MARK = "<!-- below: written by bench/summary.py -->"
#: And all between these two, where only PostgreSQL was measured.
POSTGRES_MARKS = (
    "<!-- PostgreSQL, written by bench/summary.py -->",
    "<!-- end of PostgreSQL -->",
)

#: And all between these two, where only the durable queue was measured.
QUEUE_MARKS = (
    "<!-- the durable queue, written by bench/summary.py -->",
    "<!-- end of the durable queue -->",
)

#: The order of the reports in the summary; others come behind.
ORDER = (
    *("null", "peer", "latency", "latency-null", "idle", "wal", "queue", "file", "sqlite", "reads"),
    *("postgres", "postgres-off", "latency-postgres", "workers", "queue-postgres", "peer-postgres"),
)

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
    (
        "100-byte records into the durable queue against bare writes and syncs",
        "wal",
        "payload / bare, group, 500 an append",
        "x",
        ">=",
        0.7,
    ),
    (
        "from submit to durable at half load, p99 against 2 x bare + 1 ms",
        "wal",
        "p99 / (2 x bare + 1 ms), group, 500 an append",
        "x",
        "<=",
        1,
    ),
    (
        "`mds ingest` through the durable queue into SQLite against memory",
        "queue",
        "ratio",
        "x",
        ">=",
        0.7,
    ),
    (
        "`mds ingest` through the durable queue into PostgreSQL against memory",
        "queue-postgres",
        "ratio",
        "x",
        ">=",
        0.8,
    ),
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
    ("PostgreSQL, fresh rows against a bare COPY", "postgres", "sink, fresh", "x", ">=", 0.8),
    ("`mds ingest` into it against a bare COPY", "postgres", "ingest, fresh", "x", ">=", 0.6),
    ("the same rows again against fresh ones", "postgres", "sink, replay", "x fresh", ">=", 1),
    ("log of a row that is there already", "postgres", "sink, replay", "WAL B/row", "<=", 16),
    ("all rows newer against a bare COPY", "postgres", "sink, newer", "x", ">=", 0.35),
    (
        "10,000 rows/s into PostgreSQL, p99",
        "latency-postgres",
        "submit to commit, p99",
        "ms",
        "<=",
        25,
    ),
    ("turns of the number of workers, load", "workers", "1x", "turns", "<=", 2),
    ("turns, ten times the load", "workers", "10x", "turns", "<=", 2),
    ("turns, the load again", "workers", "1x again", "turns", "<=", 2),
    (
        "into PostgreSQL against the original's coordinator",
        "peer-postgres",
        "ours, its best settings / original, its defaults",
        "x",
        ">=",
        15,
    ),
]

#: Units of which the worst round counts, not the median.
WORST = ("turns",)

HEADS = ("figure", "unit", "median", "least", "greatest")
SCALES = {"elem/s": 1.0, "Kelem/s": 1e3, "Melem/s": 1e6, "Gelem/s": 1e9}


def reports(folder):
    """All reports by their name, in order; a file has one JSON object a line."""
    found = {}
    for path in sorted(folder.glob("*.json")):
        for line in path.read_text(encoding="utf-8").splitlines():
            report = json.loads(line)
            is_stem = path.stem.startswith(("latency", "postgres"))
            name = path.stem if is_stem else report["bench"]
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
        if report not in found and not is_whole(found):
            # What was left out on purpose is not missing.
            continue
        figures = found.get(report, {}).get("figures", [])
        statistic = "max" if unit in WORST else "median"
        values = [f[statistic] for f in figures if f["unit"] == unit and f["name"] == name]
        if not values:
            rows.append((what, unit, f"{sign} {shown(limit)}", "not measured", ""))
            continue
        value = values[0]
        met = value >= limit if sign == ">=" else value <= limit
        rows.append((what, unit, f"{sign} {shown(limit)}", shown(value), "yes" if met else "**no**"))
    table(("target", "unit", "wanted", "median", "met"), rows)


def print_report(folder, name, report):
    print(f"## {name}\n")
    # `reads` is printed by the process that `sqlite` starts.
    command = folder / f"{'sqlite' if name == 'reads' else name}.command"
    if command.exists():
        print(f"`{command.read_text(encoding='utf-8').strip()}`", end=": ")
    if name.startswith("peer"):
        print(f"{report['original']} on Python {report['python']}, {report['rounds']} rounds.\n")
        for what, settings in report["best_settings"].items():
            print(f"- its best settings for {what}: `{settings}`")
        for note in report.get("notes", []):
            print(f"- {note}")
    else:
        settings = ", ".join(f"{k} {v}" for k, v in report["settings"].items())
        print(f"{report['what']}.\n\nSettings: {settings}.")
        print(f"Load {report['load_before']} before and {report['load_after']} after.")
    print()
    table(HEADS, figure_rows(report["figures"]))
    if not name.startswith("peer"):
        for note in report.get("notes", []):
            print(f"- {note}")
        if report.get("notes"):
            print()


def print_criterion(folder, name):
    values = criterion(folder, name)
    if not values:
        return
    print(f"## {name} alone\n")
    print(f"`cargo bench --bench {name} -- --quick`, once a round; the middle of what criterion says.\n")
    figures = [
        {
            "name": figure.removeprefix(f"{name}/"),
            "unit": "rows/s",
            "median": statistics.median(rates),
            "min": min(rates),
            "max": max(rates),
        }
        for figure, rates in values.items()
    ]
    table(HEADS, figure_rows(figures))


def print_all(folder):
    found = reports(folder)
    print("## Machine\n")
    for line in (folder / "machine.txt").read_text(encoding="utf-8").splitlines():
        print(f"- {line}")
    print("\n## Targets\n")
    print_targets(found)
    for name, report in found.items():
        print_report(folder, name, report)
    for name in ("queue", "parsers"):
        print_criterion(folder, name)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--into", type=Path, help="a page that has the mark")
    args = parser.parse_args()
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        print_all(args.folder)
    text = printed.getvalue().rstrip() + "\n"
    if not args.into:
        print(text, end="")
        return
    page = args.into.read_text(encoding="utf-8")
    if is_whole(reports(args.folder)):
        page = replace(args.into, page, MARK, "", text)
    else:
        # A level deeper: it is a part of a section.
        text = re.sub("^## ", "### ", text, flags=re.MULTILINE)
        is_postgres = "postgres" in reports(args.folder)
        page = replace(args.into, page, *(POSTGRES_MARKS if is_postgres else QUEUE_MARKS), text)
    args.into.write_text(page, encoding="utf-8")


def is_whole(found):
    return "null" in found


def replace(path, page, begin, end, text):
    """The page with another text from one mark to another, or to its end."""
    above, mark, rest = page.partition(begin)
    if not mark:
        sys.exit(f"{path} has no line {begin}")
    if not end:
        return f"{above}{begin}\n\n{text}"
    _, mark, below = rest.partition(end)
    if not mark:
        sys.exit(f"{path} has no line {end}")
    return f"{above}{begin}\n\n{text}\n{end}{below}"


if __name__ == "__main__":
    main()
