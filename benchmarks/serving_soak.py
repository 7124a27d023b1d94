"""Checks that `keras-dl serve` keeps answering at a steady rate while new and broken versions appear.

    python benchmarks/serving_soak.py                                  # about 12 minutes on 2 cores
    python benchmarks/serving_soak.py --minutes 1 --rate-share 0.5

A server process with an untrained BiLSTM(64) on 20 frames gets a new version every 30 seconds, and one truncated
version. Another process first measures the capacity in requests per second with 32 connections, then sends --rate-share
of it at a constant rate, independent of answers; latencies are measured from the time at which a request was due.
Prints requests, failures, latencies, versions and the server's memory for each minute. The exit status is 1 if a
request failed. The server, the load and other processes share the cores: only ratios of latencies are meaningful.
"""

import argparse
import asyncio
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import numpy as np

NAME, FRAMES, FEATURES = "bilstm", 20, 8
NEW_VERSION_SECONDS, BROKEN_AFTER_SECONDS = 30, 45
CAPACITY_SECONDS, CAPACITY_CONNECTIONS, MOST_CONNECTIONS = 6, 32, 256


class Client:
    """Sends the same request repeatedly over keep-alive connections, and records the answers."""

    def __init__(self, port: int):
        features = np.random.default_rng(0).standard_normal((1, FRAMES, FEATURES)).round(4).tolist()
        body = json.dumps({"instances": features}).encode()
        head = f"POST /v1/models/{NAME}:predict HTTP/1.1\r\nHost: soak\r\nContent-Length: {len(body)}\r\n\r\n"
        self._port, self._request = port, head.encode() + body
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self.latencies, self.failures, self.versions = [], [], set()

    async def ask(self, due: float) -> None:
        try:
            reader, writer = self._idle.pop() if self._idle else await asyncio.open_connection("127.0.0.1", self._port)
            writer.write(self._request)
            head = await reader.readuntil(b"\r\n\r\n")
            body = await reader.readexactly(int(re.search(rb"content-length: (\d+)", head, re.IGNORECASE)[1]))
        except (OSError, EOFError) as error:
            self.failures.append(repr(error))
            return
        self._idle.append((reader, writer))
        if not head.startswith(b"HTTP/1.1 200"):
            self.failures.append((head.split(b"\r\n")[0] + b" " + body).decode(errors="replace"))
            return
        self.latencies.append(time.perf_counter() - due)
        self.versions.add(int(re.search(rb'"version": ?(\d+)', body)[1]))

    async def capacity(self) -> float:
        """Measures the number of requests per second with closed-loop connections."""
        end = time.perf_counter() + CAPACITY_SECONDS

        async def loop():
            while time.perf_counter() < end:
                await self.ask(time.perf_counter())

        await asyncio.gather(*(loop() for _ in range(CAPACITY_CONNECTIONS)))
        return len(self.latencies) / CAPACITY_SECONDS

    async def load(self, rate: float, minutes: float) -> None:
        """Sends requests at a constant rate, and prints a line of JSON each minute."""
        start, sent, running, room = time.perf_counter(), 0, set(), asyncio.Semaphore(MOST_CONNECTIONS)

        async def one(due):
            async with room:
                await self.ask(due)

        for minute in range(1, int(np.ceil(minutes)) + 1):
            end = start + min(minute, minutes) * 60
            while (due := start + sent / rate) < end:
                if (early := due - time.perf_counter()) > 0:
                    await asyncio.sleep(early)
                task = asyncio.create_task(one(due))
                running.add(task)
                task.add_done_callback(running.discard)
                sent += 1
            if minute >= minutes:
                await asyncio.gather(*running)
            milliseconds = np.array(self.latencies or [np.nan]) * 1000
            line = {
                "answered": len(self.latencies),
                "failures": len(self.failures),
                "example": self.failures[:1],
                "p50": np.percentile(milliseconds, 50),
                "p99": np.percentile(milliseconds, 99),
                "max": milliseconds.max(),
                "versions": sorted(self.versions),
            }
            print(json.dumps(line), flush=True)
            self.latencies, self.failures, self.versions = [], [], set()


