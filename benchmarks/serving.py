"""The overhead of the embedded server over TensorFlow itself, the gain of batching, and MLflow's server as a peer.

    python benchmarks/serving.py              # about 3 minutes on 2 cores

A masked bidirectional LSTM with 64 units and 13 features is exported and served by `keras-dl serve` with and without
`--no-batching`, and saved with `mlflow.keras` for `mlflow models serve --env-manager local`. Servers and load generator
run in separate processes, with keep-alive connections and bodies prepared in advance. The load is closed: each client
sends its next request after the previous answer. The capacity of the generator is measured with `/healthz`, which does
nothing. Latency is measured with one client, interleaved with calls of the SavedModel's signature in this process, from
arrays to arrays. Ratios are those of the medians of interleaved rounds; CPU time is that of the server's process.
"""

import argparse
import contextlib
import http.client
import json
import os
import random
import re
import select
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

FEATURES, UNITS, LABELS = 13, 64, 11
CLIENTS = 32
WORKLOADS = {"T=20": [20] * 8, "T=50..150": list(range(50, 151, 2))}
PREDICT = "/v1/models/bilstm:predict"
_LENGTH = re.compile(rb"(?i)\r\ncontent-length: (\d+)")


def load(port, path, bodies, clients, seconds):
    """Sends requests for the given number of seconds after a warm-up of one second; returns rate, p50, p99 and
    failures."""
    head = f"{'POST' if bodies else 'GET'} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    requests = [f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode() for body in bodies or [""]]
    poll, sockets, started, received = select.epoll(), {}, {}, {}

    def ask(number):
        received[number], started[number] = b"", time.perf_counter()
        sockets[number].sendall(random.choice(requests))

    for _ in range(clients):
        connection = socket.create_connection(("127.0.0.1", port))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        poll.register(connection, select.EPOLLIN)
        sockets[connection.fileno()] = connection
        ask(connection.fileno())
    times, failed, begin = [], 0, time.perf_counter() + 1
    while (now := time.perf_counter()) < begin + seconds:
        for number, _ in poll.poll(1):
            data = received[number] = received[number] + sockets[number].recv(2**17)
            if not data:
                raise SystemExit("the server closed a connection")
            head_end = data.find(b"\r\n\r\n") + 4
            length = _LENGTH.search(data)
            if head_end > 3 and len(data) - head_end >= int(length[1]):
                if now > begin:
                    times.append(time.perf_counter() - started[number])
                    failed += not data.startswith(b"HTTP/1.1 200")
                ask(number)
    times.sort()
    middle, late = (times[len(times) * part // 100] for part in (50, 99))
    return {"rate": len(times) / seconds, "p50": middle, "p99": late, "failed": failed}


class Server:
    """A server in a separate process, and its CPU time."""

    def __init__(self, command, port, ready, **options):
        self.port = port
        self.process = subprocess.Popen(
            command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options
        )
        for _ in range(600):
            with contextlib.suppress(OSError):
                if ask(port, ready)[0] == 200:
                    return
            if self.process.poll() is not None:
                raise SystemExit(f"{command} ended with {self.process.returncode}")
            time.sleep(0.2)
        raise SystemExit(f"{command} is not ready")

    def seconds(self):
        """CPU time of the process and its children."""
        import psutil

        family = [psutil.Process(self.process.pid), *psutil.Process(self.process.pid).children(recursive=True)]
        return sum(sum(process.cpu_times()[:2]) for process in family)

    def load(self, path, bodies, clients=CLIENTS, seconds=4.0):
        """Runs `load` in a separate process; adds the server's CPU time per request in milliseconds."""
        spent = self.seconds()
        arguments = [str(self.port), path, str(clients), str(seconds)]
        generator = [sys.executable, __file__, "--load", *arguments]
        found = json.loads(subprocess.run(generator, input=json.dumps(bodies), capture_output=True, text=True).stdout)
        # Includes the warm-up second, at the same rate.
        return found | {"cpu": (self.seconds() - spent) / (found["rate"] * (seconds + 1)) * 1e3}

    def stop(self):
        os.killpg(self.process.pid, signal.SIGTERM)
        self.process.wait(30)


def ask(port, path, body=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    try:
        headers = {"Content-Type": "application/json"}
        connection.request("POST" if body else "GET", path, body, headers)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def bodies_of(lengths, key="instances"):
    generator = random.Random(0)
    rows = ([[round(generator.gauss(0, 1), 4) for _ in range(FEATURES)] for _ in range(length)] for length in lengths)
    return [json.dumps({key: [row]}) for row in rows]


def build(folder):
    """Exports the network with keras_dl and saves it for MLflow."""
    import keras
    import mlflow
    import numpy as np
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    from keras_dl.pipeline import Pipeline
    from keras_dl.serving.export.export import export

    class Bilstm(Pipeline):
        name = "bilstm"

    features = keras.Input((None, FEATURES), name="features")
    x = keras.layers.Masking()(features)
    x = keras.layers.Bidirectional(keras.layers.LSTM(UNITS, return_sequences=True))(x)
    model = keras.Model(features, keras.layers.Dense(LABELS, name="logits")(x))
    generator = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(generator.normal(0, 0.2, weight.shape))
    example = generator.normal(size=(1, 20, FEATURES)).astype(np.float32)
    target = export(Bilstm(), model, folder / "saved_models", 1, {"features": example})
    schemas = (Schema([TensorSpec(np.dtype("float32"), (-1, -1, size))]) for size in (FEATURES, LABELS))
    signature = ModelSignature(*schemas)
    mlflow.keras.save_model(model, str(folder / "mlflow"), signature=signature)
    return target


def serve(folder, *options):
    config, port = folder / "models.config", free_port()
    base = folder / "saved_models" / "bilstm"
    model = f'name: "bilstm" base_path: "{base}" model_platform: "tensorflow"'
    config.write_text(f"model_config_list {{ config {{ {model} }} }}")
    command = [sys.executable, "-m", "keras_dl.cli", "serve", "--embedded", "--config", str(config)]
    return Server([*command, "--rest-port", str(port), "--grpc-port", str(free_port()), *options], port, "/readyz")


def serve_mlflow(folder):
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "models", "serve", "--env-manager", "local", "--model-uri"]
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    return Server([*command, str(folder / "mlflow"), "--port", str(port)], port, "/ping", env=environment)


def latency(target, port, rounds=400):
    """Latency of one call in ms, of the signature in this process and over REST: median and minimum."""
    import numpy as np
    import tensorflow as tf

    call = tf.saved_model.load(str(target)).signatures["serving_default"]
    body = bodies_of([20])[0]
    array = np.array(json.loads(body)["instances"], np.float32)
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.connect()
    connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    request = f"POST {PREDICT} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()

    def here():
        return {name: value.numpy() for name, value in call(features=tf.constant(array)).items()}["logits"]

    def rest():
        connection.sock.sendall(request)
        response = http.client.HTTPResponse(connection.sock, method="POST")
        response.begin()
        return response.read()

    np.testing.assert_allclose(json.loads(rest())["predictions"], here(), rtol=1e-3, atol=1e-4)
    times = {here: [], rest: []}
    for round_ in range(rounds + 20):
        for function in times:
            started = time.perf_counter()
            function()
            if round_ >= 20:
                times[function].append((time.perf_counter() - started) * 1e3)
    return [(statistics.median(taken), min(taken)) for taken in times.values()]


def main(rounds, with_mlflow):
    with tempfile.TemporaryDirectory() as temporary, contextlib.ExitStack() as stack:
        folder = Path(temporary)
        target = build(folder)
        servers = {"batching": serve(folder), "--no-batching": serve(folder, "--no-batching")}
        if with_mlflow:
            servers["mlflow models serve"] = serve_mlflow(folder)
        for server in servers.values():
            stack.callback(server.stop)

        (here, here_best), (rest, rest_best) = latency(target, servers["batching"].port)
        print("one client, T=20, ms: median, minimum")
        print(f"  the signature in this process {here:.2f}, {here_best:.2f}; REST {rest:.2f}, {rest_best:.2f}")
        print(f"  ratio {rest / here:.2f} ({rest_best / here_best:.2f})")

        nothing = servers["batching"].load("/healthz", None)
        print(
            f"{CLIENTS} clients, /healthz: {nothing['rate']:.0f} requests/s, server {nothing['cpu']:.3f} ms per request"
        )
        for workload, lengths in WORKLOADS.items():
            found = {name: [] for name in servers}
            for _ in range(rounds):
                for name, server in servers.items():
                    if name.startswith("mlflow"):
                        if not found[name]:
                            found[name].append(server.load("/invocations", bodies_of(lengths, "inputs"), seconds=10.0))
                    else:
                        found[name].append(server.load(PREDICT, bodies_of(lengths)))
            ours = statistics.median(each["rate"] for each in found["batching"])
            print(f"{CLIENTS} clients, {workload}")
            for name, results in found.items():
                middle = {
                    key: statistics.median(each[key] for each in results) for key in ("rate", "p50", "p99", "cpu")
                }
                print(
                    f"  {name:20} {middle['rate']:8.1f} requests/s  p50 {middle['p50'] * 1e3:7.1f} ms  "
                    f"p99 {middle['p99'] * 1e3:7.1f} ms  server {middle['cpu']:6.2f} ms per request  "
                    f"failed {sum(each['failed'] for each in results)}  batching is {ours / middle['rate']:.1f}x"
                )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--load"]:
        port, path, clients, seconds = sys.argv[2:]
        print(json.dumps(load(int(port), path, json.load(sys.stdin), int(clients), float(seconds))))
    else:
        parser = argparse.ArgumentParser()
        parser.add_argument("--rounds", type=int, default=3)
        parser.add_argument("--without-mlflow", action="store_true", help="skip MLflow, which takes most of the time")
        arguments = parser.parse_args()
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        main(arguments.rounds, not arguments.without_mlflow)
