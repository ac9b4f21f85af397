"""The commands of `parl-data`: record, inspect and convert datasets."""

from typing import Any, Dict, List, Optional, Sequence

from absl import logging
import gin
import numpy as np

from parl_tf.binaries import configs
from parl_tf.datasets import conversion
from parl_tf.datasets import formats
from parl_tf.datasets import generate
from parl_tf.datasets import inspection
from parl_tf.datasets import lerobot_writer
from parl_tf.datasets import reading
from parl_tf.datasets import rows as rows_lib
from parl_tf.domains import domain as domain_lib
from parl_tf.domains import extrapolation
from parl_tf.replay import returns as returns_lib
from parl_tf.training import progress

_GAMMA = 0.99  # The default of `Critic.gamma`.
_NUM_ENTRIES_SHOWN = 8


def write_dataset(
    domain_name: str,
    output: str,
    *,
    num_steps: int,
    seed: int,
    play: bool = False,
    gin_files: Sequence[str] = (),
    gin_bindings: Sequence[str] = (),
) -> None:
  """Records a dataset of a domain.

  Args:
    domain_name: Name of one of the library's domains, or path of a gin file.
    output: File to write.
    num_steps: Environment steps.
    seed: Seed that determines the contents.
    play: Whether to record play without a goal instead of attempts at the task.
    gin_files: Gin files, applied after the domain's own.
    gin_bindings: Gin bindings, applied after the files.

  Raises:
    FileNotFoundError: If the domain's gin file does not exist.
    ValueError: If a gin name is unknown, a value is out of range, or the domain
      has no controller.
  """
  generate.record_task(
      output,
      parse_task(domain_name, gin_files, gin_bindings),
      num_steps=num_steps,
      seed=seed,
      play=play,
      make_progress=progress.Progress,
      repeat=domain_lib.act_until_kept,
      metadata={'domain': domain_name},
  )


def parse_task(
    domain_name: str,
    gin_files: Sequence[str] = (),
    gin_bindings: Sequence[str] = (),
) -> domain_lib.Domain:
  """Returns a domain.

  Args:
    domain_name: Name of one of the library's domains, which
      `domains/<name>.gin` describes, or path of a gin file that selects one.
    gin_files: Gin files, applied after the domain's own.
    gin_bindings: Gin bindings, applied after the files.

  Raises:
    FileNotFoundError: If the domain's gin file does not exist.
    ValueError: If a gin name is unknown or a value is out of range.
  """
  if not domain_name.endswith('.gin'):
    domain_name = f'domains/{domain_name}.gin'
  configs.parse([domain_name, *gin_files], gin_bindings, import_names=True)
  return domain_lib.select_domain()


def describe(path: str, found: inspection.Inspection) -> str:
  """Returns a human-readable summary of a dataset."""
  lines = [f'{path}']
  if found.action_range is not None and found.reward_range is not None:
    num_episodes = len(found.lengths)
    lines += [
        f'  format      {found.format}',
        '  shapes      '
        + ', '.join(f'{name} {shape}' for name, shape in found.shapes.items()),
        f'  episodes    {num_episodes}, steps each'
        f' {_spread(found.lengths)}',
        f'  ends        {found.num_terminals} terminal,'
        f' {found.num_timeouts} time-outs,'
        f' {found.num_trailing_rows} rows after the last end',
        *(f'  WARNING     {hint}' for hint in found.end_hints),
        f'  returns     {_spread(found.returns)}',
        f'  success     {np.mean(found.successes):.3f}'
        f' ({np.sum(found.successes)} of {num_episodes} episodes)',
        *([f'  WARNING     {found.success_hint}'] * bool(found.success_hint)),
        f'  actions     {_ranges(*found.action_range)},'
        f' {found.saturation:.1%} saturated',
        *([f'  WARNING     {found.action_hint}'] * bool(found.action_hint)),
        *_note_constants(*found.action_range),
        # Adding 0 turns -0, which gymnasium-robotics pays, into 0.
        f'  rewards     [{found.reward_range[0] + 0.0:g},'
        f' {found.reward_range[1] + 0.0:g}]',
        *(
            f'  observation {_ranges(low, high)}  ({name})'
            for name, (low, high) in found.observation_ranges.items()
        ),
    ]
  lines += [f'  FAULT       {fault}' for fault in found.faults]
  if not found.faults:
    lines.append('  no fault found')
  return '\n'.join(lines)


def _note_constants(low: np.ndarray, high: np.ndarray) -> List[str]:
  """Returns a line that names the constant elements of the actions, if any."""
  constant = np.flatnonzero(low == high)
  if not constant.size:
    return []
  names = ', '.join(str(i + 1) for i in constant)
  return [
      f'  NOTE        the data never vary element {names} of the actions: fine'
      ' if it should stay so, else add noise'
  ]


