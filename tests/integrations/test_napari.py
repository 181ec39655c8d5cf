"""The widget of napari, without a screen.

napari is large and is not in the environment of the other tests; CI runs this file in one of its own, as does

    pip install 'nmfuse[napari]' pytest
    PYTEST_DISABLE_PLUGIN_AUTOLOAD=1 python -m pytest -W ignore tests/integrations/test_napari.py
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from importlib.metadata import entry_points
from typing import Any

import numpy as np
import pytest

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of what napari imports
    pytest.importorskip("napari", reason="napari is not installed (pip install 'nmfuse[napari]')")
    pytest.importorskip("napari.layers")

import nmfuse
from nmfuse.integrations.napari import fuse_layers, make_widget

pytestmark = [pytest.mark.filterwarnings("ignore")]  # of napari and Qt
A, B = np.random.default_rng(0).random((2, 24, 20), np.float32)


@pytest.fixture
def viewer() -> Iterator[Any]:
    """Return a viewer that is not shown."""
    from napari.components import ViewerModel
    from qtpy.QtWidgets import QApplication

    app = QApplication.instance() or QApplication([])
    yield ViewerModel()
    app.processEvents()


def test_the_button_fuses_the_chosen_layers(viewer: Any) -> None:
    widget = make_widget(viewer)
    for name, data in (("a", A), ("b", B), ("c", B)):
        viewer.add_image(data, name=name, scale=(2, 3), translate=(5, 7), contrast_limits=(0, 1))
    viewer.add_points(np.zeros((1, 2)))
    layers, method, balance, button = widget
    assert [layer.name for layer in layers.choices] == ["a", "b", "c"]
    layers.value = [viewer.layers["a"], viewer.layers["b"]]
    method.value, balance.value = "laplacian", "1, 0.5"
    button.native.click()
    fused = viewer.layers["fused: a, b"]
    expected = nmfuse.fuse(A, B, method="laplacian", window=(0, 1), balance=[1, 0.5], output="float32")
    assert np.array_equal(fused.data, expected)
    assert list(fused.scale) == [2, 3]
    assert list(fused.translate) == [5, 7]


def test_volumes_and_colour(viewer: Any) -> None:
    volumes = [viewer.add_image(np.stack([x] * 3), contrast_limits=(0, 1)) for x in (A, B)]
    expected = nmfuse.fuse(*[layer.data for layer in volumes], spatial=3, window=(0, 1))
    assert np.array_equal(fuse_layers(volumes).data, expected)
    coloured = viewer.add_image((np.stack([A, B, A], -1) * 255).astype(np.uint8), rgb=True)
    fused = fuse_layers([viewer.add_image(B, contrast_limits=(0, 1)), coloured])
    assert fused.rgb
    assert fused.data.shape == (24, 20, 3)


def test_what_is_refused(viewer: Any) -> None:
    a, b = viewer.add_image(A, name="a"), viewer.add_image(B, name="b", scale=(2, 2))
    with pytest.raises(ValueError, match="b: its scale or translation differs from that of a"):
        fuse_layers([a, b])
    with pytest.raises(ValueError, match="layers: got 1; choose two or more"):
        fuse_layers([a])


def test_napari_finds_the_widget() -> None:
    from npe2 import PluginManifest

    assert [point.value for point in entry_points(group="napari.manifest", name="nmfuse")] in (
        ["nmfuse.integrations:napari.yaml"],
        [],  # not installed, but on the path
    )
    from importlib.resources import files

    manifest = PluginManifest.from_file(str(files("nmfuse.integrations") / "napari.yaml"))
    assert manifest.contributions.commands[0].python_name == "nmfuse.integrations.napari:make_widget"
