"""The producers of market-data-pipeline slow down and recover by what `mds serve` tells them.

    python tests/python/pipeline.py [MDS]    MDS: the program (target/debug/mds where not given)

A daemon whose store is locked is filled until its queue is nearly full, then the store is let go;
once the daemon tells a webhook, once a stream is read. Each payload is parsed by FeedbackEvent and
goes through FeedbackHandler to RateCoordinator, as in a real producer.

Needs the packages market-data-core and market-data-pipeline==0.8.70, without market-data-store.
Where they are absent it is skipped, and says so. Exit code 0: everything held; 1: something did not.
"""
import asyncio
import json
import os
import sqlite3
import sys
import tempfile
import time

try:
    from market_data_core.telemetry import FeedbackEvent
    from market_data_pipeline.orchestration.coordinator import RateCoordinator
    from market_data_pipeline.orchestration.feedback import (
        FeedbackHandler, RateCoordinatorAdapter, feedback_bus)
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(0)

PROVIDER = "prices"
BASE = 200  # tokens a second
SCALES = {"ok": 1.0, "soft": 0.5, "hard": 0.0}
PATIENCE = 60  # seconds until this is taken to hang


class Producer:
    """What a producer has; the handler exists once in a process."""

    def __init__(self):
        self.rates = RateCoordinator()
        self.rates.register_provider(PROVIDER, capacity=1, refill_rate=BASE)
        handler = FeedbackHandler(rate=RateCoordinatorAdapter(self.rates), provider=PROVIDER)
        feedback_bus().subscribe(handler.handle)
        self.seen = []

    async def hear(self, payload):
        event = FeedbackEvent.model_validate_json(payload)
        await feedback_bus().publish(event)
        scale = self.rates.get_provider_state(PROVIDER)["scale_factor"]
        rate = await self.measure()
        level = event.level.value
        print(f"  {level:4} {event.queue_size:5}/{event.capacity} scale {scale} {rate:.0f}/s")
        self.seen.append((level, scale == SCALES[level], rate))

    async def measure(self, seconds=0.5):
        """How many tokens it gets a second."""
        got, end = 0, time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            try:
                await asyncio.wait_for(self.rates.acquire(PROVIDER), left)
                got += 1
            except Exception:  # no token yet, or none in time
                await asyncio.sleep(0.002)
        return got / seconds

    def has_recovered(self):
        return "hard" in (level for level, _, _ in self.seen) and self.seen[-1][0] == "ok"

    def verdict(self):
        """Each scale is right, and what was obtained follows it."""
        rates = {level: rate for level, _, rate in self.seen}
        return all(right for _, right, _ in self.seen) and rates["hard"] < rates["ok"] / 4


async def webhook(producer, _address, hook):
    """Takes POSTs one by one, since the handler knows no order but that of the calls."""
    while not producer.has_recovered():
        await producer.hear(await hook.get())


async def stream(producer, address, _hook):
    reader, writer = await asyncio.open_connection(*address)
    writer.write(b"GET /v1/backpressure/stream?coordinator=bars HTTP/1.1\r\nhost: mds\r\n\r\n")
    while not producer.has_recovered():
        line = await reader.readline()
        if line.startswith(b"data: "):
            await producer.hear(line.removeprefix(b"data: "))
    writer.close()


async def receive(queue, reader, writer):
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    length = int(head.split("content-length: ")[1].split("\r\n")[0])
    await queue.put(await reader.readexactly(length))
    writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
    await writer.drain()
    writer.close()


async def post_bars(address, count):
    rows = [{"vendor": "v", "symbol": f"S{i}", "timeframe": "1m", "ts": "2024-11-01T00:00:00Z",
             "close_price": 1.5} for i in range(count)]
    body = json.dumps(rows)
    reader, writer = await asyncio.open_connection(*address)
    writer.write(f"POST /v1/bars HTTP/1.1\r\nhost: mds\r\nconnection: close\r\n"
                 f"content-length: {len(body)}\r\n\r\n{body}".encode())
    answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 202 "), answer


async def daemon(mds, folder, hook_port):
    """Starts one, and answers with it and its address."""
    env = {
        **os.environ, "MDS_QUEUE": "memory", "MDS_COORDINATOR_CAPACITY": "1000",
        "MDS_COORDINATOR_BATCH_SIZE": "10", "MDS_CB_FAILURE_THRESHOLD": "1000",
        "MDS_FB_ENABLE_HTTP_BROADCAST": "true", "MDS_FB_HTTP_COORDINATOR": "bars",
        "MDS_FB_HTTP_ENDPOINT": f"http://127.0.0.1:{hook_port}/",
    }
    running = await asyncio.create_subprocess_exec(
        mds, "serve", "--listen", "127.0.0.1:0", cwd=folder, env=env,
        stderr=asyncio.subprocess.PIPE)
    line = (await running.stderr.readline()).decode()
    assert line.startswith("serving http://"), line
    host, port = line.removeprefix("serving http://").split(";")[0].split(":")
    return running, (host, int(port))


async def end(running):
    running.terminate()
    await running.communicate()


async def scene(mds, producer, way):
    producer.seen = []
    queue = asyncio.Queue(100)
    hook = await asyncio.start_server(lambda r, w: receive(queue, r, w), "127.0.0.1", 0)
    port = hook.sockets[0].getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        running, _ = await daemon(mds, folder, port)  # makes the store
        await end(running)
        while not queue.empty():
            queue.get_nowait()
        lock = sqlite3.connect(f"{folder}/market.db", isolation_level=None)
        lock.execute("BEGIN IMMEDIATE")
        running, address = await daemon(mds, folder, port)
        try:
            heard = asyncio.create_task(way(producer, address, queue))
            while not producer.seen:
                await asyncio.sleep(0)
            await post_bars(address, 950)
            while producer.seen[-1][0] != "hard":
                await asyncio.sleep(0)
            lock.close()
            await heard
        finally:
            await end(running)
            hook.close()
    return producer.verdict()


async def main():
    mds = os.path.abspath(sys.argv[1] if len(sys.argv) > 1 else "target/debug/mds")
    producer, held = Producer(), True
    for way in (webhook, stream):
        print(f"{way.__name__}:")
        good = await asyncio.wait_for(scene(mds, producer, way), PATIENCE)
        print("  PASS" if good else "  FAIL")
        held &= good
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
