"""Reading and writing images and reports."""

from nmfuse.io.files import new_file, read_image, write_image

__all__ = ["new_file", "read_image", "write_image"]
