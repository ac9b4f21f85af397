"""Tests that faults of a robot driver are reported."""

from absl.testing import absltest
from absl.testing import parameterized
from dm_env import specs
import numpy as np

from examples.robot import simulated_arm
from parl_tf.domains import arm
from parl_tf.domains import domain

_SPEC = {
    'place': specs.Array((2,), np.float32, 'place'),
    'image': specs.Array((1, 1, 3), np.uint8, 'image'),
}


def _make_arm(**methods):
  return type('Changed', (simulated_arm.SimulatedArm,), methods)()


def _observation(**parts):
  return {
      'place': np.ones(2, np.float32),
      'image': np.ones((1, 1, 3), np.uint8),
      **parts,
  }


class ArmTest(parameterized.TestCase):

  def test_bounds_may_differ_between_dimensions(self):
    spec = specs.BoundedArray((2,), np.float64, -1.0, [1.0, 2.0])
    low, high = arm.action_bounds(_make_arm(action_spec=lambda self: spec))
    np.testing.assert_array_equal([low, high], [[-1.0, -1.0], [1.0, 2.0]])
    self.assertEqual(low.dtype, np.float32)

  @parameterized.parameters(
      specs.BoundedArray((1, 2), np.float32, -1.0, 1.0),
      specs.BoundedArray((2,), np.float32, -1.0, np.inf),
      specs.BoundedArray((2,), np.float32, 1.0, 1.0),
      specs.Array((2,), np.float32),
  )
  def test_actions_must_be_bounded(self, spec):
    with self.assertRaisesRegex(ValueError, '`Arm.action_spec` must'):
      arm.action_bounds(_make_arm(action_spec=lambda self: spec))

  def test_observations_must_be_float32_or_uint8(self):
    spec = specs.Array((4,), np.float64)
    with self.assertRaisesRegex(ValueError, '`Arm.observation_spec` must'):
      arm.checked_observation_spec(
          _make_arm(observation_spec=lambda self: spec)
      )

  def test_an_observation_is_copied(self):
    given = _observation()
    seen = arm.checked_observation(given, _SPEC)
    given['place'][:] = 7.0
    np.testing.assert_array_equal(seen['place'], [1.0, 1.0])

  @parameterized.parameters(
      ('place', np.zeros(3, np.float32), r'\(2,\) .*got \(3,\)'),
      ('place', np.zeros(2), 'float32, got .*float64'),
      ('image', np.zeros((1, 1, 3), np.float32), 'uint8, got .*float32'),
  )
  def test_an_observation_must_match_its_spec(self, name, part, message):
    with self.assertRaisesRegex(ValueError, f'`{name}` .*{message}'):
      arm.checked_observation(_observation(**{name: part}), _SPEC)

  def test_an_observation_that_is_not_finite_loses_the_episode(self):
    part = np.array([1.0, np.nan], np.float32)
    with self.assertRaisesRegex(domain.EpisodeLostError, 'finite.*`place`'):
      arm.checked_observation(_observation(place=part), _SPEC)


if __name__ == '__main__':
  absltest.main()
