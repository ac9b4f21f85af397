"""Tests of the comparison of datasets that are to be joined."""

import os

from absl import logging
from absl.testing import absltest
from absl.testing import parameterized
import gin
import numpy as np

from parl_tf.datasets import conversion
from tests.datasets import d4rl_columns

_WIDE = np.array([[1.0, 1.0], [-1.0, 0.5], [0.0, 0.0], [0.5, 0.5]], np.float32)


class JoiningTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self.addCleanup(gin.clear_config)
    self._folder = self.create_tempdir().full_path
    self._output = os.path.join(self._folder, 'output.hdf5')

  def _write(self, name, **changes):
    path = os.path.join(self._folder, name)
    d4rl_columns.write(path, d4rl_columns.make('-t-t', **changes))
    return path

  def _both_writers(self, paths):
    return (
        lambda: conversion.convert(paths, self._output),
        lambda: list(conversion.read(paths).episodes),
    )

  def test_another_shape_names_the_input_and_both_shapes(self):
    paths = [
        self._write('a.hdf5'),
        self._write('b.hdf5', observations=np.zeros([4, 5], np.float32)),
    ]
    for write in self._both_writers(paths):
      with self.assertRaisesRegex(
          ValueError,
          r'/b.hdf5: `observations` must have rows of shape \(2,\), as in'
          r' \S+/a.hdf5, got \(5,\)\.$',
      ):
        write()
    self.assertFalse(os.path.exists(self._output))

  def test_another_number_of_actions_names_the_input(self):
    paths = [self._write('a.hdf5'), self._write('b.hdf5', actions=_WIDE)]
    for write in self._both_writers(paths):
      with self.assertRaisesRegex(
          ValueError, r'/b.hdf5: `actions` must have .* \(1,\), .* got \(2,\)'
      ):
        write()

  def test_other_parts_of_an_observation_name_the_input(self):
    parts = {'observations/place': np.zeros([4, 2], np.float32)}
    paths = [
        self._write('a.hdf5'),
        self._write('b.hdf5', observations=None, **parts),
    ]
    for write in self._both_writers(paths):
      with self.assertRaisesRegex(
          ValueError, r"/b.hdf5: must have .*s'\] of \S+/a.hdf5, got .*/place'"
      ):
        write()

  @parameterized.parameters(
      ((1.0, 0.5), 'Element 2 of the actions reaches 0.5 in .*b, but 1 in .*a'),
      ((1.0, 0.7), None),
      ((1.0, 0.0), None),  # An element that never moves has no scale.
  )
  def test_actions_of_other_scales_are_warned_of(self, factors, message):
    narrow = _WIDE * np.array(factors, np.float32)
    paths = [
        self._write('a', actions=_WIDE), self._write('b', actions=narrow)
    ]
    for write in self._both_writers(paths):
      with self.assertLogs(logging.get_absl_logger(), 'INFO') as logs:
        logging.info('Begins.')
        write()
      found = [x for x in logs.output if 'of the actions reaches' in x]
      if message is None:
        self.assertEmpty(found)
      else:
        self.assertLen(found, 1)
        self.assertRegex(found[0], message)

  def test_small_actions_of_known_units_are_not_warned_of(self):
    paths = []
    for name, scale in ('a', 1.0), ('b', 0.25):
      episode = d4rl_columns.make_episode([0, 1, 2], True)
      paths.append(os.path.join(self._folder, name))
      d4rl_columns.write_episodes(
          paths[-1], [episode._replace(action=scale * episode.action)]
      )
    with self.assertNoLogs(logging.get_absl_logger(), 'WARNING'):
      conversion.convert(paths, self._output)


if __name__ == '__main__':
  absltest.main()
