"""Tests of the random shifts of images."""

import numpy as np
import tensorflow as tf
from tf_agents.trajectories import trajectory

from parl_tf.agents import image_shift
from tests import small_images
from tests import tensor_case

_NUM_ROWS = 40
_SEED = tf.constant([3, 1])


def _make_transition():
  """Returns a transition in which s' equals s, so their shifts compare."""
  rows = small_images.make_rows(_NUM_ROWS)
  rows = rows._replace(
      observation=tf.nest.map_structure(
          lambda x: tf.repeat(x[:, :1], 2, axis=1), rows.observation
      )
  )
  return tf.nest.map_structure(
      lambda x: tf.squeeze(x, axis=1), trajectory.to_transition(rows)
  )


def _offsets(image, shifted, padding):
  """Returns the offsets of the crop of the padded image that is `shifted`."""
  height, width, _ = image.shape
  margins = [(padding, padding), (padding, padding), (0, 0)]
  padded = np.pad(image, margins, mode='edge')
  span = range(2 * padding + 1)
  (found,) = (
      (i, j) for i in span for j in span
      if np.array_equal(padded[i : i + height, j : j + width], shifted)
  )
  return found


class ImageShiftTest(tensor_case.TensorCase):

  def _shift(self, padding=2, seed=_SEED):
    self.transition = _make_transition()
    return image_shift.shift(self.transition, seed, padding)

  def _all_offsets(self, shifted, name):
    before = self.transition.time_step.observation[name].numpy()
    after = shifted.time_step.observation[name].numpy()
    return [_offsets(*pair, padding=2) for pair in zip(before, after)]

  def test_both_observations_have_the_same_shift(self):
    shifted = self._shift()
    for name, spec in small_images.OBSERVATION_SPEC.items():
      now = shifted.time_step.observation[name]
      self.assertEqual(now.dtype, spec.dtype)
      self.assertAllEqual(now, shifted.next_time_step.observation[name])

  def test_each_row_and_camera_has_its_own_offsets(self):
    shifted = self._shift()
    static = self._all_offsets(shifted, 'static')
    gripper = self._all_offsets(shifted, 'gripper')
    # There are 25 offsets. The probability that 40 draws miss one end of an
    # axis is 0.8^40 = 1e-4.
    self.assertGreater(len(set(static)), 12)
    self.assertEqual(
        (np.min(static, axis=0).tolist(), np.max(static, axis=0).tolist()),
        ([0, 0], [4, 4]),
    )
    self.assertNotEqual(static, gripper)

  def test_the_seed_determines_the_shifts(self):
    first, same = self._shift(), self._shift()
    other = self._shift(seed=_SEED + 1)
    images = [
        x.time_step.observation['static'] for x in (first, same, other)
    ]
    self.assertAllEqual(*images[:2])
    self.assertNotAllEqual(images[0], images[2])

  def test_only_images_change_and_padding_0_changes_nothing(self):
    shifted, padding_0 = self._shift(), self._shift(padding=0)
    for seen, expected in zip(
        tf.nest.flatten(padding_0), tf.nest.flatten(self.transition)
    ):
      self.assertIs(seen, expected)
    self.assertAllEqual(
        shifted.time_step.observation['robot'],
        self.transition.time_step.observation['robot'],
    )
    self.assertAllEqual(
        shifted.next_time_step.reward, self.transition.next_time_step.reward
    )


if __name__ == '__main__':
  tf.test.main()
