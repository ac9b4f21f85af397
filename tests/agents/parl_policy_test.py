"""Tests of the acting policy and of its SavedModel in another process."""

import os
import subprocess
import sys
from unittest import mock

from absl.testing import absltest
import numpy as np
import tensorflow as tf
from tf_agents.policies import policy_saver
from tf_agents.trajectories import time_step as ts

from parl_tf.agents import parl_policy
from parl_tf.critics import iql
from parl_tf.policies import gaussian
from parl_tf.search import acting_search
from parl_tf.search import action_source
from parl_tf.search import state_actions
from tests import tensor_case
from tests.agents import small_agent

# Takes five steps with each SavedModel, from one seed for all rows. It imports
# only TensorFlow and NumPy.
_BARE_PROCESS = """
import collections
import sys

import numpy as np
import tensorflow as tf

TimeStep = collections.namedtuple(
    'TimeStep', ['step_type', 'reward', 'discount', 'observation'])
folder, *names = sys.argv[1:]
inputs = np.load(folder + '/inputs.npz')
actions = {}
for name in names:
  model = tf.saved_model.load(folder + '/' + name)
  state = tf.constant(inputs['seed'])
  found = []
  for step_type in (0, 1, 1, 1, 1):
    observation = tf.constant(inputs['observation'])
    batch = [len(observation)]
    step = model.action(
        TimeStep(tf.fill(batch, step_type), tf.zeros(batch), tf.ones(batch),
                 observation),
        state)
    state = step.state
    found.append(step.action.numpy())
  actions[name] = np.stack(found)
np.savez(folder + '/actions.npz', **actions)
extra = {'tf_agents', 'parl_tf', 'reverb'} & set(sys.modules)
assert not extra, extra
"""


def _time_step(num_rows=3, step_type=ts.StepType.FIRST):
  observation = small_agent.make_transition(num_rows).time_step.observation
  return ts.TimeStep(
      tf.fill([num_rows], step_type),
      tf.zeros([num_rows]),
      tf.ones([num_rows]),
      observation,
  )


def _act(policy, state, num_steps=5, num_rows=3):
  """Returns the actions `[num_steps, num_rows, A]` of an episode."""
  actions = []
  for index in range(num_steps):
    step_type = ts.StepType.MID if index else ts.StepType.FIRST
    step = policy.action(_time_step(num_rows, step_type), state)
    actions.append(step.action)
    state = step.state
  return np.stack(actions)


def _seeds(*seed, num_rows=3):
  return tf.tile([seed], [num_rows, 1])


def _make_agent(
    policy_ctor=gaussian.GaussianPolicy, jit_compile=False, num_steps=1
):
  """Returns an agent that traces fast, by default without XLA."""
  optimizer = small_agent.make_search(num_gradient_steps=num_steps).optimizer
  return small_agent.make_agent(
      iql.IQLCritic,
      policy_ctor,
      search=action_source.Search(
          4, optimizer, 'argmax', jit_compile=jit_compile
      ),
  )


class _CountingPolicy(gaussian.GaussianPolicy):
  """Counts how often it is traced with N samples."""

  num_traces = 0

  def sample(self, observation, n, seed, *, temperature=1.0):
    self.num_traces += n == 4
    return super().sample(observation, n, seed, temperature=temperature)


class _PythonPolicy(gaussian.GaussianPolicy):
  """A policy with an operation that XLA does not support."""

  def sample(self, observation, n, seed, *, temperature=1.0):
    samples = super().sample(observation, n, seed, temperature=temperature)
    copied = tf.numpy_function(np.copy, [samples], tf.float32)
    return tf.ensure_shape(copied, samples.shape)


class ServedTest(tensor_case.TensorCase):

  def test_the_most_likely_action_is_drawn_at_temperature_0(self):
    self.enter_context(
        mock.patch.object(gaussian.GaussianPolicy, 'is_served', True)
    )
    agent = small_agent.make_agent(
        iql.IQLCritic,
        gaussian.GaussianPolicy,
        search=action_source.Search(1, None, 'argmax', jit_compile=False),
    )
    for policy, num_actions in ((agent.greedy_policy, 1), (agent.policy, 2)):
      actions = {
          policy.action(_time_step(1), _seeds(0, i, num_rows=1))
          .action.numpy().tobytes()
          for i in range(2)
      }
      self.assertLen(actions, num_actions)


