"""Tests of the LIBERO domain against an environment with its interface.

The example's server serves it. `benchmarks/libero.py` runs LIBERO itself, which
needs its own packages.
"""

import os

from absl.testing import absltest
from absl.testing import parameterized
import gin
import h5py
import numpy as np

from parl_tf.binaries import configs
from parl_tf.datasets import reading
from parl_tf.domains import domain as domain_lib
from parl_tf.domains import libero
from tests.domains import domain_conformance
from tests.domains import example_server

_UP = np.array([0, 0, 1, 0, 0, 0, 0], np.float32)


def setUpModule():
  global _server
  _server = example_server.ExampleServer('LiberoLike-v0', 'libero_like')


def tearDownModule():
  _server.kill()


def _libero(**kwargs):
  options = dict(
      suite='libero_goal', task=3, image_size=4, max_episode_steps=6
  )
  return libero.Libero(_server.address, **{**options, **kwargs})


class LiberoConformanceTest(
    domain_conformance.DomainConformance, parameterized.TestCase
):

  def make_domain(self):
    return _libero()


class LiberoTest(parameterized.TestCase):

  def _environment(self, **kwargs):
    environment = _libero(**kwargs).make_environment(0, True)
    self.addCleanup(environment.close)
    return environment

  def test_success_is_rewarded_and_ends_the_episode(self):
    environment = self._environment()
    environment.reset()
    steps = []
    while not steps or not steps[-1].last():
      self.assertFalse(environment.is_success())
      steps.append(environment.step(_UP))

    # 0.1 m per step, and the goal is at 0.3 m.
    self.assertEqual([float(step.reward) for step in steps], [0, 0, 1])
    self.assertEqual([float(step.discount) for step in steps], [1, 1, 0])
    self.assertTrue(environment.is_success())

  def test_a_timeout_is_not_a_success(self):
    environment = self._environment(max_episode_steps=2)
    environment.reset()
    environment.step(_UP)
    step = environment.step(_UP)
    self.assertTrue(step.last())
    self.assertEqual(step.discount, 1)
    self.assertFalse(environment.is_success())

  def test_images_have_the_requested_size(self):
    spec = _libero(image_size=5).observation_spec()
    self.assertEqual(
        {name: (part.shape, part.dtype.name) for name, part in spec.items()},
        {
            'joint_states': ((7,), 'float32'),
            'ee_states': ((6,), 'float32'),
            'gripper_states': ((2,), 'float32'),
            'agentview_rgb': ((5, 5, 3), 'uint8'),
            'eye_in_hand_rgb': ((5, 5, 3), 'uint8'),
        },
    )

  def test_without_images_physics_is_observed(self):
    spec = _libero(images=False).observation_spec()
    self.assertSameElements(
        spec, ['joint_states', 'ee_states', 'gripper_states', 'physics']
    )

  def test_initial_state_can_be_fixed(self):
    environment = self._environment(initial_state=4)
    for seed in range(3):
      environment.seed(seed)
      np.testing.assert_allclose(
          environment.reset().observation['ee_states'][0], 0.4
      )

  def test_instruction_is_text_in_bytes(self):
    environment = self._environment(instruction=True, suite='libero_10')
    text = environment.reset().observation['instruction']
    self.assertEqual(bytes(text).rstrip(b'\0'), b'task 3 of libero_10')

  @parameterized.parameters(
      ('libero_spatial', 220), ('libero_90', 400), ('libero_10', 520)
  )
  def test_episode_length_follows_the_suite(self, suite, steps):
    domain = _libero(suite=suite, max_episode_steps=None)
    self.assertEqual(domain.max_episode_steps, steps)

  def test_value_of_never_succeeding_sums_the_bias(self):
    domain = _libero()
    self.assertEqual((domain.reward_scale, domain.reward_bias), (1.0, -1.0))
    # -1 / (1 - 0.99).
    self.assertAlmostEqual(domain.never_succeeds_value(0.99), -100.0)
    self.assertSequenceAlmostEqual(domain.value_range(0.99), (-100.0, 0.0))

  def test_demonstrations_in_liberos_format_can_be_read(self):
    path = os.path.join(self.create_tempdir().full_path, 'demo.hdf5')
    random = np.random.default_rng(0)
    with h5py.File(path, 'w') as file:
      for number, steps in enumerate((3, 2)):
        group = file.create_group(f'data/demo_{number}')
        group.attrs['num_samples'] = steps
        group['actions'] = random.uniform(-1, 1, (steps, 7))
        group['states'] = random.uniform(-1, 1, (steps, 47))
        group['rewards'] = group['dones'] = np.eye(steps, dtype=np.uint8)[-1]
        for name, size in (
            ('joint_states', 7), ('ee_states', 6), ('ee_pos', 3),
            ('ee_ori', 3), ('gripper_states', 2),
        ):
          group[f'obs/{name}'] = random.uniform(-1, 1, (steps, size))
        for name in ('agentview_rgb', 'eye_in_hand_rgb'):
          group[f'obs/{name}'] = np.zeros([steps, 4, 4, 3], np.uint8)
    domain = _libero()
    first, second = reading.read_episodes(
        path,
        observation_spec=domain.observation_spec(),
        action_spec=domain.action_spec(),
    )

    self.assertSameElements(first.observation, domain.observation_spec())
    self.assertEqual(first.reward.tolist(), [0, 0, 1])
    self.assertEqual(second.discount.tolist(), [1, 0])
    self.assertEqual(domain.score([first, second]), 100.0)

  def test_the_gin_file_makes_the_domain(self):
    self.addCleanup(gin.clear_config)
    configs.parse(
        ['domains/libero.gin'], [f"Libero.address = '{_server.address}'"]
    )
    domain = domain_lib.select_domain()
    self.assertEqual(domain.max_episode_steps, 300)
    # Options it does not bind are bound at the class itself.
    with gin.unlock_config():
      gin.bind_parameter('Remote.deadline_seconds', 0.0)
    with self.assertRaisesRegex(ValueError, '`deadline_seconds`'):
      domain_lib.select_domain()

  @parameterized.parameters(
      ('suite', 'libero_100', 'one of'),
      ('task', 10, r'in \[0, 9\]'),
      ('initial_state', -2, r'in \[-1, inf\]'),
      ('image_size', 0, r'in \[1, inf\]'),
      ('max_episode_steps', 0, r'in \[1, inf\]'),
      ('reward_scale', 0.0, 'positive'),
  )
  def test_an_argument_out_of_range_is_named(self, name, value, wanted):
    with self.assertRaisesRegex(ValueError, f'`{name}` must be .*{wanted}'):
      _libero(**{name: value})


if __name__ == '__main__':
  absltest.main()
