"""Tests that critics, policies and agents learn from images."""

import os

from absl.testing import parameterized
import gin
import numpy as np
import tensorflow as tf
from tf_agents.trajectories import trajectory

from parl_tf import types
from parl_tf.critics import cal_ql
from parl_tf.critics import iql
from parl_tf.critics import state_value
from parl_tf.critics import td
from parl_tf.networks import image_networks
from parl_tf.networks import small_image_encoder
from parl_tf.policies import diffusion
from parl_tf.policies import flow
from parl_tf.policies import gaussian
from parl_tf.policies import transformer
from parl_tf.policies import uniform
from parl_tf.replay import step_table
from parl_tf.training import export
from parl_tf.training import held_out_rows
from tests import eager
from tests import small_images
from tests import tensor_case
from tests.agents import small_agent
from tests.critics import critic_conformance

_SEED = tf.constant([2, 7])
_SPEC = small_images.OBSERVATION_SPEC


def _make_transition():
  return tf.nest.map_structure(
      lambda x: tf.squeeze(x, axis=1),
      trajectory.to_transition(small_images.make_rows()),
  )


def _learn(loss_fn, variables, num_steps=2):
  """Returns the loss before and after, and each variable's first gradient."""

  @tf.function(autograph=False)
  def step():
    with tf.GradientTape() as tape:
      loss = tf.reduce_mean(loss_fn())
    gradients = tape.gradient(loss, variables)
    for variable, gradient in zip(variables, gradients):
      variable.assign_sub(0.01 * gradient)
    return loss, gradients

  before, gradients = step()
  for _ in range(num_steps):
    after, _ = step()
  return float(before), float(after), gradients


def _make_fast_agent(**kwargs):
  """Returns an agent of the fastest parts, for tests of all agents."""
  return small_images.make_agent(
      td.TDCritic,
      gaussian.GaussianPolicy,
      search=small_agent.make_search(num_samples=2, num_gradient_steps=0),
      **kwargs,
  )


class _CountingEncoder(image_networks.ImageEncoder):
  """Counts how often an encoder is called."""

  num_calls = 0

  def call(self, image):
    _CountingEncoder.num_calls += 1
    return super().call(image)


