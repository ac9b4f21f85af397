"""Trains equal agents on one device and on two, and compares them.

A program, because TensorFlow's devices can be configured only once per process.
It writes `report.json` to the directory given as its argument.
"""

import functools
import json
import os
import sys

import numpy as np
import tensorflow as tf

from parl_tf import replicas
from parl_tf import types
from parl_tf.improvers import distillation
from parl_tf.improvers import imitation
from parl_tf.improvers import reparameterized
from parl_tf.networks import ensemble
from parl_tf.policies import gaussian
from parl_tf.replay import experience as experience_lib
from parl_tf.training import adam
from parl_tf.training import checkpoint
from parl_tf.training import devices
from parl_tf.training import schedules
from tests.agents import small_agent
from tests.agents import small_dppo

_NUM_STEPS = 5
_REQUEST = experience_lib.ExperienceRequest(
    critic_slices=2,
    critic_batch_size=256,
    critic_offline_fraction=0.25,
    policy_slices=1,
    policy_batch_size=256,
)
# Each replica traces the operations of each member and layer.
_SMALL_NETWORK = functools.partial(
    ensemble.CriticEnsemble, num_members=2, hidden_sizes=(16,)
)
# Improvers whose losses divide by, or compare with, a mean over the batch.
_IMPROVERS = {
    'auto': lambda: distillation.DistillationImprover('auto', 0.5),
    'normalized': lambda: reparameterized.ReparameterizedImprover(
        normalize_values=True, learn_temperature=False
    ),
    # Keeps the last five of the eight rows of `small_agent`.
    'filtered': lambda: imitation.ImitationImprover(min_return=-4.5),
}


def _make_optimizer():
  """Returns Adam, whose warm-up ends within the trained steps."""
  return adam.Adam(
      schedules.WarmUpCosineDecay(1e-3, num_warm_up_steps=3)
  )


def _make_agent(**kwargs):
  """Returns Cal-QL with a diffusion policy with dropout and sampled actions."""
  return small_agent.make_agent(
      critic_kwargs=dict(
          num_conservative_actions=2, network_ctor=_SMALL_NETWORK
      ),
      search=small_agent.make_search(selection='sample'),
      critic_utd=2,
      optimizer_ctor=_make_optimizer,
      train_step_counter=tf.Variable(
          0,
          dtype=tf.int64,
          aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
      ),
      **kwargs,
  )


def _sum(strategy, value):
  return float(strategy.reduce(tf.distribute.ReduceOp.SUM, value, axis=None))


def _train(learner):
  """Takes the training steps and returns the losses of the last one."""
  iterator = small_agent.make_experience().iterate(0, _NUM_STEPS, _REQUEST)
  for _ in range(_NUM_STEPS):
    info = learner.single_train_step(iterator)
  losses = dict(info.extra, loss=info.loss)
  return {name: _sum(learner.strategy, x) for name, x in losses.items()}


def _loss(strategy, improver):
  """Returns the policy's loss on a short episode before any update."""
  with strategy.scope():
    agent = _make_agent(
        improver=improver(), policy_ctor=gaussian.GaussianPolicy
    )
  rows = small_agent.make_rows()

  def share(context):
    part = devices.replica_share('policy', rows, 1, context)
    return types.Experience(critic=(), policy=part, cloning=())

  shares = strategy.experimental_distribute_values_from_function(share)
  return _sum(strategy, strategy.run(agent.loss, args=(shares,)).loss)


def _refusal_of_dppo(strategy):
  try:
    with strategy.scope():
      small_dppo.make_agent()
  except ValueError as error:
    return str(error)
  return None


def _variables(agent):
  """Returns all variables of a checkpoint by name, with optimizer moments."""
  items = dict(agent.checkpoint_items)
  variables = {'train_step': items.pop('train_step')}
  for name, item in items.items():
    for i, variable in enumerate(item.variables):
      variables[f'{name}/{i}'] = variable
  return variables


def _difference(value, expected):
  """Returns the norm of the difference, relative to the expected norm."""
  value, expected = np.asarray(value, float), np.asarray(expected, float)
  length = np.linalg.norm(expected)
  return float(np.linalg.norm(value - expected) / max(length, 1e-12))


def _sums(strategy):
  """Returns the sums of gradients, of which a loss may lack one."""
  none, total = strategy.run(
      lambda: replicas.sum_each([None, tf.constant(1.5)])
  )
  return [none, float(strategy.experimental_local_results(total)[0])]


def main(directory: str) -> None:
  tf.config.set_logical_device_configuration(
      tf.config.list_physical_devices('CPU')[0],
      [tf.config.LogicalDeviceConfiguration()] * 2,
  )
  agents, losses, improver_losses = {}, {}, {}
  for name in devices.STRATEGIES:
    strategy = devices.make_strategy(name)
    with strategy.scope():
      agents[name] = _make_agent()
    losses[name] = _train(
        devices.make_learner(
            os.path.join(directory, name), agents[name], strategy
        )
    )
    improver_losses[name] = {
        kind: _loss(strategy, improver) for kind, improver in _IMPROVERS.items()
    }
  one, two = (_variables(agents[name]) for name in devices.STRATEGIES)

  checkpoints = os.path.join(directory, 'checkpoints')
  checkpoint.Checkpoint(
      checkpoints, agents['mirrored'], checkpoint.RunState(env_steps=7)
  ).save()
  restored, state = _make_agent(), checkpoint.RunState()
  checkpoint.Checkpoint(checkpoints, restored, state).restore()
  report = {
      'num_replicas': strategy.num_replicas_in_sync,
      'refusal_of_dppo': _refusal_of_dppo(strategy),
      'losses': losses,
      'improver_losses': improver_losses,
      'differences': {k: _difference(two[k], one[k]) for k in one},
      'between_copies': {
          k: max(_difference(x, v.values[0]) for x in v.values)
          for k, v in two.items()
      },
      'train_step': int(one['train_step'].numpy()),
      'restored': {
          k: _difference(v, two[k]) for k, v in _variables(restored).items()
      },
      'restored_env_steps': state.env_steps,
      'sums': _sums(strategy),
  }
  with open(
      os.path.join(directory, 'report.json'), 'w', encoding='utf-8'
  ) as file:
    json.dump(report, file)


if __name__ == '__main__':
  main(sys.argv[1])
