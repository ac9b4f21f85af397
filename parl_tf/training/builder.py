"""Builds an agent from the parts that gin names."""

from typing import Callable, List, Optional

import gin
import numpy as np
import tensorflow as tf
from tf_agents.specs import tensor_spec

from parl_tf import frame_stack
from parl_tf import input_names
from parl_tf import types
from parl_tf.agents import following_policy
from parl_tf.agents import parl_agent
from parl_tf.critics import critic as critic_lib
from parl_tf.improvers import imitation
from parl_tf.policies import generative_policy
from parl_tf.replay import experience
from parl_tf.search import action_source
from parl_tf.training import adam

# The module's name is Keras', because gin files may name it.
Adam = gin.external_configurable(adam.Adam, module='tf.keras.optimizers')


def observation_spec(domain) -> types.Nest:
  """Returns the domain's observation spec as a nest of `tf.TensorSpec`.

  Raises:
    ValueError: If two keys of a dict have the same name; see `input_names`.
  """
  spec = domain.observation_spec()
  if isinstance(spec, dict):
    names = input_names.of(spec)
    return {key: _tensor_spec(leaf, names[key]) for key, leaf in spec.items()}
  return _tensor_spec(spec, input_names.SINGLE)


def stacked_spec(spec: types.Nest, num_frames: int) -> types.Nest:
  """Returns the spec of observations with stacked frames."""
  leaves = [
      tf.TensorSpec(shape, leaf.dtype, leaf.name)
      for leaf, shape in zip(
          tf.nest.flatten(spec), frame_stack.stacked_shapes(spec, num_frames)
      )
  ]
  return tf.nest.pack_sequence_as(spec, leaves)


def action_spec(domain) -> tensor_spec.BoundedTensorSpec:
  """Returns the spec of the action of one step, in [-1, 1].

  Raises:
    ValueError: If the domain's is not `[A]` with these bounds.
  """
  spec = domain.action_spec()
  bounds = [getattr(spec, x, None) for x in ('minimum', 'maximum')]
  is_unit = all(
      bound is not None and np.all(bound == limit)
      for bound, limit in zip(bounds, (-1.0, 1.0))
  )
  if len(spec.shape) != 1 or not is_unit:
    raise ValueError(
        f'`{domain.name}.action_spec` must be a `BoundedArray` of shape [A]'
        f' from -1 to 1, got {spec}. `raw_action_bounds` has the bounds of the'
        ' environment.'
    )
  (size,) = spec.shape
  return tensor_spec.BoundedTensorSpec([size], tf.float32, -1.0, 1.0, 'action')


