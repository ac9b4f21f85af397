"""The networks at the end of a phase, from which other runs may begin.

`phases/<phase>` in a run's directory holds one TensorFlow checkpoint per
network, without optimizers, and `phase.json`: what another run must share to
use them.
"""

import json
import os
import re
from typing import Any, Dict, List, Mapping, Optional, Sequence

import gin
import numpy as np
import tensorflow as tf

from parl_tf import types
from parl_tf.networks import observation_encoder
from parl_tf.reports import run_files
from parl_tf.training import builder
from parl_tf.training import network_files

PHASES = ('behavior_cloning', 'offline')
"""The phases that leave a checkpoint, in their order."""

_DESCRIPTION = 'phase.json'
# Cloning trains neither of the others.
_NETWORKS = {
    'behavior_cloning': ('generative_policy',),
    'offline': ('generative_policy', 'critic', 'improver'),
}
# Settings of tasks that only critics depend on.
_MAY_DIFFER_AFTER_CLONING = (
    'is_sparse', 'max_episode_steps', 'reward_bias', 'reward_scale'
)
# Settings that change neither the shapes of networks nor what they learned.
_MAY_DIFFER = (
    *('averaging_rate', 'dropout_rate', 'num_steps', 'address'),
    *('deadline_seconds', 'reconnect_seconds', 'max_environments'),
    'score_returns',
)
_HISTOGRAM = 'HLGauss'  # gin's name of a function, which is no module.
_MACRO = re.compile(r'%([\w./]+)')


class PhaseCheckpoints:
  """Writes the checkpoints of a run's phases."""

  def __init__(
      self,
      root_dir: str,
      *,
      domain,
      agent,
      normalization: types.Normalization,
      dataset_path: Optional[str],
  ):
    """Initializes the writer.

    Args:
      root_dir: The run's directory.
      domain: `Domain`.
      agent: `PARLAgent`, or an agent with the same checkpoint items.
      normalization: Observation statistics of the agent.
      dataset_path: The run's dataset; None for `data.hdf5` in its directory.
    """
    self._root_dir = root_dir
    self._domain = domain
    self._agent = agent
    self._normalization = normalization
    self._dataset_path = dataset_path and os.path.abspath(dataset_path)

  def save(self, phase: str) -> bool:
    """Replaces the checkpoint of a phase; logs an error if a write fails.

    Args:
      phase: The phase that has ended; others than `PHASES` are not kept.

    Returns:
      Whether no write failed.
    """
    if phase not in PHASES:
      return True
    items = _items(self._agent, phase)
    return network_files.replace(
        path(self._root_dir, phase),
        {x: {x: items[x]} for x in _NETWORKS[phase] if x in items},
        _DESCRIPTION,
        self._describe(phase),
    )

  def _describe(self, phase) -> Dict[str, Any]:
    agent = self._agent
    improver = agent.checkpoint_items.get('improver')
    return {
        'train_step': int(agent.train_step_counter.numpy()),
        'dataset_path': self._dataset_path,
        'task': task_settings(self._domain),
        'policy': policy_settings(agent, phase),
        'critic': critic_settings(agent),
        'improver': None if improver is None else _class_name(improver),
        'normalization': _numbers(self._normalization),
    }


def complete(session) -> None:
  """Repeats a failed write of the last phase's networks.

  Raises:
    OSError: If it fails again. The run is then not finished, and the same
      command repeats the write.
  """
  if session.state.lacks_networks and not session.keep_networks():
    raise OSError(
        f'{path(session.root_dir, session.state.phase)} must hold the networks'
        ' at the end of the phase, but they could not be written (see the'
        ' log). Rerun the command when they can be.'
    )


