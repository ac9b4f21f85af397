"""Tests of the threads of an operation."""

import os
from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized

from parl_tf.binaries import cpu_threads

_NAME = 'TF_NUM_INTRAOP_THREADS'


class CpuThreadsTest(parameterized.TestCase):

  @parameterized.parameters((1, '1'), (2, '1'), (7, '1'), (16, '4'))
  def test_large_processors_have_several_threads_per_operation(
      self, num_cores, expected
  ):
    with mock.patch.dict(os.environ):
      os.environ.pop(_NAME, None)
      with mock.patch.object(os, 'cpu_count', lambda: num_cores):
        cpu_threads.set_default()
      self.assertEqual(os.environ[_NAME], expected)

  def test_the_users_choice_is_kept(self):
    with mock.patch.dict(os.environ, {_NAME: '3'}):
      cpu_threads.set_default()
      self.assertEqual(os.environ[_NAME], '3')


if __name__ == '__main__':
  absltest.main()
