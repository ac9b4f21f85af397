"""Tests that a C program acts like the policy that was exported."""

import os

from absl.testing import absltest
import pytest
import tensorflow as tf

from benchmarks import c_program
from tests.binaries import tiny


# It needs gcc, which `make test` does not.
@pytest.mark.full
class CProgramTest(absltest.TestCase):

  def test_it_takes_the_actions_that_python_takes(self):
    folder = os.path.join(tiny.finished_run(), 'policies')
    program = c_program.build(self.create_tempdir().full_path)
    observation = [0.1, -0.2, 0.3, 0.0]
    for name in ('base_policy', 'greedy_policy'):
      policy = os.path.join(folder, name)
      model = tf.saved_model.load(policy)
      wanted = model.signatures['serving_default'](
          observation=tf.constant([observation]), seed=tf.constant([0, 1])
      )['action'].numpy()[0]
      action, seconds = c_program.act(program, policy, 20, observation)
      self.assertSequenceAlmostEqual(action, wanted.tolist(), places=5)
      self.assertLen(seconds, 20)


if __name__ == '__main__':
  absltest.main()
