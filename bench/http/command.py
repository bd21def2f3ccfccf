"""What the commands here have in common: options, programs, CPUs, and their end."""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

from processes import Failure, adopt_orphans, end_children
from servers import FLOOR, HERE, SERVERS, free_ports


class Parser(argparse.ArgumentParser):
    """For the command's own options, and those that all have."""

    def __init__(self, **options):
        super().__init__(allow_abbrev=False, **options)
        self.add_argument("--cpus", type=numbers, default=[], metavar="N,N",
                          help="the server's and the load generator's (default: the first two)")
        self.add_argument("--port", type=int, metavar="N", help="the first one to use (default: any that are free)")
        self.add_argument("--binary", type=Path, metavar="PATH", help="of sandgrain (default: the one built in the "
                          "target directory)")
        self.add_argument("--json", type=Path, metavar="FILE", help="writes all figures")

    def error(self, message):
        raise Failure(f"{message}; try: {self.prog} --help")


def numbers(text):
    """Of a list with commas."""
    try:
        return [int(word) for word in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text} is no list of numbers like 1,16,128") from None


def check_writable(*files):
    """Before an hour of measuring."""
    for file in files:
        if file and not file.absolute().parent.is_dir():
            raise Failure(f"there is no directory for {file}; try: mkdir -p {file.parent}")


def sandgrain_binary(given):
    if given:
        return given.absolute()
    # As in tools/lib.sh and tools/test.
    cache = os.environ.get("SANDGRAIN_CACHE") or (
        os.environ.get("XDG_CACHE_HOME", f"{os.environ['HOME']}/.cache") + "/sandgrain-dev")
    target = os.environ.get("CARGO_TARGET_DIR") or f"{cache}/target"
    return Path(target).absolute() / "release/sandgrain"


def check_sandgrain(binary, servers):
    others = ", ".join(name for name, server in SERVERS.items() if server.program != "sandgrain")
    if not binary.is_file():
        raise Failure(f"there is no {binary}; try: cargo build --release -p sandgrain-cli, --binary PATH, "
                      f"or other servers: {others}")
    commands = {"bench floor" if name == FLOOR else "serve" for name in servers if SERVERS[name].program == "sandgrain"}
    for command in sorted(commands):
        try:
            done = subprocess.run([binary, *command.split(), "--help"], capture_output=True)
        except OSError as error:
            raise Failure(f"{binary} cannot be run: {error.strerror}; "
                          "try: --binary with the path of sandgrain") from None
        if done.returncode != 0:
            raise Failure(f"{binary} has no command {command}; try: cargo build --release -p sandgrain-cli, "
                          f"or other servers: {others}")


def find_programs(binary, servers):
    done = subprocess.run([HERE / "setup", "--cached"], stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise Failure("bench/http/setup --cached failed; try: what it said")
    programs = dict(line.split("=", 1) for line in done.stdout.splitlines())
    programs["sandgrain"] = sandgrain_binary(binary)
    needed = {SERVERS[name].program for name in servers}
    if "sandgrain" in needed:
        check_sandgrain(programs["sandgrain"], servers)
    programs |= {name: name for name in ("ss", "taskset") if shutil.which(name)}
    if missing := sorted((needed | {"wrk", "ss", "taskset"}) - set(programs)):
        raise Failure(f"there is no {', '.join(missing)} here; try: bench/http/setup")
    return programs


def two_cpus(given):
    """The server's and the load generator's."""
    there = sorted(os.sched_getaffinity(0))
    chosen = given or there[:2]
    if len(set(chosen)) != 2 or not set(chosen) <= set(there):
        raise Failure("two CPUs are needed, one for the servers and one for the load generator; "
                      f"try: a machine with two, or --cpus with two of {there}")
    siblings = Path(f"/sys/devices/system/cpu/cpu{chosen[0]}/topology/thread_siblings_list")
    if siblings.exists() and (shared := siblings.read_text().strip()) != str(chosen[0]):
        say(f"warning: CPU {chosen[0]} shares a core ({shared}); try: --cpus with two of different cores")
    return [str(cpu) for cpu in chosen]


def machine():
    model = [line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
             if line.startswith("model name")]
    return {
        "cpu": model[0] if model else os.uname().machine,
        "cpus": os.cpu_count(),
        "kernel": f"{os.uname().sysname} {os.uname().release}",
    }


def ports_from(first):
    return iter(range(first, 65536)) if first else free_ports()


@contextmanager
def directory_for_servers():
    """A directory for their files. Whatever they have left running is ended with it."""
    adopt_orphans()
    with tempfile.TemporaryDirectory(prefix="sandgrain-bench-http-") as directory:
        try:
            yield Path(directory)
        finally:
            end_children()


def say(text):
    print(text, file=sys.stderr, flush=True)


def stop(*_):
    # Once: what is running has to be ended before this process is.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def run_command(main, shorter):
    """Runs the command, and ends this process as it has ended. `shorter` says how it would take less time."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    try:
        main()
    except Failure as failure:
        sys.exit(f"error: {failure}")
    except KeyboardInterrupt:
        say(f"error: interrupted; the servers are stopped; try: {shorter}")
        sys.exit(130)
