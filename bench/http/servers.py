"""The servers that are measured, and how each is started."""

import http.client
import os
import shutil
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

from processes import Failure, Tree, listeners

HERE = Path(__file__).resolve().parent
COMPONENT = HERE.parent.parent / "examples/components/rust/http.wasm"
ADDRESS = "127.0.0.1"
PATH = "/hello?name=Ada"
STATUS = 200
BODY = "Hello, Ada!"
TYPE = "text/plain; charset=utf-8"
# Compiling counts.
START_SECONDS = 60


@dataclass
class Start:
    """What a server's command is made of."""

    programs: dict  # by name: of bench/http/setup, and "sandgrain"
    port: int
    admin_port: int
    directory: Path  # its own, empty


@dataclass
class Server:
    what: str
    program: str
    # None for the floor, which serves nobody.
    command: Callable[[Start], list] | None
    # Asks the program for its version.
    version: tuple = ("--version",)
    # Whether it makes a VM for each request, as the floor does.
    makes_vms: bool = False


def sandgrain(policy, source):
    def command(start):
        manifest = filled(HERE / f"manifests/{policy}.toml", start, SOURCE=source)
        return [start.programs["sandgrain"], "serve", manifest, "--listen", f"{ADDRESS}:{start.port}",
                "--admin", f"{ADDRESS}:{start.admin_port}", "--access-log", "none"]
    return command


def wasmtime(start):
    # One request an instance is its default for such components; said here in case that changes.
    return [start.programs["wasmtime"], "serve", "--max-instance-reuse-count", "1",
            "--addr", f"{ADDRESS}:{start.port}", COMPONENT]


def workerd(start):
    return [start.programs["workerd"], "serve", HERE / "handlers/workerd.capnp",
            "--socket-addr", f"http={ADDRESS}:{start.port}"]


def node(start):
    return [start.programs["node"], HERE / "handlers/node.mjs", start.port]


def nginx(start):
    (start.directory / "files").mkdir()
    (start.directory / "files/hello").write_text(BODY)
    conf = filled(HERE / "handlers/nginx.conf", start, PORT=start.port)
    # -e: before it has read the file it would write to the system's log.
    return [start.programs["nginx"], "-p", start.directory, "-e", "stderr", "-c", conf]


FLOOR = "floor"
# All of them, in the order of the table. To add a server, add it here.
SERVERS = {
    "sandgrain-fresh": Server("`sandgrain serve`, the component, a VM for each request that nobody has used before",
                              "sandgrain", sandgrain("fresh", COMPONENT), makes_vms=True),
    "sandgrain-reset": Server("`sandgrain serve`, the component, a VM that is reset after each request",
                              "sandgrain", sandgrain("reset", COMPONENT)),
    "sandgrain-wagi": Server("`sandgrain serve`, a WAGI command, a VM for each request that nobody has used before",
                             "sandgrain", sandgrain("wagi", HERE / "handlers/wagi.wasm"), makes_vms=True),
    FLOOR: Server("`sandgrain bench floor`: no server, but the smallest VM made, entered and dropped again and again",
                  "sandgrain", None),
    "wasmtime": Server("`wasmtime serve`, the component, an instance for each request", "wasmtime", wasmtime),
    "workerd": Server("workerd, an equal handler in JavaScript, one isolate for all requests", "workerd", workerd),
    "node": Server("node, an equal handler in JavaScript, no isolation", "node", node),
    "nginx": Server("nginx, a file of the same bytes: the ceiling", "nginx", nginx, ("-v",)),
}
# What the others are compared with.
BASE = "wasmtime"


def filled(template, start, **values):
    """A copy of a file in the server's directory with @NAME@ replaced."""
    text = template.read_text()
    for name, value in values.items():
        text = text.replace(f"@{name}@", str(value))
    path = start.directory / template.name
    path.write_text(text)
    return path


def environment(programs):
    """For programs that were unpacked, not installed."""
    return {**os.environ, "LD_LIBRARY_PATH": programs["libraries"]}


def version(name, programs):
    """What the program says: one line."""
    server = SERVERS[name]
    done = subprocess.run([programs[server.program], *server.version], env=environment(programs),
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return next(iter(done.stdout.splitlines()), "unknown")


class Running:
    """A server that runs; ended at the end of a `with`."""

    def __init__(self, name, programs, ports, cpu, directory, not_ours):
        self.name = name
        self.cpu = cpu
        self.port = next_port(ports)
        self.directory = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=directory))
        self.log = self.directory / "log"
        start = Start(programs, self.port, next_port(ports), self.directory)
        command = ["taskset", "--cpu-list", cpu, *SERVERS[name].command(start)]
        with self.log.open("wb") as log:
            process = subprocess.Popen(
                [str(word) for word in command], cwd=self.directory, env=environment(programs),
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            )
        self.tree = Tree(process, not_ours)

    def __enter__(self):
        try:
            self.wait()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.tree.end()
        shutil.rmtree(self.directory)

    def wait(self):
        """Until it answers, and as it should."""
        deadline = time.monotonic() + START_SECONDS
        while not listeners(self.port):
            self.must_run()
            if time.monotonic() > deadline:
                raise self.failure(f"does not listen after {START_SECONDS} s")
            time.sleep(0.02)
        if not self.tree.listens_on(self.port):
            raise self.failure(f"was started for port {self.port}, which another process has")
        self.check()

    def check(self):
        """Whether its answer is the right one, with and without keep-alive."""
        for header in ("keep-alive", "close"):
            connection = http.client.HTTPConnection(ADDRESS, self.port, timeout=START_SECONDS)
            try:
                connection.request("GET", PATH, headers={"Connection": header})
                response = connection.getresponse()
                body = response.read()
            except (OSError, http.client.HTTPException) as error:
                raise self.failure(f"does not answer GET {PATH}: {error!r}") from None
            finally:
                connection.close()
            got = (response.status, response.headers.get("content-type"), body.decode(errors="replace"))
            if got != (STATUS, TYPE, BODY):
                raise self.failure(f"answers GET {PATH} with {got}, not {(STATUS, TYPE, BODY)}")
            if header == "close" and not response.will_close:
                raise self.failure("keeps connections that the client wants closed")

    def must_run(self):
        if (status := self.tree.root.poll()) is not None:
            raise self.failure(f"has ended with exit code {status}")

    def failure(self, what):
        said = self.log.read_text(errors="replace").strip().splitlines()[-15:]
        shown = "".join(f"\n  {line}" for line in said) or " nothing"
        command = " ".join(map(str, self.tree.root.args))
        return Failure(f"{self.name} {what}; try: what its output suggests\ncommand: {command}\noutput:{shown}")


def next_port(ports):
    """One that is free. Not the same again: connections that were closed linger."""
    port = next(ports, None)
    if port is None:
        raise Failure("there are no more ports; try: a lower --port")
    if listeners(port):
        raise Failure(f"port {port} is in use; try: another --port")
    return port


def free_ports():
    """Ports as the kernel gives them out."""
    given = set()
    while True:
        with socket.socket() as one:
            one.bind((ADDRESS, 0))
            port = one.getsockname()[1]
        if port not in given:
            given.add(port)
            yield port
