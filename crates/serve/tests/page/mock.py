#!/usr/bin/env python3
"""An admin port that makes everything up, to try the status page with and to test it.

    crates/serve/tests/page/mock.py [PORT]

Serves ../../src/admin/page.html at / and a status.json in which each poll finds a second more gone by.
"""

import hashlib
import json
import random
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "src/admin/page.html"
# What the real server sends with the page.
CSP = ("default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; "
       "img-src data:")
BOUNDS = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10]
# Each sets window.owned if it runs; the last turns what follows it around on the screen.
HOSTILE = ("<img src=x onerror=\"window.owned=1\"><script>window.owned=2</script>"
           "</span></details><svg onload=window.owned=3> \x1b[31m\u202e")
FRAMES = ["render at 0x1f3a", "handle at 0x0c41", "wasi:http/incoming-handler#handle at 0x0102"]

# name, tenant, version, hosts, workers, functions; of a function: id, routes, executor, policy, requests
# per second, median in seconds, kinds of errors with their share.
APPLICATIONS = [
    ("billing", "acme", "3.2.0", ["billing.example.com"], 2, [
        ("invoice", ["/invoice/:id"], "http", "fresh", 42, 0.0042, {"deadline": 0.0004}),
        ("render-pdf", ["/invoice/:id/pdf"], "http", "fresh", 3.5, 0.160, {"trap": 0.012, "memory": 0.004}),
        ("webhook", ["/hooks/..."], "wagi", "fresh", 11, 0.0018, {}),
    ]),
    ("greeter", "acme", "1.0", ["a.example.com", "b.example.com"], 1, [
        ("hello", ["/hello", "/hello/:name"], "http", "reset", 318, 0.0007, {}),
        ("nightly-report-with-an-identifier-as-long-as-they-may-be-at-most", [], "http", "fresh", 0, 0.9, {}),
    ]),
    ("thumbnails", "pictures", None, [], 3, [
        ("resize", ["/:size/..."], "http", "fresh", 26, 0.031, {"trap": 0.001, "deadline": 0.0004}),
        ("upload", ["/upload"], "http", "fresh", 2, 0.085, {"queue_full": 0.01}),
    ]),
]


class Function:
    def __init__(self, spec, rng):
        self.id, self.routes, self.executor, self.policy, self.rate, self.median, self.shares = spec
        self.rng = rng
        self.digest = hashlib.sha256(self.id.encode()).hexdigest()
        self.clear()

    def clear(self):
        self.requests = self.not_found = self.busy = 0
        self.errors = {kind: 0 for kind in self.shares}
        self.times = [0] * (len(BOUNDS) + 1)
        self.starts = [0] * (len(BOUNDS) + 1)
        self.sum = self.started = 0.0

    @staticmethod
    def count(buckets, seconds):
        buckets[next((i for i, b in enumerate(BOUNDS) if seconds <= b), len(BOUNDS))] += 1

    def second(self, now, application, failures):
        """One second of requests."""
        rate = self.rate * self.rng.uniform(0.85, 1.15)
        n = int(rate) + (self.rng.random() < rate % 1)
        for _ in range(n):
            self.requests += 1
            seconds = self.median * self.rng.lognormvariate(0, 0.55)
            self.sum += seconds
            self.count(self.times, seconds)
            self.count(self.starts, 0.0011 * self.rng.lognormvariate(0, 0.3))
            self.started += 0.0011
            draw = self.rng.random()
            for kind, share in self.shares.items():
                if draw < share:
                    self.errors[kind] += 1
                    failures.append(failure(now, application, self, kind, self.rng))
                    break
                draw -= share
            else:
                self.not_found += self.rng.random() < 0.01
        self.busy = min(4, round(n * self.median + self.rng.random() * 0.6)) if n else 0

    def histogram(self, buckets, total):
        at, pairs = 0, []
        for bound, n in zip(BOUNDS + ["+Inf"], buckets):
            at += n
            pairs.append([bound, at])
        return {"count": at, "sum": total, "buckets": pairs}

    def status(self):
        errors = sum(self.errors.values())
        misses = self.requests // 60
        parked = 0 if self.rate == 0 else max(0, 4 - self.busy)
        return {
            "id": self.id, "digest": self.digest, "routes": self.routes, "executor": self.executor,
            "policy": self.policy, "requests": self.requests, "in_flight": self.busy,
            "queued": 1 if self.busy == 4 else 0,
            "statuses": {"1xx": 0, "2xx": self.requests - errors - self.not_found, "3xx": 0,
                         "4xx": self.not_found, "5xx": errors},
            "errors": self.errors, "duration": self.histogram(self.times, self.sum),
            "init_duration": self.histogram(self.starts, self.started),
            "cold_starts": misses, "exits": self.requests * 7,
            "pool": {"parked": parked, "kept": 2 if self.policy == "reset" else 0, "in_use": self.busy,
                     "target": 4 if self.rate else 0, "hits": self.requests - misses, "misses": misses,
                     "refused": 0, "failed": 0},
        }