class PARLPolicyTest(tensor_case.TensorCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls._agent = _make_agent()

  def test_actions_are_in_bounds_for_every_row(self):
    step = self._agent.policy.action(_time_step(), _seeds(3, 5))

    self.assertAllEqual(step.action.shape, [3, 2])
    self.assertAllInRange(step.action, -1.0, 1.0)

  def test_the_greedy_policy_takes_the_best_candidate(self):
    agent, seed = self._agent, tf.constant([3, 5])
    observation = _time_step().observation
    actions = state_actions.StateActions(
        agent.searches.evaluation,
        agent.generative_policy,
        agent.critic,
        observation,
        seed,
    )

    action = agent.greedy_policy.act(observation, seed)

    candidates = actions.candidates()
    # The compiled policy rounds differently.
    self.assertAllClose(action, candidates.actions[:, 0])
    values = agent.critic.bind(observation)(candidates.actions)
    self.assertAllEqual(tf.argmax(values, axis=-1), [0, 0, 0])

  def test_the_policy_samples_but_the_greedy_policy_does_not(self):
    observation, seed = _time_step(64).observation, tf.constant([3, 5])
    best = self._agent.greedy_policy.act(observation, seed)
    sampled = self._agent.policy.act(observation, seed)

    is_best = tf.reduce_all(best == sampled, axis=-1).numpy()
    self.assertBetween(np.mean(is_best), 0.2, 0.8)

  def test_each_row_has_its_own_noise(self):
    observation = tf.tile(_time_step(1).observation, [4, 1])
    actions = self._agent.base_policy.act(observation, tf.constant([3, 5]))

    self.assertLen(np.unique(actions.numpy(), axis=0), 4)

  def test_a_greedy_gaussian_without_search_returns_its_mode(self):
    agent = self._agent
    policy = parl_policy.PARLPolicy(
        agent.time_step_spec,
        agent.action_spec,
        acting_search.ActingSearch(
            action_source.Search(4, optimizer=None),
            agent.generative_policy,
            None,
            agent.time_step_spec.observation,
        ),
        selection='argmax',
    )
    observation = _time_step().observation
    first = policy.act(observation, tf.constant([3, 5]))
    other = policy.act(observation, tf.constant([4, 6]))

    self.assertAllEqual(first, other)
    # Before tanh, the mode is likelier than any draw. The density of atanh(a)
    # is the density of a times 1 - a^2 in each dimension.
    draws, log_probs = agent.generative_policy.sample_with_log_prob(
        observation, 50, tf.constant([3, 5])
    )
    log_probs += tf.reduce_sum(tf.math.log(1.0 - tf.square(draws)), axis=-1)
    log_prob = -agent.generative_policy.distillation_loss(
        observation, first, tf.constant([3, 5])
    )
    log_prob += tf.reduce_sum(tf.math.log(1.0 - tf.square(first)), axis=-1)
    self.assertAllInRange(
        log_prob - tf.reduce_max(log_probs, axis=-1), 0.0, np.inf
    )

  def test_policies_act_the_same_if_xla_can_or_cannot_compile_them(self):
    observation, seed = _time_step().observation, tf.constant([3, 5])
    plain = self._agent.greedy_policy.act(observation, seed)
    for policy_ctor in (gaussian.GaussianPolicy, _PythonPolicy):
      agent = _make_agent(policy_ctor, jit_compile=True)
      self.assertAllClose(
          agent.greedy_policy.act(observation, seed), plain, atol=1e-5
      )

  def test_policies_with_one_search_trace_it_once_for_all_batch_sizes(self):
    agent = _make_agent(_CountingPolicy)
    policies = (agent.policy, agent.greedy_policy, agent.collect_policy)
    for num_rows, policy in enumerate(policies, start=1):
      policy.action(_time_step(num_rows), _seeds(3, 5, num_rows=num_rows))

    self.assertEqual(agent.generative_policy.num_traces, 1)

  def test_the_same_initial_seed_gives_the_same_sequence(self):
    policy = self._agent.base_policy
    first = _act(policy, _seeds(3, 5))
    again = _act(policy, _seeds(3, 5))
    other = _act(policy, _seeds(3, 6))

    self.assertAllEqual(first, again)
    self.assertNotAllEqual(first, other)

  def test_each_step_draws_a_new_action(self):
    actions = _act(self._agent.base_policy, _seeds(3, 5))

    self.assertLen(np.unique(actions[:, 0], axis=0), 5)

  def test_a_missing_state_is_an_error(self):
    with self.assertRaisesRegex(
        ValueError, r'`policy_state` must be what `get_initial_state'
    ):
      self._agent.policy.action(_time_step())

  def test_set_seed_sets_the_initial_state_of_an_episode(self):
    policy = self._agent.collect_policy
    policy.set_seed([3, 5])
    self.assertAllEqual(policy.get_initial_state(2), [[3, 5], [3, 5]])
    policy.set_seed([7, 8])
    self.assertAllEqual(policy.get_initial_state(1), [[7, 8]])

  def test_a_seed_passed_to_the_call_changes_the_draw(self):
    policy = self._agent.base_policy
    plain, one, again, two = (
        policy.action(_time_step(), _seeds(3, 5), seed=seed).action
        for seed in (None, 1, 1, 2)
    )

    self.assertAllEqual(one, again)
    self.assertNotAllEqual(one, two)
    self.assertNotAllEqual(one, plain)

  def test_the_distribution_is_the_action(self):
    policy = self._agent.policy
    step = policy.action(_time_step(), _seeds(3, 5))
    distribution = policy.distribution(_time_step(), _seeds(3, 5))

    self.assertAllEqual(distribution.action.sample(), step.action)
    self.assertAllEqual(distribution.action.sample(2)[1], step.action)
    self.assertAllEqual(distribution.action.mode(), step.action)
    self.assertAllEqual(distribution.state, step.state)

  def test_only_policies_with_a_search_contain_the_critic(self):
    critic = {id(v) for v in self._agent.critic.trainable_variables}
    for name, policy in self._agent.named_policies.items():
      held = critic & {id(v) for v in policy.variables()}
      self.assertLen(held, 0 if name == 'base_policy' else len(critic), name)


class SavedModelTest(tensor_case.TensorCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    # TensorFlow traces the search once for XLA, and otherwise for each function
    # of a SavedModel. tests/training/export_test.py also saves an ascent.
    agent = _make_agent(jit_compile=True, num_steps=0)
    cls._policies = {
        'policy': agent.policy, 'base_policy': agent.base_policy
    }
    cls._folder = os.path.join(
        absltest.get_default_test_tmpdir(), 'parl_policy'
    )
    for name, policy in cls._policies.items():
      saver = policy_saver.PolicySaver(policy, batch_size=None)
      saver.save(os.path.join(cls._folder, name))

  def test_a_process_with_only_tensorflow_acts_the_same(self):
    observation = _time_step(4).observation.numpy()
    seed = np.tile(np.int32([3, 5]), [4, 1])
    np.savez(
        os.path.join(self._folder, 'inputs.npz'),
        observation=observation,
        seed=seed,
    )

    completed = subprocess.run(
        [sys.executable, '-c', _BARE_PROCESS, self._folder, *self._policies],
        cwd=self._folder,
        env={k: v for k, v in os.environ.items() if k != 'PYTHONPATH'},
        capture_output=True,
        text=True,
        check=False,
    )

    self.assertEqual(completed.returncode, 0, completed.stderr)
    with np.load(os.path.join(self._folder, 'actions.npz')) as actions:
      for name, policy in self._policies.items():
        compiled = tf.function(policy.action, autograph=False)
        expected, state = [], tf.constant(seed)
        for index in range(5):
          step_type = ts.StepType.MID if index else ts.StepType.FIRST
          step = compiled(_time_step(4, step_type), state)
          expected.append(step.action)
          state = step.state
        # That process has Grappler, which may round differently.
        self.assertAllClose(actions[name], np.stack(expected), atol=1e-5)

  def test_only_a_policy_with_a_search_saves_the_critic(self):
    ranks = {}
    for name in self._policies:
      path = os.path.join(self._folder, name, 'variables', 'variables')
      ranks[name] = [len(shape) for _, shape in tf.train.list_variables(path)]

    # The critic's weights have an additional axis, for its members.
    self.assertIn(3, ranks['policy'])
    self.assertNotIn(3, ranks['base_policy'])


if __name__ == '__main__':
  absltest.main()
