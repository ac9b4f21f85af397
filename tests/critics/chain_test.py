"""Tests that critics learn the values of a chain with a known solution.

The chain has five states, observed one-hot. Action -1 goes left (state 0 stays)
and +1 goes right. Going right from the last state ends the task. Each step has
reward -1, and gamma is 0.9.
"""

import functools

from absl.testing import parameterized
import numpy as np
import tensorflow as tf
from tf_agents.specs import tensor_spec
from tf_agents.trajectories import policy_step
from tf_agents.trajectories import time_step as ts
from tf_agents.trajectories import trajectory
from tf_agents.utils import common

from parl_tf import randomness
from parl_tf import types
from parl_tf.critics import cal_ql
from parl_tf.critics import iql
from parl_tf.networks import ensemble
from parl_tf.search import action_optimizer
from parl_tf.search import action_source
from parl_tf.search import state_actions
from tests.critics import critic_conformance

_NUM_STATES = 5
_GAMMA = 0.9
_LEFT, _RIGHT = 0, 1
# The values of going left and right in each state. Going right takes 5, 4, 3,
# 2, 1 steps to the end: -(1 + 0.9 + .. ) = -4.0951, -3.439, -2.71, -1.9, -1.
# Going left is worth -1 plus 0.9 times the value of the next state:
# -1 - 0.9 * 4.0951 = -4.68559 in states 0 and 1, -1 - 0.9 * 3.439 = -4.0951 in
# state 2, and so on.
_OPTIMAL = np.array([
    [-4.68559, -4.0951],
    [-4.68559, -3.439],
    [-4.0951, -2.71],
    [-3.439, -1.9],
    [-2.71, -1.0],
])
# The same if going right from state 2 also ended the task. Right is worth -1 in
# state 2, -1.9 in 1 and -2.71 in 0. Left is worth -1 - 0.9 * 2.71 = -3.439 in 0
# and 1, -2.71 in 2 and -1 - 0.9 * 1 = -1.9 in 3.
_OPTIMAL_IF_TIME_OUTS_ENDED_IT = np.array([
    [-3.439, -2.71],
    [-3.439, -1.9],
    [-2.71, -1.0],
    [-1.9, -1.9],
    [-2.71, -1.0],
])
_HEADS = parameterized.named_parameters(
    ('scalar', None),
    ('histogram', critic_conformance.histogram_ctor(-10.0, 0.0, 41)),
)


def _next_state(state, move):
  return max(state - 1, 0) if move == _LEFT else state + 1


def _make_transition(num_rights=1, is_time_out_terminal=False):
  """Makes each step to the left once and each to the right `num_rights` times.

  The step to the right from state 2 is recorded as the last before a time-out.
  """
  steps = [
      (state, move)
      for state in range(_NUM_STATES)
      for move in [_LEFT] + [_RIGHT] * num_rights
  ]
  state, next_state, action, discount, is_last = [], [], [], [], []
  for here, move in steps:
    there = _next_state(here, move)
    is_time_out = (here, move) == (2, _RIGHT)
    is_end = there == _NUM_STATES or (is_time_out and is_time_out_terminal)
    state.append(here)
    # The next state of a terminal row must not matter; use the best one.
    next_state.append(min(there, _NUM_STATES - 1))
    action.append([2.0 * move - 1.0])
    discount.append(0.0 if is_end else 1.0)
    is_last.append(is_end or is_time_out)
  rows = len(steps)
  # Returns far below every value disable calibration.
  info = {'monte_carlo_return': tf.fill([rows], -10.0)}
  return trajectory.Transition(
      ts.TimeStep(
          tf.fill([rows], ts.StepType.MID),
          tf.zeros([rows]),
          tf.ones([rows]),
          tf.one_hot(state, _NUM_STATES),
      ),
      policy_step.PolicyStep(tf.constant(action), (), info),
      ts.TimeStep(
          tf.where(is_last, ts.StepType.LAST, ts.StepType.MID),
          tf.fill([rows], -1.0),
          tf.constant(discount),
          tf.one_hot(next_state, _NUM_STATES),
      ),
  )


def _make_critic(critic_ctor, distribution_ctor, **kwargs):
  return critic_ctor(
      types.ModelSpec(
          tf.TensorSpec([_NUM_STATES], tf.float32),
          tensor_spec.BoundedTensorSpec([1], tf.float32, -1.0, 1.0),
      ),
      network_ctor=functools.partial(
          ensemble.CriticEnsemble, num_members=2, hidden_sizes=(32,)
      ),
      distribution_ctor=distribution_ctor,
      gamma=_GAMMA,
      tau=0.2,
      **kwargs,
  )