MESSAGES = {
    "trap": (502, "trap: wasm `unreachable` instruction executed"),
    "deadline": (504, "the request's deadline of 1s is over"),
    "memory": (502, "trap: the memory cannot grow beyond 256 MiB"),
    "queue_full": (503, "the function works on 64 requests and 256 wait; more are refused"),
}


def failure(now, application, function, kind, rng, message=None):
    status, usual = MESSAGES[kind]
    return {"time": now, "application": application, "function": function.id, "kind": kind, "status": status,
            "message": message or usual, "trace_id": f"{rng.getrandbits(128):032x}", "digest": function.digest,
            "backtrace": FRAMES if kind == "trap" else []}


class World:
    """What the server would know. Tests change it between polls."""

    def __init__(self, applications=None, started=1764288000000, warm_up=0):
        self.lock = threading.Lock()
        rng = self.rng = random.Random(7)
        self.changes = {}  # of the whole answer
        self.reload_error = None
        self.started, self.now, self.polls = started, started + 3 * 3600_000, 0
        self.failures = []
        self.applications = [(*a[:5], [Function(f, rng) for f in a[5]]) for a in applications or APPLICATIONS]
        for _ in range(warm_up):
            self.second()

    def second(self):
        self.now += 1000
        for name, *_, functions in self.applications:
            for function in functions:
                function.second(self.now - self.rng.randrange(1000), name, self.failures)
        del self.failures[:-14]

    def forget(self):
        """All counters begin anew."""
        for *_, functions in self.applications:
            for function in functions:
                function.clear()

    def fail(self, message):
        """A failure of the first application's second function, whose guest says MESSAGE."""
        name, *_, functions = self.applications[0]
        functions[1].errors["trap"] += 1
        functions[1].requests += 1
        self.failures.append({**failure(self.now, name, functions[1], "trap", self.rng, message),
                              "backtrace": [message, *FRAMES]})

    def status(self):
        with self.lock:
            self.polls += 1
            self.second()
            applications = []
            for i, (name, tenant, version, hosts, workers, functions) in enumerate(self.applications):
                functions = [f.status() for f in functions]
                vms = sum(f["pool"]["parked"] + f["pool"]["in_use"] for f in functions)
                applications.append({
                    "name": name, "tenant": tenant, "version": version, "manifest": f"{name}/app.toml",
                    "hosts": hosts, "generation": i + 1, "deployed": self.started + i * 2_400_000,
                    "last_reload_error": self.reload_error if i == 1 else None,
                    "workers": [{"pid": 4100 + 10 * i + w, "sandboxes": vms // workers + (w < vms % workers),
                                 "memory": 6_300_000 + 2_100_000 * (vms // workers)} for w in range(workers)],
                    "functions": functions,
                })
            # Not in any order, as far as the page may know.
            for some in [applications] + [a["functions"] for a in applications]:
                random.shuffle(some)
            return {"version": "0.1.0", "started": self.started, "now": self.now, "ready": True,
                    "draining": False, "connections": 37, "applications": applications,
                    "failures": list(self.failures), **self.changes}


def serve(world, port=0):
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            if self.path == "/":
                self.answer(200, "text/html; charset=utf-8", PAGE.read_bytes())
            elif self.path == "/status.json":
                self.answer(200, "application/json", json.dumps(world.status()).encode())
            else:
                self.answer(404, "text/plain", b"not found\n")

        def answer(self, status, kind, body):
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Content-Security-Policy", CSP)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


if __name__ == "__main__":
    made_up = World()
    made_up.fail(HOSTILE)
    running = serve(made_up, int(sys.argv[1]) if len(sys.argv) > 1 else 0)
    print(f"the status page is at port {running.server_port} of 127.0.0.1; Ctrl-C ends it", flush=True)
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        pass
