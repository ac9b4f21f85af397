"""Tests of distillation: the imitated action and its loss."""

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np
import tensorflow as tf
from tf_agents.trajectories import trajectory

from parl_tf.improvers import distillation
from parl_tf.policies import generative_policy
from parl_tf.search import action_optimizer
from parl_tf.search import action_source
from parl_tf.search import state_actions
from tests import tensor_case
from tests.agents import small_agent

_SEED = (3, 5)


class _SlopeCritic:
  """Q(s, a) = s_0 a_0."""

  def bind(self, observation, target=False, selection=None):
    del target, selection
    return lambda actions: observation[:, :1] * actions[..., 0]


class _Imitator(generative_policy.GenerativePolicy):
  """Records the imitated actions; its loss is an action's first element."""

  imitated = None

  def sample(self, *args, **kwargs):
    raise ValueError('The test supplies the samples.')

  def distillation_loss(self, observation, action, seed):
    del observation, seed
    self.imitated = action.numpy()
    return action[:, 0]

  @property
  def trainable_variables(self):
    return ()


def _transition(slopes, dataset_action=0.0):
  """Returns transitions whose states are `slopes`."""
  transition = small_agent.make_transition(len(slopes))
  observation = tf.constant(slopes, tf.float32)[:, tf.newaxis]
  action = tf.fill([len(slopes), 1], dataset_action)
  return trajectory.Transition(
      transition.time_step._replace(observation=observation),
      transition.action_step._replace(action=action),
      transition.next_time_step,
  )


def _loss(
    improver, transition, samples=(0.0, 0.5, 1.0), num_candidates=3, **kwargs
):
  """Returns the loss and the imitated actions, with `samples` in each row."""
  kwargs.setdefault('dataset_action', None)
  optimizer = action_optimizer.ActionOptimizer(
      num_candidates, num_gradient_steps=0, **kwargs
  )
  observation = transition.time_step.observation
  policy = _Imitator()
  actions = state_actions.StateActions(
      action_source.Search(len(samples), optimizer),
      policy,
      _SlopeCritic(),
      observation,
      tf.constant(_SEED),
      samples=tf.tile(
          tf.constant(samples)[tf.newaxis, :, tf.newaxis],
          [len(observation), 1, 1],
      ),
  )
  source = state_actions.ActionSource(here=actions, next=None)
  loss = improver.loss(
      transition, policy, _SlopeCritic(), source, tf.constant(_SEED)
  )
  return loss, policy.imitated[:, 0]


class SelectionTest(tensor_case.TensorCase):

  def test_argmax_imitates_the_best(self):
    improver = distillation.DistillationImprover(selection='argmax')
    loss, imitated = _loss(improver, _transition([1.0, -1.0, 2.0]))

    self.assertAllEqual(imitated, [1.0, 0.0, 1.0])
    self.assertAllEqual(loss.per_example, [1.0, 0.0, 1.0])
    self.assertAllClose(loss.metrics['losses/distillation'], 2.0 / 3.0)
    self.assertAllClose(loss.metrics['candidates/greedy'], 1.0)

  def test_sampling_follows_the_softmax(self):
    # Two candidates with values 0 and log 3: probabilities 1/4 and 3/4.
    improver = distillation.DistillationImprover(selection='sample')
    loss, imitated = _loss(
        improver,
        _transition([np.log(3.0)] * 4000),
        samples=(0.0, 1.0),
        num_candidates=2,
    )

    # Three standard errors of the mean of 4000 draws.
    deviation = np.sqrt(0.75 * 0.25 / 4000)
    self.assertAlmostEqual(np.mean(imitated), 0.75, delta=3.0 * deviation)
    self.assertAllClose(loss.metrics['candidates/greedy'], 0.0)

  def test_metrics_describe_the_candidates(self):
    # The values are 0, s / 2 and s, so the spread is s.
    improver = distillation.DistillationImprover(selection='argmax')
    loss, _ = _loss(improver, _transition([1.0, 3.0]))

    self.assertAllClose(loss.metrics['candidates/spread'], 2.0)
    self.assertAllClose(loss.metrics['candidates/best_value'], 2.0)
    self.assertAllClose(loss.metrics['candidates/local_step'], 0.0)
    # Both rows have the samples 0, 0.5 and 1.
    self.assertAllClose(
        loss.metrics['candidates/deviation'], np.std([0.0, 0.5, 1.0])
    )

  def test_auto_takes_the_best_in_rows_with_a_small_spread(self):
    # Half of the rows have a spread of 0.1, half of 1.9: 1 on average. The
    # threshold 0.5 separates them.
    improver = distillation.DistillationImprover(
        selection='auto', spread_threshold=0.5
    )
    loss, imitated = _loss(
        improver, _transition([0.1, 1.9] * 200), temperature=1e6
    )

    self.assertAllEqual(imitated[::2], np.ones([200]))
    # At this temperature all three candidates are equally likely.
    self.assertBetween(np.mean(imitated[1::2] == 1.0), 0.2, 0.46)
    self.assertAllClose(loss.metrics['candidates/greedy'], 0.5)

  def test_auto_compares_with_the_running_mean(self):
    improver = distillation.DistillationImprover(
        selection='auto', spread_threshold=0.5
    )
    for mean, expected in ((10.0, 1.0), (1.0, 0.5)):
      fresh = distillation.DistillationImprover(
          selection='auto', spread_threshold=0.5
      )
      fresh.update({'candidates/spread': tf.constant(mean)})
      loss, _ = _loss(fresh, _transition([0.1, 1.9]))
      self.assertAllClose(loss.metrics['candidates/greedy'], expected)

    # The loss itself changes no state.
    before = [v.numpy() for v in improver.variables]
    _loss(improver, _transition([0.1, 1.9]))
    self.assertAllEqual([v.numpy() for v in improver.variables], before)

  def test_the_mean_starts_at_the_first_spread_and_moves_by_its_rate(self):
    improver = distillation.DistillationImprover(spread_rate=0.25)
    mean, = improver.variables
    found = []
    for spread in (2.0, 4.0, 0.0):
      improver.update({'candidates/spread': tf.constant(spread)})
      found.append(float(mean))

    # 2, 2 + (4 - 2) / 4 = 2.5, 2.5 + (0 - 2.5) / 4 = 1.875.
    self.assertAllClose(found, [2.0, 2.5, 1.875])

  def test_the_default_rate_is_a_hundredth(self):
    improver = distillation.DistillationImprover()
    for spread in (2.0, 4.0):
      improver.update({'candidates/spread': tf.constant(spread)})

    self.assertAllClose(improver.variables[0], 2.02)


