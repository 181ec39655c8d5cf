"""How long an iteration of `nmfuse.scale.nmf_distributed` takes: torchrun --nproc-per-node 2 THIS_FILE."""

from __future__ import annotations

import argparse
import time

import torch
from torch import distributed

import nmfuse


def main() -> None:
    """Print a row for each divergence: seconds an iteration, and of the all-reduce alone."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("rows", 2000), ("columns", 8000), ("rank", 20)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    cuda = torch.cuda.is_available()
    distributed.init_process_group("nccl" if cuda else "gloo")
    number, processes = distributed.get_rank(), distributed.get_world_size()
    device = torch.device("cuda", number % torch.cuda.device_count()) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    torch.set_num_threads(1)
    V = torch.rand(given.rows, given.columns // processes, device=device)
    sums = torch.zeros(given.rank * (given.rows + given.rank), device=device)
    for beta in (2, 1):
        seconds = []
        for iterations in (2, 2, 12):
            start = time.perf_counter()
            nmfuse.scale.nmf_distributed(V, given.rank, beta=beta, max_iter=iterations, tol=0, check_every=1000)
            seconds.append(time.perf_counter() - start)
        start = time.perf_counter()
        for _ in range(10):
            distributed.all_reduce(sums)
        float(sums[0])
        alone = (time.perf_counter() - start) / 10
        if number == 0:
            iteration = (seconds[2] - seconds[1]) / 10
            print(
                f"beta {beta}, processes {processes}: {1e3 * iteration:.1f} ms an iteration, "
                f"{1e3 * alone:.2f} ms to add up {4e-6 * len(sums):.2f} MB"
            )
    distributed.destroy_process_group()


if __name__ == "__main__":
    main()
