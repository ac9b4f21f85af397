"""Tests that the robot example trains with its page's command."""

import pathlib
import re
import shlex
import shutil

from absl.testing import absltest
import numpy as np
import tensorflow as tf

from parl_tf.replay import episode_log
from tests import programs
from tests.binaries import tiny

_FOLDER = tiny.ROOT / 'examples' / 'robot'
_BINDINGS = (
    *(x for x in tiny.BINDINGS if not x.startswith('PointMaze')),
    *tiny.CHEAP_CRITIC,
    "run_experiment.exported_policies = ('base_policy',)",
    'Robot.max_episode_steps = 8',
    'RobotEnvironment.control_rate = 50.0',
    # A busy machine misses ticks at this rate.
    'RobotEnvironment.max_missed_ticks = 1_000',
    'RobotEnvironment.max_observation_age = 20.0',
    'run_experiment.num_recorded_steps = 80',
    'run_experiment.num_evaluation_episodes = 2',
    "run_experiment.phase_names = ('online',)",
    'Online.num_warm_up_episodes = 1',
    'Online.evaluation_interval = 2',
)


class RobotExampleTest(absltest.TestCase):

  def test_the_command_of_the_page_trains(self):
    folder = self.create_tempdir().full_path
    for name in ('simulated_arm.py', 'simulated_arm.gin'):
      shutil.copy(_FOLDER / name, folder)
    page = (_FOLDER / 'README.md').read_text(encoding='utf-8')
    (command,) = re.findall(r'```sh\n(.*?)```', page, re.DOTALL)
    program, *arguments = shlex.split(command.replace('\\\n', ''))
    self.assertEqual(program, 'parl-train')
    output = programs.run(
        'parl_tf.binaries.train',
        *arguments,
        *(f'--gin_bindings={binding}' for binding in _BINDINGS),
        folder=folder,
    )
    root_dir = pathlib.Path(folder, 'runs', 'simulated')
    self.assertLen(episode_log.EpisodeLog(str(root_dir / 'episodes')), 3)
    # 10 recorded, 3 collected and 4 evaluated, with and without search.
    self.assertLen(re.findall('ticks missed, worst lateness', output), 17)
    policy = tf.saved_model.load(str(root_dir / 'policies' / 'base_policy'))
    action = policy.signatures['serving_default'](
        observation=tf.zeros([3, 4]), seed=tf.zeros([2], tf.int32)
    )['action']
    self.assertLessEqual(np.max(np.abs(action)), 0.25)  # Metres per second.


if __name__ == '__main__':
  absltest.main()