def convert(paths: Sequence[str], output: str) -> None:
  """Writes the episodes of all datasets to one file in D4RL's layout.

  The datasets may have different formats. The gin bindings of `dataset` define
  how actions and rewards are read.

  Args:
    paths: Paths of the datasets.
    output: File to write.

  Raises:
    ValueError: If a dataset has a fault, or an episode does not fit the layout
      or differs in columns or shapes from the first.
  """
  conversion.convert(paths, output)


def convert_to_lerobot(
    paths: Sequence[str], output: str, *, rate: int, instruction: str
) -> None:
  """Writes the episodes of all datasets to a LeRobot dataset.

  Actions have the units of the environment if the gin binding
  `dataset.action_bounds` defines them. Without it, actions that the library
  wrote stay in [-1, 1], with a warning.

  Args:
    paths: Paths of the datasets.
    output: Directory to write.
    rate: Frames per second.
    instruction: Text of the task.

  Raises:
    ValueError: If a dataset has a fault, `output` exists, an observation is no
      vector or image, or differs from those of the first episode, or actions
      and successes are not known alike; see `conversion.convert`.
  """
  found = conversion.read(paths)
  for path in found.with_unit_actions:
    logging.warning(
        '%s has actions in [-1, 1], and so will %s. To write the units of the'
        ' task, bind its bounds, for example'
        ' `dataset.action_bounds = (-0.25, 0.25)`.',
        path,
        output,
    )
  lerobot_writer.write(
      output,
      found.episodes,
      rate=rate,
      instruction=instruction,
      has_successes=found.has_successes,
      **action_bounds(),
  )


def action_bounds() -> Dict[str, Any]:
  """Returns the gin-bound action bounds of datasets, as an argument."""
  return {'action_bounds': reading.make_layout().action_bounds}


def known_units(path: str) -> Dict[str, Any]:
  """Returns whether to check the actions of a written file, as an argument.

  Without bindings, `convert` writes actions in units that it does not know.
  """
  with formats.open_source(path, reading.make_layout()) as source:
    return {'checks_actions': source.has_unit_actions}


def describe_bound(
    path: str,
    layout: rows_lib.Layout,
    task: domain_lib.Domain,
    gamma: float,
) -> str:
  """Describes the Monte Carlo returns that would bound a Cal-QL critic.

  Args:
    path: Path of the dataset, which has no faults.
    layout: How the dataset is read.
    task: Task whose reward scale and bias apply.
    gamma: Discount factor of the returns.
  """
  starts, least, greatest = [], np.inf, -np.inf
  for episode in reading.read_inspected(path, layout):
    returns = returns_lib.monte_carlo_returns(
        task.reward_scale * episode.reward + task.reward_bias,
        episode.discount,
        gamma,
        None if episode.success.any() else task.never_succeeds_value(gamma),
        extrapolation.extrapolates_returns(task, gamma),
    )
    starts.append(returns[0])
    least, greatest = min(least, returns.min()), max(greatest, returns.max())
  return (
      f'  bound       [{least:.4g}, {greatest:.4g}], at the start of an episode'
      f' {_spread(np.array(starts))}; gamma {gamma:g}, rewards'
      f' {task.reward_scale:g} r + {task.reward_bias:g}'
  )


def bound_gamma() -> float:
  """Returns the discount factor of the critic in gin, or 0.99."""
  try:
    return gin.query_parameter('Critic.gamma')
  except ValueError:  # Not bound, or no file imports critics.
    return _GAMMA


def inform(
    paths: Sequence[str],
    task: Optional[domain_lib.Domain] = None,
    gamma: float = _GAMMA,
    **options: Any,
) -> int:
  """Prints summaries of datasets.

  Args:
    paths: Paths of the datasets.
    task: Task that the data must fit; None skips this check.
    gamma: Discount factor of the returns printed if `task` is given.
    **options: Arguments of `reading.make_layout`.

  Returns:
    1 if any dataset has a fault, else 0.
  """
  layout = reading.make_layout(
      **({} if task is None else task.dataset_options()), **options
  )
  num_faults = 0
  for path in paths:
    found = inspection.inspect(path, layout)
    print(describe(path, found))
    if task is not None and not found.faults:
      print(describe_bound(path, layout, task, gamma))
    num_faults += len(found.faults)
  return 1 if num_faults else 0


def _spread(values: np.ndarray) -> str:
  return (
      f'{np.min(values):g} / {np.median(values):g} / {np.max(values):g}'
      f' (min, median, max), mean {np.mean(values):.4g}'
  )


def _ranges(low: np.ndarray, high: np.ndarray) -> str:
  pairs = [
      f'[{a:.3g}, {b:.3g}]'
      for a, b in zip(np.atleast_1d(low), np.atleast_1d(high))
  ]
  left_out = len(pairs) - _NUM_ENTRIES_SHOWN
  more = f' and {left_out} more' if left_out > 0 else ''
  return ' '.join(pairs[:_NUM_ENTRIES_SHOWN]) + more
