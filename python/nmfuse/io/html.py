"""Pages that open offline: a template that comes with a package, and pictures within the page."""

from __future__ import annotations

import base64
import io
from importlib.resources import files
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.Image import Image as Picture


def render(package: str, template: str, **values: Any) -> str:
    """Return a page: a package's Jinja template with these values, escaped, none of which may be missing."""
    import jinja2

    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    return environment.from_string(files(package).joinpath(template).read_text()).render(**values)


def data_uri(picture: Picture, kind: str, **options: Any) -> str:
    """Return a picture as a data URI, encoded by Pillow as "png", "webp" and so on with its options."""
    out = io.BytesIO()
    picture.save(out, kind.upper(), **options)
    return f"data:image/{kind};base64,{base64.b64encode(out.getvalue()).decode()}"
