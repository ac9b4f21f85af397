"""Tests of critics that start with the image encoder of the cloned policy."""

import functools
from unittest import mock

from absl.testing import parameterized
import gin
import numpy as np
import tensorflow as tf

from parl_tf import types
from parl_tf.critics import cal_ql
from parl_tf.critics import iql
from parl_tf.critics import noise_aliased
from parl_tf.critics import td
from parl_tf.domains import pointmaze
from parl_tf.networks import low_rank
from parl_tf.networks import small_image_encoder
from parl_tf.networks import vision_language_transformer
from parl_tf.policies import bootstrapped
from parl_tf.policies import diffusion
from parl_tf.policies import edited
from parl_tf.policies import flow
from parl_tf.policies import gaussian
from parl_tf.policies import one_step_flow
from parl_tf.policies import steered
from parl_tf.policies import transformer
from parl_tf.policies import uniform
from parl_tf.policies import vla
from parl_tf.training import builder
from parl_tf.training import critic_encoder
from parl_tf.training import phase_checks
from tests import eager
from tests import small_images
from tests import tensor_case
from tests.agents import small_agent

_OPTION = 'initialize_critic_encoder.from_policy'


def _small_policy(policy_ctor):
  return functools.partial(small_agent.make_policy, policy_ctor)


def _initialize(agent):
  critic_encoder.initialize_critic_encoder(agent, from_policy=True)


def _move(variables):
  """Adds a different number to each variable, as training might."""
  for i, variable in enumerate(variables):
    variable.assign_add(tf.fill(variable.shape, 0.1 * (i + 1)))


def _numpy(variables):
  return [v.numpy() for v in variables]


class EncodersTest(tensor_case.TensorCase):

  def setUp(self):
    super().setUp()
    eager.run_eagerly(self)
    small_images.bind_encoder(self)

  def _assert_equal(self, variables, wanted):
    self.assertNotEmpty(variables)
    for variable, value in zip(variables, wanted, strict=True):
      self.assertAllEqual(variable, value)

  @parameterized.parameters(
      cal_ql.CalQLCritic,
      iql.IQLCritic,
      td.TDCritic,
      noise_aliased.NoiseAliasedCritic,
  )
  def test_critic_and_target_see_each_camera_as_the_policy_does(
      self, critic_ctor
  ):
    agent = small_images.make_agent(critic_ctor)
    critic, policy = agent.critic, agent.generative_policy
    _move(policy.variables)
    wanted = _numpy(policy.variables)
    is_image = {
        id(v)
        for encoder in critic.observation_encoders
        for v in encoder.image_variables
    }
    others = [v for v in critic.variables if id(v) not in is_image]
    before = _numpy(others)
    _initialize(agent)
    observation = small_images.make_observation(4)
    features = policy.networks.encode(observation, averaged=True)
    # Vectors, which follow the statistics of the data, come first.
    images = features[:, small_images.OBSERVATION_SPEC['robot'].shape[0] :]
    for target in (False, True):
      seen = critic.encode(observation, target)
      self.assertAllClose(seen[:, -images.shape[1] :], images)
    # The networks themselves keep their weights, and the policy all of its own.
    self._assert_equal(others, before)
    self._assert_equal(policy.variables, wanted)
    # From now on, both encoders are trained separately.
    source = _numpy(policy.acting_encoder.image_variables)
    _move(critic.trainable_variables)
    self._assert_equal(policy.acting_encoder.image_variables, source)

  @parameterized.named_parameters(
      ('diffusion', _small_policy(diffusion.DiffusionPolicy)),
      ('flow', _small_policy(flow.FlowPolicy)),
      ('gaussian', _small_policy(gaussian.GaussianPolicy)),
      ('one_step_flow', _small_policy(one_step_flow.OneStepFlowPolicy)),
      ('transformer', _small_policy(transformer.TransformerPolicy)),
  )
  def test_encoder_is_the_one_that_acts(self, make_policy):
    policy = make_policy(small_images.OBSERVATION_SPEC)
    observation = small_images.make_observation(2)
    before = policy.sample(observation, 2, tf.constant([0, 1]))
    for variable in policy.acting_encoder.image_variables:
      variable.assign(tf.zeros_like(variable))
    after = policy.sample(observation, 2, tf.constant([0, 1]))
    other = policy.sample(
        small_images.make_observation(2, seed=1)
        | {'robot': observation['robot']},
        2,
        tf.constant([0, 1]),
    )
    self.assertNotAllEqual(before, after)
    self.assertAllEqual(after, other)  # It no longer sees the images.

  @parameterized.named_parameters(
      ('bootstrapped', bootstrapped.BootstrappedPolicy),
      ('edited', edited.EditedPolicy),
      ('low_rank', vla.LowRankPolicy),
      ('steered', steered.SteeredPolicy),
  )
  def test_policy_on_a_base_has_the_encoder_that_was_cloned(self, policy_ctor):
    make_base = _small_policy(flow.FlowPolicy)
    spec = types.ModelSpec(
        small_images.OBSERVATION_SPEC, small_agent.ACTION_SPEC
    )
    with mock.patch.object(low_rank, 'Adapters'):  # The base has no such layer.
      policy = policy_ctor(
          spec, base_ctor=lambda spec: make_base(spec.observation)
      )
    self.assertIs(policy.acting_encoder, policy.base.acting_encoder)

  def test_averaged_weights_are_copied_but_not_the_trained_ones(self):
    agent = small_images.make_agent()
    policy = agent.generative_policy
    _move(policy.trainable_variables)
    averaged = _numpy(policy.acting_encoder.image_variables)
    trained = [v.numpy() for v in policy.trainable_variables]
    _initialize(agent)
    for encoder in agent.critic.observation_encoders:
      self._assert_equal(encoder.image_variables, averaged)
    self._assert_equal(policy.trainable_variables, trained)

  def test_part_of_an_encoder_may_be_frozen(self):
    small_images.bind_partly_frozen_encoder(self)
    agent = small_images.make_agent()
    observation = small_images.make_observation(4)
    source = agent.generative_policy.acting_encoder
    _move(source.image_variables)
    _initialize(agent)
    for encoder in agent.critic.observation_encoders:
      self.assertAllEqual(encoder(observation), source(observation))

  def test_by_default_the_critic_keeps_its_weights(self):
    agent = small_images.make_agent()
    before = _numpy(agent.critic.variables)
    critic_encoder.initialize_critic_encoder(agent)
    self._assert_equal(agent.critic.variables, before)


class RefusalTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    small_images.bind_encoder(self)

  def _assert_refused(self, agent, message):
    before = _numpy(agent.critic.variables)
    with self.assertRaisesRegex(ValueError, f'`{_OPTION}` .*{message}'):
      _initialize(agent)
    for variable, value in zip(agent.critic.variables, before, strict=True):
      np.testing.assert_array_equal(variable, value)

  def test_another_architecture_is_named_with_both_shapes(self):
    agent = small_images.make_agent()
    gin.bind_parameter('ImageEncoder.stage_widths', (4, 8))
    agent.critic = small_agent.make_critic(
        observation_spec=small_images.OBSERVATION_SPEC
    )
    self._assert_refused(
        agent,
        # Three convolutions with norms, then the features' layers, 9 + 4. A
        # second stage begins at number 10, and has three more convolutions.
        r'critic for `gripper` must be ImageEncoder with 13 variables, number'
        r' 10 of shape \(4, 5\), as in the policy, got ImageEncoder with 22'
        r' variables, number 10 of shape \(3, 3, 4, 8\)\.',
    )

  def test_another_class_is_named(self):
    agent = small_images.make_agent()
    gin.bind_parameter(
        'ObservationEncoder.image_encoder_ctor',
        small_image_encoder.SmallImageEncoder,
    )
    agent.critic = small_agent.make_critic(
        observation_spec=small_images.OBSERVATION_SPEC
    )
    self._assert_refused(
        agent, 'must be ImageEncoder .*got SmallImageEncoder with'
    )

  @parameterized.parameters(
      uniform.UniformPolicy,
      # It reads patches of the images as tokens.
      functools.partial(
          vla.VLAPolicy,
          network_ctor=functools.partial(
              vision_language_transformer.VisionLanguageTransformer,
              patch_size=4,
              width=8,
              num_blocks=1,
          ),
      ),
  )
  def test_a_policy_without_image_encoder_is_named(self, policy_ctor):
    agent = small_images.make_agent()
    agent.generative_policy = policy_ctor(
        types.ModelSpec(small_images.OBSERVATION_SPEC, small_agent.ACTION_SPEC)
    )
    name = type(agent.generative_policy).__name__
    self._assert_refused(agent, f'{name} has no image encoder; got True')

  def test_observations_without_images_are_named(self):
    self._assert_refused(small_agent.make_agent(), 'have no images.*got True')

  def test_a_served_policy_is_named(self):
    agent = small_images.make_agent()
    with mock.patch.object(
        type(agent.generative_policy), 'is_served', True
    ):
      self._assert_refused(
          agent, 'another process has .*DiffusionPolicy; got True'
      )

  @parameterized.parameters(
      (('behavior_cloning', 'offline'), 4, True),
      (('behavior_cloning', 'offline'), 0, False),
      (('behavior_cloning',), 4, False),
  )
  def test_a_run_checks_it_before_any_work(
      self, phase_names, num_steps, is_refused
  ):
    domain = pointmaze.PointMaze()
    agent = small_agent.make_agent(
        observation_spec=builder.observation_spec(domain)
    )
    gin.bind_parameter('Offline.num_steps', num_steps)
    phase_checks.check(None, phase_names, domain, agent)
    gin.bind_parameter(_OPTION, True)
    if not is_refused:
      phase_checks.check(None, phase_names, domain, agent)
      return
    with self.assertRaisesRegex(ValueError, f'`{_OPTION}`.*no images'):
      phase_checks.check(None, phase_names, domain, agent)

  def test_it_is_refused_where_no_offline_phase_does_it(self):
    gin.bind_parameter(_OPTION, True)
    with self.assertRaisesRegex(ValueError, 'without an offline phase'):
      critic_encoder.check_unbound()
    gin.bind_parameter('run_experiment.initial_run', 'run')
    critic_encoder.check_unbound()


if __name__ == '__main__':
  tf.test.main()
