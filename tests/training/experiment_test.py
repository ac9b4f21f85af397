"""Tests of a whole run with a non-default policy, critic and experience."""

import functools
import json
import os
import pathlib
from unittest import mock

from absl.testing import absltest
import gin
import pytest

from parl_tf.binaries import configs
from parl_tf.domains import pointmaze
from parl_tf.training import experiment
from parl_tf.training import phases
from parl_tf.training import run_policies
from parl_tf.training import run_summary
from parl_tf.training import sources
from tests.binaries import tiny

_BINDINGS = (
    'import parl_tf.replay.reverb_experience',
    'run_experiment.experience_ctor = @ReverbExperience',
    'run_experiment.num_recorded_steps = 200',
    'run_experiment.num_evaluation_episodes = 2',
    'BehaviorCloning.num_steps = 2',
    'BehaviorCloning.min_steps = 0',
    'Offline.num_steps = 2',
    'Online.num_episodes = 1',
    *tiny.CHEAP_PARTS,
    # The critic's loss has one trace for both phases.
    'Offline.batch_size = 8',
    'Online.critic_batch_size = 8',
    # Searches without an ascent, and an export without a search.
    'ActionOptimizer.num_gradient_steps = 0',
    "run_experiment.exported_policies = ('base_policy',)",
)


class _Environments:
  """Counts the environments of the point maze."""

  def __init__(self):
    self._make = pointmaze.PointMaze.make_environment
    self.num_made = self.num_open = 0

  @property
  def make(self):
    def make_environment(domain, *args, **kwargs):
      environment = self._make(domain, *args, **kwargs)
      self.num_made += 1
      self.num_open += 1
      environment.close = self._close
      return environment

    return make_environment

  def _close(self):
    self.num_open -= 1


class ExperimentTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    self.addCleanup(gin.clear_config)
    gin.clear_config()

  @pytest.mark.reverb
  def test_rows_may_come_from_a_replay_server(self):
    root_dir = os.path.join(self.create_tempdir().full_path, 'run')
    configs.parse([tiny.GIN_FILE], [*tiny.BINDINGS, *_BINDINGS])
    best = run_summary.BestEvaluation(2, 4, 1.0, 1.0, 2, -1.0)
    environments = _Environments()
    with (
        mock.patch.object(run_policies, 'export_best', return_value=best),
        mock.patch.object(
            pointmaze.PointMaze, 'make_environment', environments.make
        ),
    ):
      summary = experiment.run_experiment(root_dir, 0)
    self.assertEqual(summary.best, best)
    # Of two evaluation episodes, and of collection.
    self.assertEqual(environments.num_made, 3)
    self.assertEqual(environments.num_open, 0)
    rows = tiny.read_metrics(root_dir)
    self.assertEqual(
        [row['phase'] for row in rows],
        ['behavior_cloning'] * 2 + ['offline'] + ['online'] * 2,
    )
    self.assertTrue(all(row['losses/td'] for row in (rows[2], rows[4])))
    self.assertEqual(
        summary.phases['online'].train_steps, int(rows[4]['collect/length'])
    )
    with open(os.path.join(root_dir, 'summary.json')) as file:
      self.assertEqual(
          json.load(file)['phases']['online'],
          summary.phases['online']._asdict(),
      )
    self.assertLen(summary.policies, 1)


  def test_a_robot_that_cannot_be_used_ends_a_run_before_its_phases(self):
    root_dir = os.path.join(self.create_tempdir().full_path, 'run')
    configs.parse([tiny.GIN_FILE], tiny.BINDINGS)
    with mock.patch.object(
        sources.LocalSource, 'check_domain', side_effect=ValueError('in use')
    ):
      with self.assertRaisesRegex(ValueError, 'in use'):
        experiment.run_experiment(root_dir, 0)
    self.assertFalse(os.path.exists(os.path.join(root_dir, 'checkpoints')))


class ArgumentsTest(absltest.TestCase):

  def test_options_without_effect_are_refused(self):
    self.addCleanup(gin.clear_config)
    root_dir = os.path.join(self.create_tempdir().full_path, 'run')
    for bindings, message in (
        (("run_experiment.initial_phase = 'offline'",), '`initial_run`'),
        (
            (
                'Online.video_interval = 25',
                'run_experiment.num_evaluation_episodes = 0',
            ),
            '`Online.video_interval` needs',
        ),
    ):
      gin.clear_config()
      configs.parse([tiny.GIN_FILE], (*tiny.BINDINGS, *bindings))
      with self.assertRaisesRegex(ValueError, message):
        experiment.run_experiment(root_dir, 0)
    self.assertFalse(os.path.exists(root_dir))

  def test_settings_must_be_bound(self):
    self.addCleanup(gin.clear_config)
    gin.parse_config('run_experiment.held_out_fraction = 0.1')
    root_dir = os.path.join(self.create_tempdir().full_path, 'run')
    for name, value in (
        ('timeouts_fail_online', True),
        ('held_out_fraction', 0.05),
        ('phase_names', ('offline',)),
        ('dataset_path', pathlib.Path('data.hdf5')),
        ('online_ctor', functools.partial(phases.Online, num_episodes=3)),
    ):
      with self.assertRaisesRegex(
          ValueError, f'run_experiment.{name}` must be bound in gin'
      ):
        experiment.run_experiment(root_dir, 0, **{name: value})
    self.assertFalse(os.path.exists(root_dir))


if __name__ == '__main__':
  absltest.main()
