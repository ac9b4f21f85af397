"""Makes an agent without gin files; see docs/from_python.md."""

import contextlib
import copy
from typing import Any, Iterator, Mapping, Optional, Sequence, Tuple, Union

from absl import logging
import gin
from gin import config
import tensorflow as tf

from parl_tf import types
from parl_tf.agents import parl_agent
from parl_tf.binaries import configs
from parl_tf.binaries import shadowed_bindings
from parl_tf.critics import cal_ql
from parl_tf.critics import critic as critic_lib
from parl_tf.critics import iql
from parl_tf.critics import td
from parl_tf.domains import domain as domain_lib
from parl_tf.policies import diffusion
from parl_tf.policies import flow
from parl_tf.policies import gaussian
from parl_tf.policies import generative_policy
from parl_tf.policies import transformer
from parl_tf.training import builder
from parl_tf.training import critic_check
from parl_tf.training import policy_check
from parl_tf.training import run_dataset

# Methods of PA-RL by their critic.
_METHODS = {'cal_ql': 'parl_cal_ql', 'iql': 'parl_iql', 'td': 'parl_rlpd'}
_POLICIES = ('diffusion', 'flow', 'gaussian', 'transformer')
# The settings of a class are those of the first of its bases here.
_CRITIC_CLASSES = (
    (iql.IQLCritic, 'iql'),
    (cal_ql.CalQLCritic, 'cal_ql'),
    (td.TDCritic, 'td'),
    (critic_lib.Critic, 'cal_ql'),
)
_POLICY_CLASSES = (
    (diffusion.DiffusionPolicy, 'diffusion'),
    (flow.FlowPolicy, 'flow'),
    (gaussian.GaussianPolicy, 'gaussian'),
    (transformer.TransformerPolicy, 'transformer'),
    (generative_policy.GenerativePolicy, 'diffusion'),
)
_SIZES = ('paper', 'small', 'small_robot')


def make_agent(
    domain: domain_lib.Domain,
    *,
    critic: Union[str, type] = 'cal_ql',
    policy: Union[str, type] = 'diffusion',
    size: str = 'small',
    episodes: Sequence[types.Episode] = (),
    seed: int = 0,
    settings: Optional[Mapping[str, Any]] = None,
) -> parl_agent.PARLAgent:
  """Makes an agent of PA-RL.

  gin's configuration, if there is one, is the same afterwards.

  Args:
    domain: The task.
    critic: 'cal_ql', 'iql' or 'td', or a subclass of `Critic`, which has the
      settings of the critic that it extends, otherwise those of 'cal_ql'.
    policy: 'diffusion', 'flow', 'gaussian' or 'transformer', or a subclass of
      `GenerativePolicy`, likewise, otherwise with those of 'diffusion'.
      Classes that are not parl_tf's are checked.
    size: Sizes of networks and search: 'small', 'small_robot' or 'paper'.
    episodes: Offline episodes, whose statistics normalize the observations if
      the domain has none; without either, observations are not normalized.
    seed: Integer seed of initial weights and draws.
    settings: Values of further parameters and macros, for example
      `{'Search.num_samples': 16, 'target_noise': 0.0}`.

  Raises:
    TypeError: If `domain` is no `Domain`, a class is no critic or policy, or a
      method of it has other arguments.
    ValueError: If a name is unknown, a value is out of range, a setting has no
      effect on this agent, the critic is to start at the value of the data and
      there are no episodes, or a class of your own breaks its protocol.
  """
  if not isinstance(domain, domain_lib.Domain):
    raise TypeError(
        f'`domain` must be a `Domain`, got a {type(domain).__name__}. A task of'
        ' gymnasium is `domains.gymnasium.Gymnasium(id)`; docs/your_task.md'
        ' describes others.'
    )
  own = {}
  if isinstance(critic, type):
    own['build_agent.critic_ctor'] = critic
    critic = _settings_of('critic', critic, _CRITIC_CLASSES)
  if isinstance(policy, type):
    own['build_agent.policy_ctor'] = policy
    policy = _settings_of('policy', policy, _POLICY_CLASSES)
  settings = {**own, **(settings or {})}
  for name, value, choices in (
      ('critic', critic, _METHODS),
      ('policy', policy, _POLICIES),
      ('size', size, _SIZES),
  ):
    if value not in choices:
      raise ValueError(
          f'`{name}` must be one of {list(choices)}, got {value!r}.'
      )
  normalization = domain.normalization
  if episodes:
    normalization = run_dataset.statistics(domain, episodes)
  with _own_configuration():
    configs.parse([
        f'methods/{_METHODS[critic]}.gin',
        f'policies/{policy}.gin',
        f'sizes/{size}.gin',
    ])
    with gin.unlock_config():
      for name, value in settings.items():
        gin.bind_parameter(name if '.' in name else _macro(name), value)
    agent = builder.build_agent(
        domain, normalization, seed, tf.Variable(0, dtype=tf.int64)
    )
    _check_used(settings)
    _check_own_classes(agent)
  if agent.critic.starts_from_data and not episodes:
    raise ValueError(
        "`episodes` must be given, because `Critic.initial_value` is 'data'."
    )
  run_dataset.start_critic(agent, domain, episodes)
  return agent


