"""Tests of transitions over several steps."""

from absl.testing import absltest
from absl.testing import parameterized
import gin
import numpy as np
import tensorflow as tf

from parl_tf import losses
from parl_tf import types
from parl_tf.replay import episode_writer
from parl_tf.replay import experience as experience_lib
from parl_tf.replay import memory_experience
from parl_tf.replay import reverb_experience
from parl_tf.replay import stored_step
from tests import tensor_case

_LENGTH = 3
_GAMMA = 0.5
_BATCH_SIZE = 256
_SIGNATURE = stored_step.signature(
    tf.TensorSpec([1], tf.float32), tf.TensorSpec([2], tf.float32)
)


def _episode(num_steps, episode_id, is_terminal, has_last_transition=True):
  """Step t has observation 10 id + t, action (t, -t) / 10, reward t + 1."""
  steps = np.arange(num_steps)
  discount = np.ones(num_steps, np.float32)
  discount[-1] = 0.0 if is_terminal else 1.0
  return types.Episode(
      observation=(
          10.0 * episode_id + np.arange(num_steps + 1)[:, np.newaxis]
      ).astype(np.float32),
      action=(steps[:, np.newaxis] * [0.1, -0.1]).astype(np.float32),
      reward=(steps + 1).astype(np.float32),
      discount=discount,
      success=np.zeros(num_steps, bool),
      episode_id=episode_id,
      has_last_transition=has_last_transition,
  )


# Five steps that end the task; four that time out; four without the last
# observation; a single step.
_EPISODES = (
    _episode(5, 0, True),
    _episode(4, 1, False),
    _episode(4, 2, False, has_last_transition=False),
    _episode(1, 3, True),
)


def _fill(sink, table='offline'):
  writer = episode_writer.EpisodeWriter(
      gamma=_GAMMA, reward_scale=1.0, reward_bias=0.0,
      never_succeeds_value=None, sink=sink,
  )
  for episode in _EPISODES:
    writer.write(table, episode)


_REQUEST = experience_lib.ExperienceRequest(
    critic_slices=1, critic_batch_size=_BATCH_SIZE
)
_CONSTANTS = dict(
    reward_scale=2.0, reward_bias=-1.0, chunk_length=_LENGTH, gamma=_GAMMA
)

_HALVES = experience_lib.ExperienceRequest(
    critic_slices=1,
    critic_batch_size=_BATCH_SIZE,
    critic_offline_fraction=0.5,
)
_RETURNS = dict(reward_scale=2.0, reward_bias=-1.0, gamma=_GAMMA)


class ChunksTest(tensor_case.TensorCase):

  def _memory(self):
    source = memory_experience.MemoryExperience(seed=0, **_CONSTANTS)
    _fill(source)
    return source

  def _reverb(self):
    source = reverb_experience.ReverbExperience(_SIGNATURE, **_CONSTANTS)
    self.addCleanup(source.close)
    _fill(source)
    self.assertEqual(source.num_transitions('offline'), 5 + 4 + 3 + 1)
    return source

  def _rows(self, source):
    """Returns the rows by (episode, step)."""
    rows = next(source.iterate(0, 1, _REQUEST)).critic
    info = rows.policy_info
    keys = zip(*(info[k][:, 0].numpy() for k in ('episode_id', 'step_index')))
    return {
        key: tf.nest.map_structure(lambda leaf: leaf[i], rows)  # pylint: disable=cell-var-from-loop
        for i, key in enumerate(keys)
    }

  @parameterized.parameters('_memory', '_reverb')
  def test_rows_by_hand(self, source):
    rows = self._rows(getattr(self, source)())
    self.assertEqual(
        set(rows),
        {(0, t) for t in range(5)} | {(1, t) for t in range(4)}
        | {(2, t) for t in range(3)} | {(3, 0)},
    )
    # Rewards 2 r - 1 are 1, 3, 5, 7, 9. Steps 1 to 3 earn 3 + 5 / 2 + 7 / 4 =
    # 7.25 and lead to state 4, whose value has the weight gamma / 4 = 1 / 8.
    row = rows[0, 1]
    self.assertAllClose(row.observation[:, 0], [1.0, 4.0])
    self.assertAllClose(row.action[0], [0.1, -0.1, 0.2, -0.2, 0.3, -0.3])
    self.assertAllClose(row.reward[0], 7.25)
    self.assertAllClose(row.discount[0], 0.25)
    self.assertAllClose(row.policy_info['action_mask'][0], [1.0] * 6)
    target = losses.td_target(
        row.reward[:1], row.discount[:1], tf.constant([8.0]), _GAMMA
    )
    self.assertAllClose(target, [7.25 + 8.0 / 8.0])
    # Only two steps are left, which earn 7 + 9 / 2, and then the task ends.
    row = rows[0, 3]
    self.assertAllClose(row.observation[:, 0], [3.0, 5.0])
    self.assertAllClose(row.action[0], [0.3, -0.3, 0.4, -0.4, 0.0, 0.0])
    self.assertAllClose(row.reward[0], 11.5)
    self.assertAllClose(row.discount[0], 0.0)
    self.assertAllClose(
        row.policy_info['action_mask'][0], [1.0] * 4 + [0.0] * 2
    )
    # Two steps are left, which earn 5 + 7 / 2; the last state has a value.
    row = rows[1, 2]
    self.assertAllClose(row.observation[:, 0], [12.0, 14.0])
    self.assertAllClose(row.reward[0], 8.5)
    self.assertAllClose(row.discount[0], 0.5)
    # The fourth step has no next state, so the chunk ends after the third.
    self.assertAllClose(rows[2, 0].observation[:, 0], [20.0, 23.0])
    self.assertAllClose(rows[2, 2].observation[:, 0], [22.0, 23.0])
    self.assertAllClose(rows[2, 2].reward[0], 5.0)
    self.assertAllClose(rows[2, 2].discount[0], 1.0)
    self.assertAllClose(rows[3, 0].reward[0], 1.0)
    self.assertAllClose(rows[3, 0].discount[0], 0.0)

  def test_return_is_that_of_the_first_step(self):
    # From the stored rewards, 1 + 2/2 + 3/4 + 4/8 + 5/16 = 3.5625.
    row = self._rows(self._memory())[0, 0]
    self.assertAllClose(row.policy_info['monte_carlo_return'][0], 3.5625)

  def test_rows_do_not_depend_on_the_block_size(self):
    memory = self._memory()
    small = memory_experience.MemoryExperience(
        seed=0, max_block_bytes=1, **_CONSTANTS
    )
    _fill(small)
    for one, other in zip(
        memory.iterate(7, 3, _REQUEST), small.iterate(7, 3, _REQUEST)
    ):
      tf.nest.map_structure(self.assertAllEqual, one.critic, other.critic)

  def test_both_states_of_a_row_have_candidates(self):
    memory = self._memory()
    num_steps = len(memory.states('offline').observation)
    candidates = np.tile(
        np.arange(num_steps, dtype=np.float32)[:, np.newaxis, np.newaxis],
        [1, 2, 6],
    )
    memory.set_candidates('offline', candidates)
    rows = self._rows(memory)
    seen = rows[0, 3].policy_info['candidate_actions']
    self.assertEqual(seen.shape, [2, 2, 6])
    self.assertAllEqual(seen[:, 0, 0], [3.0, 5.0])
    seen = rows[1, 0].policy_info['candidate_actions']
    self.assertAllEqual(seen[:, 0, 0], [6.0, 9.0])  # After six steps.
    with self.assertRaisesRegex(ValueError, r'\[num_states, N, 6\]'):
      memory.set_candidates('offline', candidates[..., :2])