def make_versions(stock: Path, count: int) -> None:
    """Writes SavedModels 1 to count, which return their number, and `broken`, with truncated weights."""
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    import keras
    import tensorflow as tf

    from keras_dl.serving.export.warmup import write_warmup

    keras.utils.set_random_seed(0)
    inputs = keras.Input((None, FEATURES))
    hidden = keras.layers.Bidirectional(keras.layers.LSTM(64, return_sequences=True))(inputs)
    network = keras.Model(inputs, keras.layers.Dense(10)(hidden))
    module = tf.Module()
    module.weights = [weight.value for weight in network.weights]
    module.version = tf.Variable(0)

    @tf.function(input_signature=[tf.TensorSpec([None, None, FEATURES], tf.float32, name="features")])
    def default(features):
        logits = network(features)
        return {"labels": tf.argmax(logits, -1), "version": tf.fill([tf.shape(features)[0]], module.version)}

    batching = {"rows_independent": True, "padded_axes": {}, "cropped_axes": {}, "why": ""}
    manifest = {"format": 1, "name": NAME, "signatures": {"serving_default": {"batching": batching}}}
    request = {"features": np.zeros((1, FRAMES, FEATURES), np.float32)}
    for number in range(1, count + 1):
        module.version.assign(number)
        folder = stock / str(number)
        tf.saved_model.save(module, str(folder), signatures={"serving_default": default})
        write_warmup(folder, NAME, [("serving_default", [request])])
        (folder / "assets.extra" / "manifest.json").write_text(json.dumps(manifest))
    shutil.copytree(stock / "1", stock / "broken")
    os.truncate(stock / "broken" / "variables" / "variables.data-00000-of-00001", 1000)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def start_server(root: Path, port: int) -> subprocess.Popen:
    config = root / "models.config"
    base = json.dumps(str(root / NAME))
    config.write_text(
        f'model_config_list {{ config {{ name: "{NAME}" base_path: {base} model_platform: "tensorflow" }} }}'
    )
    options = ["--embedded", "--rest-port", port, "--grpc-port", free_port(), "--config", config]
    command = [sys.executable, "-m", "keras_dl.cli", "serve", *map(str, options)]
    server = subprocess.Popen(command, cwd=root, stdout=sys.stderr, stderr=sys.stderr)
    while server.poll() is None:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5).close()
            return server
        except OSError:
            time.sleep(0.2)
    raise SystemExit("the server exited before it was ready")


def memory(process: subprocess.Popen) -> float:
    """Returns the resident memory in MiB (Linux)."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024


async def soak(server: subprocess.Popen, stock: Path, base: Path, port: int, rate: float, minutes: float) -> int:
    """Runs the load while new versions appear; returns the number of failures."""
    command = [sys.executable, __file__, "--load", str(port), str(rate), "--minutes", str(minutes)]
    load = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)

    async def put_versions():
        start, number = time.monotonic(), 1
        moments = [NEW_VERSION_SECONDS * step for step in range(1, int(minutes * 60 / NEW_VERSION_SECONDS) + 1)]
        for moment in sorted([*moments, BROKEN_AFTER_SECONDS]):
            await asyncio.sleep(start + moment - time.monotonic())
            number += 1
            source = stock / ("broken" if moment == BROKEN_AFTER_SECONDS else str(number))
            os.rename(source, base / str(number))

    versions = asyncio.create_task(put_versions())
    failures, minute = 0, 0
    print("minute  answered  failed   p50 ms   p99 ms   max ms  RSS MiB  versions")
    while line := await load.stdout.readline():
        result, minute = json.loads(line), minute + 1
        failures += result["failures"]
        numbers = " ".join(f"{result[key]:8.1f}" for key in ("p50", "p99", "max"))
        versions_seen = ", ".join(map(str, result["versions"]))
        counts = f"{minute:6} {result['answered']:9} {result['failures']:7}"
        print(f"{counts} {numbers} {memory(server):8.0f}  {versions_seen}", flush=True)
        for example in result["example"]:
            print(f"       {example[:200]}")
    versions.cancel()
    return failures + await load.wait()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--rate-share", type=float, default=0.7, help="share of the measured capacity")
    parser.add_argument("--load", nargs=2, metavar=("PORT", "RATE"), help=argparse.SUPPRESS)  # internal: run the load
    options = parser.parse_args()
    if options.load:
        port, rate = options.load
        asyncio.run(Client(int(port)).load(float(rate), options.minutes))
        return 0
    with tempfile.TemporaryDirectory(prefix="serving-soak-") as temporary:
        root, stock = Path(temporary), Path(temporary, "stock")
        make_versions(stock, 3 + int(options.minutes * 60 / NEW_VERSION_SECONDS))
        base, port = root / NAME, free_port()
        base.mkdir()
        os.rename(stock / "1", base / "1")
        server = start_server(root, port)
        try:
            asyncio.run(Client(port).capacity())  # warm-up
            capacity = asyncio.run(Client(port).capacity())
            rate = capacity * options.rate_share
            print(f"capacity {capacity:.0f} requests/s with {CAPACITY_CONNECTIONS} connections; sent {rate:.0f}/s")
            failures = asyncio.run(soak(server, stock, base, port, rate, options.minutes))
        finally:
            server.send_signal(signal.SIGTERM)
            code = server.wait(60)
    print(f"failed requests: {failures}; the server exited with status {code}")
    return 1 if failures or code else 0


if __name__ == "__main__":
    sys.exit(main())
