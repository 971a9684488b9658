"""Read images from a `.beton` file with FFCV (Leclerc et al. 2023), for pools that do not fit on a device.

FFCV is optional; docs/guides/ffcv.md says how to install it with OpenCV and libturbojpeg. The file is memory-mapped, so
all trainer processes of a machine share the page cache.
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from datamodels import machine
from datamodels.errors import ConfigError, InputError, SpecError, StageError, one_line
from datamodels.run.dataset import Dataset

PAGE_BYTES = 2**21
"""The smallest page size that FFCV allows. A file is a few pages larger than its images."""
STALE_SECONDS = 24 * 3600.0
"""Age after which an unfinished file of another machine is removed."""
POLL_SECONDS = 0.002
"""Seconds between checks that the reading thread is alive."""
IMAGE, LABEL = "image", "label"


class Examples(Protocol):
    """A map-style data set: an image uint8[h, w, 3] and a class for each index below `len`."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]: ...


class FfcvSource:
    """Reads minibatches of a data set, in any order, from its file; a `Source`.

    path     the file, which is written if there is none
    workers  threads that read it

    Raises SpecError if FFCV is not installed, and ConfigError if the file is damaged or of another data set.
    """

    def __init__(self, path: str, dataset: Dataset, workers: int = 1):
        _ffcv()
        with _locked(path):
            if not Path(path).exists():
                sweep(path)
                write(path, _ArrayExamples(dataset.x, dataset.y))
        check(path, dataset.y, dataset.x.shape[1:3])
        self._path, self._workers = path, min(workers, machine.cores())
        self._y = dataset.y.astype(np.int64)
        self._loaders: dict[int, tuple[Any, Any]] = {}

    def __call__(self, order: np.ndarray) -> Iterator[tuple[Any, Any]]:
        """Yield images uint8[rows, h, w, 3] and labels int64[rows] for each row of indices int64[steps, rows].

        FFCV reuses the buffer of the images, so copy them before you ask for the next ones. Raises InputError for an
        index beyond the data, and StageError if FFCV's reading thread dies; FFCV itself would wait for it for ever.
        """
        import torch

        if order.min() < 0 or order.max() >= len(self._y):  # compiled code does not check bounds
            raise InputError(f"{self._path}: an index of {order.max()}: must be 0 to {len(self._y) - 1}")
        loader, order_source = self._loader(order.shape[1])
        order_source.order = loader.first_traversal_order = order.reshape(-1).astype(np.uint64)
        batches = iter(loader)
        try:
            for examples in order:
                yield _next(batches, self._path)[0], torch.from_numpy(self._y[examples])
        finally:
            batches.close()

    def _loader(self, rows: int) -> tuple[Any, Any]:
        """Return the loader for minibatches of `rows`, and its order. A new one compiles code for up to 23 s."""
        if rows not in self._loaders:
            ffcv = _ffcv()
            order_source = _settable_order(ffcv)
            pipelines = {
                IMAGE: [ffcv.fields.rgb_image.SimpleRGBImageDecoder(), ffcv.transforms.ToTensor()],
                LABEL: None,
            }
            loader = ffcv.loader.Loader(
                self._path,
                batch_size=rows,
                num_workers=self._workers,
                os_cache=True,
                order=order_source,
                indices=np.arange(len(self._y), dtype=np.uint64),
                pipelines=pipelines,
                drop_last=False,  # true gives no batch at all if a subset is smaller than one
            )
            self._loaders[rows] = loader, order_source
        return self._loaders[rows]


def write(path: str, examples: Examples) -> None:
    """Write a `.beton` file of a map-style data set. It appears under its name when it is complete.

    The file is written in this process, by the parts of FFCV's writer. The writer itself forks, and waits for ever for
    a process that was killed or whose example raised. Raises ConfigError naming the example and the fault.
    """
    ffcv = _ffcv()
    if not len(examples):
        raise ConfigError(f"{path}: cannot write a data set of no examples")
    partial = f"{path}.{socket.gethostname()}.{os.getpid()}.partial"
    fields = {IMAGE: ffcv.fields.RGBImageField(write_mode="raw"), LABEL: ffcv.fields.IntField()}
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        writer = ffcv.writer.DatasetWriter(partial, fields, page_size=_page_bytes(_example(examples, 0)[0]))
        writer.num_samples = len(examples)
        writer.prepare()
        try:
            allocator = ffcv.memory_allocator.MemoryAllocator(partial, writer.data_region_start, writer.page_size)
            table = np.zeros(len(examples), dtype=writer.metadata_type)
            with allocator:
                for index in range(len(examples)):
                    sample = _example(examples, index)
                    ffcv.writer.handle_sample(sample, index, table.dtype.names, table, allocator, fields)
            writer.metadata_sm.buf[: table.nbytes] = table.tobytes()
            writer.finalize(allocator.allocations)
        finally:
            writer.metadata_sm.close()
            writer.metadata_sm.unlink()
        os.replace(partial, path)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error}") from error
    finally:
        Path(partial).unlink(missing_ok=True)


