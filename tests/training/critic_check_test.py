"""Tests of what is refused of a critic before a run."""

from absl.testing import absltest
from absl.testing import parameterized
import gin
import tensorflow as tf

from parl_tf import types
from parl_tf.critics import iql
from parl_tf.critics import td
from parl_tf.domains import pointmaze
from parl_tf.policies import gaussian
from parl_tf.search import action_source
from parl_tf.training import critic_check
from parl_tf.training import phase_checks
from tests.agents import small_agent


def _agent(base=td.TDCritic, **methods):
  ctor = type('MyCritic', (base,), methods)
  return small_agent.make_agent(ctor)


def _loss(per_example, **metrics):
  """Makes a `loss` from its result, given the rewards `[B]`."""

  def loss(self, transition, source, seed):
    del self, source, seed
    rewards = transition.next_time_step.reward
    return types.CriticLoss(per_example(rewards), metrics)

  return loss


def _no_values(self, observation, target=False, selection=None):
  del self, observation, target, selection
  return lambda actions: actions[..., 0, 0]


class CriticCheckTest(parameterized.TestCase):

  def test_a_critic_that_keeps_the_protocol_passes(self):
    critic_check.check(_agent(iql.IQLCritic))
    critic_check.check(_agent(), has_mask=True)

  def test_a_critic_of_densities_gets_them_as_in_training(self):
    def loss(self, transition, source, seed):
      del self, seed
      log_probs = source.next.optimized(1).log_probs
      return types.CriticLoss(
          transition.next_time_step.reward - log_probs[:, 0],
          {'values/count': tf.constant(3)},
      )

    agent = small_agent.make_agent(
        type('MyCritic', (td.TDCritic,), {'loss': loss}),
        gaussian.GaussianPolicy,
        search=action_source.Search(4, optimizer=None),
    )
    critic_check.check(agent)

  @parameterized.parameters(
      (tf.reduce_mean, r'float32 of shape \[B\], here \[7\], .* shape \(\)'),
      (lambda x: tf.stack([x, x]), r'here \[7\], got float32 .* \(2, 7\)'),
      (lambda x: tf.cast(x, tf.float64), r'float32 .*here \[7\], got float64'),
  )
  def test_a_loss_that_is_not_one_per_example_is_refused(
      self, per_example, message
  ):
    with self.assertRaisesRegex(
        ValueError, f'`per_example` of MyCritic.loss must be .*{message}'
    ):
      critic_check.check(_agent(loss=_loss(per_example)))

  def test_metrics_must_be_scalars(self):
    loss = _loss(tf.identity, **{'values/mean': tf.zeros([2])})
    with self.assertRaisesRegex(
        ValueError, r"Metric 'values/mean' of MyCritic.loss must .* \(2,\)"
    ):
      critic_check.check(_agent(loss=loss))

  def test_names_of_metrics_are_checked(self):
    loss = _loss(tf.identity, above=tf.constant(1.0))
    with self.assertRaisesRegex(ValueError, "Metric 'above' must .*group/name"):
      critic_check.check(_agent(loss=loss))

  def test_columns_of_other_parts_are_refused(self):
    loss = _loss(tf.identity, **{'candidates/spread': tf.constant(1.0)})
    with self.assertRaisesRegex(
        ValueError, "Metric 'candidates/spread' of MyCritic.loss .*other name"
    ):
      critic_check.check(_agent(loss=loss))

  def test_variables_of_a_first_call_are_refused(self):
    layer = tf.keras.layers.Dense(1, name='late')

    def loss(self, transition, source, seed):
      del source, seed
      self.late = layer
      value = layer(transition.time_step.observation)[:, 0]
      return types.CriticLoss(value, {})

    with self.assertRaisesRegex(
        ValueError, 'MyCritic must create .* call created .*late/kernel:0'
    ):
      critic_check.check(_agent(loss=loss))

  def test_variables_that_are_not_trained_are_named(self):
    agent = _agent()
    critic = agent.critic
    critic.extra = tf.Variable(1.0, name='extra')
    loss = critic.loss

    def scaled(transition, source, seed):
      found = loss(transition, source, seed)
      return found._replace(per_example=critic.extra * found.per_example)

    critic.loss = scaled
    with self.assertLogs(level='WARNING') as log:
      critic_check.check(agent)
    self.assertIn('trainable_variables lacks extra:0, on which', log.output[0])

  def test_an_error_of_a_loss_has_its_line(self):
    def loss(self, transition, source, seed):
      del source, seed
      return self.bind(transition.time_step.observation)(
          transition.action_step.action
      )

    with self.assertRaisesRegex(
        ValueError,
        r'trace MyCritic.loss: Actions must be \[B, N, A\].*rank 3.*line',
    ):
      critic_check.check(_agent(loss=loss))

  def test_values_need_one_for_each_action(self):
    with self.assertRaisesRegex(
        ValueError, r'MyCritic.bind returns must .* \[B, N\].*got .* \(7,\)'
    ):
      critic_check.check(_agent(bind=_no_values))

  def test_a_loss_without_metrics_is_refused(self):
    with self.assertRaisesRegex(
        TypeError, 'MyCritic.loss must return a `types.CriticLoss`, got a tuple'
    ):
      critic_check.check(_agent(loss=lambda self, a, b, c: (tf.zeros([7]), {})))

  def test_missing_arguments_are_named(self):
    with self.assertRaisesRegex(
        TypeError, 'MyCritic.loss must have the arguments of `Critic`'
    ):
      critic_check.check(_agent(loss=lambda self, transition: None))

  def test_a_run_checks_critics_of_other_packages(self):
    self.addCleanup(gin.clear_config)
    gin.clear_config()
    with self.assertRaisesRegex(ValueError, '`per_example` of MyCritic.loss'):
      phase_checks.check(
          None,
          ('behavior_cloning', 'offline'),
          pointmaze.PointMaze(),
          _agent(loss=_loss(tf.reduce_mean)),
      )


if __name__ == '__main__':
  absltest.main()