def _train(critic, transition, num_steps=500):
  """Trains on all rows at once, with the better of both actions as source."""
  optimizer = tf.keras.optimizers.Adam(0.01)
  variables = critic.trainable_variables
  optimizer.build(variables)
  rows = transition.next_time_step.reward.shape[0]
  both = tf.tile(tf.constant([[[[-1.0], [1.0]]]]), [rows, 2, 1, 1])
  search = action_source.Search(2, action_optimizer.ActionOptimizer(1, 0, 0.1))

  @common.function
  def update(i, learning_rate):
    seed = randomness.fold_in([0, 0], i)
    with tf.GradientTape() as tape:
      source = state_actions.make_source(
          search, None, critic, transition, seed, samples=both, tape=tape
      )
      loss = tf.reduce_mean(critic.loss(transition, source, seed).per_example)
    optimizer.learning_rate.assign(learning_rate)
    optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables))
    critic.update_targets()

  for i in range(num_steps):
    # The learning rate decays to a tenth, so that the values converge.
    learning_rate = 0.01 * 0.1 ** (i / num_steps)
    update(tf.constant(i), tf.constant(learning_rate))


def _values(critic):
  """Returns the values `[states, moves]`."""
  actions = tf.tile(tf.constant([[[-1.0], [1.0]]]), [_NUM_STATES, 1, 1])
  return critic.bind(tf.eye(_NUM_STATES))(actions).numpy()


def _solve_iql(expectile, num_rights):
  """Computes IQL's values of states and of actions by iteration."""
  value = np.zeros([_NUM_STATES + 1])
  weights = np.array([1.0, num_rights])
  for _ in range(200):
    values = np.array([
        [-1.0 + _GAMMA * value[_next_state(s, move)] for move in (0, 1)]
        for s in range(_NUM_STATES)
    ])
    # The minimizer v of sum w |expectile - 1(q <= v)| (q - v)^2 lies between
    # both values, so the larger value has the weight `expectile`.
    is_larger = values > np.min(values, axis=1, keepdims=True)
    sides = weights * np.where(is_larger, expectile, 1.0 - expectile)
    value[:_NUM_STATES] = np.sum(sides * values, axis=1) / np.sum(sides, axis=1)
  return value[:_NUM_STATES], values


class ChainTest(parameterized.TestCase):

  @_HEADS
  def test_cal_ql_learns_the_optimal_values(self, distribution_ctor):
    critic = _make_critic(
        cal_ql.CalQLCritic, distribution_ctor, conservative_weight=1e-3
    )
    _train(critic, _make_transition())
    np.testing.assert_allclose(_values(critic), _OPTIMAL, rtol=0.05)

  def test_terminal_steps_differ_from_time_outs(self):
    critic = _make_critic(cal_ql.CalQLCritic, None, conservative_weight=1e-3)
    _train(critic, _make_transition(is_time_out_terminal=True))
    np.testing.assert_allclose(
        _values(critic), _OPTIMAL_IF_TIME_OUTS_ENDED_IT, rtol=0.05
    )

  @_HEADS
  def test_iql_learns_the_values_of_its_expectile(self, distribution_ctor):
    # The behavior policy goes right in three of four steps.
    critic = _make_critic(iql.IQLCritic, distribution_ctor, expectile=0.8)
    _train(critic, _make_transition(num_rights=3))
    state_values, values = _solve_iql(expectile=0.8, num_rights=3)
    np.testing.assert_allclose(_values(critic), values, rtol=0.05)
    np.testing.assert_allclose(
        critic.value(tf.eye(_NUM_STATES)), state_values, rtol=0.05
    )

  def test_the_reference_solution_is_the_fixed_point(self):
    # With weights 0.2 * 1 and 0.8 * 3, going right has a share of 2.4 / 2.6 =
    # 12 / 13. In state 4, right is worth -1 and left -1 + 0.9 V(3).
    value, values = _solve_iql(expectile=0.8, num_rights=3)
    self.assertAlmostEqual(values[4, _RIGHT], -1.0)
    self.assertAlmostEqual(values[4, _LEFT], -1.0 + 0.9 * value[3])
    self.assertAlmostEqual(
        value[4], 12 / 13 * values[4, _RIGHT] + 1 / 13 * values[4, _LEFT]
    )
