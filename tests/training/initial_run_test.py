"""Tests of runs that begin at the end of a phase of another run."""

import functools
import os
import shutil

from absl.testing import absltest
from absl.testing import parameterized
import gin
import pytest
import tensorflow as tf

from parl_tf.binaries import configs
from parl_tf.critics import cal_ql
from parl_tf.datasets import episodes as episodes_lib
from parl_tf.improvers import edit
from parl_tf.policies import edited
from parl_tf.policies import gaussian
from parl_tf.reports import run_files
from parl_tf.reports import runs as runs_lib
from parl_tf.training import experiment
from parl_tf.training import initial_run
from parl_tf.training import phase_checkpoint
from parl_tf.training import phases
from tests import tensor_case
from tests.agents import small_agent
from tests.binaries import tiny
from tests.training import small_run

_CLONING = phases.BehaviorCloning(num_steps=4, batch_size=8, interval=2)
_OFFLINE = phases.Offline(num_steps=4, batch_size=8, interval=2)
_ONLINE = phases.Online(
    num_episodes=2,
    critic_batch_size=8,
    policy_batch_size=4,
    evaluation_interval=1,
)


def _online_rows(root_dir):
  return [
      {k: v for k, v in row.items() if k != 'wall_seconds'}
      for row in tiny.read_metrics(root_dir)
      if row['phase'] == 'online'
  ]


def _weights(agent, *names):
  items = agent.checkpoint_items
  return [v.numpy() for name in names for v in items[name].variables]


