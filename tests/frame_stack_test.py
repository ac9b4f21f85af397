"""Tests of stacked frames."""

from absl.testing import parameterized
import dm_env
from dm_env import specs
import hypothesis
from hypothesis import strategies
import numpy as np
import tensorflow as tf
from tf_agents.trajectories import trajectory

from parl_tf import frame_stack
from parl_tf import types
from parl_tf.replay import step_table
from parl_tf.replay import stored_states
from tests import tensor_case


def _images(numbers):
  """Returns images `[..., 2, 2, 3]` whose channels are n, 100 + n, 200 + n."""
  channels = np.asarray(numbers)[..., np.newaxis] + np.array([0, 100, 200])
  shape = (*channels.shape[:-1], 2, 2, 3)
  return np.broadcast_to(
      channels[..., np.newaxis, np.newaxis, :], shape
  ).astype(np.uint8)


def _numbers(stacks):
  """Returns the numbers `[..., frames]` of stacks; checks every channel."""
  numbers = stacks[..., 0, 0, ::3].astype(int)
  for frame in range(numbers.shape[-1]):
    np.testing.assert_array_equal(
        stacks[..., 3 * frame : 3 * frame + 3], _images(numbers[..., frame])
    )
  return numbers


def _steps(first, num_steps):
  """Returns the stored steps of an episode whose images count from `first`."""
  count = np.arange(first, first + num_steps)
  return trajectory.Trajectory(
      step_type=np.ones(num_steps, np.int32),
      observation={
          'picture': _images(count),
          'vector': np.stack([count, -count], axis=1).astype(np.float32),
          'instruction': count[:, np.newaxis].astype(np.float32),
          'labels': count[:, np.newaxis],
      },
      action=np.zeros((num_steps, 2), np.float32),
      policy_info={
          'episode_id': np.zeros(num_steps, np.int64),
          'step_index': np.arange(num_steps, dtype=np.int32),
      },
      next_step_type=np.ones(num_steps, np.int32),
      reward=np.zeros(num_steps, np.float32),
      discount=np.ones(num_steps, np.float32),
  )


class _Counter(dm_env.Environment):
  """Shows the number of steps of its episode, in one array that it reuses."""

  def __init__(self, first):
    self._first = first
    self._image = np.zeros([2, 2, 3], np.uint8)

  def reset(self):
    self._count = self._first
    return dm_env.restart(self._look())

  def step(self, action):
    self._count += 1
    return dm_env.transition(0.0, self._look())

  def observation_spec(self):
    return {
        'picture': specs.Array((2, 2, 3), np.uint8),
        'vector': specs.Array((2,), np.float32),
        'instruction': specs.Array((1,), np.float32),
        'labels': specs.Array((1,), np.int64),
    }

  def action_spec(self):
    return specs.Array((1,), np.float32)

  def _look(self):
    self._image[:] = _images(self._count)
    return {
        'picture': self._image,
        'vector': np.float32([self._count, -self._count]),
        'instruction': np.float32([self._count]),
        'labels': np.array([self._count]),
    }