@gin.configurable(
    denylist=['domain', 'normalization', 'seed', 'train_step_counter']
)
def build_agent(
    domain,
    normalization: Optional[types.Normalization],
    seed: int,
    train_step_counter: tf.Variable,
    *,
    agent_ctor: Callable = parl_agent.PARLAgent,
    critic_ctor: Optional[Callable] = gin.REQUIRED,
    policy_ctor: Callable = gin.REQUIRED,
    improver_ctor: Optional[Callable] = gin.REQUIRED,
    pretrain_improver_ctor: Callable = imitation.ImitationImprover,
    critic_optimizer_ctor: Optional[Callable] = None,
    policy_optimizer_ctor: Callable = gin.REQUIRED,
    pretrain_optimizer_ctor: Callable = gin.REQUIRED,
    chunk_length: int = 1,
    num_frames: int = 1,
    target_policy_rate: float = 1.0,
    sampling_policy_rate: float = 1.0,
) -> parl_agent.PARLAgent:
  """Builds the agent that gin describes.

  Makes a `Search` in each of the gin scopes `training`, `acting` and
  `evaluation`.

  Args:
    domain: `Domain`.
    normalization: Observation statistics, or None.
    seed: Integer seed of initial weights and draws.
    train_step_counter: Counts training steps.
    agent_ctor: Makes the agent: `PARLAgent`, or a class with the same
      arguments.
    critic_ctor: Makes a `Critic`; None if the method needs none.
    policy_ctor: Makes a `GenerativePolicy`.
    improver_ctor: Makes the improver of the online phase; None if the policy is
      fixed after behavior cloning.
    pretrain_improver_ctor: Makes the improver of behavior cloning.
    critic_optimizer_ctor: Makes the critic's Keras optimizer; required with a
      critic.
    policy_optimizer_ctor: Makes the policy's optimizer of the online phase.
    pretrain_optimizer_ctor: Makes the policy's optimizer of behavior cloning.
    chunk_length: H, the number of actions that the policy draws at once and
      the critic evaluates together.
    num_frames: Number of consecutive observations that the networks see; see
      `parl_tf.frame_stack`.
    target_policy_rate: How far the policy whose actions make the critic's
      targets and penalties moves towards the present policy in each training
      step, as a fraction in [0, 1]. At 1 it is the present policy. At 0 it
      stays the policy as it was at the beginning of the phase, so that the
      critic evaluates a policy that does not change: one step of policy
      improvement, as in Brandfonbrener et al. (2021), arXiv:2106.08909, which
      the policy then approaches online.
    sampling_policy_rate: The same for the policy whose samples are searched for
      distillation. Below 1 it slows how far the policy moves by imitating the
      best of its own samples; acting searches those of the present policy.

  Returns:
    The agent.

  Raises:
    TypeError: If the critic is no `Critic`, or the policy no
      `GenerativePolicy`.
    ValueError: If there is a critic without an optimizer, `chunk_length` or
      `num_frames` is not positive, or a rate is not in [0, 1], or below 1 for a
      policy that another process serves, or the improver adds rewards and
      `n_step_returns.online_steps` exceeds `chunk_length`.
  """
  _check_rate('target', target_policy_rate)
  _check_rate('sampling', sampling_policy_rate)
  if chunk_length < 1:
    raise ValueError(f'`chunk_length` must be positive, got {chunk_length}.')
  frame_stack.check(num_frames)
  critic, critic_optimizer = None, None
  single = observation_spec(domain)
  spec = types.ModelSpec(
      stacked_spec(single, num_frames),
      action_spec(domain),
      frame_stack.stacked_normalization(normalization, single, num_frames),
      seed,
      domain.value_range,
      domain.raw_action_bounds,
      chunk_length,
      num_frames,
  )
  if critic_ctor is not None:
    if critic_optimizer_ctor is None:
      raise ValueError(
          '`build_agent.critic_optimizer_ctor` must be given with a critic.'
      )
    critic = critic_ctor(spec)
    if agent_ctor is parl_agent.PARLAgent:  # Others may have another critic.
      _check_critic(critic)
    critic_optimizer = critic_optimizer_ctor()
  improver = None if improver_ctor is None else improver_ctor()
  _check_rows(improver, chunk_length)
  policy_spec = spec._replace(seed=seed + 1_000_003)
  policy = policy_ctor(policy_spec)
  _check_class('policy', policy, generative_policy.GenerativePolicy)
  followers = {}
  for name, rate, is_used in (
      ('target', target_policy_rate, getattr(critic, 'draws_actions', False)),
      ('sampling', sampling_policy_rate, improver is not None),
  ):
    if rate == 1 or not is_used:
      continue
    if policy.is_served:
      raise ValueError(
          f'`{name}_policy_rate` must be 1 for a policy that another process '
          f'serves, got {rate}.'
      )
    followers[f'{name}_policy'] = following_policy.FollowingPolicy(
        policy_ctor(policy_spec), policy, rate
    )
  return agent_ctor(
      spec,
      critic,
      policy,
      improver=improver,
      pretrain_improver=pretrain_improver_ctor(),
      optimizers=parl_agent.Optimizers(
          critic_optimizer,
          policy_optimizer_ctor(),
          pretrain_optimizer_ctor(),
      ),
      searches=_searches(),
      train_step_counter=train_step_counter,
      followers=following_policy.Followers(**followers),
  )


def _check_class(name: str, part, base: type) -> None:
  """Raises `TypeError` if a part is no instance of its base class."""
  if not isinstance(part, base):
    raise TypeError(
        f'`build_agent.{name}_ctor` must make a `{base.__name__}`, an instance'
        f' of a subclass of `{base.__module__}.{base.__name__}`, got a'
        f' {type(part).__name__}.'
    )


def _check_critic(critic) -> None:
  """Raises `TypeError` if a critic is none, or has no networks."""
  _check_class('critic', critic, critic_lib.Critic)
  if not hasattr(critic, 'gamma'):
    raise TypeError(
        f'`{type(critic).__name__}.__init__` must call `super().__init__(spec,'
        ' ...)`, which makes the networks.'
    )


def _check_rate(name: str, rate: float) -> None:
  """Raises `ValueError` if the rate of a following policy is out of range."""
  if not 0 <= rate <= 1:
    raise ValueError(
        f'`{name}_policy_rate` must be in [0, 1], got {rate!r}.'
    )


def _check_rows(improver, chunk_length: int) -> None:
  """Raises if online rows have steps whose added reward would be missing."""
  if improver is None or not improver.adds_rewards:
    return
  num_steps = int(experience.row_offsets(chunk_length)['online'][-1])
  if num_steps > chunk_length:
    raise ValueError(
        f'`n_step_returns.online_steps` must be at most {chunk_length}, the'
        f' length of a chunk, with `{type(improver).__name__}.entropy_backup`,'
        ' because a row lacks the entropy of the decisions between its ends,'
        f' got {num_steps}.'
    )


def _searches() -> parl_agent.Searches:
  """Makes the searches; equal ones are one, which is compiled only once."""
  made: List[action_source.Search] = []
  for scope in parl_agent.Searches._fields:
    with gin.config_scope(scope):
      search = action_source.Search()
    made.append(next((s for s in made if s.equals(search)), search))
  return parl_agent.Searches(*made)


def _tensor_spec(spec, name):
  return tf.TensorSpec(spec.shape, tf.as_dtype(spec.dtype), name)
