"""Tests of the request to the process that checks SavedModels."""

import os
import subprocess
from unittest import mock

from absl.testing import absltest
import numpy as np

from parl_tf.training import saved_model_check


class SavedModelCheckTest(absltest.TestCase):

  def test_observations_may_have_the_names_of_arguments(self):
    example = {'file': np.ones([1, 2]), 'allow_pickle': np.zeros([1])}
    with mock.patch.object(subprocess, 'Popen') as start:
      check = saved_model_check.Check(
          example, in_new_process=True, measure_latency=False
      )
    (command,), _ = start.call_args
    with np.load(os.path.join(command[-1], 'example.npz')) as written:
      self.assertCountEqual(written, ['input_file', 'input_allow_pickle'])
      np.testing.assert_array_equal(written['input_file'], 1.0)
    del check


if __name__ == '__main__':
  absltest.main()
