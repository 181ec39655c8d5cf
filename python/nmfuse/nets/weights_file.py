"""Weight files: safetensors with a format tag and string metadata. Nothing in them is ever executed."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

Net = TypeVar("Net", bound=nn.Module)

_REMEDY = "give a file that `nmfuse train` wrote"


def write_weights(path: Path, tensors: Mapping[str, Tensor], tag: str, metadata: Mapping[str, str]) -> None:
    """Write float32 tensors by name, with `tag` under the metadata key "format"."""
    contiguous = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    path.write_bytes(_sorted(save(contiguous, metadata={"format": tag, **metadata})))


def _sorted(data: bytes) -> bytes:
    """Return a safetensors file with its metadata in order: the library writes them in another order each time."""
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the tensors stay aligned
    return len(text).to_bytes(8, "little") + text + data[end:]


def read_weights(path: Path, tag: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read what `write_weights` wrote: the tensors by name, and the metadata.

    Raises
    ------
    ValueError
        If the file is not safetensors, is truncated, has another tag, or holds anything but finite float32.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a mapping
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path}: is not a whole safetensors file ({error}); {_REMEDY}") from error
    if metadata.get("format") != tag:
        raise ValueError(f"{path}: its format is {metadata.get('format')!r}, expected {tag!r}; {_REMEDY}")
    for name, value in tensors.items():
        if value.dtype != torch.float32 or not bool(value.isfinite().all()):
            raise ValueError(f"{path}: {name} is not finite float32; {_REMEDY}")
    return tensors, metadata


def shipped(name: str) -> Path:
    """Return the path of a weight file that comes with nmfuse."""
    return Path(__file__).with_name("weights") / f"{name}.safetensors"


def fit_weights(net: Net, tensors: Mapping[str, Tensor], path: Path, what: str, command: str) -> Net:
    """Return the net with these weights, frozen and in evaluation mode.

    Raises
    ------
    ValueError
        If they are not those of this net; the message names `what` it is and the `command` that trains it.
    """
    expected = {key: tuple(value.shape) for key, value in net.state_dict().items()}
    found = {key: tuple(value.shape) for key, value in tensors.items()}
    if found != expected:
        wrong = sorted(key for key in found | expected if found.get(key) != expected.get(key))[0]
        raise ValueError(
            f"{path}: the weights do not fit {what}: {wrong} is {found.get(wrong, 'missing')}, "
            f"expected {expected.get(wrong, 'nothing')}; train it anew with `{command}`"
        )
    net.load_state_dict(dict(tensors))
    return net.requires_grad_(False).eval()


# By time and size too: a rewritten file is another one.
_loaded: dict[tuple[object, Path, int, int, torch.device], nn.Module] = {}
_MOST_LOADED = 8


def load_once(path: Path, read: Callable[[Path], Net], expected: str, device: str | torch.device) -> Net:
    """Return what `read` makes of a file, on `device`; the same object for the same file and device.

    Raises
    ------
    FileNotFoundError
        If there is no such file; the message says what is `expected`.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such weight file; expected {expected}")
    status = path.stat()
    key = read, path.resolve(), status.st_mtime_ns, status.st_size, torch.device(device)
    if key not in _loaded:
        if len(_loaded) >= _MOST_LOADED:
            _loaded.pop(next(iter(_loaded)))
        with torch.inference_mode(False):  # weights are kept for whoever asks next, who may want gradients
            _loaded[key] = read(path).to(device)
    return _loaded[key]  # type: ignore[return-value]
