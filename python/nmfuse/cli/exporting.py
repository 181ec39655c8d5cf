"""``nmfuse export``: the learned method as a file that other programs run."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import torch

from nmfuse.fuser import Fuser
from nmfuse.io import check_file, new_file
from nmfuse.methods.learned import Learned
from nmfuse.nets.plain_nmf import plain_nmf


def run_export(fuser: Fuser, output: Path, *, sources: int, size: tuple[int, int], batch: int, overwrite: bool) -> None:
    """Write the module of S images of one size, by suffix as ONNX or as a program of torch."""
    if output.suffix not in (".onnx", ".pt2"):
        raise ValueError(f"{output}: its suffix is {output.suffix!r}; expected .onnx, or .pt2 for torch.export.load")
    check_file(output, overwrite=overwrite)
    module: Any = fuser.module(sources)
    images = tuple(torch.full((batch, 1, *size), 0.5) for _ in range(sources))
    if output.suffix == ".pt2":
        program = torch.export.export(module, images)
        with new_file(output, overwrite=overwrite) as path, path.open("wb") as file:
            torch.export.save(program, file)
        return
    try:
        import onnxscript  # noqa: F401  # what torch.onnx needs
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("ONNX files need onnx and onnxscript; pip install 'nmfuse[onnx]'") from error
    options = module.options
    assert isinstance(options, Learned)
    if options.denoise != "off" or options.smooth or options.sharpen:
        raise ValueError("denoise, smooth, sharpen: have no ONNX form, as the Hannmean filter is a kernel of nmfuse")
    module.net.factorize = plain_nmf
    names = [f"source_{k}" for k in range(1, sources + 1)]
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter, on what it does itself
        program = torch.export.export(module, images, strict=False)
        exported: Any = torch.onnx.export(
            program, dynamo=True, input_names=names, output_names=["fused"], verbose=False
        )
    with new_file(output, overwrite=overwrite) as path:
        exported.save(path)
