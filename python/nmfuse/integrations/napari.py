"""A widget of napari that fuses image layers into one more; napari finds it by ``napari.yaml``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nmfuse.fuser import fuse
from nmfuse.methods import METHODS

if TYPE_CHECKING:
    from magicgui.widgets import Container
    from napari import Viewer


def make_widget(napari_viewer: Viewer) -> Container:
    """Return the widget: layers, method, balance, and a button.

    Black and white of a layer are its contrast limits, as it is seen. Layers of three axes are volumes. The result is a
    layer with the scale and the translation of the first layer.
    """
    from magicgui.widgets import ComboBox, Container, LineEdit, PushButton, Select
    from napari.layers import Image

    def choices(_: Any) -> list[Any]:
        return [layer for layer in napari_viewer.layers if isinstance(layer, Image)]

    layers = Select(label="layers", choices=choices)
    method = ComboBox(label="method", choices=list(METHODS), value="learned")
    balance = LineEdit(label="balance", tooltip="How much of each layer is wanted, such as 1, 0.5; empty: all alike.")
    button = PushButton(text="Fuse")
    widget = Container(widgets=[layers, method, balance, button])

    def run() -> None:
        shares = [float(part) for part in balance.value.split(",")] if balance.value.strip() else None
        napari_viewer.add_layer(fuse_layers(layers.value, method=method.value, balance=shares))

    def look_again(*_: Any) -> None:
        layers.reset_choices()

    button.clicked.connect(run)
    for event in (napari_viewer.layers.events.inserted, napari_viewer.layers.events.removed):
        event.connect(look_again)
    look_again()
    return widget


def fuse_layers(layers: list[Any], *, method: str = "learned", balance: list[float] | None = None) -> Any:
    """Return a new layer of what `nmfuse.fuse` makes of image layers, which must lie on one grid.

    Parameters
    ----------
    layers : list of napari.layers.Image
        Two or more of one shape, scale and translation: images, or volumes; grey or RGB.
    method : str
        A name in `nmfuse.methods.METHODS`.
    balance : list of float, optional
        How much of each is wanted, in their order.

    Returns
    -------
    napari.layers.Image
        float32 in [0, 1].

    Raises
    ------
    ValueError
        For layers that lie elsewhere, and as `nmfuse.fuse`.
    """
    import numpy as np
    from napari.layers import Image

    if len(layers) < 2:
        raise ValueError(f"layers: got {len(layers)}; choose two or more image layers")
    first = layers[0]
    for layer in layers[1:]:
        if not (np.allclose(layer.scale, first.scale) and np.allclose(layer.translate, first.translate)):
            raise ValueError(f"{layer.name}: its scale or translation differs from that of {first.name}; register them")
    fused = fuse(
        *[np.asarray(layer.data) for layer in layers],
        method=method,
        spatial=first.ndim,
        window=[(0, 255) if layer.rgb else tuple(map(float, layer.contrast_limits)) for layer in layers],
        output="float32",
        balance=balance,
    )
    name = "fused: " + ", ".join(layer.name for layer in layers)
    return Image(fused, name=name, rgb=fused.ndim > first.ndim, scale=first.scale, translate=first.translate)
