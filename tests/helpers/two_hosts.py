"""Two hosts on one machine: network namespaces joined by a veth pair, and one file system.

Use, as root of a user namespace (`unshare --user --map-root-user --net --uts`):
    python tests/helpers/two_hosts.py FOLDER m2hf extract ...

This process becomes host `host-a` with the scheduler, a worker and the command; `host-b` has the
other worker. Returns the command's exit code.
"""

import socket
import subprocess
import sys
from pathlib import Path

from dask_processes import until

A, B, PORT = "10.99.0.1", "10.99.0.2", "8786"


def connect(other: int) -> None:
    """Create a veth pair from this network namespace to that of process `other`."""
    in_other = ["nsenter", "--target", str(other), "--net"]
    pair = ["type", "veth", "peer", "name", "veth-b", "netns", str(other)]
    for command in (
        ["ip", "link", "add", "veth-a", *pair],
        ["ip", "address", "add", f"{A}/24", "dev", "veth-a"],
        ["ip", "link", "set", "veth-a", "up"],
        ["ip", "link", "set", "lo", "up"],
        [*in_other, "ip", "address", "add", f"{B}/24", "dev", "veth-b"],
        [*in_other, "ip", "link", "set", "veth-b", "up"],
        [*in_other, "ip", "link", "set", "lo", "up"],
    ):
        subprocess.run(command, check=True)


def main(folder: Path, command: list[str]) -> int:
    socket.sethostname("host-a")
    started: list[subprocess.Popen[bytes]] = []

    def start(*arguments: str) -> "subprocess.Popen[bytes]":
        started.append(subprocess.Popen(arguments, stdout=2))
        return started[-1]

    def dask(what: str, *options: str) -> tuple[str, ...]:
        return (sys.executable, "-m", f"distributed.cli.dask_{what}", "--no-dashboard", *options)

    def worker(host: str, name: str) -> tuple[str, ...]:
        options = ["--nthreads", "1", "--no-nanny", "--memory-limit", "0", "--resources", "cpu=1"]
        place = ["--host", host, "--name", name, "--local-directory", str(folder / name)]
        return dask("worker", f"tcp://{A}:{PORT}", *options, *place)

    ready = folder / "ready"
    hostname = f"import socket, sys, time; socket.sethostname('host-b'); open({str(ready)!r}, 'w')"
    try:
        other = start(
            "unshare", "--net", "--uts", sys.executable, "-c", f"{hostname}; time.sleep(3600)"
        )
        until(ready.exists, "the other host")
        connect(other.pid)
        start(*dask("scheduler", "--host", A, "--port", PORT))
        start(*worker(A, "a"))
        start("nsenter", "--target", str(other.pid), "--net", "--uts", *worker(B, "b"))
        from distributed import Client

        with Client(f"tcp://{A}:{PORT}", timeout=240) as client:
            client.wait_for_workers(2)
        return subprocess.run([*command, "--scheduler", f"tcp://{A}:{PORT}"]).returncode
    finally:
        for process in reversed(started):
            process.kill()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
