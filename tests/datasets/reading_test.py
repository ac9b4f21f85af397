"""Tests of how datasets are opened and which rewards count."""

import os
import pathlib

from absl.testing import absltest
import numpy as np

from parl_tf.datasets import inspection
from parl_tf.datasets import reading
from tests.datasets import d4rl_columns


class ReadingTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    path = os.path.join(self.create_tempdir().full_path, 'data.hdf5')
    rewards = np.array([0.1, 0.95, 0.1, 0.2], np.float32)
    d4rl_columns.write(path, d4rl_columns.make('-t-t', rewards=rewards))
    self._path = pathlib.Path(path)

  def test_a_path_may_be_an_object(self):
    self.assertLen(list(reading.read_episodes(self._path)), 2)

  def test_binary_rewards_replace_those_of_the_file(self):
    options = dict(reward_values=(0.0, 1.0), success_reward=0.9)
    for is_binary, num_faults in ((False, 1), (True, 0)):
      layout = reading.make_layout(is_binary=is_binary, **options)
      found = inspection.inspect(self._path, layout)
      self.assertLen(found.faults, num_faults)
    first, second = reading.read_episodes(
        self._path, is_binary=True, **options
    )
    np.testing.assert_array_equal(first.reward, [0, 1])
    np.testing.assert_array_equal(second.reward, [0, 0])


if __name__ == '__main__':
  absltest.main()
