"""One measurement of the Python original, printed as one JSON object.

Runs inside the environment that `run` makes. It only calls what the package documents: the
coordinator with a sink of ours, and its own model of a bar. What it leaves out is in the original's
favour: the bars are made once and submitted again and again (ours are copied for each submit), and
the package's log lines are switched off.
"""

import argparse
import asyncio
import json
import sys
import time
from datetime import datetime, timedelta, timezone

from loguru import logger
from market_data_store.coordinator import WriteCoordinator
from mds_client.models import Bar

GROUP = 500
#: Whose bars they are where nobody says.
TENANT = "00000000-0000-0000-0000-000000000001"
#: How often the generator of `latency` looks at the clock, as in `mds bench latency`.
TICK = 0.001
#: After this long without the last bar, a run is over: the original can stop for good.
PATIENCE = 30.0


class CheckedSink:
    """Counts bars and adds up their prices, as the sink of `mds bench null` does."""

    def __init__(self, expected):
        self.expected = expected
        self.rows = 0
        self.sum = 0.0
        self.complete = asyncio.Event()

    async def write(self, batch):
        self.sum += sum(bar.close_price for bar in batch)
        self.add(len(batch))

    def add(self, rows):
        self.rows += rows
        if self.rows >= self.expected:
            self.complete.set()

    async def wait(self):
        """Waits until every bar is here; answers whether they all came."""
        try:
            await asyncio.wait_for(self.complete.wait(), PATIENCE)
        except asyncio.TimeoutError:
            return False
        return True


class Stamped:
    """A bar with the moments at which it was due and submitted."""

    __slots__ = ("bar", "due", "submitted")

    def __init__(self, bar, due, submitted):
        self.bar = bar
        self.due = due
        self.submitted = submitted


class TimingSink(CheckedSink):
    """Notes how long each bar took."""

    def __init__(self, expected):
        super().__init__(expected)
        self.since_due = []
        self.since_submit = []

    async def write(self, batch):
        now = time.perf_counter()
        self.since_due.extend(now - row.due for row in batch)
        self.since_submit.extend(now - row.submitted for row in batch)
        self.sum += sum(row.bar.close_price for row in batch)
        self.add(len(batch))


def template():
    """A group of bars, priced 0 to 499."""
    ts = datetime(2024, 11, 1, tzinfo=timezone.utc)
    return [
        Bar(
            tenant_id="00000000-0000-0000-0000-000000000000",
            vendor="bench",
            symbol=f"SYM{i:04}",
            timeframe="1m",
            ts=ts,
            open_price=100.0,
            high_price=101.0,
            low_price=99.0,
            close_price=float(i),
            volume=1234,
        )
        for i in range(GROUP)
    ]


def sum_of(rows):
    """What the prices of so many bars add up to."""
    whole, rest = divmod(rows, GROUP)
    return whole * sum(range(GROUP)) + sum(range(rest))


def minute_bars(rows):
    """The bars of `mds bench postgres`: one a minute for each of 1,000 instruments, by time."""
    first = datetime(2024, 11, 1, tzinfo=timezone.utc)
    # Minutes since 1970, as the prices of `mds bench` hang on them.
    epoch = int(first.timestamp()) // 60
    for number in range(rows):
        minute, i = divmod(number, 1_000)
        close = 100.0 + (i * 7_919 + (epoch + minute) * 104_729) % 10_007 / 10_007.0
        yield Bar(
            tenant_id=TENANT,
            vendor="bench",
            symbol=f"SYM{i:04}",
            timeframe="1m",
            ts=first + timedelta(minutes=minute),
            open_price=close - 0.25,
            high_price=close + 0.5,
            low_price=close - 0.5,
            close_price=close,
            volume=1234,
        )


def coordinator(args, sink):
    """A coordinator with the settings that were given, and its own defaults for all others."""
    given = {
        name: value
        for name in ("workers", "batch_size", "capacity", "flush_interval")
        if (value := getattr(args, name)) is not None
    }
    return WriteCoordinator(sink=sink, **given)


def check(sink, complete, rows):
    """Ends the run if the sink has not got every bar, once."""
    if not complete or sink.rows != rows or sink.sum != sum_of(rows):
        sys.exit(
            f"the sink of the original got {sink.rows} of {rows} bars, "
            f"with a sum of {sink.sum} instead of {sum_of(rows)}"
        )


async def throughput(args):
    """Bars a second, from the first submit until the sink has the last one."""
    bars = template()
    groups = args.rows // GROUP
    rows = groups * GROUP
    sink = CheckedSink(rows)
    target = coordinator(args, sink)
    await target.start()
    started = time.perf_counter()
    if args.mode == "submit_many":
        for _ in range(groups):
            await target.submit_many(bars)
    else:
        for _ in range(groups):
            for bar in bars:
                await target.submit(bar)
    complete = await sink.wait()
    seconds = time.perf_counter() - started
    await target.stop()
    check(sink, complete, rows)
    return {"rows": rows, "seconds": seconds, "rows_per_second": rows / seconds}