class PhaseCheckpoint:
  """The checkpoint of one phase of another run.

  Attributes:
    directory: Its directory.
    train_step: Training steps of the other run up to the phase's end.
    dataset_path: The other run's dataset; None for its own `data.hdf5`.
  """

  def __init__(self, root_dir: str, phase: str):
    """Reads the description.

    Args:
      root_dir: Directory of the other run.
      phase: One of `PHASES`.

    Raises:
      ValueError: If the file is damaged.
    """
    self.directory = path(root_dir, phase)
    self._phase = phase
    self._file = os.path.join(self.directory, _DESCRIPTION)
    with open(self._file, encoding='utf-8') as file:
      try:
        self._content = json.load(file)
      except json.JSONDecodeError as error:
        raise ValueError(f'{self._file} must be JSON: {error}.') from error
    self.train_step: int = self._content['train_step']
    self.dataset_path: Optional[str] = self._content['dataset_path']

  def check_task(self, domain) -> None:
    """Checks that the other run had this task.

    Raises:
      ValueError: If a setting of the domain differs.
    """
    stored = self._content['task']
    # Version 0.2 did not store the settings of a domain's parts.
    classes = {name.split('.')[0] for name in stored}
    unknown = {type(part).__name__ for part in domain.parts[1:]} - classes
    self._check(
        'task',
        {
            name: value
            for name, value in task_settings(domain).items()
            if name.split('.')[0] not in unknown
        },
    )

  def fits_critic(self, agent) -> bool:
    """Returns whether the checkpoint has a critic of the agent's class."""
    own, other = critic_settings(agent), self._content['critic']
    is_saved = os.path.exists(os.path.join(self.directory, 'critic.index'))
    return is_saved and _first(own) == _first(other)

  def load(
      self, agent, normalization: types.Normalization, with_critic: bool
  ) -> None:
    """Sets the agent's networks and its number of training steps.

    The improver's numbers are taken over if it has the same class.

    Args:
      agent: The agent, on this run's data.
      normalization: Its observation statistics.
      with_critic: Whether to take over the critic and the improver.

    Raises:
      ValueError: If a setting of the networks or the normalization differs, or
        a file is damaged. The agent is not changed in the first case.
    """
    self._check('policy', policy_settings(agent, self._phase))
    if with_critic:
      self._check('critic', critic_settings(agent) or {})
    self._check_normalization(normalization)
    self.read_networks(agent, with_critic)
    agent.train_step_counter.assign(self.train_step)

  def read_networks(self, agent, with_critic: bool) -> None:
    """Sets the agent's networks without a check of the settings.

    Args:
      agent: Agent with the same networks.
      with_critic: As in `load`.

    Raises:
      ValueError: If a file is damaged or does not fit.
    """
    items = _items(agent, self._phase)
    names = ['generative_policy']
    if with_critic:
      names.append('critic')
      improver = items.get('improver')
      if improver is not None and (
          _class_name(improver) == self._content['improver']
      ):
        names.append('improver')
    for name in names:
      prefix = os.path.join(self.directory, name)
      try:
        network = tf.train.Checkpoint(**{name: items[name]})
        network.read(prefix).assert_consumed()
      # A truncated file raises an `IndexError`.
      except AssertionError as error:
        raise ValueError(
            f'{prefix} does not have the variables of this run;'
            ' `averaging_rate` must be None in both runs or in neither:'
            f' {error}'
        ) from error
      except (IndexError, ValueError, tf.errors.OpError) as error:
        raise ValueError(
            f'{prefix} is damaged or does not fit this run: {error}'
        ) from error

  def _check(self, section: str, seen: Mapping[str, str]) -> None:
    wanted = self._content[section]
    for name in {**wanted, **seen}:
      parameter = name.rpartition('.')[2]
      if parameter in _MAY_DIFFER or wanted.get(name) == seen.get(name):
        continue
      mend = ''
      if parameter in _MAY_DIFFER_AFTER_CLONING:
        if self._phase == 'behavior_cloning':
          continue
        mend = (
            ' To change it, begin after cloning: '
            "`run_experiment.initial_phase = 'behavior_cloning'`."
        )
      raise ValueError(
          f'`{name}` must be {wanted.get(name)}, as in {self._file}, where '
          f'this run begins, got {seen.get(name)}.{mend}'
      )

  def _check_normalization(self, normalization) -> None:
    seen, wanted = _numbers(normalization), self._content['normalization']
    for name, numbers in wanted.items():
      for i, (number, own) in enumerate(zip(numbers, seen[name], strict=True)):
        if number != own:
          raise ValueError(
              f'The {name} of the observations in the data must be {number} in '
              f'dimension {i}, as in {self._file}, where this run begins, got '
              f'{own}: the policy is normalized by the data that it cloned '
              '(`run_experiment.dataset_path`).'
          )


