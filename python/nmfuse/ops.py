"""The kernels as operators of torch: ``torch.ops.nmfuse``.

The front doors (`nmfuse.hannmean` and so on) come here with tensors that require grad, and under `torch.compile`,
`torch.export` and `torch.func`; nobody else needs to. Each operator knows the shape of its result without computing
it (fake tensors), its derivative, which is an operator again, what `torch.func.vmap` makes of it (a leading axis is a
batch already), and that autocast passes float32 to it. Those that are linear have forward-mode derivatives too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.library import custom_op

import nmfuse.threads  # noqa: F401  # a forked child has one thread of torch
from nmfuse import kernels
from nmfuse.kernels import NmfInfo, _native
from nmfuse.kernels.blocks import grid_of, pixels_of
from nmfuse.kernels.hannmean import check_outliers, check_size
from nmfuse.kernels.nmf import check_numbers, check_rank
from nmfuse.kernels.problem import checks_of

_TINY = 1e-12
_DTYPES = _native.dtypes()
_LONGEST_WINDOW = _native.max_hann_size()


# What the front doors call.


def hannmean(
    x: Tensor,
    size: int = 3,
    mask: Tensor | None = None,
    *,
    spatial: int = 2,
    background: Tensor | float | str | None = None,
    outliers: float | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """Apply `nmfuse.hannmean` as an operator: the derivative in x is `hannmean_adjoint`.

    Which pixels are outliers or background depends on x, but this dependence has no derivative.

    Examples
    --------
    >>> x = torch.ones(1, 8, 8, requires_grad=True)
    >>> hannmean(x).sum().backward()
    >>> float(x.grad.sum())
    64.0
    """
    _check("x", x, "hannmean", spatial, out)
    result: Tensor = _Hannmean.call(x, size, mask, _flags(x, background, spatial), spatial, outliers)
    return result


def hannmean_adjoint(
    grad: Tensor,
    size: int = 3,
    mask: Tensor | None = None,
    *,
    spatial: int = 2,
    background: Tensor | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """Apply `nmfuse.hannmean_adjoint` as an operator: the derivative is `hannmean`.

    Examples
    --------
    >>> grad = torch.ones(8, 8, requires_grad=True)
    >>> hannmean_adjoint(grad).sum().backward()
    >>> float(grad.grad.sum())
    64.0
    """
    _check("grad", grad, "hannmean_adjoint", spatial, out)
    result: Tensor = _HannmeanAdjoint.call(grad, size, mask, background, spatial)
    return result


def aggregate_blocks(
    scores: Tensor,
    block: int = 16,
    stride: int = 2,
    shape: tuple[int, ...] | None = None,
    *,
    spatial: int = 2,
    fill: str | float = "nearest",
    out: Tensor | None = None,
) -> Tensor:
    """Apply `nmfuse.aggregate_blocks` as an operator: the derivative is `aggregate_blocks_adjoint`.

    Examples
    --------
    >>> scores = torch.zeros(1, 3, 3, requires_grad=True)
    >>> aggregate_blocks(scores, 4, 2, (8, 8)).sum().backward()
    >>> float(scores.grad.sum())
    64.0
    """
    _check("scores", scores, "aggregate_blocks", spatial, out)
    shape = pixels_of(tuple(scores.shape[-spatial:]), block, stride, shape, fill)
    result: Tensor = _AggregateBlocks.call(scores, block, stride, shape, _constant(fill))
    return result


def aggregate_blocks_adjoint(
    grad: Tensor,
    block: int = 16,
    stride: int = 2,
    shape: tuple[int, ...] | None = None,
    *,
    spatial: int = 2,
    fill: str | float = "nearest",
    out: Tensor | None = None,
) -> Tensor:
    """Apply `nmfuse.aggregate_blocks_adjoint` as an operator: the derivative is `aggregate_blocks`.

    Examples
    --------
    >>> grad = torch.ones(8, 8, requires_grad=True)
    >>> aggregate_blocks_adjoint(grad, 4, 2).sum().backward()
    >>> float(grad.grad.sum())
    64.0
    """
    _check("grad", grad, "aggregate_blocks_adjoint", spatial, out)
    shape = grid_of(tuple(grad.shape[-spatial:]), block, stride, shape, fill)
    result: Tensor = _AggregateBlocksAdjoint.call(grad, block, stride, shape, _constant(fill))
    return result


def window_information(x: Tensor, y: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Apply `nmfuse.window_information` as an operator; it has no derivative, and asking for one is an error.

    Examples
    --------
    >>> window_information(torch.eye(4), torch.eye(4)).shape
    torch.Size([2, 2])
    """
    _check("x", x, "window_information", 2, out)
    _check("y", y, "window_information", 2)
    result: Tensor = _WindowInformation.call(x, y)
    return result