class DatasetActionTest(tensor_case.TensorCase):

  def test_the_dataset_action_competes(self):
    # It replaces the worse of the two kept candidates, 0.5, and is the best.
    improver = distillation.DistillationImprover(selection='argmax')
    loss, imitated = _loss(
        improver,
        _transition([1.0, 2.0], dataset_action=2.0),
        num_candidates=2,
        dataset_action='replace',
    )

    self.assertAllEqual(imitated, [2.0, 2.0])
    self.assertAllClose(loss.metrics['candidates/spread'], 1.5)

  def test_a_worse_dataset_action_is_not_imitated(self):
    improver = distillation.DistillationImprover(selection='argmax')
    loss, imitated = _loss(
        improver,
        _transition([1.0, 2.0], dataset_action=-1.0),
        num_candidates=2,
        dataset_action='append',
    )

    self.assertAllEqual(imitated, [1.0, 1.0])
    self.assertAllClose(loss.metrics['candidates/spread'], 3.0)

  def test_a_sample_replaces_elements_past_the_end(self):
    # The second row's element was not taken, so it does not compete.
    transition = _transition([1.0, 1.0], dataset_action=2.0)
    step = transition.action_step
    info = dict(step.info, action_mask=tf.constant([[1.0], [0.0]]))
    improver = distillation.DistillationImprover(selection='argmax')
    _, imitated = _loss(
        improver,
        transition._replace(action_step=step._replace(info=info)),
        num_candidates=2,
        dataset_action='replace',
    )

    self.assertAllEqual(imitated, [2.0, 1.0])


class GradientTest(tensor_case.TensorCase):

  @parameterized.parameters('sample', 'argmax')
  def test_the_target_is_a_constant(self, selection):
    critic, policy = small_agent.make_critic(), small_agent.make_policy()
    transition = small_agent.make_transition()
    observation = transition.time_step.observation
    seed = tf.constant(_SEED)
    improver = distillation.DistillationImprover(selection=selection)

    with tf.GradientTape(persistent=True) as tape:
      # The source does not know the tape, which therefore records the search.
      source = state_actions.make_source(
          small_agent.make_search(), policy, critic, transition, seed
      )
      loss = improver.loss(transition, policy, critic, source, seed).per_example
    candidates = source.here.candidates(transition.action_step.action)
    action = source.here.select(
        candidates, selection == 'argmax', 'distillation'
    )
    with tf.GradientTape() as constant_tape:
      expected = policy.distillation_loss(observation, action, seed)

    self.assertAllClose(loss, expected)
    variables = critic.trainable_variables
    self.assertEqual(tape.gradient(loss, variables), [None] * len(variables))
    for found, wanted in zip(
        tape.gradient(loss, policy.trainable_variables),
        constant_tape.gradient(expected, policy.trainable_variables),
    ):
      self.assertAllClose(found, wanted)


class OptionsTest(tensor_case.TensorCase):

  def test_auto_needs_a_threshold(self):
    with self.assertRaisesRegex(ValueError, '`spread_threshold`.*None'):
      distillation.DistillationImprover(selection='auto')

  def test_a_threshold_needs_auto(self):
    with self.assertRaisesRegex(ValueError, "`spread_threshold`.*'sample'"):
      distillation.DistillationImprover(spread_threshold=0.1)

  def test_options_out_of_range_are_named(self):
    with self.assertRaisesRegex(ValueError, "`selection`.*got 'best'"):
      distillation.DistillationImprover(selection='best')
    with self.assertRaisesRegex(ValueError, '`spread_rate`.*got 0'):
      distillation.DistillationImprover(spread_rate=0.0)


if __name__ == '__main__':
  absltest.main()
