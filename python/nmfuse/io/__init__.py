"""Reading and writing images and reports."""

from nmfuse.io.files import check_output, grey, luminance, new_file, read_image, write_image

__all__ = ["check_output", "grey", "luminance", "new_file", "read_image", "write_image"]
