"""Tests of SavedModels with actions in the environment's raw units."""

import json
import os
import pathlib
import subprocess
import sys
from unittest import mock

from absl.testing import parameterized
import numpy as np
import tensorflow as tf
from tf_agents.trajectories import time_step as ts

from parl_tf.critics import iql
from parl_tf.policies import gaussian
from parl_tf.search import action_source
from parl_tf.training import export
from parl_tf.training import parity_report
from parl_tf.training import saved_model_check
from tests import tensor_case
from tests.agents import small_agent

_LOW, _HIGH = np.array([-3.0, 0.0]), np.array([1.0, 20.0])
_SEED = [5, 11]

# Runs the policy in a process that imports TensorFlow but not this project.
_PROGRAM = """
import json, sys
import tensorflow as tf
policy = tf.saved_model.load(sys.argv[1])
act = policy.signatures['serving_default']
given = json.load(sys.stdin)
action = act(
    observation=tf.constant(given['observation'], tf.float32),
    seed=tf.constant(given['seed']),
)['action']
state = policy.get_initial_state(3)
step = policy.signatures['action'](**{
    '0/step_type': tf.zeros([3], tf.int32),
    '0/reward': tf.zeros([3]),
    '0/discount': tf.ones([3]),
    '0/observation': tf.constant(given['observation'][:3], tf.float32),
    '1': state,
})
print(json.dumps({
    'action': action.numpy().tolist(),
    'first': step['action'].numpy().tolist(),
    'packages': sorted({name.split('.')[0] for name in sys.modules}),
}))
"""


def _raw(action):
  return _LOW + (action + 1.0) / 2.0 * (_HIGH - _LOW)


