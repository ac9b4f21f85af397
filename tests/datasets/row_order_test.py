"""Tests of noticing rows that are not in their order."""

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

from parl_tf.datasets import inspection
from tests.datasets import d4rl_columns
from tests.datasets import dataset_case

_ENDS = ('-' * 199 + 't') * 100


class RowOrderTest(dataset_case.DatasetCase):

  def _walk(self):
    """Returns columns of a bounded random walk next to a constant."""
    random = np.random.default_rng(0)
    phase = np.cumsum(random.normal(0, 0.3, [len(_ENDS)]))
    observations = np.stack([np.sin(phase), np.full_like(phase, 0.1)], axis=1)
    return d4rl_columns.make(
        _ENDS, observations=observations.astype(np.float32)
    )

  def _hints(self, columns):
    d4rl_columns.write(self._path, columns)
    found = inspection.inspect(self._path)
    self.assertEmpty(found.faults)
    return found.end_hints

  def _shuffled(self, columns):
    order = np.random.default_rng(1).permutation(len(_ENDS))
    return {name: array[order] for name, array in columns.items()}

  def test_shuffled_rows_are_hinted_at(self):
    columns = self._walk()
    self.assertEmpty(self._hints(columns))
    (hint,) = self._hints(self._shuffled(columns))
    self.assertStartsWith(hint, 'consecutive observations of an episode are no')

  def test_one_entry_that_moves_steadily_is_enough(self):
    columns = self._walk()
    observations = columns['observations']
    noise = np.random.default_rng(2).normal(size=len(observations))
    columns['observations'] = np.stack([noise, observations[:, 0]], axis=1)
    self.assertEmpty(self._hints(columns))
    self.assertLen(self._hints(self._shuffled(columns)), 1)

  def test_parts_of_an_observation_are_compared(self):
    columns = self._walk()
    walk = columns.pop('observations')
    columns['observations/place'] = walk
    columns['observations/image'] = np.zeros([len(walk), 2, 2], np.uint8)
    self.assertEmpty(self._hints(columns))
    self.assertLen(self._hints(self._shuffled(columns)), 1)

  @parameterized.parameters(('-' * 500 + 't',), ('t' * 20_000,))
  def test_few_pairs_of_rows_decide_nothing(self, ends):
    columns = self._walk()
    noise = np.random.default_rng(3).normal(size=[len(ends), 2])
    columns = d4rl_columns.make(ends, observations=noise)
    self.assertEmpty(self._hints(columns))


if __name__ == '__main__':
  absltest.main()