def nmf(V: Tensor, rank: int, *, iterations: int, seed: int = 0, beta: float = 2.0) -> tuple[Tensor, Tensor]:
    """Factorize ``V ~ W H`` by a fixed number of iterations, with the one-step gradient in V.

    The kernel iterates without recording derivatives. The gradient is that of one more multiplicative update of each
    factor, from factors that are treated as constants (Geng et al., "Is Attention Better Than Matrix Decomposition?",
    ICLR 2021). So memory and time of the backward pass do not grow with the iterations, the gradient is that of the
    fixed point to first order, and the factors are the same with and without a gradient. There are no second
    derivatives; asking for one is an error.

    Parameters
    ----------
    V : Tensor (..., m, n)
        The matrices, non-negative and finite, in float32 or float64.
    rank : int
        The number r of components, at most min(m, n).
    iterations : int
        The number of iterations.
    seed : int
        The seed of the random start.
    beta : float
        The divergence, as in `nmfuse.nmf`; only 2 has a gradient.

    Returns
    -------
    W : Tensor (..., m, r)
    H : Tensor (..., r, n)

    Examples
    --------
    >>> V = torch.rand(2, 6, 9, requires_grad=True)
    >>> W, H = nmf(V, 2, iterations=10)
    >>> (W @ H).sum().backward()
    >>> V.grad.shape
    torch.Size([2, 6, 9])
    """
    _check("V", V, "nmf", 2)
    W, H, _ = _Nmf.call(V, rank, iterations, max(iterations, 1), seed, beta)
    return W, H


def nmf_with_info(
    V: Tensor, rank: int | None, *, iterations: int, check_every: int, seed: int, beta: float
) -> tuple[Tensor, Tensor, NmfInfo]:
    """Factorize as `nmf` does, and return what `nmfuse.nmf` returns."""
    _check("V", V, "nmf", 2)
    rank = check_rank(rank, V.shape[-2], V.shape[-1])
    W, H, objective = _Nmf.call(V, rank, iterations, check_every, seed, beta)
    return (
        W,
        H,
        NmfInfo(objective.reshape(len(objective), -1), None, checks_of(iterations, check_every), tuple(V.shape[:-2])),
    )


def _check(name: str, x: Tensor, operation: str, axes: int, out: Tensor | None = None) -> None:
    """Refuse what no operator takes, whether there are values yet or not."""
    if out is not None:
        raise TypeError("out: torch records or traces this call, and cannot write into an array; leave out= away")
    dtypes = _DTYPES[operation]
    cast = x.is_floating_point() and not x.is_meta and torch.is_autocast_enabled(x.device.type)  # to float32
    if not cast and str(x.dtype).removeprefix("torch.") not in dtypes:
        raise TypeError(f"{name}: dtype {x.dtype} is not supported; convert it to {' or '.join(dtypes)}")
    if x.dim() < axes:
        raise ValueError(f"{name}: shape {tuple(x.shape)} has {x.dim()} axes; expected at least {axes}")


def _flags(x: Tensor, background: Tensor | float | str | None, spatial: int) -> Tensor | None:
    """Return the flags of the background that x has."""
    if background is None or isinstance(background, Tensor):
        return background
    if isinstance(background, str):
        if torch.compiler.is_compiling():
            raise ValueError("background: 'auto' looks at values, which a traced call has not; pass a bool tensor")
        flags: Tensor = kernels.detect_background(x.detach(), spatial)
        return flags
    return x.detach() <= background


def _constant(fill: str | float) -> float | None:
    return None if isinstance(fill, str) else float(fill)


# The operators.


