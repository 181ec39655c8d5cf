"""Every way to fuse, one file each, one call shape."""
