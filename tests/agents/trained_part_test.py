"""Tests of the samples that a critic's loss gets."""

from absl.testing import absltest
import numpy as np
import tensorflow as tf

from parl_tf import randomness
from parl_tf import types
from parl_tf.agents import trained_part
from parl_tf.critics import cal_ql
from parl_tf.critics import td
from parl_tf.improvers import reparameterized
from parl_tf.policies import transformer
from parl_tf.search import action_optimizer
from parl_tf.search import action_source
from tests import eager
from tests.agents import small_agent

_NUM_CACHED = 6
_SEED = tf.constant([3, 5])


def _bound_rows(critic_ctor=td.TDCritic, num_samples=6, **search):
  policy = small_agent.make_policy()
  return trained_part.BoundRows(
      action_source.Search(
          num_samples, action_optimizer.ActionOptimizer(2, 1, 0.1), **search
      ),
      policy,
      small_agent.make_critic(critic_ctor),
      image_padding=0,
      for_critic=True,
  )


def _cached_rows():
  """Returns rows whose sample i has i as its first number."""
  rows = small_agent.make_rows()
  batch_size = rows.action.shape[0]
  numbers = tf.range(_NUM_CACHED, dtype=tf.float32)
  samples = tf.stack([numbers, numbers / 10.0], axis=-1)
  samples = tf.tile(samples[None, None], [batch_size, 2, 1, 1])
  info = dict(rows.policy_info, candidate_actions=samples)
  return rows._replace(policy_info=info)


class CriticSamplesTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    eager.run_eagerly(self)

  def test_all_cached_samples_have_their_turn(self):
    bound, rows = _bound_rows(optimize_targets=False), _cached_rows()
    targets = []
    for i in range(40):
      seed = randomness.fold_in(_SEED, i)
      _, source = bound.bind(rows, seed, None)
      actions = source.next.optimized(1).actions  # [B, 1, A]
      self.assertEqual(actions.shape[1], 1)
      targets.append(actions[:, 0, 0].numpy())
    # Every row has had every sample, about equally often.
    counts = [np.bincount(x, minlength=6) for x in np.int64(targets).T]
    self.assertGreater(np.min(counts), 0)
    self.assertLess(np.max(counts), 20)
    # Rows of one update differ.
    self.assertGreater(len(set(targets[0])), 1)

  def test_a_prepared_batch_keeps_its_choice(self):
    bound = _bound_rows(
        lambda spec, **kwargs: cal_ql.CalQLCritic(
            spec, num_conservative_actions=4, **kwargs
        ),
        optimize_targets=False,
    )
    prepared = bound.with_samples(_cached_rows(), _SEED)
    samples = prepared.policy_info['candidate_actions']
    self.assertEqual(samples.shape[2], 4)
    numbers = samples[..., 0].numpy()
    # Without repeats.
    self.assertTrue(np.all(np.diff(np.sort(numbers)) >= 1.0))
    _, source = bound.bind(prepared, _SEED, None)
    np.testing.assert_array_equal(source.here.base(), samples[:, 0])
    np.testing.assert_array_equal(source.next.base(), samples[:, 1])
    drawn = bound.with_samples(small_agent.make_rows(), _SEED)
    self.assertEqual(drawn.policy_info['candidate_actions'].shape[2], 4)

  def test_optimization_gets_all_samples(self):
    bound, rows = _bound_rows(num_samples=2), _cached_rows()
    _, source = bound.bind(rows, _SEED, None)
    self.assertEqual(source.next.base().shape[1], _NUM_CACHED)


class TrainedPartTest(absltest.TestCase):

  def test_loss_that_cannot_train_the_policy_is_an_error(self):
    eager.run_eagerly(self)
    # The gradient ends at the choice of tokens.
    agent = small_agent.make_agent(
        td.TDCritic,
        transformer.TransformerPolicy,
        improver=reparameterized.ReparameterizedImprover(
            learn_temperature=False
        ),
    )
    rows = small_agent.make_rows()
    with self.assertRaisesRegex(
        ValueError, 'policy loss depends on none of the variables'
    ):
      agent.train(types.Experience(critic=rows, policy=rows))

  def test_each_update_has_the_weights_of_its_rows(self):
    variable = tf.Variable(0.0)

    def loss(rows, seed, tape):
      del seed, tape
      return types.ImproverLoss(variable * rows.reward[:, 0], {})

    part = trained_part.TrainedPart(
        'critic',
        loss,
        [variable],
        tf.keras.optimizers.SGD(1.0),
        purposes=[('critic', 0), ('critic', 1)],
        finish=lambda metrics: None,
    )
    rows = small_agent.make_rows()
    size = rows.reward.shape[0]
    experience = types.Experience(critic=rows)
    # Weights of 1 in the second update only.
    weights = np.repeat([0.0, 1.0], size // 2).astype(np.float32)
    for own_rows, seed, own_weights in part.slices(experience, _SEED, weights):
      part.update(own_rows, seed, own_weights)
    self.assertAlmostEqual(
        float(variable.numpy()),
        -rows.reward[size // 2 :, 0].numpy().mean(),
        places=5,
    )
    with self.assertRaisesRegex(ValueError, r'`weights`.*`Experience.critic`'):
      part.slices(experience, _SEED, weights[: size // 2])


class NanLossTest(absltest.TestCase):

  def test_a_loss_of_nan_changes_no_weight(self):
    variable = tf.Variable(tf.ones([100, 100]))

    def loss(rows, seed, tape):
      del seed, tape
      per_example = tf.reduce_sum(variable, axis=1) * rows
      return types.ImproverLoss(per_example, {})

    part = trained_part.TrainedPart(
        'policy',
        loss,
        [variable],
        tf.keras.optimizers.SGD(0.1),
        purposes=[('policy',)],
        finish=lambda metrics: None,
    )
    part.update(tf.ones([100]), _SEED, None)
    before = variable.numpy()
    self.assertFalse(np.array_equal(before, np.ones([100, 100])))
    with self.assertRaisesRegex(
        tf.errors.InvalidArgumentError, 'policy loss is not finite'
    ):
      part.update(tf.fill([100], np.nan), _SEED, None)
    np.testing.assert_array_equal(variable, before)


if __name__ == '__main__':
  absltest.main()