def path(root_dir: str, phase: str) -> str:
  """Returns the directory of a phase's checkpoint."""
  return os.path.join(root_dir, run_files.PHASE_CHECKPOINTS, phase)


def saved_phases(root_dir: str) -> List[str]:
  """Returns the phases of which a run has a checkpoint, in their order."""
  return [x for x in PHASES if os.path.isdir(path(root_dir, x))]


def task_settings(domain) -> Dict[str, str]:
  """Returns the domain, its settings in gin, and its specs, as text."""
  spec = builder.observation_spec(domain)
  leaves = spec if isinstance(spec, dict) else {'observation': spec}
  low, high = domain.raw_action_bounds
  names = [c.__name__ for part in domain.parts for c in type(part).__mro__]
  return {
      'select_domain.domain': _class_name(domain),
      **_gin_settings(names),
      **{
          f'observation_spec: {name}': f'{leaf.dtype.name} {leaf.shape}'
          for name, leaf in sorted(leaves.items())
      },
      'action_spec': str(list(domain.action_spec().shape)),
      'raw_action_bounds': str([np.asarray(x).tolist() for x in (low, high)]),
  }


def policy_settings(agent, phase: str) -> Dict[str, str]:
  """Returns the class of the policy and its settings in gin, as text.

  Args:
    agent: `PARLAgent`.
    phase: Of a policy with several parts, cloning trains only one.
  """
  policy = _items(agent, phase)['generative_policy']
  settings = {
      'build_agent.policy_ctor': _class_name(policy),
      'build_agent.chunk_length': str(agent.chunk_length),
      **_gin_settings(_class_names((policy, *policy.submodules))),
  }
  if agent.num_frames > 1:
    settings['build_agent.num_frames'] = str(agent.num_frames)
  return settings


def critic_settings(agent) -> Optional[Dict[str, str]]:
  """Returns what the critic's networks and values depend on, as text.

  The critic's own settings, such as an expectile, may differ between runs.
  """
  critic = agent.checkpoint_items.get('critic')
  if critic is None:
    return None
  name = _class_name(critic)
  return {
      'build_agent.critic_ctor': name,
      f'{name}.gamma': str(agent.gamma),
      **_gin_settings([*_class_names(critic.submodules), _HISTOGRAM]),
  }


def _items(agent, phase: str) -> Dict[str, Any]:
  """Returns the agent's checkpoint items, with the part that cloning trains."""
  items = dict(agent.checkpoint_items)
  if phase == 'behavior_cloning':
    items['generative_policy'] = agent.generative_policy.cloned
  return items


def _class_names(modules: Sequence[tf.Module]) -> List[str]:
  """Returns the classes of modules whose settings count.

  Without images, an observation encoder has nothing to set.
  """
  return [
      _class_name(module)
      for module in modules
      if not isinstance(module, observation_encoder.ObservationEncoder)
      or module.image_variables
  ]


def _gin_settings(class_names) -> Dict[str, str]:
  """Returns the settings of classes in use, by name, including defaults."""
  class_names = set(class_names)
  settings = run_files.parse_settings(gin.operative_config_str())
  macros = {k: v for k, v in settings.items() if '.' not in k}
  found = {}
  for name, value in sorted(settings.items()):
    configurable, _, parameter = name.rpartition('.')
    if re.split(r'[./]', configurable)[-1] not in class_names:
      continue
    if parameter in _MAY_DIFFER:
      continue
    found[name] = _resolve(value, macros)
  return found


def _resolve(value: str, macros: Mapping[str, str]) -> str:
  """Replaces the macros in a value."""
  return _MACRO.sub(
      lambda match: _resolve(macros.get(match[1], ''), macros) or match[0],
      value,
  )


def _numbers(normalization: types.Normalization) -> Dict[str, List[float]]:
  """Returns the statistics of all observations, `[numbers]` each.

  The range of the actions is part of the policies that use it.
  """
  return {
      name.replace('_', ' '): [
          float(x)
          for leaf in tf.nest.flatten(getattr(normalization, name))
          if leaf is not None
          for x in np.ravel(leaf)
      ]
      for name in ('mean', 'standard_deviation')
  }


def _class_name(value: object) -> str:
  return type(value).__name__


def _first(settings: Optional[Mapping[str, str]]) -> Optional[str]:
  return None if settings is None else next(iter(settings.values()))
