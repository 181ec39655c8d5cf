"""Which tensors no kernel can read by itself: torch records or traces what is done to them, or they have no data.

For those, the front doors call `nmfuse.ops`, where the same kernels are operators of torch.
"""

from __future__ import annotations

import sys
from typing import Any

from nmfuse.kernels._array import Array


def operators(*arrays: Array) -> Any | None:
    """Return `nmfuse.ops` where one of the arrays is a tensor that only an operator of torch can take; else None.

    Those are tensors that require grad (unless gradients are switched off), meta and fake tensors, what `torch.func`
    wraps, those with a tangent, what autocast may cast, and every tensor while `torch.compile`, `torch.export` or a
    dispatch mode looks on.
    """
    torch = sys.modules.get("torch")  # what made a tensor is there; nothing is imported for it
    if torch is None:
        return None
    tensors = [x for x in arrays if isinstance(x, torch.Tensor)]
    if not tensors or not (torch.compiler.is_compiling() or any(_is_traced(torch, x) for x in tensors)):
        return None
    from nmfuse import ops

    return ops


def _is_traced(torch: Any, x: Any) -> bool:
    return bool(
        (x.requires_grad and torch.is_grad_enabled())
        or x.is_meta
        or torch._C._functorch.is_functorch_wrapped_tensor(x)
        or (type(x) is not torch.Tensor and torch._C._dispatch_keys(x).has(torch._C.DispatchKey.Python))  # FakeTensor
        or torch._C._len_torch_dispatch_stack() > 0
        or _has_tangent(torch, x)
        or (x.is_floating_point() and torch.is_autocast_enabled(x.device.type))
    )


def _has_tangent(torch: Any, x: Any) -> bool:
    forward = torch.autograd.forward_ad
    return forward._current_level >= 0 and forward.unpack_dual(x).tangent is not None
