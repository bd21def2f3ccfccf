"""One measurement: a server under load."""

import json
import os
import re
import subprocess
import threading
import time
from pathlib import Path

from processes import TICK, Failure, Tree
from servers import ADDRESS, FLOOR, HERE, PATH, Running, environment

# Answers that take longer are counted as errors.
TIMEOUT_SECONDS = 5
# Looking takes time from the load generator.
SAMPLE_SECONDS = 0.5
# wrk says nothing of requests that are never answered. Those that have waited for longer than this
# shortly before the end are counted here.
UNANSWERED_MS = 1000
MIB = 1 << 20


def run_to_end(command, programs, seconds, children, meanwhile):
    """Runs a program that is to end by itself after so many seconds: its exit code, what it has said, and the
    share of a CPU that it used. It is in the set `children` meanwhile. Calls `meanwhile` with the seconds so far."""
    begin = time.monotonic()
    before = os.times()
    process = subprocess.Popen(
        [str(word) for word in command], env=environment(programs), stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )
    children.add(process.pid)
    try:
        # It waits for nothing but its own clock: if that is long over, something is wrong.
        killer = threading.Timer(seconds + 30, process.kill)
        killer.start()
        while process.poll() is None:
            meanwhile(time.monotonic() - begin)
            try:
                process.wait(SAMPLE_SECONDS)
            except subprocess.TimeoutExpired:
                pass
        said = process.stdout.read()
    finally:
        killer.cancel()
        process.kill()
        process.wait()
        process.stdout.close()
        children.discard(process.pid)
    after = os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return process.returncode, said, used / (time.monotonic() - begin)


class Load:
    """The load generator, and what else this process starts that is not part of a server."""

    def __init__(self, programs, cpu):
        self.programs = programs
        self.cpu = cpu
        self.children = set()

    def run(self, port, connections, seconds, keep_alive, meanwhile=lambda _: None):
        """wrk's figures, and the share of its CPU that it used. Calls `meanwhile` with the seconds so far."""
        command = [
            "taskset", "--cpu-list", self.cpu, self.programs["wrk"], "--threads", "1",
            "--connections", connections, "--duration", f"{seconds}s", "--timeout", f"{TIMEOUT_SECONDS}s",
            "--script", HERE / "report.lua", *([] if keep_alive else ["--header", "Connection: close"]),
            f"http://{ADDRESS}:{port}{PATH}",
        ]
        status, said, cpu = run_to_end(command, self.programs, seconds, self.children, meanwhile)
        lines = [line for line in said.splitlines() if line.startswith("figures ")]
        if status != 0 or not lines:
            raise Failure(f"wrk has ended with exit code {status}; try: {' '.join(map(str, command))}"
                          f"\noutput: {said.strip()}")
        figures = json.loads(lines[0].removeprefix("figures "))
        figures["load_cpu"] = cpu
        return figures


def put_under_load(server, load, connections, keep_alive, seconds):
    """wrk's figures with all errors, how many answers were good ones, and the most memory that was seen."""
    peak = 0
    unanswered = None

    def look(so_far):
        nonlocal peak, unanswered
        peak = max(peak, server.tree.memory())
        if unanswered is None and so_far > seconds - 1.5 * SAMPLE_SECONDS:
            unanswered = count_unanswered(server.port)
            if server.tree.cpus() != {int(server.cpu)}:
                raise server.failure(f"has left CPU {server.cpu} for {sorted(server.tree.cpus())}")

    try:
        figures = load.run(server.port, connections, seconds, keep_alive, look)
    except Failure:
        server.must_run()  # it says more about that
        raise
    server.must_run()
    figures["errors"]["unanswered"] = unanswered or 0
    # Those of a wrong status are among wrk's requests.
    figures["good"] = figures["requests"] - figures["errors"]["status"]
    figures["memory"] = peak
    return figures


