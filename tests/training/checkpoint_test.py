"""Tests of the checkpoints of a run."""

import contextlib
import functools
import os
import resource
from unittest import mock

from absl import logging
from absl.testing import parameterized
import numpy as np
import tensorflow as tf

from parl_tf.training import checkpoint
from tests import tensor_case
from tests.agents import small_agent
from tests.training import small_run


@contextlib.contextmanager
def _no_room(num_bytes):
  """Limits the size of files that this process writes to `num_bytes`."""
  before = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
  try:
    yield
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@functools.lru_cache(maxsize=None)
def _shared_agent():
  """Returns the agent of the tests that read only the run's state."""
  return small_run.make_agent()


def _values(agent):
  return [
      variable.numpy()
      for name in sorted(agent.checkpoint_items)
      if name != 'train_step'
      for variable in agent.checkpoint_items[name].variables
  ]


class CheckpointTest(tensor_case.TensorCase, parameterized.TestCase):

  def setUp(self):
    super().setUp()
    self._dir = os.path.join(self.create_tempdir().full_path, 'checkpoints')

  def _checkpoint(self, agent, state=None):
    return checkpoint.Checkpoint(
        self._dir, agent, state or checkpoint.RunState()
    )

  def test_empty_directory_restores_nothing(self):
    agent = small_run.make_agent()
    before = _values(agent)
    self.assertFalse(self._checkpoint(agent).restore())
    self.assertAllEqual(before[0], _values(agent)[0])

  def test_the_state_is_read_without_the_agent(self):
    with self.assertRaisesRegex(ValueError, 'checkpoints must hold'):
      checkpoint.read_state(self._dir)
    state = checkpoint.RunState(episodes=3, policy_versions=['a', 'b'])
    saved = self._checkpoint(_shared_agent(), state)
    saved.save()
    state.episodes = 4
    saved.save()
    found = checkpoint.read_state(self._dir)
    self.assertEqual((found.episodes, found.policy_versions), (4, ['a', 'b']))

  def test_checkpoint_is_synced_before_it_counts(self):
    synced = []

    def sync(descriptor):
      synced.append(os.readlink(f'/proc/self/fd/{descriptor}'))
      fsync(descriptor)

    fsync = os.fsync
    saved = self._checkpoint(_shared_agent())
    with mock.patch.object(os, 'fsync', sync):
      saved.save()

    self.assertSameElements(
        [os.path.basename(path) for path in synced],
        [
            *('ckpt-1.data-00000-of-00001', 'ckpt-1.index'),
            *('checkpoint', 'checkpoints'),
        ],
    )

  def test_agent_and_state_are_restored_together(self):
    agent = small_run.make_agent(seed=1)
    agent.train_step_counter.assign(7)
    for items in agent.checkpoint_items.values():
      for variable in getattr(items, 'variables', []):
        if variable.dtype.is_floating:
          variable.assign_add(0.25 * np.ones(variable.shape))
    state = checkpoint.RunState(
        phase='online',
        phase_step=3,
        env_steps=45,
        phase_start=(30, 0, 1.5),
        held_out_losses=[(2, 0.5), (4, 0.1)],
        summaries={'offline': {'success_rate': 0.1 + 0.2, 'score': None}},
        latest={'score': 1 / 3},
    )
    self._checkpoint(agent, state).save()
    restored, other = checkpoint.RunState(), small_run.make_agent(seed=2)
    self.assertTrue(self._checkpoint(other, restored).restore())
    self.assertEqual(other.train_step_counter.numpy(), 7)
    for seen, wanted in zip(_values(other), _values(agent), strict=True):
      self.assertAllEqual(seen, wanted)
    self.assertEqual(restored.phase, 'online')
    self.assertEqual(restored.summaries, state.summaries)
    self.assertEqual(restored.latest, state.latest)
    self.assertAllEqual(restored.held_out_losses, state.held_out_losses)
    self.assertSequenceEqual(restored.phase_start, state.phase_start)

  def test_the_latest_of_several_is_restored(self):
    agent, state = _shared_agent(), checkpoint.RunState()
    saver = self._checkpoint(agent, state)
    for step in range(4):
      state.phase_step = step
      saver.save()
    restored = checkpoint.RunState()
    self._checkpoint(_shared_agent(), restored).restore()
    self.assertEqual(restored.phase_step, 3)
    self.assertLen([n for n in os.listdir(self._dir) if '.index' in n], 2)

  def test_another_agent_is_refused(self):
    self._checkpoint(small_agent.make_agent()).save()
    with self.assertRaisesRegex(
        ValueError, f'{self._dir}/ckpt-1 does not fit'
    ) as context:
      self._checkpoint(_shared_agent()).restore()
    self.assertLess(len(str(context.exception)), 500)  # No values of weights.

  def _save_twice(self):
    """Saves phase steps 1 and 2; returns the saver and its state."""
    state = checkpoint.RunState()
    saver = self._checkpoint(_shared_agent(), state)
    for step in (1, 2):
      state.phase_step = step
      saver.save()
    return saver, state

  def _restore(self):
    restored = checkpoint.RunState()
    self._checkpoint(_shared_agent(), restored).restore()
    return restored.phase_step

  @parameterized.parameters(0, 10, 20_000)
  def test_full_disk_does_not_end_the_run(self, num_bytes):
    saver, state = self._save_twice()
    state.phase_step = 3
    before = sorted(os.listdir(self._dir))

    with self.assertLogs(logging.get_absl_logger(), 'ERROR') as logs:
      with _no_room(num_bytes):
        saver.save()

    self.assertIn(self._dir, logs.output[0])
    self.assertEqual(sorted(os.listdir(self._dir)), before)
    self.assertEqual(self._restore(), 2)
    saver.save()
    self.assertEqual(self._restore(), 3)

  def test_failed_saves_that_leave_an_index_remove_no_whole_checkpoint(self):
    saver, state = self._save_twice()
    before = sorted(os.listdir(self._dir))

    for number in (7, 8, 9):
      def fail(number=number):
        # Space for the data, and for a part of the index.
        for ending in ('.data-00000-of-00001', '.index'):
          path = os.path.join(self._dir, f'ckpt-{number}{ending}')
          with open(path, 'wb') as file:
            file.write(b'x')
        raise tf.errors.ResourceExhaustedError(None, None, 'No space left')

      with mock.patch.object(saver._manager, 'save', fail):
        with self.assertLogs(logging.get_absl_logger(), 'ERROR'):
          saver.save()
      self.assertEqual(sorted(os.listdir(self._dir)), before)

    self.assertEqual(self._restore(), 2)
    state.phase_step = 3
    saver.save()
    self.assertEqual(self._restore(), 3)

  def test_full_disk_for_the_list_of_checkpoints_loses_no_checkpoint(self):
    saver, state = self._save_twice()
    state.phase_step = 3
    os.remove(os.path.join(self._dir, 'checkpoint'))
    os.mkdir(os.path.join(self._dir, 'checkpoint'))

    with self.assertLogs(logging.get_absl_logger(), 'ERROR'):
      saver.save()

    self.assertEqual(self._restore(), 3)

  @parameterized.parameters(
      '.data-00000-of-00001', '.index', '.data-00000-of-00001 gone',
      '.index gone',
  )
  def test_torn_checkpoint_is_skipped(self, damage):
    saver, _ = self._save_twice()
    suffix, _, is_gone = damage.partition(' ')
    path = os.path.join(self._dir, 'ckpt-2')
    if is_gone:
      os.remove(path + suffix)
    else:
      os.truncate(path + suffix, os.path.getsize(path + suffix) // 2)

    with self.assertLogs(logging.get_absl_logger(), 'WARNING') as logs:
      self.assertEqual(self._restore(), 1)

    self.assertIn(path, logs.output[0])

  def test_rolled_back_run_overwrites_the_torn_checkpoint(self):
    self._save_twice()
    os.truncate(os.path.join(self._dir, 'ckpt-2.data-00000-of-00001'), 100)
    state = checkpoint.RunState()
    saver = self._checkpoint(_shared_agent(), state)
    saver.restore()

    for step in (7, 8):
      state.phase_step = step
      saver.save()
      self.assertEqual(self._restore(), step)

    self.assertLen([n for n in os.listdir(self._dir) if '.index' in n], 2)

  @parameterized.parameters('', 'not a list of checkpoints', None)
  def test_damaged_list_of_checkpoints_is_ignored(self, content):
    self._save_twice()
    path = os.path.join(self._dir, 'checkpoint')
    os.remove(path)
    if content is not None:
      with open(path, 'w', encoding='utf-8') as file:
        file.write(content)

    self.assertEqual(self._restore(), 2)

    state = checkpoint.RunState()
    saver = self._checkpoint(_shared_agent(), state)
    saver.restore()
    for step in (7, 8):
      state.phase_step = step
      saver.save()
    self.assertEqual(self._restore(), 8)
    self.assertLen([n for n in os.listdir(self._dir) if '.index' in n], 2)

  def test_no_readable_checkpoint_is_an_error(self):
    self._save_twice()
    for number in (1, 2):
      os.truncate(os.path.join(self._dir, f'ckpt-{number}.index'), 10)

    message = f'checkpoints in {self._dir} are damaged'
    with self.assertRaisesRegex(ValueError, message):
      self._restore()

  def test_kill_during_the_first_save_leaves_no_checkpoint(self):
    os.makedirs(os.path.join(self._dir, 'ckpt-1_temp'))
    with open(os.path.join(self._dir, 'ckpt-1.data-00000-of-00001'), 'w'):
      pass
    saver = self._checkpoint(_shared_agent())

    self.assertFalse(saver.restore())

    saver.save()
    self.assertEqual(self._restore(), 0)


if __name__ == '__main__':
  tf.test.main()
