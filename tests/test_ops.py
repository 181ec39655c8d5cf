"""The kernels as operators of torch: against the kernels, finite differences, and torch's own checks of operators."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses import FakeTensorMode
from torch.autograd import forward_ad, gradcheck, gradgradcheck
from torch.func import grad, hessian, jvp, vjp, vmap
from torch.library import opcheck

import nmfuse
from nmfuse import ops

# torch.compile itself warns of what it does
pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")]


def rand(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


MASK = rand(2, 4, 5, seed=1) > 0.3
BACKGROUND = rand(2, 4, 5, seed=2) > 0.8
# Every linear operator: a call of its front door, and the shape of what it takes.
LINEAR: dict[str, tuple[Callable[[Tensor], Any], tuple[int, ...]]] = {
    "hannmean": (lambda x: nmfuse.hannmean(x, 3), (2, 4, 5)),
    "hannmean masked": (lambda x: nmfuse.hannmean(x, 5, MASK, background=BACKGROUND), (2, 4, 5)),
    "hannmean of a volume": (lambda x: nmfuse.hannmean(x, spatial=3), (1, 3, 3, 4)),
    "hannmean_adjoint": (lambda x: nmfuse.hannmean_adjoint(x, 5, MASK, background=BACKGROUND), (2, 4, 5)),
    "aggregate_blocks": (lambda x: nmfuse.aggregate_blocks(x, 4, 2, (7, 8)), (2, 2, 3)),
    "aggregate_blocks apart": (lambda x: nmfuse.aggregate_blocks(x, 2, 3, (5, 8), fill=0.0), (2, 2, 3)),
    "aggregate_blocks of a volume": (lambda x: nmfuse.aggregate_blocks(x, 2, 1, spatial=3), (1, 2, 2, 2)),
    "aggregate_blocks_adjoint": (lambda x: nmfuse.aggregate_blocks_adjoint(x, 2, 3, (2, 2)), (2, 5, 6)),
}
linear = pytest.mark.parametrize(("door", "shape"), LINEAR.values(), ids=LINEAR)
DOORS = LINEAR | {
    "window_information": (lambda x: nmfuse.window_information(x, 1 - x), (2, 5, 6)),
    "nmf": (lambda x: nmfuse.nmf(x, 2, max_iter=5, tol=0)[0], (2, 6, 9)),
}
every = pytest.mark.parametrize(("door", "shape"), DOORS.values(), ids=DOORS)
MASKED = ("hannmean masked", "hannmean_adjoint")  # by masks that lie on the CPU
UNMASKED = {name: door for name, door in DOORS.items() if name not in MASKED}
unmasked = pytest.mark.parametrize(("door", "shape"), UNMASKED.values(), ids=UNMASKED)


OPERATORS = {
    "hannmean": (rand(2, 5, 4).mT.requires_grad_(), 3, MASK, BACKGROUND, 2, None),
    "hannmean of integers": ((rand(2, 4, 5) * 255).to(torch.uint8), 3, MASK, None, 2, 3.0),
    "hannmean_adjoint": (rand(2, 4, 5).requires_grad_(), 3, MASK, None, 2),
    "aggregate_blocks": (rand(2, 3, 3).requires_grad_(), 4, 2, [9, 11], None),
    "aggregate_blocks_adjoint": (rand(2, 8, 8).requires_grad_(), 4, 2, [3, 3], 1.0),
    "window_information": (rand(2, 8, 8), rand(2, 8, 8, seed=1)),
    "nmf": (rand(2, 4, 5).requires_grad_(), 2, 7, 5, 0, 2.0),
    "nmf of integers": ((rand(2, 4, 5) * 255).to(torch.uint8), 2, 7, 5, 0, 2.0),
    "nmf_gradient": (rand(2, 6, 9), rand(2, 6, 2), rand(2, 2, 9), rand(2, 6, 2), rand(2, 2, 9)),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_torch_finds_no_fault(name: str) -> None:
    """Schema, registration of the derivative, fake result (shape, dtype, device, strides), tracing with any sizes."""
    opcheck(getattr(torch.ops.nmfuse, name.split()[0]).default, OPERATORS[name])


@linear
def test_derivatives(door: Any, shape: tuple[int, ...]) -> None:
    x = rand(*shape).requires_grad_()
    torch.testing.assert_close(door(x), door(x.detach()), rtol=0, atol=0)
    assert gradcheck(door, x)
    assert gradgradcheck(lambda x: door(x) ** 2, x, fast_mode=True)  # of the operator itself it is 0


def test_the_second_derivative_is_the_exact_one() -> None:
    x = rand(5, 7).requires_grad_()
    first = torch.autograd.grad(nmfuse.hannmean(x).square().sum(), x, create_graph=True)[0]
    second = torch.autograd.grad(first.square().sum(), x)[0]
    A = torch.autograd.functional.jacobian(nmfuse.hannmean, x.detach()).reshape(35, 35)
    torch.testing.assert_close(second.flatten(), 8 * (A.T @ A) @ (A.T @ A) @ x.detach().flatten())


@linear
def test_under_torch_func(door: Any, shape: tuple[int, ...]) -> None:
    x, t = rand(*shape), rand(*shape, seed=4)
    expected = door(t)
    torch.testing.assert_close(jvp(door, (x,), (t,))[1], expected)
    with forward_ad.dual_level():
        torch.testing.assert_close(forward_ad.unpack_dual(door(forward_ad.make_dual(x, t))).tangent, expected)
    value, back = vjp(door, x)
    probe = torch.ones_like(value)
    torch.testing.assert_close((back(probe)[0] * t).sum(), (expected * probe).sum())
    small = x[..., :1, :, :] if x.dim() > 3 else x
    assert hessian(lambda x: door(x).square().sum())(small).abs().sum() > 0


@every
def test_vmap_gives_what_each_gives(door: Any, shape: tuple[int, ...]) -> None:
    x = rand(3, *shape)
    expected = torch.stack([door(one) for one in x])
    assert torch.equal(vmap(door)(x), expected)
    assert torch.equal(vmap(door, in_dims=1, out_dims=1)(x.movedim(0, 1)), expected.movedim(0, 1))


def test_vmap_over_masks_alone_and_of_gradients() -> None:
    x, masks = rand(4, 5), torch.stack([MASK[0], MASK[1], BACKGROUND[0]])
    expected = torch.stack([nmfuse.hannmean(x, 3, mask) for mask in masks])
    assert torch.equal(vmap(lambda mask: nmfuse.hannmean(x, 3, mask))(masks), expected)

    def value(x: Tensor) -> Tensor:
        return (nmfuse.hannmean(x) ** 3).sum()

    stack = rand(3, 4, 5)
    torch.testing.assert_close(vmap(grad(value))(stack), grad(value)(stack))
    with pytest.raises(ValueError, match=r"x: shape \(5,\) has 1 axes; expected at least 2"):
        vmap(nmfuse.hannmean)(x)  # one axis is no image, though with vmap's there are two


@every
def test_compiled_without_a_break(door: Any, shape: tuple[int, ...]) -> None:
    x = rand(*shape)
    torch.testing.assert_close(torch.compile(door, fullgraph=True, backend="aot_eager")(x), door(x))


def test_compiled_by_the_default_compiler_with_its_gradient() -> None:
    x = rand(2, 6, 9).requires_grad_()

    def value(x: Tensor) -> Tensor:
        return (nmfuse.hannmean(2 * x) * ops.nmf(x, 2, iterations=5)[0].sum()).square().sum()

    expected = torch.autograd.grad(value(x), x)[0]
    torch.testing.assert_close(torch.autograd.grad(torch.compile(value, fullgraph=True)(x), x)[0], expected)


class Everything(torch.nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        W, H, _ = nmfuse.nmf(x, 2, max_iter=5, tol=0)
        scores = nmfuse.aggregate_blocks(x, 4, 2)
        return nmfuse.hannmean(x, background=0.2, outliers=3.0), W @ H, scores, nmfuse.window_information(x, 1 - x)


@pytest.mark.parametrize("batch", [None, torch.export.Dim("batch", min=2)], ids=["fixed", "any batch"])
def test_exported_and_loaded(batch: Any) -> None:
    x, file = rand(3, 6, 9), io.BytesIO()
    shapes = None if batch is None else {"x": {0: batch}}
    torch.export.save(torch.export.export(Everything(), (x,), dynamic_shapes=shapes), file)
    file.seek(0)
    module = torch.export.load(file).module()
    for batch_of in (x,) if batch is None else (x, rand(5, 6, 9, seed=1)):
        for got, expected in zip(module(batch_of), Everything()(batch_of), strict=True):
            assert torch.equal(got, expected)


@unmasked
def test_without_values(door: Any, shape: tuple[int, ...]) -> None:
    x = rand(*shape)
    meta = door(x.to("meta"))
    with FakeTensorMode() as mode:
        fake = door(mode.from_tensor(x))
    real = door(x)
    for got in (meta, fake):
        assert (got.shape, got.dtype, got.stride()) == (real.shape, real.dtype, real.stride())


def test_what_the_kernels_refuse_is_refused_without_values() -> None:
    x = torch.empty(2, 6, 9, device="meta")
    for door, message in (
        (lambda: nmfuse.hannmean(x, 4), "size: got 4; expected an odd int"),
        (lambda: nmfuse.hannmean(x.half()), "x: dtype torch.float16 is not supported; convert it to float32"),
        (
            lambda: nmfuse.hannmean(x, 3, MASK.to("meta")[:1]),
            "mask: torch.bool of shape .1, 4, 5.* expected torch.bool",
        ),
        (lambda: nmfuse.hannmean(x, out=x), "out: torch records or traces this call"),
        (lambda: nmfuse.aggregate_blocks(x, 4, 2, (8, 8)), "shape: axis 0 has 8 pixels, but block 5"),
        (lambda: nmfuse.window_information(x, x[:1]), "y: torch.float32 of shape .1, 6, 9"),
        (lambda: nmfuse.nmf(x, 7, tol=0), "rank: got 7 for V of 6 x 9"),
        (lambda: nmfuse.nmf(x, 2), "tol: V requires grad or is traced by torch.*pass tol=0"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            door()


def test_traced_by_a_dispatch_mode() -> None:
    from torch.fx.experimental.proxy_tensor import make_fx

    assert "nmfuse.hannmean" in make_fx(lambda x: nmfuse.hannmean(x))(rand(4, 5)).code


def test_autocast_passes_single_precision() -> None:
    x = rand(5, 7).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(nmfuse.hannmean(x), nmfuse.hannmean(x.float()))
        assert nmfuse.hannmean(rand(5, 7)).dtype == torch.float64
    with pytest.raises(TypeError, match="bfloat16"):
        nmfuse.hannmean(x)


def test_outliers_have_no_gradient() -> None:
    x = rand(2, 9, 8).requires_grad_()
    with pytest.raises(TypeError, match="outliers: x requires grad, and what is an outlier has none"):
        nmfuse.hannmean(x, 3, outliers=3.0)
    with torch.no_grad():
        assert torch.equal(nmfuse.hannmean(x, 3, outliers=3.0), nmfuse.hannmean(x.detach(), 3, outliers=3.0))


def test_background_counts_as_given() -> None:
    x = torch.zeros(12, 12, dtype=torch.float64)
    x[3:9, 3:9] = rand(6, 6) + 0.5
    x.requires_grad_()
    for background in (0.0, "auto"):
        found = nmfuse.hannmean(x, background=background)
        assert torch.equal(found.detach(), nmfuse.hannmean(x.detach(), background=background))
        assert torch.autograd.grad(found.sum(), x)[0].sum() == pytest.approx(144)
    with pytest.raises(Exception, match="background: 'auto' looks at values"):
        torch.compile(nmfuse.hannmean, fullgraph=True, backend="eager")(x, background="auto")


def test_window_information_has_no_derivative() -> None:
    x, y = rand(5, 6), rand(5, 6, seed=1)
    for arguments in ((x.clone().requires_grad_(), y), (x, y.clone().requires_grad_())):
        with pytest.raises(TypeError, match="requires grad, and window_information has no derivative"):
            nmfuse.window_information(*arguments)
    with pytest.raises(TypeError, match="window_information has no derivative"):
        grad(lambda x: nmfuse.window_information(x, y).sum())(x)


def test_out_counts_as_a_change_of_the_tensor() -> None:
    buffer, w = torch.zeros(4, 5), rand(4, 5).float().requires_grad_()
    value = (w * buffer).sum()
    nmfuse.hannmean(torch.ones(4, 5), out=buffer)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        value.backward()
    with pytest.raises(TypeError, match=r"out: torch records or traces this call.*leave out= away"):
        nmfuse.hannmean(w, out=buffer)


def test_nmf_without_gradient_is_the_kernel() -> None:
    V = rand(2, 6, 9)
    W, H = ops.nmf(V, 3, iterations=15)
    expected_W, expected_H, expected = nmfuse.nmf(V, 3, max_iter=15, tol=0)
    assert torch.equal(W, expected_W)
    assert torch.equal(H, expected_H)
    _, _, info = nmfuse.nmf(V.requires_grad_(), 3, max_iter=15, tol=0)
    assert (info.objective == expected.objective).all()
    assert (info.n_iter == expected.n_iter).all()
    assert not info.converged.any()


def test_nmf_has_the_one_step_gradient() -> None:
    V = rand(2, 6, 9).requires_grad_()
    W0, H0, _ = nmfuse.nmf(V.detach(), 3, max_iter=15, tol=0)

    def one_step(V: Tensor) -> tuple[Tensor, Tensor]:  # from factors that are taken as given
        H = H0 * (W0.mT @ V) / (W0.mT @ W0 @ H0)
        return W0 * (V @ H.mT) / (W0 @ H @ H.mT), H

    assert gradcheck(one_step, V)
    for got, wanted in zip(ops.nmf(V, 3, iterations=15), one_step(V), strict=True):
        probe = rand(*got.shape, seed=5)
        gradients = [torch.autograd.grad((x * probe).sum(), V, retain_graph=True)[0] for x in (got, wanted)]
        torch.testing.assert_close(*gradients)
        assert gradients[0].abs().max() > 0
    per_sample = vmap(grad(lambda V: ops.nmf(V, 3, iterations=15)[0].sum()))(V.detach())
    alone = grad(lambda V: ops.nmf(V, 3, iterations=15)[0].sum())(V.detach()[1])
    torch.testing.assert_close(per_sample[1], alone)


def test_the_one_step_gradient_points_along_the_true_one() -> None:
    V = (rand(8, 2) @ rand(2, 30, seed=1) + 0.05).requires_grad_()
    probe = rand(8, 30, seed=2)

    def value(V: Tensor) -> float:
        W, H, _ = nmfuse.nmf(V, 2, max_iter=3000, check_every=3000, tol=0)
        return float((W @ H * probe).sum())

    W, H = ops.nmf(V, 2, iterations=3000)
    gradient = torch.autograd.grad((W @ H * probe).sum(), V)[0]
    direction = rand(8, 30, seed=3) - 0.5
    step = 1e-5
    with torch.no_grad():
        true = (value(V + step * direction) - value(V - step * direction)) / (2 * step)
    assert float((gradient * direction).sum()) == pytest.approx(true, rel=0.3)


def test_zeros_give_finite_gradients() -> None:
    V = torch.zeros(4, 6, dtype=torch.float64, requires_grad=True)
    W, H = ops.nmf(V, 2, iterations=5)
    (W.sum() + H.sum()).backward()
    assert V.grad is not None
    assert V.grad.isfinite().all()


def test_what_nmf_has_no_derivative_of() -> None:
    V = rand(4, 6).requires_grad_()
    first = torch.autograd.grad(ops.nmf(V, 2, iterations=3)[0].sum(), V, create_graph=True)[0]
    with pytest.raises(TypeError, match=r"nmf: its gradient is that of one update .* no second derivative"):
        first.sum().backward()
    with pytest.raises(TypeError, match="only beta=2 has a gradient"):
        ops.nmf(V, 2, iterations=3, beta=1.0)
    with pytest.raises(RuntimeError, match="jvp"):
        jvp(lambda V: ops.nmf(V, 2, iterations=3)[0], (V.detach(),), (V.detach(),))


@pytest.mark.cuda
@unmasked
def test_on_a_cuda_device(door: Any, shape: tuple[int, ...], cuda: None) -> None:
    x = rand(*shape)
    there = door(x.cuda())
    assert there.is_cuda
    torch.testing.assert_close(there.cpu(), door(x))
    torch.testing.assert_close(torch.compile(door, fullgraph=True, backend="aot_eager")(x.cuda()), there)
