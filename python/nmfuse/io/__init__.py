"""Reading and writing: images in the formats of one table, sets of them in folders and CSV files, and whole files."""

from nmfuse.io.brackets import find_brackets
from nmfuse.io.formats import Format, is_image, suffixes
from nmfuse.io.images import list_images, list_pages, open_image, read_image, read_like, write_image
from nmfuse.io.output import check_file, check_output, new_file
from nmfuse.io.profiles import to_profile_of
from nmfuse.io.sets import SourceSet, find_sets, is_one_source, match_sets
from nmfuse.io.suv import to_suv

__all__ = [
    "Format",
    "SourceSet",
    "check_file",
    "check_output",
    "find_brackets",
    "find_sets",
    "is_image",
    "is_one_source",
    "list_images",
    "list_pages",
    "match_sets",
    "new_file",
    "open_image",
    "read_image",
    "read_like",
    "suffixes",
    "to_profile_of",
    "to_suv",
    "write_image",
]
