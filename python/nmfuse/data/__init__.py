"""Images that need no download: a digital brain phantom and a street, both of our own design."""

from nmfuse.data.phantom import BrainPhantom, brain_phantom, pet_rgb
from nmfuse.data.street import StreetScene, street_scene

__all__ = ["BrainPhantom", "StreetScene", "brain_phantom", "pet_rgb", "street_scene"]