def sweep(path: str) -> None:
    """Remove what killed writers of a file have left. The caller is the only writer of this machine, see `_locked`.

    Those of other machines are removed after a day: no writer takes so long.
    """
    file = Path(path)
    for left in file.parent.glob(f"{glob.escape(file.name)}.*.partial"):
        with contextlib.suppress(FileNotFoundError):
            ours = left.name.startswith(f"{file.name}.{socket.gethostname()}.")
            if ours or time.time() - left.stat().st_mtime > STALE_SECONDS:
                left.unlink()


def check(path: str, y: np.ndarray, size: tuple[int, ...]) -> None:
    """Check that a file is complete, and has images of that size with these labels. Raises ConfigError.

    y     [examples]
    size  height and width of images
    """
    ffcv = _ffcv()
    advice = "delete it, so that it is written again"
    try:
        reader = ffcv.reader.Reader(path)
        end, ends = os.path.getsize(path), reader.alloc_table["ptr"] + reader.alloc_table["size"]
        image, label = (reader.metadata[name] for name in reader.metadata.dtype.names)
        whole = len(reader.alloc_table) == len(image) == reader.num_samples and (ends <= end).all()
        whole = whole and np.isin(image["data_ptr"], reader.alloc_table["ptr"]).all()
        fits = len(image) == len(y) and (image["height"] == size[0]).all() and (image["width"] == size[1]).all()
    except Exception as error:  # FFCV does not validate what it reads, so anything may be raised
        raise ConfigError(f"{path}: is not a complete .beton file ({one_line(error)}); {advice}") from error
    if not whole:
        raise ConfigError(
            f"{path}: is truncated or damaged: its table of images does not fit its {end} bytes; {advice}"
        )
    if not fits or not np.array_equal(label, y):
        raise ConfigError(f"{path}: is of another data set than the run's: image sizes or labels differ; {advice}")


class _ArrayExamples:
    def __init__(self, x: np.ndarray, y: np.ndarray):
        self._x, self._y = x, y

    def __len__(self) -> int:
        return len(self._y)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        return self._x[index], int(self._y[index])


def _example(examples: Examples, index: int) -> tuple[np.ndarray, int]:
    try:
        image, label = examples[index]
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise TypeError("must be an image uint8[h, w, 3] and a class")
        return np.ascontiguousarray(image), int(label)
    except Exception as error:  # the user's data set may raise anything
        raise ConfigError(f"example {index} of the data set: {one_line(error)}") from error


def _next(batches: Any, path: str) -> tuple[Any, ...]:
    """Return the next of FFCV's batches. `batches` is a thread, which ends silently if it raises."""
    while batches.output_queue.empty():
        if not batches.is_alive() and batches.output_queue.empty():
            raise StageError(f"{path}: FFCV's reading thread died; the log above has its traceback")
        time.sleep(POLL_SECONDS)
    return next(batches)


def _settable_order(ffcv: Any) -> Any:
    class FixedOrder(ffcv.traversal_order.base.TraversalOrder):
        """Returns the order in its attribute `order`. FFCV calls the instance as if it were a class."""

        def __init__(self) -> None:
            self.order = np.empty(0, dtype=np.uint64)

        def __call__(self, loader: Any) -> Any:
            return self

        def sample_order(self, epoch: int) -> np.ndarray:
            return self.order

    return FixedOrder()


def _page_bytes(image: np.ndarray) -> int:
    """Return a page size, a power of two, that holds an image."""
    return max(PAGE_BYTES, 2 ** int(image.nbytes - 1).bit_length())


@contextlib.contextmanager
def _locked(path: str) -> Iterator[None]:
    """Let one process of a machine in at a time: the first writes the file, the others wait for it."""
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(f"{path}.lock", os.O_CREAT | os.O_WRONLY)
    except OSError as error:
        raise SpecError(f"trainer.options.ffcv_file = {path!r}: cannot be written: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _ffcv() -> Any:
    """Return FFCV, with the modules that are used here imported. Raises SpecError if it is not installed."""
    try:
        import ffcv
        import ffcv.fields.rgb_image
        import ffcv.loader
        import ffcv.memory_allocator
        import ffcv.reader
        import ffcv.transforms
        import ffcv.traversal_order.base
        import ffcv.writer
    except ImportError as error:
        raise SpecError(f"trainer.options.ffcv_file: needs FFCV, see docs/guides/ffcv.md: {error}") from error
    return ffcv
