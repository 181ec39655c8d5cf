"""What an image is: pixels, range of values, validity, grid, colour; many of them as one stack, and one given back."""

from nmfuse.images.depth import depth_map
from nmfuse.images.grid import Grid
from nmfuse.images.image import Image

__all__ = ["Grid", "Image", "depth_map"]
