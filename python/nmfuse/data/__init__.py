"""Images that need no download: a digital brain phantom of our own design."""

from nmfuse.data.phantom import BrainPhantom, brain_phantom, pet_rgb

__all__ = ["BrainPhantom", "brain_phantom", "pet_rgb"]
