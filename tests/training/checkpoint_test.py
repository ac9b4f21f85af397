"""Tests of the one checkpoint of a run."""

import os

import numpy as np
import tensorflow as tf

from parl_tf.training import checkpoint
from tests import tensor_case
from tests.agents import small_agent
from tests.training import small_run


def _values(agent):
  return [
      variable.numpy()
      for name in sorted(agent.checkpoint_items)
      if name != 'train_step'
      for variable in agent.checkpoint_items[name].variables
  ]


class CheckpointTest(tensor_case.TensorCase):

  def setUp(self):
    super().setUp()
    self._dir = os.path.join(self.create_tempdir().full_path, 'checkpoints')

  def _checkpoint(self, agent, state=None):
    return checkpoint.Checkpoint(
        self._dir, agent, state or checkpoint.RunState()
    )

  def test_nothing_is_restored_from_nothing(self):
    agent = small_run.make_agent()
    before = _values(agent)
    self.assertFalse(self._checkpoint(agent).restore())
    self.assertAllEqual(before[0], _values(agent)[0])

  def test_agent_and_state_come_back_together(self):
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
    agent, state = small_run.make_agent(), checkpoint.RunState()
    saver = self._checkpoint(agent, state)
    for step in range(4):
      state.phase_step = step
      saver.save()
    restored = checkpoint.RunState()
    self._checkpoint(small_run.make_agent(), restored).restore()
    self.assertEqual(restored.phase_step, 3)
    self.assertLen([n for n in os.listdir(self._dir) if '.index' in n], 2)

  def test_another_agent_is_refused(self):
    self._checkpoint(small_agent.make_agent()).save()
    with self.assertRaisesRegex(ValueError, f'{self._dir}/ckpt-1 must hold'):
      self._checkpoint(small_run.make_agent()).restore()


if __name__ == '__main__':
  tf.test.main()