class FrameStackTest(tensor_case.TensorCase):

  def test_an_episode_is_read_with_its_earlier_frames(self):
    steps = _steps(10, 4)
    rows = frame_stack.read_episode(
        steps.observation, np.array([[0, 1], [2, 3]]), 3
    )
    self.assertEqual(
        _numbers(rows['picture']).tolist(),
        # The first frame is repeated before the start.
        [[[10, 10, 10], [10, 10, 11]], [[10, 11, 12], [11, 12, 13]]],
    )
    self.assertEqual(
        rows['vector'].tolist(),
        [
            [[10, -10, 10, -10, 10, -10], [10, -10, 10, -10, 11, -11]],
            [[10, -10, 11, -11, 12, -12], [11, -11, 12, -12, 13, -13]],
        ],
    )
    for name in ('instruction', 'labels'):
      self.assertEqual(rows[name][..., 0].tolist(), [[10, 11], [12, 13]])

  def test_play_and_reading_give_the_same_stacks(self):
    environment = frame_stack.StackedFrames(_Counter(5), 3)
    for _ in range(2):  # The second episode sees nothing of the first.
      played = [environment.reset().observation]
      played += [environment.step(None).observation for _ in range(4)]
      read = frame_stack.read_episode(
          _steps(5, 5).observation, np.arange(5), 3
      )
      for name, spec in environment.observation_spec().items():
        self.assertAllEqual([x[name] for x in played], read[name])
        for observation in played:
          spec.validate(observation[name])

  def test_the_newest_frame_is_kept(self):
    stack = frame_stack.read_episode(
        _steps(0, 3).observation, np.array(2), 2
    )
    newest = frame_stack.newest(stack, 2)
    self.assertAllEqual(newest['picture'], _images(2))
    self.assertAllEqual(newest['vector'], [2, -2])
    self.assertAllEqual(newest['instruction'], [2])

  def test_frames_are_counted(self):
    single = _Counter(0).observation_spec()
    stacked = frame_stack.StackedFrames(_Counter(0), 4).observation_spec()
    self.assertEqual(frame_stack.count(stacked, single), 4)
    for shape, num_frames in (
        ((3,), 1), ((6,), 2), ((7,), 1), ((2,), 1), ((), 1), ((2, 6), 1),
    ):
      self.assertEqual(
          frame_stack.count(
              specs.Array(shape, float), specs.Array((3,), float)
          ),
          num_frames,
      )
    self.assertEqual(
        frame_stack.count(tf.TensorSpec([None]), specs.Array((3,), float)), 1
    )
    empty = specs.Array((0,), float)
    self.assertEqual(frame_stack.count(empty, empty), 1)

  def test_statistics_are_those_of_each_frame(self):
    statistics = types.Normalization(
        {'picture': None, 'vector': np.array([1, 2]), 'labels': np.array([3])},
        {'picture': None, 'vector': np.array([4, 5]), 'labels': np.array([6])},
    )
    spec = _Counter(0).observation_spec()
    del spec['instruction']
    stacked = frame_stack.stacked_normalization(statistics, spec, 2)
    self.assertIsNone(stacked.mean['picture'])
    self.assertAllEqual(stacked.mean['vector'], [1, 2, 1, 2])
    self.assertAllEqual(stacked.mean['labels'], [3])
    self.assertAllEqual(stacked.standard_deviation['vector'], [4, 5, 4, 5])
    self.assertIsNone(frame_stack.stacked_normalization(None, {}, 2))

  def test_no_frames_are_an_error(self):
    with self.assertRaisesRegex(ValueError, '`num_frames`.*0'):
      frame_stack.FrameHistory(0)

  def test_states_of_episodes_are_those_of_a_table(self):
    episodes, table = [], step_table.StepTable('offline', 10, num_frames=3)
    for episode_id, (first, num_steps) in enumerate(((0, 4), (50, 1))):
      steps = _steps(first, num_steps + 1)
      steps.policy_info['episode_id'][:] = episode_id
      table.add(steps, num_steps)
      episodes.append(
          types.Episode(
              steps.observation,
              *(x[:-1] for x in (steps.action, steps.reward, steps.discount)),
              success=np.zeros(num_steps, np.bool_),
              episode_id=episode_id,
          )
      )
    wanted, states = table.states(), stored_states.episode_states(episodes, 3)
    for name, array in wanted.observation.items():
      self.assertAllEqual(states.observation[name], array)
      self.assertAllEqual(states.rows(slice(3, 6))[name], array[3:6])
    self.assertAllEqual(states.episode_id, wanted.episode_id)
    self.assertAllEqual(states.digests, wanted.digests)


class TableTest(tensor_case.TensorCase):

  def test_each_frame_is_stored_once(self):
    sizes = []
    for num_frames in (1, 4):
      table = step_table.StepTable('offline', 10, num_frames=num_frames)
      table.add(_steps(0, 6), 5)
      sizes.append(table.num_steps)
    self.assertEqual(sizes, [6, 6])

  def test_states_have_stacked_frames(self):
    table = step_table.StepTable('offline', 10, num_frames=2)
    table.add(_steps(0, 3), 2)
    table.add(_steps(50, 2), 1)
    self.assertEqual(
        _numbers(table.states().observation['picture']).tolist(),
        [[0, 0], [0, 1], [1, 2], [50, 50], [50, 51]],
    )

  @parameterized.parameters(1, 2)
  @hypothesis.settings(derandomize=True, deadline=None, max_examples=30)
  @hypothesis.given(
      strategies.integers(1, 12),
      strategies.integers(1, 4),
      strategies.lists(strategies.integers(1, 9), min_size=1, max_size=8),
  )
  def test_rows_have_the_frames_of_their_episode(
      self, chunk_length, capacity, num_frames, lengths
  ):
    table = step_table.StepTable('online', capacity, chunk_length, num_frames)
    wanted = []
    for index, length in enumerate(lengths):
      first = 12 * index
      table.add(_steps(first, length + 1), length)
      for start in range(length):
        steps = [start, min(start + chunk_length, length)]
        wanted.append([
            [first + max(t - age, 0) for age in range(num_frames - 1, -1, -1)]
            for t in steps
        ])
    wanted = wanted[-capacity:]
    rows = table.rows(np.arange(table.num_transitions))
    self.assertEqual(_numbers(rows.observation['picture']).tolist(), wanted)


if __name__ == '__main__':
  tf.test.main()
