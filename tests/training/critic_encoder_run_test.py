"""Tests of runs whose critic starts with the image encoder of the clone."""

import functools
import os
from unittest import mock

import gin
import numpy as np
import tensorflow as tf

from parl_tf import types
from parl_tf.critics import iql
from parl_tf.domains import drawn_maze
from parl_tf.networks import small_image_encoder
from parl_tf.policies import gaussian
from parl_tf.training import builder
from parl_tf.training import initial_run
from parl_tf.training import phase_checkpoint
from parl_tf.training import phases
from tests import eager
from tests import tensor_case
from tests.agents import small_agent
from tests.training import small_run

_NUM_EPISODE_STEPS = 3


def _numpy(variables):
  return [v.numpy() for v in variables]


class RunTest(tensor_case.TensorCase):
  """Runs the phases on a drawn maze, without gin files."""

  def setUp(self):
    super().setUp()
    eager.run_eagerly(self)
    self.addCleanup(gin.clear_config)
    gin.clear_config()
    for name, value in {
        'ObservationEncoder.image_encoder_ctor': (
            small_image_encoder.SmallImageEncoder
        ),
        'SmallImageEncoder.widths': (2,),
        'SmallImageEncoder.feature_size': 4,
        'PointMaze.size': 'UMaze',
        'PointMaze.max_episode_steps': _NUM_EPISODE_STEPS,
        'initialize_critic_encoder.from_policy': True,
    }.items():
      gin.bind_parameter(name, value)
    self._domain = drawn_maze.DrawnMaze(picture_size=20)
    self._folder = self.create_tempdir().full_path

  def _agent(self, seed=0):
    return small_agent.make_agent(
        iql.IQLCritic,
        gaussian.GaussianPolicy,
        observation_spec=builder.observation_spec(self._domain),
        search=small_agent.make_search(num_samples=2, num_gradient_steps=0),
        seed=seed,
    )

  def _session(self, name, agent):
    root_dir = os.path.join(self._folder, name)
    os.makedirs(root_dir, exist_ok=True)
    session = small_run.make_session(
        root_dir,
        domain=self._domain,
        agent=agent,
        num_evaluation_episodes=0,
        checkpoint_seconds=0.0,
        phase_checkpoints=phase_checkpoint.PhaseCheckpoints(
            root_dir,
            domain=self._domain,
            agent=agent,
            normalization=_normalization(),
            dataset_path='data.hdf5',
        ),
    )
    for i in range(3):
      session.write_episode('offline', self._episode(i))
    return session

  def _episode(self, seed):
    episode = small_agent.make_episode(_NUM_EPISODE_STEPS, seed, seed)
    random = np.random.default_rng(seed)
    pictures = {
        name: random.integers(
            0, 256, [_NUM_EPISODE_STEPS + 1, *spec.shape], np.uint8
        )
        for name, spec in self._domain.observation_spec().items()
    }
    return episode._replace(observation=pictures)

  def _clone(self, session):
    phases.BehaviorCloning(num_steps=2, batch_size=4, interval=2).run(
        session, [self._episode(3)]
    )

  def test_a_run_initializes_once_and_resumes_as_if_never_killed(self):
    phase = functools.partial(phases.Offline, batch_size=4, interval=1)
    agent = self._agent()
    session = self._session('whole', agent)
    self._clone(session)
    cloned = _numpy(agent.generative_policy.acting_encoder.image_variables)
    seen = []
    train = session.train

    def record(*args):
      seen.append([
          _numpy(x.image_variables) for x in agent.critic.observation_encoders
      ])
      train(*args)

    with mock.patch.object(session, 'train', record):
      phase(num_steps=2).run(session)
      phase(num_steps=3).run(session)  # The finished phase is reopened.
    self.assertLen(seen, 3)
    for encoder in seen[0]:
      for value, wanted in zip(encoder, cloned, strict=True):
        self.assertAllEqual(value, wanted)
    self.assertFalse(np.array_equal(seen[1][0][0], seen[0][0][0]))

    # Killed before the first step, and after it.
    for num_steps in (0, 1):
      session = self._session('killed', self._agent())
      self._clone(session)
      with mock.patch.object(session, 'train', _killing(session, num_steps)):
        with self.assertRaises(KeyboardInterrupt):
          phase(num_steps=3).run(session)
    resumed = self._agent()
    session = self._session('killed', resumed)
    self._clone(session)
    phase(num_steps=3).run(session)
    for value, wanted in zip(
        resumed.critic.variables, agent.critic.variables, strict=True
    ):
      self.assertAllEqual(value, wanted)
    self.assertEqual(resumed.train_step_counter, agent.train_step_counter)

  def test_only_a_run_from_a_clone_initializes_its_critic(self):
    agent = self._agent()
    session = self._session('first', agent)
    self._clone(session)
    phases.Offline(num_steps=1, batch_size=4, interval=1).run(session)
    for phase, is_cloned in (('behavior_cloning', True), ('offline', False)):
      other = self._agent(seed=5)
      root_dir = os.path.join(self._folder, phase)
      os.makedirs(root_dir)
      beginning = initial_run.Beginning(
          root_dir, os.path.join(self._folder, 'first'), phase, self._domain
      )
      record = beginning.load(other, _normalization())
      self.assertEqual('offline' in record.skipped_phases, not is_cloned)
      if is_cloned:
        session = self._session(phase, other)
        with mock.patch.object(session, 'train', _killing(session)):
          with self.assertRaises(KeyboardInterrupt):
            phases.Offline(num_steps=1, batch_size=4, interval=1).run(session)
        wanted = other.generative_policy.acting_encoder
      else:
        wanted = agent.critic.observation_encoders[0]
      seen, _ = other.critic.observation_encoders
      for value, source in zip(
          seen.image_variables, wanted.image_variables, strict=True
      ):
        self.assertAllEqual(value, source)


def _normalization():
  return types.Normalization({'picture': None}, {'picture': None})


def _killing(session, num_steps=0):
  """Returns `session.train` that ends the process after some calls."""
  train, left = session.train, [num_steps]

  def train_or_die(*args):
    if not left[0]:
      raise KeyboardInterrupt
    left[0] -= 1
    train(*args)

  return train_or_die


if __name__ == '__main__':
  tf.test.main()
