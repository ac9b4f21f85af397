"""Tests of arrays whose rows can be given back."""

import errno
import mmap
from unittest import mock

from absl.testing import absltest
import numpy as np

from parl_tf.replay import paged_array


class _NoHugePages(mmap.mmap):
  is_asked = False

  def madvise(self, *args):
    self.is_asked = True
    raise OSError(errno.EINVAL, 'Invalid argument')


class PagedArrayTest(absltest.TestCase):

  def test_released_rows_take_no_memory(self):
    array = paged_array.allocate((10, mmap.PAGESIZE), np.uint8)
    array[:] = 1
    paged_array.release(array, 2, 5)
    # The system gives new pages, which are zero.
    self.assertEqual(array[:, -1].tolist(), [1, 1, 0, 0, 0, 1, 1, 1, 1, 1])

  def test_rows_that_share_a_page_with_others_are_kept(self):
    array = paged_array.allocate((6, mmap.PAGESIZE // 8), np.float32)
    array[:] = 1.0
    paged_array.release(array, 1, 5)
    # Two rows fill a page.
    self.assertEqual(array[:, 0].tolist(), [1, 1, 0, 0, 1, 1])
    paged_array.release(array, 5, 6)
    self.assertEqual(array[5, 0], 1.0)

  def test_a_kernel_may_have_no_huge_pages(self):
    pages = mock.MagicMock(wraps=mmap.mmap)
    pages.return_value = memory = _NoHugePages(-1, 2**22)
    with mock.patch.object(mmap, 'mmap', pages):
      array = paged_array.allocate((2**22,), np.uint8)
    self.assertTrue(memory.is_asked)
    self.assertEqual(array.sum(), 0)

  def test_an_array_may_be_empty(self):
    array = paged_array.allocate((0, 3), np.float32)
    self.assertEqual(array.shape, (0, 3))


if __name__ == '__main__':
  absltest.main()
