"""Tests of `parl-export`, and of `parl-evaluate` on its output."""

import functools
import json
import os
import shutil
from unittest import mock

from absl.testing import absltest
import gin
import numpy as np
import tensorflow as tf
from tf_agents.policies import policy_saver
from tf_agents.policies import random_tf_policy
from tf_agents.specs import tensor_spec
from tf_agents.trajectories import time_step as ts

from parl_tf.binaries import configs
from parl_tf.binaries import evaluation_run
from parl_tf.binaries import exported_policy
from parl_tf.binaries import restored_run
from parl_tf.binaries import run_export
from parl_tf.binaries import served_policy
from parl_tf.domains import domain as domain_lib
from parl_tf.domains import drawn_maze
from parl_tf.serving import policy_spec
from parl_tf.serving import server
from parl_tf.training import builder
from parl_tf.training import checkpoint
from parl_tf.training import evaluation
from parl_tf.training import export
from parl_tf.training import served_acting
from parl_tf.training import steering
from tests.agents import small_dppo
from tests.binaries import tiny
from tests.serving import toy_policy
from tests.training import small_run

# As many as the episodes of an evaluation: XLA compiles for each batch size.
_OBSERVATION = np.random.default_rng(0).normal(size=[16, 4]).astype(np.float32)


class ExportTest(absltest.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls._root = tiny.finished_run()

  def setUp(self):
    super().setUp()
    self.addCleanup(gin.clear_config)
    gin.clear_config()
    self._output = os.path.join(self.create_tempdir().full_path, 'exported')

  def _act(self, path):
    act = tf.saved_model.load(path).signatures['serving_default']
    return act(
        observation=tf.constant(_OBSERVATION),
        seed=tf.constant([3, 4]),
    )['action'].numpy()

  def test_export_matches_the_run_and_scores_like_the_live_policy(
      self,
  ):
    difference = run_export.export_run(
        self._root, self._output, 'greedy_policy'
    )
    self.assertLessEqual(difference, 1e-5)
    with open(os.path.join(self._output, 'parity.json')) as file:
      source = json.load(file)['source']
    of_run = os.path.join(self._root, 'policies', 'greedy_policy')
    with open(os.path.join(of_run, 'parity.json')) as file:
      self.assertEqual(source, json.load(file)['source'])
    self.assertEqual(source['policy'], 'greedy_policy')
    self.assertEqual(source['checkpoint'], 'last')
    self.assertEqual(source['search']['num_samples'], 2)
    gin.clear_config()
    agent = restored_run.restore_agent(self._root)
    domain = domain_lib.select_domain()
    model, of_run = (
        exported_policy.ExportedPolicy(path, domain)
        for path in (
            self._output,
            os.path.join(self._root, 'policies', 'greedy_policy'),
        )
    )
    seed = np.array([3, 4], np.int32)
    np.testing.assert_allclose(
        model(_OBSERVATION, seed), of_run(_OBSERVATION, seed), atol=1e-5
    )
    evaluator = evaluation.Evaluator(
        domain, num_episodes=len(_OBSERVATION), seed=7
    )
    live = evaluator.run_policy(agent.greedy_policy)
    exported = evaluator.run(model)
    np.testing.assert_array_equal(exported.successes, live.successes)
    for one, other in zip(exported.episodes, live.episodes, strict=True):
      np.testing.assert_allclose(one.action, other.action, atol=1e-5)

  def test_the_networks_of_a_phase_are_exported(self):
    weights = {}

    def export_policies(policies, *args, **kwargs):
      (policy,) = policies.values()
      weights[name] = [v.numpy() for v in policy.variables()]
      return {self._output: 0.0}

    with mock.patch.object(export, 'export_policies', export_policies):
      for name in ('behavior_cloning', 'offline', 'best', 'last'):
        run_export.export_run(self._root, self._output, 'base_policy', name)
        gin.clear_config()

    for clone, offline in zip(
        weights['behavior_cloning'], weights['offline'], strict=True
    ):
      np.testing.assert_array_equal(clone, offline)  # Only the critic learns.
    self.assertTrue(
        any(
            np.any(clone != last)
            for clone, last in zip(weights['offline'], weights['last'])
        )
    )

  def test_a_gin_file_and_bindings_override_the_run(self):
    path = self.create_tempfile(
        content='evaluation/Search.num_samples = 3\n'
        'evaluation/Search.temperature = -1.0  # Refused, if it has an effect.'
    ).full_path
    changes = dict(
        gin_files=[path], gin_bindings=['evaluation/Search.temperature = 0.5']
    )
    for use in (
        functools.partial(
            run_export.export_run, self._root, self._output, 'greedy_policy'
        ),
        functools.partial(evaluation_run.live_act, self._root),
    ):
      with mock.patch.object(
          export, 'export_policies', return_value={self._output: 0.0}
      ):
        use(**changes)
      self.assertEqual(gin.query_parameter('evaluation/Search.num_samples'), 3)
      gin.clear_config()

  def test_the_clone_has_nothing_of_later_phases(self):
    # Such as adapters, or an actor that steers.
    with mock.patch.object(
        restored_run, 'restore', side_effect=AssertionError
    ):
      with mock.patch.object(
          export, 'export_policies', return_value={self._output: 0.0}
      ) as exporter:
        run_export.export_run(
            self._root, self._output, 'base_policy', 'behavior_cloning'
        )
    exporter.assert_called_once()

  def test_networks_that_a_phase_does_not_have_are_errors(self):
    for root, name, checkpoint_name, message in (
        (self._root, 'policy', 'behavior_cloning', "only.*'base_policy'"),
        ('/none', 'policy', 'best', '/none/best must hold a checkpoint'),
        (self._cloning_run(), 'policy', 'last', 'critic.*not been trained'),
    ):
      with self.assertRaisesRegex(ValueError, message):
        run_export.export_run(root, self._output, name, checkpoint_name)

  def _cloning_run(self):
    """Returns a run whose last checkpoint is of behavior cloning."""
    root = os.path.join(self.create_tempdir().full_path, 'run')
    shutil.copytree(self._root, root)
    agent = restored_run.restore_agent(root)
    state = checkpoint.RunState(phase='behavior_cloning')
    directory = os.path.join(root, 'checkpoints')
    shutil.rmtree(directory)
    checkpoint.Checkpoint(directory, agent, state).save()
    gin.clear_config()
    return root

  def test_the_last_checkpoint_is_evaluated_with_its_search(self):
    act, domain = evaluation_run.live_act(self._root)
    path = os.path.join(self._root, 'policies', 'greedy_policy')
    exported = exported_policy.ExportedPolicy(path, domain)
    constants = dict(num_episodes=len(_OBSERVATION), seed=7)
    # The video makes the act record its decisions.
    live = evaluation_run.play(
        act, domain, **constants, video_file=self._output + '.mp4'
    )
    other = evaluation_run.play(exported, domain, **constants)
    for episode, wanted in zip(live.episodes, other.episodes):
      np.testing.assert_allclose(
          episode.action[0], wanted.action[0], atol=1e-5
      )
    self.assertLen(act.decisions, max(x.num_steps for x in live.episodes))
    self.assertGreater(os.path.getsize(self._output + '.mp4'), 0)

  def test_a_base_is_steered_and_kept_with_the_threshold_at_0(self):
    base = os.path.join(self._root, 'policies', 'base_policy')
    difference = run_export.export_steered(
        self._root,
        base,
        self._output,
        threshold=0.0,
        # No action of the ascent is kept.
        gin_bindings=['ActionOptimizer.num_gradient_steps = 0'],
    )
    self.assertLessEqual(difference, 1e-5)
    domain = domain_lib.select_domain()
    steered, kept = (
        exported_policy.ExportedPolicy(path, domain)(
            _OBSERVATION, np.array([3, 4], np.int32)
        )
        for path in (self._output, base)
    )
    np.testing.assert_array_equal(steered, kept)
    self.assertEqual(steered.shape, (16, 2))
    _, spec, _ = served_policy.exported_policy(self._output)
    self.assertEqual(spec.action_size, 2)

  def test_a_base_is_steered_by_the_critic_of_a_checkpoint(self):
    base = os.path.join(self._root, 'policies', 'base_policy')
    make, critics, weights = steering.SteeredBase, [], {}

    def make_steered(base, critic, *args, **kwargs):
      critics.append(critic)
      return make(base, critic, *args, **kwargs)

    def export_steered(*args, source, task):
      del args
      self.assertEqual((task, source['base']), ('PointMaze', base))
      self.assertEqual(source['checkpoint'], name)
      weights[name] = [v.numpy() for v in critics[-1].variables]
      return 0.0

    with mock.patch.multiple(
        steering, SteeredBase=make_steered, export=export_steered
    ):
      for name in ('offline', 'last'):
        run_export.export_steered(
            self._root,
            base,
            self._output,
            threshold=float('inf'),
            checkpoint_name=name,
        )
        gin.clear_config()

    self.assertTrue(
        any(
            np.any(offline != last)
            for offline, last in zip(weights['offline'], weights['last'])
        )
    )

  def test_a_base_of_plain_tf_agents_is_steered(self):
    base = os.path.join(self.create_tempdir().full_path, 'random')
    policy = random_tf_policy.RandomTFPolicy(
        ts.time_step_spec(tf.TensorSpec([4], tf.float32, 'observation')),
        tensor_spec.BoundedTensorSpec([2], tf.float32, -0.1, 0.1, 'action'),
    )
    policy_saver.PolicySaver(policy, batch_size=None).save(base)
    run_export.export_steered(
        self._root,
        base,
        self._output,
        threshold=float('inf'),
        gin_bindings=['ActionOptimizer.num_gradient_steps = 0'],
    )
    # Without ascent, each action is one that the base drew.
    self.assertLessEqual(np.abs(self._act(self._output)).max(), 0.1)

  def test_a_run_without_a_critic_steers_nothing(self):
    agent = small_dppo.make_agent()
    with mock.patch.object(restored_run, 'restore', return_value=(agent, None)):
      with self.assertRaisesRegex(ValueError, 'run with a critic.*DPPOAgent'):
        run_export.export_steered(
            'run', 'base', self._output, threshold=float('inf')
        )

  def test_the_critic_of_a_run_searches_a_served_policy(self):
    draws = []

    def sample(observation, num_samples, seed):
      size = len(observation['observation'])
      draws.append((size, num_samples))
      random = np.random.default_rng(seed)
      return random.uniform(-1.0, 1.0, (size, num_samples, 1, 2))

    spec = policy_spec.PolicySpec(
        {'observation': policy_spec.ArraySpec((4,))}, action_size=2
    )
    policy = server.Policy(sample)
    policy_server = self.enter_context(toy_policy.serving(policy, spec))
    act, domain = evaluation_run.searched_act(
        f'ws://{policy_server.address}',
        self._root,
    )

    result = evaluation.Evaluator(domain, num_episodes=3, seed=0).run(act)

    # One draw of N = 2 a decision.
    self.assertLen(draws, max(e.num_steps for e in result.episodes))
    self.assertEqual(set(draws), {(3, 2)})

    gin.clear_config()
    act, spec, _ = served_policy.steered_policy(
        f'ws://{policy_server.address}',
        self._root,
    )
    steered = self.enter_context(
        toy_policy.serving(served_policy.make_policy(act), spec)
    )
    client = self.enter_context(toy_policy.connect(steered))
    episode = result.episodes[0]
    answer = client.infer({'observation': episode.observation[0]})
    self.assertEqual(answer['actions'].shape, (1, 2))
    self.assertEqual(client.spec.observation['observation'].shape, (4,))
    self.assertEqual(draws[-1], (1, 2))

  def test_a_steered_policy_with_a_history_declares_its_stack(self):
    seen = []

    def act(observation, seed):
      del seed
      seen.append(observation)
      return np.full([len(observation), 1, 2], 0.5)

    domain = small_run.make_domain()
    with mock.patch.object(
        evaluation_run,
        'searched_act',
        return_value=(served_acting.ServedAct(act, num_frames=2), domain),
    ):
      act, spec, _ = served_policy.steered_policy('ws://nowhere', self._root)
    self.assertEqual(spec.observation['observation'].shape, (8,))
    self.assertEqual(seen[0].shape, (1, 8))

  def test_run_without_checkpoint_is_named(self):
    configs.parse([tiny.GIN_FILE], tiny.BINDINGS)
    root = self.create_tempdir().full_path
    with open(os.path.join(root, 'config.gin'), 'w') as file:
      file.write(f'# seed = 0\n{gin.config_str()}')
    gin.clear_config()
    with self.assertRaisesRegex(ValueError, f'{root}.*must hold a checkpoint'):
      run_export.export_run(root, self._output, 'policy')

  def test_directory_without_run_is_named(self):
    with self.assertRaisesRegex(ValueError, 'nowhere is not a run directory'):
      run_export.export_run('nowhere', self._output, 'policy')


class ExampleTest(absltest.TestCase):

  def test_images_keep_their_type(self):
    domain = drawn_maze.DrawnMaze()
    example = restored_run.starts(domain, num_frames=2)
    spec = builder.stacked_spec(builder.observation_spec(domain), 2)
    tf.nest.map_structure(
        lambda found, wanted: self.assertTrue(
            wanted.is_compatible_with(found[0]), f'{found[0]}, {wanted}'
        ),
        example,
        spec,
    )


if __name__ == '__main__':
  absltest.main()