def measure(name, programs, ports, cpu, directory, load, connections, keep_alive, seconds, warm_up):
    """A server is started, checked, warmed up, and measured under load."""
    with Running(name, programs, ports, cpu, directory, load.children) as server:
        tree = server.tree
        idle = tree.memory()
        put_under_load(server, load, connections, keep_alive, warm_up)
        busy_before, stolen_before = machine_time()
        cpu_before = tree.cpu_seconds()
        figures = put_under_load(server, load, connections, keep_alive, seconds)
        cpu_used = tree.cpu_seconds() - cpu_before
        busy, stolen = machine_time()
        peak = max(figures["memory"], tree.memory())
        server.check()
        processes = len(tree.stats())
    good, elapsed = figures["good"], figures["microseconds"] / 1e6
    if good == 0:
        raise Failure(f"{name} answered no request; try: more --seconds\nerrors: {figures['errors']}")
    return {
        "requests": good,
        "seconds": elapsed,
        "requests_per_second": good / elapsed,
        "p50_ms": figures["p50"] / 1000,
        "p99_ms": figures["p99"] / 1000,
        "p99.9_ms": figures["p99.9"] / 1000,
        # For answers of a wrong status, too.
        "cpu_us_per_request": cpu_used / figures["requests"] * 1e6,
        "server_cpu": cpu_used / elapsed,
        "load_cpu": figures["load_cpu"],
        # Of both: what the other figures are to be believed. This process is in there, too.
        "other_cpu": max(0, (busy - busy_before - cpu_used) / elapsed - figures["load_cpu"]),
        "stolen_cpu": (stolen - stolen_before) / elapsed,
        "memory_idle_mib": idle / MIB,
        "memory_peak_mib": peak / MIB,
        "processes": processes,
        "errors": figures["errors"],
    }


def measure_floor(programs, cpu, seconds):
    """How many VMs can be made, entered and dropped on the server's CPU, with figures as for requests."""
    command = ["taskset", "--cpu-list", cpu, programs["sandgrain"], "bench", "floor", "--json", "--seconds", seconds]
    # All that this process has started is the floor.
    tree = Tree(None)
    peak = 0

    def look(_):
        nonlocal peak
        peak = max(peak, tree.memory())

    busy_before, stolen_before = machine_time()
    begin = time.monotonic()
    status, said, cpu_used = run_to_end(command, programs, seconds, set(), look)
    elapsed = time.monotonic() - begin
    busy, stolen = machine_time()
    try:
        # What stands before it would be a warning.
        floor, _ = json.JSONDecoder().raw_decode(said, said.index("{"))
    except ValueError:
        status = status or "0, but no report"
    if status != 0:
        raise Failure(f"{FLOOR} has ended with exit code {status}; try: {' '.join(map(str, command))}"
                      f"\noutput: {said.strip()}")
    rate, whole = floor["vms_per_second"], floor["whole"]
    return {
        "requests": floor["vms"],
        "seconds": floor["seconds"],
        "requests_per_second": rate,
        "p50_ms": whole["median"] / 1000,
        "p99_ms": whole["p99"] / 1000,
        "p99.9_ms": whole["p999"] / 1000,
        # It does the same all the time, also while that does not count yet.
        "cpu_us_per_request": cpu_used / rate * 1e6,
        "server_cpu": cpu_used,
        "load_cpu": 0,
        "other_cpu": max(0, (busy - busy_before) / elapsed - cpu_used),
        "stolen_cpu": (stolen - stolen_before) / elapsed,
        "memory_peak_mib": peak / MIB,
        "make_us": floor["make"]["median"],
        "enter_us": floor["enter"]["median"],
        "drop_us": floor["drop"]["median"],
        "errors": {},
    }


def count_unanswered(port):
    """How many connections to the port have sent something and not got anything for long."""
    # Two lines for each: queues and addresses, and times and counts.
    said = subprocess.run(["ss", "-tinH", "state", "established", "dst", f"{ADDRESS}:{port}"],
                          stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()
    count = 0
    for queues, details in zip(said[::2], said[1::2]):
        sent = re.search(r"\blastsnd:(\d+)", details)
        if queues.split()[0] == "0" and sent and int(sent[1]) > UNANSWERED_MS:
            count += 1
    return count


def machine_time():
    """Seconds that the CPUs of the machine have been busy, and that a hypervisor below kept them waiting."""
    user, nice, system, _, _, irq, softirq, steal = (
        int(field) * TICK for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9])
    return user + nice + system + irq + softirq, steal
