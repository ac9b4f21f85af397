"""Tests that `tf.keras` is Keras 2 with every supported Python."""

import os
import subprocess
import sys

from absl.testing import absltest
from absl.testing import parameterized

from tests import build_files

# Each program imports TensorFlow, which takes seconds.
_HAS_KERAS_3 = sys.version_info >= (3, 12)
_IMPORTS = ['']
if _HAS_KERAS_3:
  _IMPORTS += ['import tensorflow as tf', 'import parl_tf, tf_agents.networks']

_NETWORKS = """
from parl_tf.networks import blocks
import tensorflow as tf
assert issubclass(tf.keras.optimizers.Adam, tf.keras.optimizers.Optimizer)
print(tf.keras.layers.Dense(2)(tf.zeros([1, 3])).shape)
"""


class KerasVersionTest(parameterized.TestCase):

  def _run(self, program):
    environment = {**os.environ, 'PYTHONPATH': str(build_files.ROOT)}
    # conftest.py has imported `parl_tf`, which sets it.
    environment.pop('TF_USE_LEGACY_KERAS', None)
    return subprocess.run(
        [sys.executable, '-c', program + _NETWORKS],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )

  @parameterized.parameters(_IMPORTS)
  def test_networks_have_keras_2(self, imports):
    completed = self._run(imports)

    self.assertEqual(completed.returncode, 0, completed.stderr)
    self.assertEqual(completed.stdout.strip(), '(1, 2)')

  if _HAS_KERAS_3:

    def test_keras_3_used_before_the_import_is_an_error(self):
      completed = self._run('import tensorflow as tf; tf.keras.Model')
      self.assertIn(
          '`tf.keras` must be Keras 2, got Keras 3.',
          completed.stderr.splitlines()[-1],
      )


if __name__ == '__main__':
  absltest.main()
