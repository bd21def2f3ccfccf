"""A server's processes: what they use, and their end."""

import ctypes
import os
import signal
import time
from pathlib import Path

TICK = 1 / os.sysconf("SC_CLK_TCK")
PR_SET_CHILD_SUBREAPER = 36
# How long a server may take to stop when it is told to.
PATIENCE = 5


class Failure(Exception):
    """What happened, and what to try."""


def adopt_orphans():
    """Processes whose parent has ended become this one's children, so that none gets lost."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end_children():
    """Ends whatever this process has started, however it came to be left."""
    while True:
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        for pid in (int(name) for name in os.listdir("/proc") if name.isdigit()):
            if (fields := stat(pid)) and int(fields[1]) == os.getpid():
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def stat(pid):
    """What follows the name in /proc/PID/stat, or None if there is no such process any more."""
    try:
        # The name may have blanks and brackets in it.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None


def sizes(file, names):
    """Fields of a file that has a number of KiB for each, in bytes, as far as the kernel has them."""
    fields = (line.split() for line in Path(file).read_text().splitlines())
    return {field[0][:-1]: int(field[1]) * 1024 for field in fields if field[0][:-1] in names}


def held(pid):
    """What a process has: bytes of memory, and how many of other things."""
    memory = sizes(f"/proc/{pid}/smaps_rollup", ("Rss", "Pss", "Anonymous"))
    return {
        "processes": 1,
        "rss": memory["Rss"],
        "pss": memory["Pss"],
        "anonymous": memory["Anonymous"],
        "descriptors": len(os.listdir(f"/proc/{pid}/fd")),
        "mappings": Path(f"/proc/{pid}/maps").read_bytes().count(b"\n"),
        "threads": len(os.listdir(f"/proc/{pid}/task")),
    }


class Tree:
    """A process, its descendants, and those of them whose parents have ended."""

    def __init__(self, root, not_ours=()):
        """`root` is a Popen, or None where only figures are wanted. Children of this process in `not_ours`, a set, do
        not belong to it."""
        self.root = root
        self.not_ours = not_ours

    def stats(self):
        """The stat of each process, by its pid."""
        every = {int(name): stat(name) for name in os.listdir("/proc") if name.isdigit()}
        found = {}
        children = {}
        for pid, fields in every.items():
            if fields:
                children.setdefault(int(fields[1]), []).append(pid)
        # Whatever else is a child of this process was adopted.
        wanted = [pid for pid in children.get(os.getpid(), []) if pid not in self.not_ours]
        while wanted:
            pid = wanted.pop()
            found[pid] = every[pid]
            wanted += children.get(pid, [])
        return found

    def cpu_seconds(self):
        """CPU time used so far, with that of processes that have ended and were waited for."""
        return TICK * sum(sum(map(int, fields[11:15])) for fields in self.stats().values())

    def memory(self):
        """Bytes of memory; of pages that several processes have each one's share (Pss)."""
        return sum(self.of_each(lambda pid: sizes(f"/proc/{pid}/smaps_rollup", ("Pss",)).get("Pss", 0)))

    def held(self):
        """What all of them together have: bytes of memory, and how many of other things."""
        total = {}
        for one in self.of_each(held):
            for what, count in one.items():
                total[what] = total.get(what, 0) + count
        return total

    def of_each(self, look):
        """What is seen of each process."""
        seen = []
        for pid in self.stats():
            try:
                seen.append(look(pid))
            except (FileNotFoundError, ProcessLookupError):
                pass  # it has ended, and has nothing
            except PermissionError:
                raise Failure(f"process {pid} cannot be looked at; try: as root") from None
        return seen

    def cpus(self):
        """The CPUs on which any of its threads may run."""
        cpus = set()
        for pid in self.stats():
            try:
                for thread in os.listdir(f"/proc/{pid}/task"):
                    cpus |= os.sched_getaffinity(int(thread))
            except (FileNotFoundError, ProcessLookupError):
                pass
        return cpus

    def listens_on(self, port):
        """Whether one of the processes has the socket that accepts connections to the port."""
        sockets = {f"socket:[{inode}]" for inode in listeners(port)}
        for pid in self.stats():
            try:
                for descriptor in os.listdir(f"/proc/{pid}/fd"):
                    if os.readlink(f"/proc/{pid}/fd/{descriptor}") in sockets:
                        return True
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                pass  # it has ended, or is confined and not the one that listens
        return False

    def end(self):
        """Ends all of them: asks the root, then kills what is left."""
        if self.root.poll() is None:
            self.root.terminate()
        deadline = time.monotonic() + PATIENCE
        while self.reap() and time.monotonic() < deadline:
            time.sleep(0.02)
        deadline = time.monotonic() + PATIENCE
        while left := self.reap():
            if time.monotonic() > deadline:
                raise Failure(f"processes {left} do not end; try: kill -9 {' '.join(map(str, left))}")
            for pid in left:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            time.sleep(0.02)

    def reap(self):
        """Waits for those that have ended; the others."""
        self.root.poll()
        left = []
        for pid, fields in self.stats().items():
            if fields[0] != "Z":
                left.append(pid)
            elif int(fields[1]) == os.getpid() and pid != self.root.pid:
                os.waitpid(pid, os.WNOHANG)
        return left


def listeners(port):
    """The inodes of the sockets that accept connections to a port."""
    inodes = []
    for table in ("tcp", "tcp6"):
        try:
            lines = Path(f"/proc/net/{table}").read_text().splitlines()[1:]
        except FileNotFoundError:  # a kernel without IPv6
            continue
        for line in lines:
            fields = line.split()
            if int(fields[1].rpartition(":")[2], 16) == port and fields[3] == "0A":
                inodes.append(fields[9])
    return inodes