class ImagesTest(tensor_case.TensorCase):

  def setUp(self):
    super().setUp()
    eager.run_eagerly(self)
    small_images.bind_encoder(self)

  def _assert_learns(self, loss_fn, variables):
    self.assertLen(
        [v for v in variables if v.shape.rank == 4],
        small_images.NUM_CAMERAS * small_images.NUM_CONVOLUTIONS,
    )
    before, after, gradients = _learn(loss_fn, variables)
    self.assertLess(after, before)
    for variable, gradient in zip(variables, gradients):
      self.assertGreater(np.abs(gradient).max(), 0, variable.name)

  @parameterized.parameters(cal_ql.CalQLCritic, iql.IQLCritic, td.TDCritic)
  def test_a_critic_learns(self, critic_ctor):
    critic = small_agent.make_critic(critic_ctor, _SPEC)
    policy = small_agent.make_policy(gaussian.GaussianPolicy, _SPEC)
    transition = _make_transition()
    source = critic_conformance.make_source(critic, policy, transition)
    # Search once, before the training steps.
    source.next.candidates(), source.here.candidates()
    self._assert_learns(
        lambda: critic.loss(transition, source, _SEED).per_example,
        critic.trainable_variables,
    )

  @parameterized.parameters(
      diffusion.DiffusionPolicy,
      flow.FlowPolicy,
      gaussian.GaussianPolicy,
      transformer.TransformerPolicy,
  )
  def test_a_policy_learns(self, policy_ctor):
    policy = small_agent.make_policy(policy_ctor, _SPEC)
    transition = _make_transition()
    before = policy.sample(transition.time_step.observation, 2, _SEED)
    self._assert_learns(
        lambda: policy.distillation_loss(
            transition.time_step.observation,
            transition.action_step.action,
            _SEED,
        ),
        policy.trainable_variables,
    )
    after = policy.sample(transition.time_step.observation, 2, _SEED)
    self.assertEqual(after.shape, [small_agent.BATCH_SIZE, 2, 2])
    if policy_ctor != gaussian.GaussianPolicy:
      self.assertAllEqual(after, before)  # Samples come from the average.

  def test_a_baseline_learns(self):
    value = state_value.StateValue(types.ModelSpec(_SPEC, None))
    observation = small_images.make_observation(8)
    self._assert_learns(
        lambda: (value(observation) - 1.0) ** 2, value.trainable_variables
    )

  def test_the_uniform_policy_has_no_image_encoder(self):
    policy = uniform.UniformPolicy(
        types.ModelSpec(_SPEC, small_agent.ACTION_SPEC)
    )
    actions = policy.sample(small_images.make_observation(4), 3, _SEED)
    self.assertEqual(actions.shape, [4, 3, 2])
    self.assertEmpty(policy.variables)

  def test_target_and_average_have_their_own_image_encoders(self):
    # Every trained variable increases by 1, its copy by a quarter of that.
    critic = small_agent.make_critic(observation_spec=_SPEC, tau=0.25)
    policy = small_agent.make_policy(
        observation_spec=_SPEC, averaging_rate=0.25
    )
    for part, update in (
        (critic, critic.update_targets), (policy, policy.update_average)
    ):
      trained = {id(v) for v in part.trainable_variables}
      slow = [
          v for v in part.variables
          if id(v) not in trained and v.shape.rank == 4
      ]
      self.assertLen(slow, 6)
      before = [v.numpy() for v in slow]
      for variable in part.trainable_variables:
        variable.assign_add(tf.ones_like(variable))
      update()
      for variable, value in zip(slow, before):
        self.assertAllClose(
            variable - value, np.full(value.shape, 0.25), atol=1e-5
        )

  def test_each_network_encodes_a_state_once(self):
    # In the loss, the critic encodes s and the target s'. In the search, the
    # policy and the critic each encode both.
    gin.bind_parameter(
        'ObservationEncoder.image_encoder_ctor', _CountingEncoder
    )
    agent = small_images.make_agent(policy_ctor=gaussian.GaussianPolicy)
    _CountingEncoder.num_calls = 0
    agent.loss(types.Experience(critic=small_images.make_rows()))
    self.assertEqual(_CountingEncoder.num_calls, 6 * small_images.NUM_CAMERAS)

  @parameterized.parameters(
      image_networks.ImageEncoder, small_image_encoder.SmallImageEncoder
  )
  def test_acting_encodes_a_state_once_for_all_candidates(self, encoder_ctor):
    gin.bind_parameter('ObservationEncoder.image_encoder_ctor', encoder_ctor)
    gin.bind_parameter('SmallImageEncoder.widths', (4, 4, 4))
    agent = small_images.make_agent()
    act = agent.greedy_policy.compiled_act
    graph = act.get_concrete_function().graph.as_graph_def()
    nodes = [*graph.node]
    for function in graph.library.function:  # Loops and compiled parts.
      nodes += function.node_def
    convolutions = [x for x in nodes if x.op == 'Conv2D']
    # The policy and the critic each see both cameras. The graph is the one that
    # is exported.
    self.assertLen(
        convolutions,
        2 * small_images.NUM_CAMERAS * small_images.NUM_CONVOLUTIONS,
    )

  def test_losses_use_shifted_images_and_searches_the_original_ones(self):
    rows = small_images.make_rows()
    losses = {}
    for padding in (0, 4):
      agent = _make_fast_agent(image_padding=padding)
      info = agent.loss(types.Experience(critic=rows, policy=rows))
      losses[padding] = {name: float(x) for name, x in info.extra.items()}
    for name in ('candidates/best_value', 'candidates/spread'):
      self.assertEqual(losses[0][name], losses[4][name])
    for name in ('losses/distillation', 'values/mean', 'values/target'):
      self.assertNotEqual(losses[0][name], losses[4][name])

  def test_negative_padding_is_an_error(self):
    with self.assertRaisesRegex(ValueError, '`image_padding`.*-1'):
      small_images.make_agent(image_padding=-1)

  def test_training_changes_all_parts_and_the_policy_can_be_exported(self):
    agent = _make_fast_agent(optimizer_ctor=tf.keras.optimizers.SGD)
    rows = small_images.make_rows()
    parts = (agent.critic, agent.generative_policy)
    before = [[v.numpy() for v in x.trainable_variables] for x in parts]
    info = agent.train(types.Experience(critic=rows, policy=rows))
    self.assertTrue(np.isfinite(info.loss))
    for part, values in zip(parts, before):
      for variable, value in zip(part.trainable_variables, values):
        self.assertNotAllEqual(variable, value)
    path = os.path.join(self.create_tempdir().full_path, 'policy')
    bounds = np.full([2], -1.0), np.full([2], 1.0)
    example = small_images.make_observation(4)
    # Raises if the SavedModel acts differently.
    differences = export.export_policies(
        {path: agent.greedy_policy}, bounds, example, in_new_process=False
    )
    self.assertLessEqual(differences[path], 1e-5)
    act = tf.saved_model.load(path).signatures['serving_default']
    other = dict(example, static=small_images.make_observation(4, seed=1)[
        'static'])
    actions = [act(seed=_SEED, **x)['action'] for x in (example, other)]
    self.assertNotAllEqual(*actions)

  def test_the_held_out_loss_does_not_depend_on_batching(self):
    # 70 rows need several batches. This loss draws no random numbers.
    agent = _make_fast_agent(image_padding=0)
    table = step_table.StepTable('held_out', 70)
    steps = small_images.make_rows(71)
    table.add(tf.nest.map_structure(lambda x: x[:, 0].numpy(), steps), 70)
    rows = tf.nest.map_structure(tf.constant, table.rows(np.arange(70)))
    whole = agent.cloning_loss(rows, _SEED)
    self.assertAllClose(held_out_rows.loss(agent, table), whole, rtol=1e-5)


if __name__ == '__main__':
  tf.test.main()