class _Operator:
    """An operator of torch, and what torch knows of it; a subclass is registered when it is defined.

    Custom operators of torch have no derivatives under `torch.func` yet, and drop tangents (forward mode) in silence;
    an autograd function has both. So each operator is one as well, with the same derivative, which is called where one
    of the two is asked for.
    """

    schema: str
    operator: Any
    function: Any

    def __init_subclass__(cls) -> None:
        name, _, _ = cls.schema.partition("(")
        cls.operator = custom_op(name, cls.compute, mutates_args=(), schema=cls.schema.removeprefix(name))
        cls.operator.register_fake(cls.fake)
        cls.operator.register_autograd(cls.backward, setup_context=cls.setup_context)
        cls.operator.register_vmap(cls.vmap)
        for device in ("cpu", "cuda"):
            cls.operator.register_autocast(device, torch.float32)
        methods = {name: vars(cls)[name] for name in ("setup_context", "backward", "jvp", "vmap") if name in vars(cls)}
        cls.function = type(cls.__name__, (Function,), {"forward": staticmethod(cls.operator), **methods})

    @classmethod
    def call(cls, *arguments: Any) -> Any:
        """Apply the operator."""
        if torch._C._are_functorch_transforms_active() or _has_tangents():
            return cls.function.apply(*arguments)
        return cls.operator(*arguments)

    @staticmethod
    def compute(*arguments: Any) -> Any:
        """Return what the backend computes."""
        raise NotImplementedError

    @staticmethod
    def fake(*arguments: Any) -> Any:
        """Return the result without its values; refuse what the backend would refuse."""
        raise NotImplementedError

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        """Keep what the derivative needs."""
        raise NotImplementedError

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        """Return the gradients of the arguments from those of the results."""
        raise NotImplementedError

    @staticmethod
    def vmap(info: Any, in_dims: Any, *arguments: Any) -> Any:
        """Return the result for one axis more of the tensors, and where that axis is in the result."""
        raise NotImplementedError


def _has_tangents() -> bool:
    return not torch.compiler.is_compiling() and torch.autograd.forward_ad._current_level >= 0


def _in_front(info: Any, in_dims: Sequence[int | None], *tensors: Tensor | None) -> list[Any]:
    """Return tensors with the axis that vmap maps in front; those that have none are repeated along it."""
    return [
        x if x is None else x.expand(info.batch_size, *x.shape) if axis is None else x.movedim(axis, 0)
        for axis, x in zip(in_dims, tensors, strict=True)
    ]


def _check_flags(flags: Tensor | None, name: str, x: Tensor) -> None:
    if flags is not None and (flags.dtype != torch.bool or flags.shape != x.shape or flags.device != x.device):
        raise ValueError(
            f"{name}: {flags.dtype} of shape {tuple(flags.shape)} on {flags.device}; expected torch.bool of shape "
            f"{tuple(x.shape)} on {x.device}, as the image"
        )


class _Hannmean(_Operator):
    schema = (
        "nmfuse::hannmean(Tensor x, int size, Tensor? mask, Tensor? background, int spatial, float? outliers) -> Tensor"
    )

    @staticmethod
    def compute(x: Any, size: int, mask: Any, background: Any, spatial: int, outliers: float | None) -> Any:
        return kernels.hannmean(x, size, mask, spatial=spatial, background=background, outliers=outliers)

    @staticmethod
    def fake(x: Any, size: int, mask: Any, background: Any, spatial: int, outliers: float | None) -> Any:
        _check("x", x, "hannmean", spatial)
        check_size(size, _LONGEST_WINDOW)
        if outliers is not None:
            check_outliers(outliers)
        _check_flags(mask, "mask", x)
        _check_flags(background, "background", x)
        return x.new_empty(x.shape)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:  # noqa: ARG004
        _, size, mask, background, spatial, outliers = inputs
        if outliers is not None:
            raise TypeError(
                "outliers: x requires grad, and what is an outlier has none; pass outliers=None or x.detach()"
            )
        _keep_hannmean(ctx, size, mask, background, spatial)

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        return _HannmeanAdjoint.call(grad, *_kept_hannmean(ctx)), None, None, None, None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Any, *_: Any) -> Any:
        return _Hannmean.call(tangent, *_kept_hannmean(ctx), None)

    @staticmethod
    def vmap(info: Any, in_dims: Any, x: Any, size: int, mask: Any, background: Any, *others: Any) -> Any:
        x, mask, background = _in_front(info, (in_dims[0], *in_dims[2:4]), x, mask, background)
        return _Hannmean.call(x, size, mask, background, *others), 0


class _HannmeanAdjoint(_Operator):
    schema = "nmfuse::hannmean_adjoint(Tensor grad, int size, Tensor? mask, Tensor? background, int spatial) -> Tensor"

    @staticmethod
    def compute(grad: Any, size: int, mask: Any, background: Any, spatial: int) -> Any:
        return kernels.hannmean_adjoint(grad, size, mask, spatial=spatial, background=background)

    @staticmethod
    def fake(grad: Any, size: int, mask: Any, background: Any, spatial: int) -> Any:
        _check("grad", grad, "hannmean_adjoint", spatial)
        return _Hannmean.fake(grad, size, mask, background, spatial, None)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:  # noqa: ARG004
        _keep_hannmean(ctx, *inputs[1:])

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        return _Hannmean.call(grad, *_kept_hannmean(ctx), None), None, None, None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Any, *_: Any) -> Any:
        return _HannmeanAdjoint.call(tangent, *_kept_hannmean(ctx))

    @staticmethod
    def vmap(info: Any, in_dims: Any, grad: Any, size: int, mask: Any, background: Any, spatial: int) -> Any:
        grad, mask, background = _in_front(info, (in_dims[0], *in_dims[2:4]), grad, mask, background)
        return _HannmeanAdjoint.call(grad, size, mask, background, spatial), 0


