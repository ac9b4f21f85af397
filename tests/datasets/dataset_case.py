"""Base class of the tests of all dataset formats."""

import contextlib
import os
from typing import Iterator, List, Sequence
from unittest import mock

from absl.testing import parameterized
import h5py
import numpy as np

from parl_tf import types
from parl_tf.datasets import inspection
from parl_tf.datasets import reading
from parl_tf.datasets import rows

_NUM_DAMAGES = 100
_DAMAGE_BYTES = 8


class DatasetCase(parameterized.TestCase):
  """A dataset in a temporary directory that a test writes and reads.

  Attributes:
    file_name: File name of the dataset.
  """

  file_name = 'data.hdf5'

  def setUp(self):
    super().setUp()
    self._path = os.path.join(self.create_tempdir().full_path, self.file_name)

  def _read(self, **kwargs) -> List[types.Episode]:
    return list(reading.read_episodes(self._path, **kwargs))

  def _faults(self, **layout) -> Sequence[str]:
    return inspection.inspect(self._path, rows.Layout(**layout)).faults

  def _assert_fault(self, *parts, **layout):
    """Asserts that there is exactly one fault, which contains `parts`."""
    faults = self._faults(**layout)
    self.assertLen(faults, 1, faults)
    for part in parts:
      self.assertIn(part, faults[0])

  def _check_figures(
      self, format_name, *, num_terminals, num_timeouts, lengths, returns,
      successes
  ):
    """Checks a dataset without trailing rows; returns the inspection."""
    found = inspection.inspect(self._path)
    self.assertEmpty(found.faults)
    self.assertEqual(found.format, format_name)
    self.assertEqual(found.num_rows, sum(lengths))
    self.assertEqual(found.num_terminals, num_terminals)
    self.assertEqual(found.num_timeouts, num_timeouts)
    self.assertEqual(found.num_trailing_rows, 0)
    self.assertEqual(found.lengths.tolist(), lengths)
    self.assertEqual(found.returns.tolist(), returns)
    self.assertEqual(found.successes.tolist(), successes)
    return found

  def _check_solved_and_cut(self, solved, cut):
    """Checks an episode solved at step 3, and one that times out at step 2."""
    self.assertEqual(solved.reward.tolist(), [0, 0, 1])
    self.assertEqual(solved.discount.tolist(), [1, 1, 0])
    self.assertEqual(solved.success.tolist(), [False, False, True])
    self.assertEqual(solved.action.tolist(), [[0.5]] * 3)
    self.assertEqual(cut.reward.tolist(), [0, 0])
    self.assertEqual(cut.discount.tolist(), [1, 1])
    self.assertEqual(cut.success.tolist(), [False, False])
    self.assertTrue(solved.has_last_transition)
    self.assertTrue(cut.has_last_transition)

  def _check_cut_short(self, path, share, message):
    """Checks the fault of a dataset file truncated to a share of its size."""
    os.truncate(path, int(os.path.getsize(path) * share))
    self.assertRegex(self._faults()[0], message)

  def _check_damage_anywhere(self, path, first=0):
    """Checks that changing bytes from `first` on raises no error."""
    with open(path, 'rb') as file:
      whole = file.read()
    random = np.random.default_rng(0)
    num_named = 0
    for _ in range(_NUM_DAMAGES):
      damaged = bytearray(whole)
      start = random.integers(first, len(whole) - _DAMAGE_BYTES)
      damaged[start : start + _DAMAGE_BYTES] = random.bytes(_DAMAGE_BYTES)
      with open(path, 'wb') as file:
        file.write(damaged)
      num_named += bool(self._faults())
    self.assertGreater(num_named, 0)


@contextlib.contextmanager
def record_reads() -> Iterator[List[str]]:
  """Yields a list that collects the names of the HDF5 datasets read."""
  names = []
  read = h5py.Dataset.__getitem__

  def record(dataset, *args, **kwargs):
    names.append(dataset.name)
    return read(dataset, *args, **kwargs)

  with mock.patch.object(h5py.Dataset, '__getitem__', record):
    yield names
