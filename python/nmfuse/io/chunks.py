"""Chunks of Zarr and HDF5 that unpack to more bytes than they have room for: refused before memory is made for them."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import math
import struct
import zlib
from dataclasses import dataclass, replace
from typing import Any

_ONCE = 1 << 20  # bytes that are unpacked at a time
_MORE = 1 << 16  # bytes that filters and checksums may add
_GZIP = 1  # the number of that filter in HDF5
_FRAME = struct.Struct("<4sB")  # how zstd begins: 4 bytes of its own, and what else the header has


def bounded(array: Any) -> Any:
    """Return a Zarr array whose chunks are refused, by a ValueError, where they would unpack to more than they hold.

    Examples
    --------
    >>> import numpy as np, zarr
    >>> array = bounded(zarr.array(np.arange(12).reshape(3, 4)))
    >>> array[1]
    array([4, 5, 6, 7])
    """
    import zarr
    from numcodecs.abc import Codec
    from zarr.abc.codec import BytesBytesCodec
    from zarr.codecs import ShardingCodec

    class BoundedCodec(BytesBytesCodec):  # of version 3
        is_fixed_size = False

        def __init__(self, codec: BytesBytesCodec) -> None:
            self.codec = codec

        def to_dict(self) -> Any:
            return self.codec.to_dict()

        def compute_encoded_size(self, length: int, spec: Any) -> int:
            return self.codec.compute_encoded_size(length, spec)

        async def _decode_single(self, data: Any, spec: Any) -> Any:
            room = spec.dtype.to_native_dtype().itemsize * math.prod(spec.shape)
            _check(str(self.to_dict()["name"]).removeprefix("numcodecs."), data.to_bytes(), room)
            return await self.codec._decode_single(data, spec)

    class BoundedCompressor(Codec):  # type: ignore[misc] # of version 2
        codec_id = "bounded"

        def __init__(self, codec: Codec) -> None:
            self.codec = codec

        def encode(self, buf: Any) -> Any:
            return self.codec.encode(buf)

        def decode(self, buf: Any, out: Any = None) -> Any:
            _check(self.codec.codec_id, bytes(buf), array.dtype.itemsize * math.prod(array.chunks))
            return self.codec.decode(buf, out)

    def wrapped(codec: Any) -> Any:
        if isinstance(codec, ShardingCodec):
            return replace(codec, codecs=tuple(map(wrapped, codec.codecs)))
        return BoundedCodec(codec) if isinstance(codec, BytesBytesCodec) else codec

    metadata = array.metadata
    changed: dict[str, Any]
    if metadata.zarr_format == 2:
        compressor = metadata.compressor
        changed = {"compressor": None if compressor is None else BoundedCompressor(compressor)}
    else:
        changed = {"codecs": tuple(map(wrapped, metadata.codecs))}
    return zarr.Array(zarr.AsyncArray(replace(metadata, **changed), array.store_path))


@dataclass(frozen=True, eq=False)
class BoundedDataset:
    """A dataset of HDF5 that refuses, by a ValueError, chunks by gzip that would unpack to more than they hold."""

    data: Any

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the dataset."""
        shape: tuple[int, ...] = self.data.shape
        return shape

    @property
    def dtype(self) -> Any:
        """Type of its values."""
        return self.data.dtype

    def __getitem__(self, place: Any) -> Any:
        """Return what is sliced, after a look at its chunks."""
        if self.data.compression == "gzip":
            file, steps = self.data.id, self.data.id.get_create_plist()
            numbers = (steps.get_filter(k)[0] for k in range(steps.get_nfilters()))
            gzipped = sum(1 << k for k, number in enumerate(numbers) if number == _GZIP)
            room = self.data.dtype.itemsize * math.prod(self.data.chunks)
            for chunk in self.data.iter_chunks(_of_every_axis(place, len(self.data.shape))):
                start = tuple(span.start // n * n for span, n in zip(chunk, self.data.chunks, strict=True))
                if file.get_chunk_info_by_coord(start).byte_offset is None:  # it was never written
                    continue
                left_out, data = file.read_direct_chunk(start)
                if left_out & gzipped != gzipped:  # a chunk that gzip did not make smaller may lie as it is
                    _check("gzip of HDF5", data, room)
        return self.data[place]


def _of_every_axis(place: Any, axes: int) -> tuple[Any, ...]:
    """Return a slice or number for every axis, of fewer with or without an ellipsis."""
    place = place if isinstance(place, tuple) else (place,)
    at = next((k for k, one in enumerate(place) if one is Ellipsis), len(place))
    given = (*place[:at], *place[at + 1 :])
    return (*given[:at], *[slice(None)] * (axes - len(given)), *given[at:])


def _check(name: str, data: bytes, room: int) -> None:
    """Refuse the bytes of a chunk that a codec would unpack to much more than there is room for."""
    most = 2 * room + _MORE
    if _unpacked(name, data, most) > most:
        raise ValueError(f"a chunk of {len(data)} bytes, by {name}, unpacks to more than the {room} that it is to hold")


def _unpacked(name: str, data: bytes, most: int) -> int:
    """Return how many bytes come out, by what the data says of itself, or counted until there are more than `most`."""
    if name == "gzip":
        return _counted(gzip.GzipFile(fileobj=io.BytesIO(data)), most)
    if name == "bz2":
        return _counted(bz2.BZ2File(io.BytesIO(data)), most)
    if name == "lzma":
        try:
            return _counted(lzma.LZMAFile(io.BytesIO(data)), most)
        except lzma.LZMAError:  # it is raw, which only the codec can unpack, or broken
            return 0
    if name in ("zlib", "gzip of HDF5"):  # both write what zlib does
        stream, total = zlib.decompressobj(), 0
        while data and total <= most:
            total += len(stream.decompress(data, _ONCE))
            data = stream.unconsumed_tail
        return total
    if name == "blosc" and len(data) >= 8:
        return int.from_bytes(data[4:8], "little")
    if name == "lz4":
        return int.from_bytes(data[:4], "little")
    return _size_of_zstd(data, most) if name == "zstd" else 0


def _counted(file: Any, most: int) -> int:
    total = 0
    with file:
        while total <= most and (piece := file.read(_ONCE)):
            total += len(piece)
    return total


def _size_of_zstd(data: bytes, most: int) -> int:
    """Return the content size of a frame (RFC 8878, 3.1.1.1); if it says none, what comes out, or more than `most`."""
    import imagecodecs

    if len(data) < _FRAME.size:
        return 0
    flags = _FRAME.unpack_from(data)[1]
    whole = flags >> 5 & 1
    at = _FRAME.size + (1 - whole) + (0, 1, 2, 4)[flags & 3]
    size = (whole, 2, 4, 8)[flags >> 6]
    if size:
        return int.from_bytes(data[at : at + size], "little") + (256 if size == 2 else 0)
    try:
        return len(imagecodecs.zstd_decode(data, out=most))
    except imagecodecs.ZstdError:  # it is broken, or does not fit
        return most + 1