def _keep_hannmean(ctx: Any, size: int, mask: Any, background: Any, spatial: int) -> None:
    ctx.size, ctx.spatial = size, spatial
    ctx.save_for_backward(mask, background)
    ctx.save_for_forward(mask, background)


def _kept_hannmean(ctx: Any) -> tuple[Any, ...]:
    mask, background = ctx.saved_tensors
    return ctx.size, mask, background, ctx.spatial


def _keep_blocks(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:  # noqa: ARG001
    """Keep what the derivatives of both need."""
    x, block, stride, shape, fill = inputs
    ctx.grid, ctx.before, ctx.after = (block, stride), tuple(x.shape[-len(shape) :]), tuple(shape)
    ctx.fill = None if fill is None else 0.0  # a constant takes no gradient


class _AggregateBlocks(_Operator):
    schema = "nmfuse::aggregate_blocks(Tensor scores, int block, int stride, SymInt[] shape, float? fill) -> Tensor"

    @staticmethod
    def compute(scores: Any, block: int, stride: int, shape: Sequence[int], fill: float | None) -> Any:
        return kernels.aggregate_blocks(scores, block, stride, tuple(shape), spatial=len(shape), fill=_fill(fill))

    @staticmethod
    def fake(scores: Any, block: int, stride: int, shape: Sequence[int], fill: float | None) -> Any:
        _check("scores", scores, "aggregate_blocks", len(shape))
        if _are_known(scores, shape):
            pixels_of(tuple(scores.shape[-len(shape) :]), block, stride, tuple(shape), _fill(fill))
        return scores.new_empty((*scores.shape[: -len(shape)], *shape))

    setup_context = staticmethod(_keep_blocks)

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        return _AggregateBlocksAdjoint.call(grad, *ctx.grid, ctx.before, ctx.fill), None, None, None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Any, *_: Any) -> Any:
        return _AggregateBlocks.call(tangent, *ctx.grid, ctx.after, ctx.fill)

    @staticmethod
    def vmap(info: Any, in_dims: Any, scores: Any, *arguments: Any) -> Any:
        return _AggregateBlocks.call(*_in_front(info, in_dims[:1], scores), *arguments), 0


class _AggregateBlocksAdjoint(_Operator):
    schema = (
        "nmfuse::aggregate_blocks_adjoint(Tensor grad, int block, int stride, SymInt[] shape, float? fill) -> Tensor"
    )

    @staticmethod
    def compute(grad: Any, block: int, stride: int, shape: Sequence[int], fill: float | None) -> Any:
        return kernels.aggregate_blocks_adjoint(grad, block, stride, tuple(shape), spatial=len(shape), fill=_fill(fill))

    @staticmethod
    def fake(grad: Any, block: int, stride: int, shape: Sequence[int], fill: float | None) -> Any:
        _check("grad", grad, "aggregate_blocks_adjoint", len(shape))
        if _are_known(grad, shape):
            grid_of(tuple(grad.shape[-len(shape) :]), block, stride, tuple(shape), _fill(fill))
        return grad.new_empty((*grad.shape[: -len(shape)], *shape))

    setup_context = staticmethod(_keep_blocks)

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        return _AggregateBlocks.call(grad, *ctx.grid, ctx.before, ctx.fill), None, None, None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Any, *_: Any) -> Any:
        return _AggregateBlocksAdjoint.call(tangent, *ctx.grid, ctx.after, ctx.fill)

    @staticmethod
    def vmap(info: Any, in_dims: Any, grad: Any, *arguments: Any) -> Any:
        return _AggregateBlocksAdjoint.call(*_in_front(info, in_dims[:1], grad), *arguments), 0


def _fill(constant: float | None) -> str | float:
    return "nearest" if constant is None else constant


def _are_known(x: Tensor, shape: Sequence[int]) -> bool:
    """Whether the sizes are numbers, and not symbols of what may come."""
    return all(isinstance(n, int) for n in (*x.shape, *shape))