class ExportTest(tensor_case.TensorCase):

  def setUp(self):
    super().setUp()
    self._path = os.path.join(self.create_tempdir().full_path, 'policy')
    self._observation = np.random.default_rng(0).normal(size=[16, 3]).astype(
        np.float32
    )

  def _export(self, policy, low=_LOW, **kwargs):
    differences = export.export_policies(
        {self._path: policy},
        (low, _HIGH),
        self._observation,
        **{'in_new_process': False, **kwargs},
    )
    return differences[self._path]

  def _base_policy(self, chunk_length=1):
    agent = small_agent.make_agent(
        iql.IQLCritic, gaussian.GaussianPolicy, chunk_length=chunk_length
    )
    return agent.named_policies['base_policy']

  def test_model_with_tensorflow_alone_gives_the_same_actions(self):
    # Fast to trace. tests/agents/parl_policy_test.py saves XLA programs.
    optimizer = small_agent.make_search(num_gradient_steps=1).optimizer
    policy = small_agent.make_agent(
        iql.IQLCritic,
        gaussian.GaussianPolicy,
        search=action_source.Search(4, optimizer, jit_compile=False),
    ).named_policies['policy']
    self.assertLessEqual(self._export(policy), 1e-5)
    done = subprocess.run(
        [sys.executable, '-c', _PROGRAM, self._path],
        input=json.dumps(
            {'observation': self._observation.tolist(), 'seed': _SEED}
        ),
        capture_output=True,
        text=True,
        check=False,
        cwd=os.path.dirname(self._path),
        env={k: v for k, v in os.environ.items() if k != 'PYTHONPATH'},
    )
    self.assertEqual(done.returncode, 0, done.stderr)
    printed = json.loads(done.stdout.splitlines()[-1])
    live = policy.act(self._observation, tf.constant(_SEED))
    # Within 1e-5 relative to the range [-1, 1], for any raw units.
    self.assertAllClose(
        (np.array(printed['action']) - _LOW) / (_HIGH - _LOW) * 2.0 - 1.0,
        live,
        atol=1e-5,
        rtol=0,
    )
    self.assertAllInRange(np.array(printed['action'])[:, 1], 0.0, 20.0)
    self.assertGreater(np.abs(np.array(printed['action'])).max(), 1.0)
    self.assertNoCommonElements(
        printed['packages'],
        ['parl_tf', 'tf_agents', 'reverb', 'tensorflow_probability', 'gin'],
    )
    self.assertLen(printed['first'], 3)
    # Neither the critic's target networks nor its value network are in it.
    stored = sum(
        np.prod(shape)
        for name, shape in tf.train.list_variables(
            os.path.join(self._path, 'variables', 'variables')
        )
        if name.startswith('model_variables')
    )
    total = sum(x.shape.num_elements() for x in policy.variables())
    self.assertLess(stored, 0.6 * total)

  def test_an_observation_that_is_not_finite_gives_no_action(self):
    self._export(self._base_policy())
    act = tf.saved_model.load(self._path).signatures['serving_default']
    for bad in np.nan, np.inf:
      observation = self._observation.copy()
      observation[3, 1] = bad
      action = act(observation=observation, seed=_SEED)['action'].numpy()
      self.assertTrue(np.all(np.isnan(action[3])))
      self.assertTrue(np.all(np.isfinite(np.delete(action, 3, axis=0))))

  def test_rounding_does_not_exceed_the_bounds(self):
    low, high = np.float32([-1.38, -1.0]), np.float32([0.82, 1.0])
    self.assertGreater((high + low)[0] / 2 + (high - low)[0] / 2, high[0])
    policy = self._base_policy()
    deployed = policy.deployed()
    deployed.compiled_act = tf.function(
        lambda observation, seed: tf.ones_like(observation[:, :2]),
        input_signature=policy.compiled_act.input_signature,
    )
    with mock.patch.object(type(policy), 'deployed', return_value=deployed):
      exported = export.in_raw_units(policy, (low, high))
    step = exported.action(
        ts.restart(tf.constant(self._observation), 16),
        exported.get_initial_state(16),
    )
    self.assertAllEqual(step.action, np.tile(high, [16, 1]))

  @parameterized.parameters(1, 2)
  def test_episode_draws_what_the_live_policy_draws(self, chunk_length):
    policy = self._base_policy(chunk_length)
    exported = export.in_raw_units(policy, (_LOW, _HIGH))
    observation = tf.constant(self._observation[:2])
    time_step = ts.restart(observation, 2)
    state, live_state = (p.get_initial_state(2) for p in (exported, policy))
    for _ in range(3):
      step = exported.action(time_step, state)
      live = policy.action(time_step, live_state)
      self.assertAllClose(step.action, _raw(live.action.numpy()), atol=1e-4)
      if chunk_length > 1:  # The state has the chunk in raw units.
        chunk = live.state['chunk'].numpy()
        self.assertAllClose(step.state['chunk'], _raw(chunk), atol=1e-4)
        self.assertAllEqual(step.state['seed'], live.state['seed'])
      else:
        self.assertAllEqual(step.state, live.state)
      time_step = ts.transition(observation, tf.zeros([2]))
      state, live_state = step.state, live.state

  def test_chunks_are_returned_step_by_step_or_whole(self):
    policy = self._base_policy(chunk_length=3)
    self._export(policy)
    model = tf.saved_model.load(self._path)
    observation = tf.constant(self._observation[:2])
    outputs = model.signatures['serving_default'](
        observation=observation, seed=tf.zeros([2], tf.int32)
    )
    chunk = outputs['chunk']
    self.assertEqual(chunk.shape, [2, 3, 2])
    self.assertAllEqual(outputs['action'], chunk[:, 0])
    # TF-Agents' function keeps the remaining actions in its state.
    state = model.get_initial_state(batch_size=2)
    time_step = ts.restart(observation, 2)
    for t in range(3):
      step = model.action(time_step, state)
      self.assertAllClose(step.action, chunk[:, t], rtol=1e-5)
      time_step = ts.transition(-observation, tf.zeros([2]))
      state = step.state
    step = model.action(time_step, state)
    self.assertNotAllEqual(step.action, chunk[:, 0])

  def test_a_new_process_checks_and_times_the_model(self):
    self._export(
        self._base_policy(),
        in_new_process=True,
        measure_latency=True,
        task='Reach',
    )
    self.assertEqual(parity_report.task(self._path), 'Reach')
    with open(os.path.join(self._path, 'parity.json'), encoding='utf-8') as f:
      report = json.load(f)
    self.assertTrue(report['in_new_process'])
    self.assertEqual(report['num_observations'], 16)
    self.assertLessEqual(report['largest_difference'], 1e-5)
    self.assertEqual(
        report['inputs'],
        {'observation': 'float32 [None, 3]', 'seed': 'int32 [2]'},
    )
    self.assertEqual(report['outputs'], {'action': 'float32 [None, 2]'})
    self.assertEqual(sorted(report['latency_milliseconds']), ['1', '16'])
    self.assertGreater(report['latency_milliseconds']['1'], 0.0)
    self.assertEqual(report['versions']['tensorflow'], tf.__version__)

  def test_a_model_that_a_new_process_cannot_load_is_named(self):
    folder = self.create_tempdir()
    # The new process must not import it.
    folder.create_file('random.py', 'raise ImportError("of the user")')
    self.addCleanup(os.chdir, os.getcwd())
    os.chdir(folder.full_path)
    with saved_model_check.Check(
        {'observation': self._observation},
        in_new_process=True,
        measure_latency=False,
    ) as check:
      check.add('no_model')
      with self.assertRaisesRegex(
          ValueError, 'no_model.*process.*status 1: OSError: SavedModel'
      ):
        check.answers()

  def test_a_policy_that_calls_python_is_refused(self):
    policy = self._base_policy()
    searched = policy.compiled_act

    def act_in_python(observation, seed):
      action = searched(observation, seed)
      return tf.ensure_shape(
          tf.numpy_function(lambda x: x, [action], tf.float32), [None, 2]
      )

    signature = policy.compiled_act.input_signature
    policy.compiled_act = tf.function(act_in_python, signature, False)
    with self.assertRaisesRegex(ValueError, 'calls Python.*serve the policy'):
      self._export(policy)
    self.assertFalse(os.path.exists(self._path))

  def _export_merged(self, num_observations, num_other):
    """Exports a policy whose merged copy acts otherwise in some states."""
    self._observation = np.resize(self._observation, [num_observations, 3])
    self._observation[:num_other, 0] = 9.0
    policy, merged = self._base_policy(), self._base_policy()
    act = merged.compiled_act
    merged.compiled_act = tf.function(
        lambda observation, seed: tf.where(
            observation[:, :1] == 9.0, 0.5, act(observation, seed)
        ),
        act.input_signature,
    )
    with mock.patch.object(policy, 'deployed', return_value=merged):
      return self._export(policy)

  def test_a_merged_copy_that_acts_otherwise_is_warned_of(self):
    with self.assertLogs(level='WARNING') as logs:
      self.assertLessEqual(self._export_merged(8, 3), 1e-5)
    self.assertIn('in 3 of 8 observations', '\n'.join(logs.output))

  def test_failed_check_keeps_the_existing_model(self):
    policy = self._base_policy()
    self._export(policy)
    before = os.stat(self._path).st_ino
    with self.assertRaisesRegex(ValueError, 'must be finite'):
      self._export(policy, low=np.array([np.nan, 0.0]))
    call_all = saved_model_check._call_all
    with mock.patch.object(
        saved_model_check,
        '_call_all',
        lambda *args, **kwargs: [
            answer._replace(actions=answer.actions + 1e-3)
            for answer in call_all(*args, **kwargs)
        ],
    ), self.assertRaisesRegex(ValueError, 'must match the live policy'):
      self._export(policy)
    self.assertEqual(os.stat(self._path).st_ino, before)
    self.assertTrue(pathlib.Path(self._path, 'saved_model.pb').exists())


if __name__ == '__main__':
  tf.test.main()