class SessionTest(tensor_case.TensorCase):
  """Runs the phases with small parts, without gin."""

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    # The few steps of all tests take less time than tracing their graphs.
    tf.config.run_functions_eagerly(True)
    cls.addClassCleanup(tf.config.run_functions_eagerly, False)
    gin.clear_config()
    cls._folder = tiny.make_folder()
    cls._initial = os.path.join(cls._folder, 'initial')
    os.makedirs(cls._initial)
    cls._data = os.path.join(cls._initial, 'data.hdf5')
    cls._episodes = small_run.make_episodes(cls._data)
    cls._normalization = episodes_lib.normalization(cls._episodes)
    agent = small_run.make_agent(seed=5)
    session = cls._session(cls._initial, agent)
    _CLONING.run(session, cls._episodes[:2])
    cls._cloned = _weights(agent, 'generative_policy')
    _OFFLINE.run(session)
    cls._trained = _weights(agent, 'generative_policy', 'critic')
    _ONLINE.run(session)

  @classmethod
  def _session(cls, root_dir, agent):
    session = small_run.make_session(
        root_dir,
        agent=agent,
        seed=5,
        phase_checkpoints=phase_checkpoint.PhaseCheckpoints(
            root_dir,
            domain=small_run.make_domain(),
            agent=agent,
            normalization=cls._normalization,
            dataset_path=None,
        ),
    )
    for episode in cls._episodes:
      session.write_episode('offline', episode)
    return session

  def _begin(self, root_dir, agent, phase=None, initial=None):
    os.makedirs(root_dir, exist_ok=True)
    beginning = initial_run.Beginning(
        root_dir, initial or self._initial, phase, small_run.make_domain()
    )
    data = beginning.take_data()
    return beginning.load(agent, self._normalization), data

  def test_online_rows_equal_those_of_an_uninterrupted_run(self):
    initial = os.path.join(self._folder, 'deleted')
    shutil.copytree(self._initial, initial)
    root_dir = os.path.join(self._folder, 'continued')
    agent = small_run.make_agent(seed=5)
    self._begin(root_dir, agent, initial=initial)
    # Killed after its first checkpoint; the other run is deleted meanwhile.
    self._session(root_dir, agent).begin_phase('online', 3)
    shutil.rmtree(initial)

    agent = small_run.make_agent(seed=5)
    with self.assertLogs(level='WARNING') as logs:
      record, data = self._begin(root_dir, agent, initial='elsewhere')
    self.assertRegex(logs.output[0], f'began from {initial} .*elsewhere is not')
    self.assertEqual(data, os.path.join(root_dir, 'data.hdf5'))
    self.assertTrue(os.path.exists(data))
    self.assertEqual(record.phase, 'offline')
    self.assertEqual(record.train_step, 8)
    _ONLINE.run(self._session(root_dir, agent))

    rows = _online_rows(root_dir)
    self.assertLen(rows, 3)
    self.assertEqual(rows, _online_rows(self._initial))
    self.assertLen(tiny.read_metrics(root_dir), 3)

  def test_networks_that_were_taken_over_are_evaluated_first(self):
    root_dir = os.path.join(self._folder, 'evaluated')
    agent = small_run.make_agent(seed=5)
    self._begin(root_dir, agent)
    session = self._session(root_dir, agent)
    session.evaluate_start('offline')
    _ONLINE.run(session)
    agent = small_run.make_agent(seed=5)
    self._begin(root_dir, agent)
    resumed = self._session(root_dir, agent)
    resumed.evaluate_start('offline')

    rows = tiny.read_metrics(root_dir)
    self.assertEqual([x['phase'] for x in rows], ['offline'] + ['online'] * 3)
    [*_, wanted] = [
        x for x in tiny.read_metrics(self._initial) if x['phase'] == 'offline'
    ]
    for name in ('success_rate_without_search', 'mean_return', 'values/start'):
      self.assertNotEqual(rows[0][name], '')
      self.assertEqual(rows[0][name], wanted[name])
    self.assertEqual(_online_rows(root_dir), _online_rows(self._initial))
    self.assertEqual(list(resumed.state.summaries), ['offline', 'online'])
    self.assertEqual(resumed.state.summaries['offline']['train_steps'], 0)

  def test_clone_that_was_taken_over_is_evaluated_without_search(self):
    root_dir = os.path.join(self._folder, 'clone')
    agent = small_run.make_agent(seed=5)
    self._begin(root_dir, agent, 'behavior_cloning')
    self._session(root_dir, agent).evaluate_start('behavior_cloning')

    [row] = tiny.read_metrics(root_dir)
    self.assertEqual(row['success_rate'], '')
    [*_, wanted] = [
        x
        for x in tiny.read_metrics(self._initial)
        if x['phase'] == 'behavior_cloning'
    ]
    name = 'mean_return_without_search'
    self.assertNotEqual(row[name], '')
    self.assertEqual(row[name], wanted[name])

  def test_networks_are_those_at_the_end_of_the_phase(self):
    for phase, skipped, names, wanted in (
        (
            'behavior_cloning',
            ['behavior_cloning'],
            ['generative_policy'],
            self._cloned,
        ),
        (
            None,
            ['behavior_cloning', 'offline'],
            ['generative_policy', 'critic'],
            self._trained,
        ),
    ):
      agent = small_run.make_agent(seed=6)
      record, _ = self._begin(
          os.path.join(self._folder, f'from_{phase}'), agent, phase
      )
      self.assertAllEqual(record.skipped_phases, skipped)
      for seen, other in zip(_weights(agent, *names), wanted, strict=True):
        self.assertAllEqual(seen, other)
      self.assertEqual(agent.train_step_counter, 4 * len(skipped))

  def test_a_policy_that_edits_the_cloned_one_begins_with_it(self):
    agent = small_agent.make_agent(
        cal_ql.CalQLCritic,
        functools.partial(
            edited.EditedPolicy,
            base_ctor=functools.partial(
                gaussian.GaussianPolicy, hidden_sizes=(16,)
            ),
            hidden_sizes=(8,),
        ),
        observation_spec=tf.TensorSpec([4], tf.float32, 'observation'),
        improver=edit.EditImprover(),
    )
    record, _ = self._begin(os.path.join(self._folder, 'edited'), agent)
    self.assertEqual(record.phase, 'behavior_cloning')
    base = agent.generative_policy.base
    for seen, wanted in zip(base.variables, self._cloned, strict=True):
      self.assertAllEqual(seen, wanted)

  def test_critic_of_another_class_starts_untrained(self):
    def make_agent():
      return small_agent.make_agent(
          cal_ql.CalQLCritic,
          gaussian.GaussianPolicy,
          observation_spec=tf.TensorSpec([4], tf.float32, 'observation'),
          seed=6,
      )

    # Without a phase, such a run begins after cloning.
    for phase, train_step in ((None, 4), ('offline', 8)):
      agent = make_agent()
      record, _ = self._begin(
          os.path.join(self._folder, f'cal_ql_{phase}'), agent, phase
      )
      self.assertEqual(record.skipped_phases, ['behavior_cloning'])
      self.assertEqual(record.train_step, train_step)
      for seen, wanted in zip(
          _weights(agent, 'critic'), _weights(make_agent(), 'critic'),
          strict=True,
      ):
        self.assertAllEqual(seen, wanted)

  def test_data_of_another_normalization_are_refused(self):
    agent = small_run.make_agent(seed=6)
    mean = self._normalization.mean.copy()
    mean[2] += 1.0
    beginning = initial_run.Beginning(
        os.path.join(self._folder, 'other_data'),
        self._initial,
        None,
        small_run.make_domain(),
    )
    with self.assertRaisesRegex(
        ValueError, 'mean of the observations .* dimension 2, .*dataset_path'
    ):
      beginning.load(agent, self._normalization._replace(mean=mean))
    self.assertEqual(agent.train_step_counter, 0)

  def test_damaged_checkpoint_is_named(self):
    initial = os.path.join(self._folder, 'damaged')
    shutil.copytree(self._initial, initial)
    name = os.path.join(
        initial, 'phases', 'offline', 'critic.data-00000-of-00001'
    )
    with open(name, 'r+b') as file:
      file.truncate(os.path.getsize(name) // 2)
    with self.assertRaisesRegex(ValueError, 'damaged/phases/offline/critic'):
      self._begin(
          os.path.join(self._folder, 'of_damaged'),
          small_run.make_agent(seed=5),
          initial=initial,
      )

  def test_disk_that_is_full_costs_only_the_phase_checkpoint(self):
    root_dir = os.path.join(self._folder, 'full')
    os.makedirs(root_dir)
    with open(os.path.join(root_dir, 'phases'), 'w'):
      pass  # No directory can have this name.
    checkpoints = phase_checkpoint.PhaseCheckpoints(
        root_dir,
        domain=small_run.make_domain(),
        agent=small_run.make_agent(),
        normalization=self._normalization,
        dataset_path=None,
    )
    with self.assertLogs(level='ERROR') as logs:
      checkpoints.save('offline')
    self.assertIn('full/phases/offline', logs.output[0])


class ExperimentTest(parameterized.TestCase):
  """Runs the whole experiment that gin describes."""

  def setUp(self):
    super().setUp()
    self.addCleanup(gin.clear_config)
    self._folder = self.create_tempdir().full_path
    # Only what a new run needs, so that the copy can be deleted.
    finished = tiny.finished_run()
    self._initial = os.path.join(self._folder, 'initial')
    shutil.copytree(
        os.path.join(finished, 'phases'), os.path.join(self._initial, 'phases')
    )
    shutil.copy(os.path.join(finished, 'data.hdf5'), self._initial)
    self._root = os.path.join(self._folder, 'run')

  def _train(self, *bindings):
    gin.clear_config()
    configs.parse(
        [tiny.GIN_FILE],
        [
            *tiny.BINDINGS,
            f"run_experiment.initial_run = '{self._initial}'",
            *bindings,
        ],
    )
    return experiment.run_experiment(self._root, 3)  # The seed of `tiny.Run`.

  @pytest.mark.full
  def test_online_rows_equal_those_of_an_uninterrupted_run(self):
    # In programs, because the finished run was one: `conftest.py` changes how
    # this process rounds.
    initial = f"run_experiment.initial_run = '{self._initial}'"
    tiny.Run(self._root, [initial, 'Online.num_episodes = 1']).finish()
    shutil.rmtree(self._initial)  # A later session needs it no more.
    tiny.Run(self._root, [initial]).finish()

    wanted = _online_rows(tiny.finished_run())
    self.assertLen(wanted, 3)
    self.assertEqual(_online_rows(self._root), wanted)
    run = runs_lib.read_run(self._root, 'method')
    summaries = run_files.read_summary_phases(self._root, 3)
    self.assertEqual(list(summaries), ['offline', 'online'])
    self.assertEqual(summaries['offline']['train_steps'], 0)
    self.assertTrue(run.is_finished)
    self.assertEqual(
        run.initial_run,
        run_files.InitialRun(
            self._initial, 'offline', ['behavior_cloning', 'offline'], 30, None
        ),
    )

  @parameterized.parameters(
      ('CriticEnsemble.hidden_sizes = (24,)',
       r'`CriticEnsemble.hidden_sizes` must be \(16,\).*offline/phase.json.*'
       r'got \(24,\)'),
      ('DenoisingNetwork.hidden_size = 24',
       r'`DenoisingNetwork.hidden_size` must be 16,.*got 24'),
      ('DiffusionPolicy.num_denoising_steps = 3',
       r'`DiffusionPolicy.num_denoising_steps` must be 2,.*got 3'),
      ('build_agent.policy_ctor = @GaussianPolicy',
       r'`build_agent.policy_ctor` must be DiffusionPolicy.*GaussianPolicy'),
      ('Critic.gamma = 0.9', r'`CalQLCritic.gamma` must be 0.99,.*got 0.9'),
      ("PointMaze.size = 'Medium'",
       r"`PointMaze.size` must be 'UMaze',.*got 'Medium'"),
      ("run_experiment.initial_phase = 'online'", '`initial_phase`.*online'),
      ("run_experiment.phase_names = ('offline',)", '`phase_names`.*offline'),
      ("run_experiment.initial_run = 'no_run'", "phase .*'no_run'.*none"),
  )
  def test_difference_is_named_before_any_work(self, binding, message):
    with self.assertRaisesRegex(ValueError, message):
      self._train(binding)
    for name in ('checkpoints', 'metrics.csv'):
      self.assertFalse(os.path.exists(os.path.join(self._root, name)))


if __name__ == '__main__':
  absltest.main()