class _WindowInformation(_Operator):
    schema = "nmfuse::window_information(Tensor x, Tensor y) -> Tensor"

    @staticmethod
    def compute(x: Any, y: Any) -> Any:
        return kernels.window_information(x, y)

    @staticmethod
    def fake(x: Any, y: Any) -> Any:
        _check("x", x, "window_information", 2)
        if y.shape != x.shape or y.dtype != x.dtype or y.device != x.device:
            raise ValueError(f"y: {y.dtype} of shape {tuple(y.shape)}; expected {x.dtype} of {tuple(x.shape)}, as x")
        if min(x.shape[-2:]) < 3:
            raise ValueError(f"x: shape {tuple(x.shape)}; expected at least 3 x 3 pixels")
        return x.new_empty((*x.shape[:-2], x.shape[-2] - 2, x.shape[-1] - 2), dtype=torch.float32)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:  # noqa: ARG004
        if any(ctx.needs_input_grad):
            raise TypeError(
                "x or y: requires grad, and window_information has no derivative; pass x.detach() and so on"
            )

    @staticmethod
    def vmap(info: Any, in_dims: Any, x: Any, y: Any) -> Any:
        return _WindowInformation.call(*_in_front(info, in_dims, x, y)), 0


class _Nmf(_Operator):
    schema = (
        "nmfuse::nmf(Tensor V, int rank, int iterations, int check_every, int seed, float beta) "
        "-> (Tensor, Tensor, Tensor)"
    )

    @staticmethod
    def compute(V: Any, rank: int, iterations: int, check_every: int, seed: int, beta: float) -> Any:
        W, H, info = kernels.nmf(V, rank, max_iter=iterations, check_every=check_every, tol=0, seed=seed, beta=beta)
        return W, H, info.on_device()

    @staticmethod
    def fake(V: Any, rank: int, iterations: int, check_every: int, seed: int, beta: float) -> Any:
        _check("V", V, "nmf", 2)
        *batch, m, n = V.shape
        rank = check_rank(rank, m, n)
        check_numbers(beta, seed, iterations, 0, check_every, 1)
        dtype = V.dtype if V.is_floating_point() else torch.float32
        W, H = V.new_empty((*batch, m, rank), dtype=dtype), V.new_empty((*batch, rank, n), dtype=dtype)
        return W, H, V.new_empty((len(checks_of(iterations, check_every)), *batch), dtype=torch.float64)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        V, *_, beta = inputs
        if beta != 2:
            raise TypeError(f"V: requires grad, and beta={beta:g}; only beta=2 has a gradient, pass V.detach()")
        W, H, objective = output
        ctx.mark_non_differentiable(objective)
        ctx.save_for_backward(V, W, H)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return _NmfGradient.call(*ctx.saved_tensors, *grads[:2]), None, None, None, None, None

    @staticmethod
    def vmap(info: Any, in_dims: Any, V: Any, *arguments: Any) -> Any:  # noqa: ARG004
        each = [_Nmf.call(one, *arguments) for one in V.unbind(in_dims[0])]  # each starts as it would alone
        return tuple(torch.stack(results) for results in zip(*each, strict=True)), (0, 0, 0)


class _NmfGradient(_Operator):
    schema = "nmfuse::nmf_gradient(Tensor V, Tensor W, Tensor H, Tensor grad_W, Tensor grad_H) -> Tensor"

    @staticmethod
    def compute(V: Any, W: Any, H: Any, grad_W: Any, grad_H: Any) -> Any:
        """Take the gradients back through one update, H first and then W; see `nmf`."""
        scale_H = H / ((W.mT @ W) @ H).clamp_min(_TINY)
        further_H = scale_H * (W.mT @ V)
        square = further_H @ further_H.mT
        whole = W @ square
        divisor = whole.clamp_min(_TINY)
        grad_above = grad_W * W / divisor
        grad_whole = torch.where(whole >= _TINY, -grad_above * (V @ further_H.mT) / divisor, 0)
        grad_square = W.mT @ grad_whole
        grad_H = grad_H + grad_above.mT @ V + (grad_square + grad_square.mT) @ further_H
        return grad_above @ further_H + W @ (grad_H * scale_H)

    @staticmethod
    def fake(V: Any, *others: Any) -> Any:  # noqa: ARG004
        return V.new_empty(V.shape)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:  # noqa: ARG004
        raise TypeError(
            "nmf: its gradient is that of one update from factors taken as given, of which there is no second "
            "derivative; leave create_graph=True away, or pass V.detach()"
        )

    @staticmethod
    def vmap(info: Any, in_dims: Any, *tensors: Any) -> Any:
        return _NmfGradient.call(*_in_front(info, in_dims, *tensors)), 0
