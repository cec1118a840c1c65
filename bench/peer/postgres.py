"""The original and `mds` in turns into one PostgreSQL server.

Each writes new bars through its own coordinator and its own sink into the table `bars`, emptied
and checkpointed before: the original into a database that `mds migrate` has made for it, `mds
bench postgres` into one of its own. The columns and the key that the original writes are those of
that table. It gets fewer bars, since it is slower; they are made before the clock starts.
"""

import functools
import math
import secrets
import subprocess
import sys
from urllib.parse import urlsplit

import psycopg

from original import minute_bars

#: Bars of a run.
ROWS = {"ours": 500_000, "original": 200_000, "search": 30_000}
#: Settings of the original among which its best are looked for.
SETTINGS = [
    [],
    ["--batch-size", "2000"],
    ["--workers", "2", "--batch-size", "5000", "--write-mode", "executemany"],
    ["--workers", "8"],
    ["--workers", "2", "--batch-size", "1000"],
]
#: The same for its COPY mode, mended.
MENDED = ["--write-mode", "copy", "--mend-copy"]
COPY_SETTINGS = [
    ["--workers", "2", "--batch-size", "5000"],
    ["--workers", "4", "--batch-size", "5000"],
    ["--workers", "2", "--batch-size", "20000", "--capacity", "60000"],
]
LOOPS = (["--loop", "asyncio"], ["--loop", "uvloop"])
#: Settings of ours, likewise.
OUR_SETTINGS = [
    ["--connections", "2", "--batch", "5000"],
    ["--connections", "3", "--batch", "5000"],
    ["--connections", "4", "--batch", "5000"],
]
OUR_DEFAULTS = ["--connections", "4", "--batch", "500"]


@functools.cache
def sum_of_prices(rows):
    return math.fsum(bar.close_price for bar in minute_bars(rows))


class Database:
    """A database of its own for the original."""

    def __init__(self, sides, server):
        self.name = f"mds_bench_peer_{secrets.token_hex(4)}"
        self.server = server
        parts = urlsplit(server)
        query = f"?{parts.query}" if parts.query else ""
        self.dsn = f"{parts.scheme}://{parts.netloc}/{self.name}{query}"
        self.admin(f"CREATE DATABASE {self.name}")
        done = subprocess.run(
            [sides.mds, "migrate", "--quiet"],
            cwd=sides.folder,
            env={**sides.environment, "MDS_STORE": self.dsn},
            stdout=subprocess.DEVNULL,
            check=False,
        )
        if done.returncode != 0:
            self.drop()
            sys.exit(f"`mds migrate` ended with {done.returncode}")

    def admin(self, sql):
        with psycopg.connect(self.server, autocommit=True) as connection:
            connection.execute(sql)

    def drop(self):
        self.admin(f"DROP DATABASE {self.name} WITH (FORCE)")

    def empty(self):
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute("TRUNCATE bars")
            connection.execute("CHECKPOINT")

    def check(self, rows):
        """Ends the run if the table does not hold the bars that were submitted."""
        sql = "SELECT count(*), count(DISTINCT (symbol, ts)), sum(close_price) FROM bars"
        with psycopg.connect(self.dsn) as connection:
            found = connection.execute(sql).fetchone()
        wanted = sum_of_prices(rows)
        if found[:2] != (rows, rows) or not math.isclose(found[2], wanted, rel_tol=1e-12):
            sys.exit(f"the original left {found} instead of {(rows, rows, wanted)}")

    def settings(self):
        sql = "SELECT version(), current_setting('fsync'), current_setting('synchronous_commit')"
        with psycopg.connect(self.server) as connection:
            server, fsync, synchronous_commit = connection.execute(sql).fetchone()
        short = " ".join(server.split()[:2])
        return f"{short}, fsync {fsync}, synchronous_commit {synchronous_commit}"


def original(sides, database, rows, settings):
    """One run of the original into an empty table; rows a second, and its processor time."""
    database.empty()
    run = sides.original("postgres", "--dsn", database.dsn, "--rows", str(rows), *settings)
    database.check(rows)
    return run


def best(sides, database, candidates):
    """The settings at which the original is fastest here."""
    runs = []
    for settings in (s + loop for s in candidates for loop in LOOPS):
        run = original(sides, database, ROWS["search"], settings)
        runs.append((-run["rows_per_second"], settings))
    return min(runs)[1]


def ours(sides, server, settings):
    report = sides.ours(
        *("postgres", "--store", server, "--rows", str(ROWS["ours"])),
        *("--arms", "coordinator", *settings),
    )
    name = "coordinator, fresh"
    return {
        "rate": report[name, "rows/s"],
        "cpu": report.get((name, "CPU s/M rows")),
        "bare": report["bare COPY", "rows/s"],
    }


def best_of_ours(sides, server):
    """Ours at its fastest here."""
    return min((-ours(sides, server, s)["rate"], s) for s in OUR_SETTINGS)[1]


def round_of(sides, server, database, cases, our_cases, figures):
    rates = {}
    for name, settings in our_cases.items():
        run = ours(sides, server, settings)
        rates[name] = run["rate"]
        figures.add(f"ours, {name}", "rows/s", run["rate"])
        if run["cpu"] is not None:
            figures.add(f"ours, {name}", "CPU s/M rows", run["cpu"])
    for name, settings in cases.items():
        run = original(sides, database, ROWS["original"], settings)
        theirs = run["rows_per_second"]
        figures.add(f"original, {name}", "rows/s", theirs)
        figures.add(f"original, {name}", "CPU s/M rows", run["cpu_seconds"] * 1e6 / run["rows"])
        our_name = "its defaults" if name == "its defaults" else "its best settings"
        figures.add(f"ours, {our_name} / original, {name}", "x", rates[our_name] / theirs)
        if name == "its defaults":
            best = rates["its best settings"]
            figures.add("ours, its best settings / original, its defaults", "x", best / theirs)


def compare(args, sides, figures):
    """Runs it; what the report says beside the figures."""
    database = Database(sides, args.store)
    try:
        database.empty()
        copy = sides.original("copy_mode", "--dsn", database.dsn, "--write-mode", "copy")["error"]
        print("looking for the best settings of the original", file=sys.stderr, flush=True)
        chosen = {
            "its own modes": best(sides, database, SETTINGS),
            "COPY mode, mended": best(sides, database, [MENDED + s for s in COPY_SETTINGS]),
        }
        our_best = best_of_ours(sides, args.store)
        our_cases = {"its defaults": OUR_DEFAULTS, "its best settings": our_best}
        cases = {
            "its defaults": [],
            "its best settings": chosen["its own modes"],
            "its COPY mode mended": chosen["COPY mode, mended"],
        }
        for number in range(args.rounds):
            print(f"round {number + 1} of {args.rounds}", file=sys.stderr, flush=True)
            round_of(sides, args.store, database, cases, our_cases, figures)
        notes = [database.settings()]
    finally:
        database.drop()
    notes.append(
        "its COPY mode as it is installed: " + (f"fails, {copy}" if copy else "works")
    )
    notes.append("our best settings: " + " ".join(our_best))
    settings = {what: " ".join(words) for what, words in chosen.items()}
    return {"rows": ROWS, "best_settings": settings, "notes": notes}
