"""`fuse`, `Fuser` and `explain`: the method is found, the sources are taken, the result is given back."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor, nn

from nmfuse.images import origin, rounding, window
from nmfuse.images import stack as images
from nmfuse.images.image import Image
from nmfuse.images.stack import Stack
from nmfuse.images.validity import filled, patterns
from nmfuse.kernels.checks import check_count, is_whole
from nmfuse.methods import make
from nmfuse.methods.base import Method, Streamed, Trace
from nmfuse.nets.siamese import PATCH
from nmfuse.threads import torch_on_one_thread

_log = logging.getLogger(__name__)
_MANY_RUNS = 4  # fusions of a call, above which it is said why it takes long
_SMALL = 1 << 22  # pixels of all sources, up to which waiting for threads costs more than they save


@dataclass
class Explanation:
    """A fused image, and every intermediate result that led to it, by name.

    Attributes
    ----------
    fused : array
        The fused image, as `Fuser.fuse` returns it.
    steps : dict
        The intermediate results in the order in which they were computed, as NumPy arrays, or as tensors if the sources
        are tensors (pyramids as lists). If there is one result for each source, the first axis is that of the sources,
        in the order in which they were given:
        ``steps["gates"][level][s]``. Luminances and weights are in [0, 1]. For a volume, the axis of the slices that
        the network works on comes before rows and columns, whatever `slice_axis` is.
    seconds : dict
        The wall time of each step.
    """

    fused: Any
    steps: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Any:
        return self.steps[name]


class Fuser:
    """Fuses registered images by one method, with the given options of that method.

    Parameters
    ----------
    method : str
        The name of a method in `nmfuse.methods.METHODS` (``nmfuse methods`` lists them): "learned", "paper", or a
        method of others such as "laplacian".
    **options
        The options of that method: the fields of its class, such as `nmfuse.methods.learned.Learned`.

    Raises
    ------
    TypeError, ValueError
        For an unknown method, for an option of another method, or for a value out of range; all are checked here, and
        not only when an image is fused.
    ModuleNotFoundError
        If the method needs a package that is not installed.

    Examples
    --------
    >>> import nmfuse
    >>> phantom = nmfuse.data.brain_phantom(64)
    >>> nmfuse.Fuser(method="paper", levels=4).fuse(phantom.t1, phantom.t2, phantom.ct).shape
    (64, 64)
    """

    def __init__(self, method: str = "learned", **options: Any) -> None:
        self.method = method
        self.options: Method = make(method, **options)

    def __repr__(self) -> str:
        return f"Fuser({self.method!r}, {self.options!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Fuser) and (self.method, self.options) == (other.method, other.options)

    def __hash__(self) -> int:
        return hash((self.method, self.options))

    @classmethod
    def paper(cls, *_: Any, **__: Any) -> NoReturn:
        """Say what took its place."""
        raise AttributeError("Fuser.paper: is Fuser(method='paper-letter') now")

    def fuse(
        self,
        *sources: Any,
        axis: int | None = None,
        spatial: int | None = None,
        slice_axis: int = 0,
        window: Any = None,
        data_range: tuple[float, float] | None = None,
        output: str | None = None,
        fill: float | None = None,
        balance: Sequence[float] | None = None,
    ) -> Any:
        """Fuse registered images; see `nmfuse.fuse`."""
        with self._threads(sources):
            stack = images.take(
                _each(sources, axis), spatial=spatial, slice_axis=slice_axis, windows=window, data_range=data_range,
                output=output, balance=balance, least_side=PATCH,
            )  # fmt: skip
            return self._run(stack, Trace(), fill)

    def explain(
        self,
        *sources: Any,
        axis: int | None = None,
        spatial: int | None = None,
        slice_axis: int = 0,
        window: Any = None,
        data_range: tuple[float, float] | None = None,
        output: str | None = None,
        fill: float | None = None,
        balance: Sequence[float] | None = None,
    ) -> Explanation:
        """Fuse registered images, and return every intermediate result as well as the fused image.

        All methods have the steps ``sources`` (the luminances; the first axis is that of the sources), ``luminance``
        (fused), ``provenance`` (how much of each pixel comes from which source) and ``conflict`` (where sources
        contradict each other); see `nmfuse.images.origin`. The class of the method's options lists its further steps,
        which exist if at least one pixel is valid in all sources. A source whose balance is 0 does not occur in any
        step.

        Parameters
        ----------
        *sources, axis, spatial, slice_axis, window, data_range, output, fill, balance
            The same as for `nmfuse.fuse`.

        Returns
        -------
        Explanation
            The intermediate results, as ``explanation["gates"]`` and so on, with ``explanation.fused`` and
            ``explanation.seconds``.

        Examples
        --------
        >>> import nmfuse
        >>> phantom = nmfuse.data.brain_phantom(64)
        >>> nmfuse.Fuser(method="paper").explain(phantom.t2, phantom.ct)["W"].shape
        (2, 64, 64)
        """
        trace = Trace(wanted=True)
        with self._threads(sources):
            stack = images.take(
                _each(sources, axis), spatial=spatial, slice_axis=slice_axis, windows=window, data_range=data_range,
                output=output, balance=balance, least_side=PATCH,
            )  # fmt: skip
            fused = self._run(stack, trace, fill)
        back = torch.tensor([stack.order.index(k) for k in sorted(stack.order)])
        steps = {
            name: _each_level(value, lambda x: x[back]) if name in trace.per_source else value
            for name, value in trace.steps.items()
        }
        if stack.form.kind != "torch":
            steps = {name: _each_level(value, lambda x: x.detach().numpy()) for name, value in steps.items()}
        return Explanation(fused, steps, trace.seconds)

    def fuse_batch(self, sources: Any, *, data_range: tuple[float, float] | None = None) -> Any:
        """Fuse N sets of S images each; the learned method needs only one pass of its network for all of them.

        Parameters
        ----------
        sources : NumPy array or torch tensor, shape (N, S, C, H, W)
            The N sets; C is 1 or 3. The dtypes are those of `nmfuse.fuse`, and all pixels must be valid.
        data_range : (low, high), optional
            The values that mean black and white in all of them. By default the range of the dtype; for floats, one
            range for all sets.

        Returns
        -------
        array or tensor, shape (N, C, H, W)
            The fused images, with the kind, dtype and range of the sources. They differ from the results of `fuse`, set
            by set, only by rounding.

        Raises
        ------
        TypeError, ValueError
            As `nmfuse.fuse`.

        Examples
        --------
        >>> import numpy as np
        >>> Fuser().fuse_batch(np.random.default_rng(0).random((4, 3, 1, 32, 32), np.float32)).shape
        (4, 1, 32, 32)
        """
        shape = tuple(getattr(sources, "shape", ()))
        if len(shape) != 5 or shape[2] not in (1, 3) or 0 in shape or isinstance(sources, np.ma.MaskedArray):
            raise ValueError(
                f"sources: got {type(sources).__name__} of shape {shape}; expected an array (N, S, C, H, W), C 1 or 3"
            )
        native = sources if isinstance(sources, Tensor) else np.asarray(sources, sources.dtype.newbyteorder("="))
        if str(native.dtype).removeprefix("torch.") not in images.DTYPES:
            raise TypeError(
                f"sources: dtype {native.dtype} is not supported; expected one of {', '.join(images.DTYPES)}"
            )
        tensor = native if isinstance(native, Tensor) else torch.from_numpy(np.ascontiguousarray(native))
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ValueError("sources: contains NaN or inf, which a batch cannot leave out; fuse its sets one by one")
        if data_range is None:
            data_range = window.resolve(None, tensor)
        with _recording([tensor]), self._threads([tensor]):
            stacks = [images.take(list(one), data_range=data_range, least_side=PATCH) for one in tensor]
            fuse_batch = getattr(self.options, "fuse_batch", None)
            if fuse_batch is None:
                fused = [self.options.fuse(s.planes, Trace(), s.scratch) for s in stacks]
            else:
                fused = list(fuse_batch(torch.stack([torch.stack(s.planes) for s in stacks], dim=1)))
            result = torch.stack(
                [self._finished(y, s, s.planes, None, None) for y, s in zip(fused, stacks, strict=True)]
            )
        return result if isinstance(sources, Tensor) else result.numpy()

    def module(self, sources: int) -> nn.Module:
        """Return the method as a torch module, which can be compiled, exported, or used inside another network.

        Parameters
        ----------
        sources : int
            The number S of images that it fuses, at least 2.

        Returns
        -------
        torch.nn.Module
            Called with S float32 tensors (N, 1, H, W) in [0, 1] of one size, H and W at least 16, it returns the fused
            images (N, 1, H, W): what `fuse` gives for grey floats, up to rounding, in any order of the images. It has
            its own frozen copy of the weights. `torch.compile` and `torch.export.export` accept it without a graph
            break for fixed shapes; ``nmfuse export`` writes it as an ONNX file.

        Raises
        ------
        TypeError
            If the method is not "learned", since the other methods are not networks.
        ValueError
            For fewer than two sources.

        Examples
        --------
        >>> import torch
        >>> module = Fuser().module(3)
        >>> module(*torch.rand(3, 1, 1, 32, 40)).shape
        torch.Size([1, 1, 32, 40])
        """
        check_count("sources", sources, 2)
        module = getattr(self.options, "module", None)
        if module is None:
            raise TypeError(f"module: {self.method!r} is no network; use nmfuse.Fuser('learned').module({sources})")
        found: nn.Module = module(sources)
        return found

    def _threads(self, sources: Sequence[Any]) -> AbstractContextManager[None]:
        """Return what to run under: between kernels of our own, the steps of torch on small images need one thread."""
        pixels = sum(math.prod(getattr(x, "shape", (_SMALL + 1,))) for x in sources)
        recorded = torch.is_grad_enabled() and any(getattr(x, "requires_grad", False) for x in sources)
        return (
            torch_on_one_thread() if self.method == "learned" and pixels <= _SMALL and not recorded else nullcontext()
        )

    def _run(self, stack: Stack, trace: Trace, fill: float | None) -> Any:
        images.check_fill(fill, stack)
        with _recording(stack.planes):
            if trace.wanted:
                trace.keep_each(sources=torch.stack(stack.planes))
            planes = filled(stack.planes, stack.valid, stack.scratch.keep, stack.scratch.release)
            y, seen = self._balanced(planes, stack, trace)
            fused = self._finished(y, stack, planes, seen, fill, trace)
            if trace.wanted:
                shown = trace.steps["luminance"]
                trace.keep_each(provenance=origin.provenance(shown, planes))
                trace.keep(conflict=origin.conflict(planes))
            return fused

    def _balanced(self, planes: list[Tensor], stack: Stack, trace: Trace) -> tuple[Tensor, Tensor | None]:
        """Fuse the sources as much as each is wanted; also return where any of them is valid (None: everywhere)."""
        if stack.balance is None:
            return self._of_some(list(range(len(planes))), planes, stack, trace)
        total, weight = torch.zeros_like(planes[0]), torch.zeros_like(planes[0])
        for share, chosen in images.balanced_sets(stack.balance):
            inner = trace if len(chosen) == len(planes) else Trace()
            y, seen = self._of_some(chosen, planes, stack, inner)
            part = share * (torch.ones_like(y) if seen is None else seen.to(y.dtype))
            total, weight = total + part * y, weight + part
        seen = weight > 0
        return total / torch.where(seen, weight, torch.ones_like(weight)), None if bool(seen.all()) else seen

    def _of_some(
        self, chosen: list[int], planes: list[Tensor], stack: Stack, trace: Trace
    ) -> tuple[Tensor, Tensor | None]:
        """Fuse some of the sources; also return where any of them is valid (None: everywhere)."""
        some, valid = [planes[k] for k in chosen], [stack.valid[k] for k in chosen]
        if any(mask is not None for mask in valid):
            return self._by_patterns(some, valid, trace, stack)
        return (some[0] if len(some) == 1 else self.options.fuse(some, trace, stack.scratch)), None

    def _by_patterns(
        self, planes: list[Tensor], valid: list[Tensor | None], trace: Trace, stack: Stack
    ) -> tuple[Tensor, Tensor | None]:
        """Fuse at each pixel the sources that are valid there, and no others; also return where there are any.

        Images are filled where they are invalid, so that the border of what they show is no edge to the method, and
        fused once for each set of sources that are valid together; where these are many, at once, if the method can.
        """
        sets, which = patterns(valid)
        assert which is not None  # some source has a mask
        seen = None if [] not in sets else which != sets.index([])
        if (runs := sum(len(places) > 1 for places in sets)) > _MANY_RUNS:
            if isinstance(self.options, Streamed):
                return self.options.fuse_valid(planes, valid, trace, stack.scratch), seen
            _log.warning(
                "sources: they show different parts of the scene; each of the %d combinations that are valid together "
                "somewhere is fused by itself, which takes about %d times as long", runs, runs
            )  # fmt: skip
        y = torch.zeros_like(planes[0])
        for number, places in sorted(enumerate(sets), key=lambda each: len(each[1])):
            if not places:
                continue
            if len(places) == 1:
                fused = planes[places[0]]
            else:
                inner = trace if len(places) == len(planes) else Trace()
                fused = self.options.fuse([planes[k] for k in places], inner, stack.scratch)
            y = torch.where(which == number, fused, y)
        return y, seen

    def _finished(
        self,
        y: Tensor,
        stack: Stack,
        planes: Sequence[Tensor],
        seen: Tensor | None,
        fill: float | None,
        trace: Trace | None = None,
    ) -> Any:
        trace = trace or Trace()
        form = stack.form
        if getattr(self.options, "rounding", "nearest") == "informed" and form.dtype == "uint8":
            with trace.clock("post-processing"):
                y = rounding.round_informed(y, planes, form.low, form.high, stack.scratch.release)
        trace.keep(luminance=y)
        with trace.clock("colour"):
            return images.give_back(y, stack, seen, fill)


def fuse(
    *sources: Any,
    method: str = "learned",
    axis: int | None = None,
    spatial: int | None = None,
    slice_axis: int = 0,
    window: Any = None,
    data_range: tuple[float, float] | None = None,
    output: str | None = None,
    fill: float | None = None,
    balance: Sequence[float] | None = None,
    **options: Any,
) -> Any:
    """Fuse two or more registered images, or volumes, into one.

    Parameters
    ----------
    *sources : NumPy arrays, torch tensors, PIL images or nmfuse Images
        Two or more images on one grid, of at least 16 x 16 pixels. The shape is (H, W) or (H, W, 3), for tensors (H, W)
        or (3, H, W); in volumes a depth comes before H. Instead, one iterable of images may be given, which is read one
        image at a time, or one array of all images together with `axis`. The dtypes are bool, uint8, int16, uint16,
        int32, float16, float32 or float64, and may differ between sources. Masked entries, transparent pixels (by an
        additional alpha channel) and NaN are not valid. The luminance is fused; the chroma of a single colour source is
        kept, and the chromas of several are averaged, each weighted by its distance from grey.
    method : str
        The name of a method in `nmfuse.methods.METHODS`: "learned" (the default), "paper", or a method of others such
        as "laplacian".
    axis : int, optional
        The axis of the sources, if all of them are given as one array.
    spatial : {2, 3}, optional
        The number of spatial axes: 2 for images, 3 for volumes. By default it is that of the grid of an `Image`, for
        example one read from a NIfTI file, and 2 for everything else. In volumes the filters and pyramids of `paper`
        run along three axes; networks work on slices, and combine what they find over the volume.
    slice_axis : {0, 1, 2}
        The axis of a volume across which the slices are taken.
    window : one for all sources, or a list of one for each, optional
        The values that mean black and white in a source; values outside are clipped. A window is a pair (low, high);
        "minmax"; "auto" (the 0.1st and 99.9th percentile of the valid pixels); a preset: "ct-brain", "ct-subdural",
        "ct-soft", "ct-bone", "ct-lung" (Hounsfield units) or "suv"; or None in a list, which is the range of the dtype
        (for floats 0 to 1 if all values are within it; otherwise from 0, or from the least value if that is negative,
        to the greatest). By default it is the range of the dtype, and for floats one range for all sources. If the
        ranges of the sources differ, a window has to be given. If a source fills less than an eighth of its range, a
        warning is logged.
    data_range : (low, high), optional
        Instead of `window`: the values that mean black and white in all sources, whose values must be within them.
    output : str, optional
        The dtype of the result, which then has the range of that dtype (0 to 1 for floats). By default the result has
        the dtype and range of the first source.
    fill : float, optional
        The value of pixels that are valid in no source. By default they are invalid in the result: NaN, masked, or
        transparent.
    balance : sequence of float, optional
        How much of each source is wanted, from 0 to 1, with at least one value above 0; by default all sources count
        fully. 0 leaves a source out; if only one source remains, it is returned as it is. For values in between, the
        result is a mean of fusions of those sources whose balance is at least a given value (a Choquet integral): for
        two sources with 1 and b, it is b times the fused image plus 1 - b times the first source.
    **options
        The options of the method; see `nmfuse.Fuser`.

    Returns
    -------
    array, tensor, PIL image or Image
        The fused image, with the kind, dtype and range of the first source; in colour if any source is. If a torch
        source requires grad, so does a result of floats (methods "learned" and "paper").

    Raises
    ------
    TypeError
        For kinds or dtypes that are not supported, or mixed arrays and tensors.
    ValueError
        For sizes or grids that differ, sizes below 16 x 16, fewer than two sources, infinite values, ranges that differ
        if no window is given, or an option out of range.

    Notes
    -----
    At each pixel those sources are fused that are valid there; the others do not count. The pixels of the result do not
    depend on the order of the sources, to the last bit. From the third source on, sources that do not fit into 128 MiB
    are kept in temporary files (in the folder that TMPDIR names), and so is what the learned method computes from them;
    floats without a window, and other methods, need all sources in memory.

    References
    ----------
    Das et al., IJACSA 14 (2023).

    Examples
    --------
    >>> import nmfuse
    >>> phantom = nmfuse.data.brain_phantom(64)
    >>> nmfuse.fuse(phantom.t1, phantom.t2, phantom.ct).dtype
    dtype('float32')
    >>> grid = nmfuse.images.Grid((2, 64, 64), np.diag([3.0, 1.0, 1.0, 1.0]))  # as files of volumes have it
    >>> volumes = [nmfuse.Image(np.stack([x, x]), grid=grid) for x in (phantom.t1, phantom.ct)]
    >>> nmfuse.fuse(*volumes).shape
    (2, 64, 64)
    """
    return Fuser(method, **options).fuse(
        *sources, axis=axis, spatial=spatial, slice_axis=slice_axis, window=window, data_range=data_range,
        output=output, fill=fill, balance=balance,
    )  # fmt: skip


def _each(sources: tuple[Any, ...], axis: int | None) -> Iterable[Any]:
    """Return the sources of a call one by one: its arguments, those of one iterable, or of one array's axis."""
    if len(sources) != 1:
        if axis is not None:
            raise ValueError(f"axis: got {axis!r} with {len(sources)} sources; it is for one array of all of them")
        return sources
    one = sources[0]
    is_array = isinstance(one, (np.ndarray, Tensor))
    if axis is not None:
        if not is_array or not is_whole(axis) or not -one.ndim <= axis < one.ndim:
            shape = tuple(one.shape) if is_array else type(one).__name__
            raise ValueError(f"axis: got {axis!r} for {shape}; expected the axis of the sources in one array")
        return list(one.movedim(axis, 0) if isinstance(one, Tensor) else np.moveaxis(one, axis, 0))
    if is_array or isinstance(one, Image) or not isinstance(one, Iterable):
        what = f"one array of shape {tuple(one.shape)}" if is_array else f"one {type(one).__name__}"
        raise ValueError(f"sources: got {what}; expected two or more images, or axis=0 where an array holds them all")
    return one


def _recording(tensors: Sequence[Tensor]) -> AbstractContextManager[Any]:
    """Return what to run under: autograd where a tensor asks for a gradient, else the fast way without."""
    asked = torch.is_grad_enabled() and any(x.requires_grad for x in tensors)
    return nullcontext() if asked else torch.no_grad()


def _each_level(value: Any, function: Any) -> Any:
    return [function(level) for level in value] if isinstance(value, list) else function(value)
