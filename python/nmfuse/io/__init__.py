"""Reading and writing images and reports."""

from nmfuse.io.files import luminance, new_file, read_image, write_image

__all__ = ["luminance", "new_file", "read_image", "write_image"]
