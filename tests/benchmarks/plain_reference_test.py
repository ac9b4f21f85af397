"""Compares the library's critic update with the plain one, value by value."""

import functools

from absl.testing import absltest
import numpy as np
import tensorflow as tf

from benchmarks import plain_reference
from parl_tf import randomness
from parl_tf.critics import cal_ql
from parl_tf.networks import ensemble
from parl_tf.search import action_optimizer
from parl_tf.search import action_source
from parl_tf.search import state_actions
from tests import tensor_case
from tests.critics import critic_conformance

_NUM_SAMPLES = 6
_NUM_CANDIDATES = 4
_NUM_STEPS = 3
_STEP_SIZE = 0.5
_NUM_RANDOM = 3
_NUM_MEMBERS = 4
_WEIGHT = 0.7


def _make_critic():
  """Returns a critic with random weights and a different random target."""
  critic = critic_conformance.make(
      cal_ql.CalQLCritic,
      distribution_ctor=critic_conformance.histogram_ctor(-4.0, 2.0, 12),
      conservative_weight=_WEIGHT,
      num_conservative_actions=_NUM_RANDOM,
      network_ctor=functools.partial(
          ensemble.CriticEnsemble,
          num_members=_NUM_MEMBERS,
          hidden_sizes=(16, 24, 16),
      ),
  )
  generator = np.random.default_rng(0)
  for variable in _weights(critic) + _target_weights(critic):
    scale = 1.0 / np.sqrt(max(variable.shape[1], 4))
    variable.assign_add(scale * generator.standard_normal(variable.shape))
  return critic


def _weights(critic):
  return list(critic.trainable_variables)


def _target_weights(critic):
  return list(critic._target_network.variables)


def _make_batch(critic, transition):
  """Returns the transition with encoded observations."""
  return plain_reference.Batch(
      observation=critic._encoder(transition.time_step.observation),
      action=transition.action_step.action,
      reward=transition.next_time_step.reward,
      discount=transition.next_time_step.discount,
      next_observation=critic._encoder(transition.next_time_step.observation),
      monte_carlo_return=transition.action_step.info['monte_carlo_return'],
  )


def _make_draws(seed, samples, next_samples):
  """Returns the library's random draws for one seed."""
  members = [
      tf.argmax(
          randomness.subset(
              randomness.fold_in(seed, purpose), 2, _NUM_MEMBERS
          ),
          axis=-1,
      )
      for purpose in ('target members', 'penalty members')
  ]
  random_actions = randomness.uniform(
      randomness.fold_in(seed, 'random actions'),
      [len(samples), _NUM_RANDOM, 2],
      low=-1.0,
      high=1.0,
  )
  return plain_reference.Draws(samples, next_samples, random_actions, *members)


def _make_settings(critic):
  distribution = critic._distribution
  return plain_reference.Settings(
      edges=distribution.edges,
      sigma=distribution._sigma,
      num_candidates=_NUM_CANDIDATES,
      num_gradient_steps=_NUM_STEPS,
      step_size=_STEP_SIZE,
      gamma=critic.gamma,
      conservative_weight=_WEIGHT,
  )


class PlainReferenceTest(tensor_case.TensorCase):

  def setUp(self):
    super().setUp()
    self.batch_size = 7
    self.critic = _make_critic()
    self.transition = critic_conformance.make_transition(self.batch_size)
    self.samples = critic_conformance.make_actions(
        self.batch_size, _NUM_SAMPLES, seed=1
    )
    self.next_samples = critic_conformance.make_actions(
        self.batch_size, _NUM_SAMPLES, seed=2
    )
    self.optimizer = action_optimizer.ActionOptimizer(
        _NUM_CANDIDATES, _NUM_STEPS, _STEP_SIZE
    )

  def test_search_finds_the_same_values(self):
    candidates = self.optimizer.optimize(
        self.samples,
        self.critic.bind(self.transition.time_step.observation),
    )
    actions, values = plain_reference.search(
        _weights(self.critic),
        _make_batch(self.critic, self.transition).observation,
        self.samples,
        _make_settings(self.critic),
    )
    order = tf.argsort(values, direction='DESCENDING')
    self.assertAllClose(
        candidates.values, tf.gather(values, order, batch_dims=1), rtol=1e-4
    )
    self.assertAllClose(
        candidates.actions,
        tf.gather(actions, order, batch_dims=1),
        rtol=1e-3,
        atol=1e-4,
    )
    # The ascent must have moved the actions, or the comparison is weak.
    ranked = self.critic.bind(self.transition.time_step.observation)(
        self.samples
    )
    self.assertAllInRange(
        candidates.values[:, 0] - tf.reduce_max(ranked, axis=1), 1e-3, 10.0
    )

  def test_loss_target_and_all_gradients_are_equal(self):
    weights = _weights(self.critic)
    source = state_actions.make_source(
        action_source.Search(_NUM_SAMPLES, self.optimizer, jit_compile=False),
        critic_conformance.make_policy(),
        self.critic,
        self.transition,
        critic_conformance.SEED,
        samples=tf.stack([self.samples, self.next_samples], axis=1),
    )
    with tf.GradientTape() as tape:
      seen = self.critic.loss(self.transition, source, critic_conformance.SEED)
      total = tf.reduce_mean(seen.per_example)
    gradients = tape.gradient(total, weights)

    loss, target, expected = plain_reference.critic_update(
        weights,
        _target_weights(self.critic),
        _make_batch(self.critic, self.transition),
        _make_draws(critic_conformance.SEED, self.samples, self.next_samples),
        _make_settings(self.critic),
    )

    self.assertAllClose(seen.per_example, loss, rtol=1e-4, atol=0.0)
    self.assertAllClose(
        seen.metrics['values/target'], tf.reduce_mean(target), rtol=1e-4
    )
    for variable, gradient, wanted in zip(weights, gradients, expected):
      with self.subTest(variable.name):
        size = np.abs(wanted).max()
        self.assertGreater(size, 0.0)
        self.assertAllClose(gradient / size, wanted / size, rtol=0, atol=1e-4)


if __name__ == '__main__':
  absltest.main()
