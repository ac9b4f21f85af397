"""Tests of the agent's compiled training step in TF-Agents' learner."""

import functools
import re

from absl.testing import absltest
import tensorflow as tf
from tf_agents.train import learner

from parl_tf.critics import cal_ql
from parl_tf.networks import ensemble
from parl_tf.policies import gaussian
from parl_tf.replay import experience as experience_lib
from tests import tensor_case
from tests.agents import small_agent

# Each member and layer adds operations to every graph.
_NETWORK = functools.partial(
    ensemble.CriticEnsemble, num_members=1, hidden_sizes=(16,)
)
_REQUESTS = {
    'cloning': experience_lib.ExperienceRequest(cloning_batch_size=8),
    'critic': experience_lib.ExperienceRequest(
        critic_slices=1, critic_batch_size=8
    ),
    'both': experience_lib.ExperienceRequest(
        critic_slices=1,
        critic_batch_size=8,
        critic_offline_fraction=0.5,
        policy_slices=1,
        policy_batch_size=8,
    ),
}

# Operations that call Python, and random operations that have a state.
_PYTHON = re.compile('Py_?Func|PyFunc')
_HIDDEN = re.compile(
    '(?<!Stateless)(Random|TruncatedNormal|Multinomial|ParameterizedTruncated)'
    '|StatefulUniform|StatefulStandardNormal|RngSkip|RngReadAndSkip'
)


class _CountingCritic(cal_ql.CalQLCritic):
  """Counts how often its loss is traced."""

  num_traces = 0

  def loss(self, transition, source, seed):
    type(self).num_traces += 1
    return super().loss(transition, source, seed)


class _CountingPolicy(gaussian.GaussianPolicy):
  """Counts how often its loss is traced."""

  num_traces = 0

  def distillation_loss(self, observation, action, seed):
    type(self).num_traces += 1
    return super().distillation_loss(observation, action, seed)


def _variables(agent):
  items = dict(agent.checkpoint_items)
  return [
      items.pop('train_step'),
      *(v for item in items.values() for v in item.variables),
  ]


class LearnerTest(tensor_case.TensorCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls._agent = small_agent.make_agent(
        _CountingCritic,
        _CountingPolicy,
        critic_kwargs=dict(network_ctor=_NETWORK),
        search=small_agent.make_search(num_gradient_steps=1),
    )
    cls._experience = small_agent.make_experience()
    cls._learner = learner.Learner(
        absltest.get_default_test_tmpdir(),
        cls._agent.train_step_counter,
        cls._agent,
        checkpoint_interval=-1,
        summary_interval=0,
        run_optimizer_variable_init=False,
        direct_sampling=True,
    )
    # One kind after another, as in the phases of a run.
    cls._losses = {kind: cls._run(kind, num_steps=2) for kind in _REQUESTS}

  @classmethod
  def _run(cls, kind, num_steps):
    iterator = cls._experience.iterate(
        int(cls._agent.train_step_counter), num_steps, _REQUESTS[kind]
    )
    return cls._learner.run(num_steps, iterator)

  def _count_traces(self):
    return (
        _CountingCritic.num_traces,
        _CountingPolicy.num_traces,
        self._learner._train.experimental_get_tracing_count(),  # pylint: disable=protected-access
    )

  def test_drawn_and_cached_samples_share_a_trace(self):
    [part] = [x for x in self._agent.trained_parts if x.name == 'critic']
    rows, seed = small_agent.make_rows(), tf.constant([3, 5])
    before = _CountingCritic.num_traces
    part.update(rows, seed, None)
    self.assertLessEqual(_CountingCritic.num_traces, before + 1)
    samples = tf.zeros([small_agent.BATCH_SIZE, 2, 4, 2])
    info = dict(rows.policy_info, candidate_actions=samples)
    before = _CountingCritic.num_traces
    part.update(rows._replace(policy_info=info), seed, None)
    self.assertEqual(_CountingCritic.num_traces, before)

  def test_each_kind_reports_its_losses(self):
    of_critic = {'losses/critic', 'losses/td', 'losses/conservative'}
    expected = {
        'cloning': {'losses/imitation'},
        'critic': of_critic,
        'both': {*of_critic, 'losses/distillation'},
    }
    for kind, names in expected.items():
      info = self._losses[kind]
      self.assertTrue(bool(tf.math.is_finite(info.loss)))
      self.assertEqual(
          {name for name in info.extra if name.startswith('losses/')}, names
      )
    info = self._losses['critic']
    self.assertAllClose(info.extra['losses/critic'], info.loss)

  def test_later_calls_do_not_retrace(self):
    before = self._count_traces()
    for num_steps in (1, 3):
      for kind in reversed(_REQUESTS):
        self._run(kind, num_steps)

    self.assertEqual(self._count_traces(), before)
    # One trace for each kind: cloning, critic, both.
    self.assertEqual(before[2], 3)

  def test_kinds_share_the_trace_of_a_loss(self):
    # Two kinds use the critic's loss, each before and inside the learner's
    # loop; it has one trace. The policy's loss has two: cloning and
    # distillation.
    self.assertEqual(self._count_traces()[:2], (1, 2))

  def test_the_loop_equals_single_steps(self):
    variables = _variables(self._agent)
    before = [v.numpy() for v in variables]
    step = int(self._agent.train_step_counter)
    self._run('both', num_steps=3)
    after = [v.numpy() for v in variables]

    for variable, value in zip(variables, before):
      variable.assign(value)
    for rows in self._experience.iterate(step, 3, _REQUESTS['both']):
      self._agent.train(rows)

    self.assertEqual(int(self._agent.train_step_counter), step + 3)
    for variable, value in zip(variables, after):
      self.assertAllClose(variable, value, atol=1e-5)

  def test_the_graph_has_no_python_and_no_stateful_random_operations(self):
    for kind, request in _REQUESTS.items():
      rows = next(self._experience.iterate(0, 1, request))
      train = tf.function(self._agent.train, autograph=False)
      graph = train.get_concrete_function(rows).graph.as_graph_def()
      operations = {node.op for node in graph.node}
      for function in graph.library.function:
        operations.update(node.op for node in function.node_def)

      # The innermost operations are included, so the test sees the whole step.
      self.assertIn('AssignAddVariableOp', operations)
      if kind != 'cloning':  # The likelihood loss draws no random numbers.
        self.assertIn('StatelessRandomUniformIntV2', operations)
      self.assertEmpty([x for x in operations if _PYTHON.search(x)], kind)
      self.assertEmpty([x for x in operations if _HIDDEN.search(x)], kind)


if __name__ == '__main__':
  absltest.main()