def _settings_of(
    name: str, own: type, classes: Sequence[Tuple[type, str]]
) -> str:
  """Returns the name whose settings a class has."""
  for base, settings in classes:
    if issubclass(own, base):
      return settings
  raise TypeError(
      f'`{name}` must be a name or a subclass of {classes[-1][0].__name__}, got'
      f' the class {own.__name__}.'
  )


def _check_own_classes(agent: parl_agent.PARLAgent) -> None:
  """Checks a policy and a critic that are not parl_tf's, which are tested."""
  policy, has_mask = agent.generative_policy, agent.chunk_length > 1
  if not policy.is_served and _is_own(policy):
    policy_check.check(
        policy,
        agent.time_step_spec.observation,
        agent.chunk_length * agent.action_spec.shape[0],
        is_cloned=bool(policy.cloned.trainable_variables),
        has_mask=has_mask,
    )
  if _is_own(agent.critic):
    critic_check.check(agent, has_mask=has_mask)


def _is_own(part: Any) -> bool:
  return not type(part).__module__.startswith('parl_tf.')


@contextlib.contextmanager
def _own_configuration() -> Iterator[None]:
  """Clears gin's configuration, and then restores it.

  `gin.config_str` would lose values without a literal, such as functions.
  """
  parts = (
      config._CONFIG,
      config._OPERATIVE_CONFIG,
      config._SINGLETONS,
      config._IMPORTS,
  )
  before = [copy.copy(part) for part in parts]
  is_locked = gin.config_is_locked()
  gin.clear_config()
  try:
    yield
  finally:
    gin.clear_config()
    for part, values in zip(parts, before, strict=True):
      part.update(values)
    config._set_config_is_locked(is_locked)


def _check_used(settings: Mapping[str, Any]) -> None:
  """Raises `ValueError` if a setting has no effect on the agent.

  Warns if other bindings win in a part of the scopes.
  """
  for name in settings:
    scope, configurable, parameter = _split(name)
    is_used, winners = shadowed_bindings.uses(scope, configurable, parameter)
    if configurable == 'n_step_returns' or not (is_used or winners):
      raise ValueError(
          f'`settings`: {name} is no setting of this agent; bind it with gin'
          ' where it is used.'
      )
    if not is_used:
      raise ValueError(
          f'`settings`: {name} {shadowed_bindings.no_effect(winners)}'
      )
    if winners:
      logging.warning(
          '`settings`: %s does not change %s.',
          name,
          ' and '.join(sorted(winners)),
      )


def _split(name: str) -> Tuple[str, str, str]:
  """Returns the scope, the configurable and the parameter of a setting."""
  if '.' not in name:
    return name, 'macro', 'value'
  selector, _, parameter = name.rpartition('.')
  scope, _, configurable = selector.rpartition('/')
  return scope, configurable.rpartition('.')[2], parameter


def _macro(name: str) -> str:
  """Returns the parameter of a macro of the gin files."""
  parameter = f'{name}/macro.value'
  try:
    gin.query_parameter(parameter)
  except ValueError as error:
    raise ValueError(f'`settings`: there is no macro {name!r}.') from error
  return parameter
