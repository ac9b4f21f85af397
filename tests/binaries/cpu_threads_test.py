"""Tests of the threads of an operation."""

import os
import subprocess
import sys
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

  @parameterized.parameters(_NAME, 'OPENBLAS_NUM_THREADS')
  def test_the_users_choice_is_kept(self, name):
    with mock.patch.dict(os.environ, {name: '3'}):
      cpu_threads.set_default()
      self.assertEqual(os.environ[name], '3')

  def test_a_program_sets_its_threads_before_numpy_starts(self):
    program = (
        'import sys, parl_tf.binaries, os\n'
        'assert not {"numpy", "tensorflow"} & set(sys.modules)\n'
        'print(os.environ["OPENBLAS_NUM_THREADS"])'
    )
    environment = dict(os.environ)
    environment.pop('OPENBLAS_NUM_THREADS', None)
    output = subprocess.check_output(
        [sys.executable, '-c', program], env=environment, text=True
    )
    self.assertEqual(output, '1\n')


if __name__ == '__main__':
  absltest.main()