async def latency(args):
    """Milliseconds from submit to the sink, bars offered one at a time at a steady rate."""
    bars = template()
    rows = int(args.rate * args.seconds)
    sink = TimingSink(rows)
    target = coordinator(args, sink)
    await target.start()
    started = time.perf_counter()
    sent = 0
    while sent < rows:
        await asyncio.sleep(TICK)
        while sent < rows:
            due = started + sent / args.rate
            submitted = time.perf_counter()
            if due > submitted:
                break
            await target.submit(Stamped(bars[sent % GROUP], due, submitted))
            sent += 1
    complete = await sink.wait()
    await target.stop()
    check(sink, complete, rows)
    figures = {"rows": rows}
    for name, values in (("submit", sink.since_submit), ("due", sink.since_due)):
        values.sort()
        for part, at in (("p50", rows // 2), ("p99", rows * 99 // 100), ("greatest", rows - 1)):
            figures[f"{name}_{part}_ms"] = values[at] * 1e3
    return figures


def mend_copy():
    """Makes the COPY mode of the original work: it asks an identifier for a text that the driver
    it is installed with does not give."""
    from psycopg import sql

    if not hasattr(sql.Identifier("x"), "string"):
        sql.Identifier.string = property(lambda self: self._obj[0])


def store(args):
    """The original's own client of a database."""
    from mds_client import AMDS

    if args.mend_copy:
        mend_copy()
    return AMDS({"dsn": args.dsn, "tenant_id": TENANT, "write_mode": args.write_mode})


class StoredSink(CheckedSink):
    """The original's own sink of bars, counted."""

    def __init__(self, expected, amds):
        from market_data_store.sinks import BarsSink

        super().__init__(expected)
        self.inner = BarsSink(amds)

    async def write(self, batch):
        await self.inner.write(batch)
        self.add(len(batch))


async def postgres(args):
    """Bars a second into a database, from the first submit until all are committed."""
    bars = list(minute_bars(args.rows))
    async with store(args) as amds:
        sink = StoredSink(args.rows, amds)
        target = coordinator(args, sink)
        await target.start()
        started, cpu = time.perf_counter(), time.process_time()
        for at in range(0, args.rows, GROUP):
            await target.submit_many(bars[at : at + GROUP])
        complete = await sink.wait()
        seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
        await target.stop()
    if not complete or sink.rows != args.rows:
        sys.exit(f"the sink of the original wrote {sink.rows} of {args.rows} bars")
    return {"rows": args.rows, "rows_per_second": args.rows / seconds, "cpu_seconds": cpu}


async def copy_mode(args):
    """What the COPY mode of the original says, as it is installed."""
    async with store(args) as amds:
        try:
            await amds.upsert_bars(list(minute_bars(10)))
        except Exception as error:  # noqa: BLE001: whatever it is, is what is asked for
            return {"error": f"{type(error).__name__}: {error}"}
    return {"error": None}


async def idle(args):
    """Processor time of a coordinator without work, and whether it writes afterwards."""
    bars = template()
    sink = CheckedSink(2 * GROUP)
    target = coordinator(args, sink)
    await target.start()
    for _ in range(2):
        await target.submit_many(bars)
    check(sink, await sink.wait(), 2 * GROUP)
    started, cpu = time.perf_counter(), time.process_time()
    await asyncio.sleep(args.seconds)
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    before = sink.rows
    await target.submit(bars[0])
    # Ten times the flush interval that it has by default.
    await asyncio.sleep(2.5)
    written = sink.rows - before
    await target.stop()
    return {"idle_percent": 100.0 * cpu / seconds, "written_after_idle": written}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("throughput", "latency", "idle", "postgres", "copy_mode"))
    parser.add_argument("--mode", choices=("submit_many", "submit"), default="submit_many")
    parser.add_argument("--rows", type=int, default=250_000)
    parser.add_argument("--rate", type=float, default=10_000.0)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--workers", type=int)
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--capacity", type=int)
    parser.add_argument("--flush-interval", type=float)
    parser.add_argument("--dsn")
    parser.add_argument("--write-mode", choices=("auto", "executemany", "copy"), default="auto")
    parser.add_argument("--mend-copy", action="store_true")
    parser.add_argument("--loop", choices=("asyncio", "uvloop"), default="asyncio")
    args = parser.parse_args()
    logger.remove()
    work = {
        "throughput": throughput,
        "latency": latency,
        "idle": idle,
        "postgres": postgres,
        "copy_mode": copy_mode,
    }[args.what]
    if args.loop == "uvloop":
        import uvloop

        figures = uvloop.run(work(args))
    else:
        figures = asyncio.run(work(args))
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