class ReturnStepsTest(tensor_case.TensorCase):
  """Online rows have three-step returns, and offline rows one step."""

  def setUp(self):
    super().setUp()
    self.addCleanup(gin.clear_config)
    gin.bind_parameter('n_step_returns.online_steps', 3)

  def _memory(self):
    return memory_experience.MemoryExperience(seed=0, **_RETURNS)

  def _reverb(self):
    source = reverb_experience.ReverbExperience(_SIGNATURE, **_RETURNS)
    self.addCleanup(source.close)
    return source

  @parameterized.parameters('_memory', '_reverb')
  def test_rows_by_hand(self, make):
    source = getattr(self, make)()
    _fill(source)
    _fill(source, 'online')

    rows = next(source.iterate(0, 1, _HALVES)).critic

    info = rows.policy_info
    self.assertNotIn('action_mask', info)  # Single actions need none.
    is_late = (info['episode_id'][:, 0] == 0) & (info['step_index'][:, 0] == 3)
    is_early = (info['episode_id'][:, 0] == 0) & (info['step_index'][:, 0] == 1)
    half = _BATCH_SIZE // 2
    # Rewards 2 r - 1 are 1, 3, 5, 7, 9, as in `ChunksTest`.
    for mask, offline, online in (
        (is_early, (3.0, 1.0, 2.0), (7.25, 0.25, 4.0)),
        (is_late, (7.0, 1.0, 4.0), (11.5, 0.0, 5.0)),
    ):
      for part, expected in (
          (slice(half), offline), (slice(half, None), online)
      ):
        rows_here = tf.nest.map_structure(
            lambda leaf: tf.boolean_mask(leaf[part], mask[part]), rows  # pylint: disable=cell-var-from-loop
        )
        self.assertNotEmpty(rows_here.reward)
        reward, discount, next_state = expected
        self.assertAllClose(
            rows_here.reward[:, 0], tf.fill(len(rows_here.reward), reward)
        )
        self.assertAllClose(
            rows_here.discount[:, 0], tf.fill(len(rows_here.reward), discount)
        )
        self.assertAllClose(
            rows_here.observation[:, 1, 0],
            tf.fill(len(rows_here.reward), next_state),
        )
    self.assertAllClose(
        rows.action[:, 0],
        info['step_index'][:, :1].numpy() * np.float32([0.1, -0.1]),
    )

  def test_chunks_longer_than_the_returns_keep_their_steps(self):
    for steps in experience_lib.row_offsets(3, 2).values():
      np.testing.assert_array_equal(steps, [0, 1, 2, 3])
    offsets = experience_lib.row_offsets(2, 4)
    np.testing.assert_array_equal(offsets['offline'], [0, 1, 2, 2, 2])
    np.testing.assert_array_equal(offsets['online'], [0, 1, 2, 3, 4])

  @parameterized.parameters(0, 2.5, '3')
  def test_steps_must_be_a_positive_integer(self, steps):
    with self.assertRaisesRegex(
        ValueError, f'`n_step_returns.online_steps` must be.*got {steps!r}'
    ):
      experience_lib.row_offsets(1, steps)


if __name__ == '__main__':
  absltest.main()
