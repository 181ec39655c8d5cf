"""What an iteration of `nmfuse.scale.nmf` sends between the workers of a cluster: python benchmarks/scale.py."""

from __future__ import annotations

import argparse
import time
from typing import Any

import dask.array as da
from distributed import Client, LocalCluster, wait
from distributed.comm.tcp import TCP

import nmfuse


def count() -> None:
    """Count from now on what this process writes into sockets; the class of them is where each process finds it."""
    write = TCP.write

    async def counted(*arguments: Any, **options: Any) -> Any:
        sent = await write(*arguments, **options)
        TCP.written += sent
        return sent

    TCP.write, TCP.written = counted, 0


def written() -> int:
    """Return the bytes since `count`."""
    return int(TCP.written)


def measure(workers: int, shape: tuple[int, int], rank: int, chunks: int, beta: int) -> tuple[float, float, float]:
    """Return bytes an iteration written by workers, and by scheduler and client, and its seconds."""
    with (
        LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        random = da.random.default_rng(0).random
        V = random(shape, dtype="float32", chunks=(shape[0], -(-shape[1] // chunks))).persist()
        wait(V)
        client.run(count)
        found = []
        for iterations in (10, 2, 12):  # in the first, dask may still move chunks
            before = sum(client.run(written).values()), written(), time.perf_counter()
            nmfuse.scale.nmf(V, rank, beta=beta, max_iter=iterations, tol=0, check_every=1000)
            after = sum(client.run(written).values()), written(), time.perf_counter()
            found.append([now - then for now, then in zip(after, before, strict=True)])
    by_workers, by_others, seconds = ((long - short) / 10 for short, long in zip(*found[1:], strict=True))
    return by_workers, by_others, seconds


def main() -> None:
    """Print a row for each divergence, number of workers and number of chunks."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("rows", 2000), ("columns", 8000), ("rank", 20)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    count()
    print(f"W: {4e-6 * given.rows * given.rank:.2f} MB, V: {4e-6 * given.rows * given.columns:.0f} MB")
    for beta in (2, 1):
        for workers, chunks in ((1, 8), (2, 8), (2, 32)):
            by_workers, by_others, seconds = measure(workers, (given.rows, given.columns), given.rank, chunks, beta)
            print(
                f"beta {beta}, workers {workers}, chunks {chunks}: {by_workers / 1e6:.2f} MB by workers, "
                f"{by_others / 1e6:.2f} MB by scheduler and client, {seconds:.2f} s"
            )


if __name__ == "__main__":
    main()
