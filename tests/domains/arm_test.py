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


def _observe(observation):
  driver = _make_arm(observe=lambda self: arm.Measurement(observation, 2.0))
  return arm.observe(driver, _SPEC)


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
    seen, time = _observe(given)
    self.assertEqual(time, 2.0)
    given['place'][:] = 7.0
    np.testing.assert_array_equal(seen['place'], [1.0, 1.0])

  @parameterized.parameters(
      ('place', np.zeros(3, np.float32), r'\(2,\) .*got \(3,\)'),
      ('place', np.zeros(2), 'float32, got .*float64'),
      ('image', np.zeros((1, 1, 3), np.float32), 'uint8, got .*float32'),
  )
  def test_an_observation_must_match_its_spec(self, name, part, message):
    with self.assertRaisesRegex(ValueError, f'`{name}` .*{message}'):
      _observe(_observation(**{name: part}))

  def test_an_observation_that_is_not_finite_loses_the_episode(self):
    part = np.array([1.0, np.nan], np.float32)
    with self.assertRaisesRegex(domain.EpisodeLostError, 'finite.*`place`'):
      _observe(_observation(place=part))

  @parameterized.parameters(
      (np.zeros(2, np.float32), r"\['image', 'place'\], got ndarray"),
      ({'place': np.zeros(2, np.float32)}, r"got \['place'\]"),
  )
  def test_an_observation_must_have_the_structure_of_its_spec(
      self, given, message
  ):
    with self.assertRaisesRegex(ValueError, '`Arm.observe` .*' + message):
      _observe(given)

  def test_an_observation_has_a_time(self):
    # Two numbers could be taken for an observation and its time.
    driver = _make_arm(observe=lambda self: np.zeros(2, np.float32))
    with self.assertRaisesRegex(ValueError, '`Measurement`, got ndarray'):
      arm.observe(driver, specs.Array((2,), np.float32))

  def test_a_lost_connection_loses_the_episode(self):
    for error in (ConnectionResetError('gone'), TimeoutError('late')):
      with self.assertRaisesRegex(domain.EpisodeLostError, 'driver.*gone|late'):
        with arm.lost_connections_named():
          raise error
    with self.assertRaisesRegex(domain.EpisodeLostError, '^lost$'):
      with arm.lost_connections_named():
        raise domain.EpisodeLostError('lost')
    with self.assertRaisesRegex(OSError, 'other'):
      with arm.lost_connections_named():
        raise OSError('other')


if __name__ == '__main__':
  absltest.main()
