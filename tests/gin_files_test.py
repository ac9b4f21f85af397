"""Tests of the gin files: each stands alone, and they go together."""

import os
import pathlib
import subprocess
import sys

from absl.testing import parameterized
import gin
import tensorflow as tf

from parl_tf.binaries import configs
from parl_tf.training import builder
from parl_tf.training import evaluation
from tests import tensor_case

_ROOT = pathlib.Path(__file__).resolve().parents[1]

# Forks before anything of ours is imported, so that what one file imports is of
# no help to the next. The packages below are slow to import and register none
# of our names.
_PROGRAM = """
import os, sys, traceback
import gymnasium, reverb, tensorflow, tf_agents.agents
from parl_tf.binaries import configs
for path in sys.argv[1:]:
  if not os.fork():
    try:
      configs.parse([path])
    except BaseException:
      traceback.print_exc()
      os._exit(1)
    os._exit(0)
  if os.wait()[1]:
    print('cannot be parsed alone:', path)
"""


class GinFilesTest(tensor_case.TensorCase):

  def setUp(self):
    super().setUp()
    self.addCleanup(gin.clear_config)
    gin.clear_config()

  def test_each_file_parses_alone(self):
    folder = _ROOT / 'gin'
    paths = sorted(str(p.relative_to(folder)) for p in folder.rglob('*.gin'))
    self.assertContainsSubset(
        ['quickstart.gin', 'methods/parl_iql.gin'], paths
    )
    done = subprocess.run(
        [sys.executable, '-c', _PROGRAM, *paths],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, 'PYTHONPATH': str(_ROOT)},
    )
    self.assertEmpty(done.stdout, done.stderr)

  @parameterized.product(
      policy=['DiffusionPolicy', 'GaussianPolicy'],
      critic=['CalQLCritic', 'IQLCritic'],
  )
  def test_quickstart_takes_any_policy_and_critic(self, policy, critic):
    configs.parse(
        ['quickstart.gin'],
        [
            f'build_agent.policy_ctor = @{policy}',
            f'build_agent.critic_ctor = @{critic}',
        ],
    )
    agent = builder.build_agent(
        evaluation.select_domain(), None, 0, tf.Variable(0, dtype=tf.int64)
    )
    self.assertEqual(type(agent.generative_policy).__name__, policy)
    self.assertEqual(type(agent.critic).__name__, critic)


if __name__ == '__main__':
  tf.test.main()
