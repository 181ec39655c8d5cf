"""nmfuse inside other packages: MONAI, TorchIO and napari, each of which is imported where it is used."""
