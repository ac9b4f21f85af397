"""Tests of the policy state between steps."""

from absl.testing import absltest
import numpy as np
import tensorflow as tf
from tf_agents.trajectories import time_step as ts

from parl_tf import randomness
from parl_tf.agents import acting_state
from tests import tensor_case


def _time_step(observations, step_types):
  observation = tf.constant(observations, tf.float32)[:, tf.newaxis]
  zeros = tf.zeros(len(observations))
  return ts.TimeStep(tf.constant(step_types), zeros, zeros, observation)


class _Act:
  """Returns chunks of three actions: the observation plus 0, 0.1 and 0.2."""

  def __init__(self):
    self.seeds = []

  def __call__(self, observation, seed):
    self.seeds.append(tuple(np.asarray(seed)))
    return observation + [0.0, 0.1, 0.2]


class ActingStateTest(tensor_case.TensorCase):

  def _play(self, state, policy_state, steps):
    """Returns the actions of every step and the seeds of every draw."""
    act, actions = _Act(), []
    for observations, step_types in steps:
      action, policy_state = state.step(
          act, _time_step(observations, step_types), policy_state
      )
      actions.append(action[:, 0].numpy())
    return np.array(actions), act.seeds

  def test_a_chunk_is_played_to_its_end(self):
    state = acting_state.ActingState(1, 3)
    initial = state.initial(2, tf.constant([7, 8]))
    actions, seeds = self._play(
        state, initial, [([i, 10 * i], [1, 1]) for i in range(5)]
    )
    self.assertAllClose(
        actions, [[0, 0], [0.1, 0.1], [0.2, 0.2], [3, 30], [3.1, 30.1]]
    )
    # Two draws with different seeds; the first uses the initial seed.
    self.assertLen(set(seeds), 2)
    self.assertEqual(seeds[0], (7, 8))

  def test_a_new_episode_starts_a_new_chunk(self):
    # The second row starts a new episode at the third step.
    state = acting_state.ActingState(1, 3)
    steps = [([1, 1], [1, 1]), ([2, 2], [1, 1]), ([3, 3], [1, 0]),
             ([4, 4], [1, 1])]
    actions, _ = self._play(state, state.initial(2, tf.constant([7, 8])), steps)
    self.assertAllClose(actions, [[1, 1], [1.1, 1.1], [1.2, 3], [4, 3.1]])

  def test_without_chunks_every_step_draws_with_a_new_seed(self):
    state = acting_state.ActingState(3, 1)
    self.assertIs(state.spec, randomness.SEED_SPEC)
    initial = state.initial(1, tf.constant([7, 8]))
    _, seeds = self._play(state, initial, [([i], [1]) for i in range(4)])
    self.assertLen(set(seeds), 4)
    # The same state gives the same seeds.
    self.assertEqual(seeds, self._play(
        state, initial, [([i], [1]) for i in range(4)])[1])

  def test_both_numbers_of_a_seed_count(self):
    state = acting_state.ActingState(3, 1)
    act = _Act()
    for seed in (None, 0, (0, 1), (0, 2), (1, 2)):
      state.step(
          act,
          _time_step([0.0], [1]),
          state.initial(1, tf.constant([7, 8])),
          seed,
      )
    self.assertLen(set(act.seeds), 5)

  def test_a_graph_accepts_any_batch_size(self):
    state = acting_state.ActingState(1, 3)
    specs = tf.nest.map_structure(
        lambda spec: tf.TensorSpec([None, *spec.shape], spec.dtype), state.spec
    )

    @tf.function(input_signature=[tf.TensorSpec([None, 1]), specs])
    def step(observation, policy_state):
      zeros = tf.zeros([tf.shape(observation)[0]])
      time_step = ts.TimeStep(
          tf.ones_like(zeros, tf.int32), zeros, zeros, observation
      )
      return state.step(
          lambda x, seed: x + [0.0, 0.1, 0.2], time_step, policy_state
      )

    for batch_size in (1, 3):
      policy_state = state.initial(batch_size, tf.constant([7, 8]))
      for expected in (5.0, 5.1, 5.2, 5.0):
        action, policy_state = step(
            tf.fill([batch_size, 1], 5.0), policy_state
        )
        self.assertAllClose(action, np.full([batch_size, 1], expected))


if __name__ == '__main__':
  absltest.main()
