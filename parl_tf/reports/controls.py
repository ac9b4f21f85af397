"""The controls of a run: what its policy reaches without a critic.

`controls.json` in a run's directory, written by `parl-controls`:

  {
    "num_episodes": 64,          episodes of each evaluation
    "data": {"num_episodes": 1500, "is_play": false, SCORES},
    "clone": {"1": {SCORES}, "0.5": {SCORES}, "0": {SCORES}},  null for a
                                 served policy without this temperature
    "self_distillation": {"temperature": 0.5, "num_online_episodes": 50,
                          "best_success_rate": 0.94, SCORES}
  }

SCORES are `success_rate` (0 to 1), `score` (0 to 100), `mean_return` and
`steps_to_success` (null without success). Clone and self-distillation also have
`outcomes`, a 1 or a 0 for each start of the run's evaluations. The clone is
evaluated at several temperatures, on the evaluation episodes of the run.
Self-distillation has the run's online budget; its scores are those of its last
evaluation. A control that has not been measured yet is missing.
"""

import json
import os
from typing import Any, List, Mapping, NamedTuple, Optional, Sequence

from parl_tf.reports import run_files
from parl_tf.reports import runs as runs_lib

FILE = 'controls.json'
TEMPERATURES = ('1', '0.5', '0')
HEADER = (
    'domain',
    'method',
    'seed',
    'phase',
    'success',
    'success without search',
    'data',
    *(f'clone, T = {temperature}' for temperature in TEMPERATURES),
    'self-distillation',
)
LEGEND = (
    'Controls: success rates on the same evaluation episodes, and mean'
    ' environment steps to success ("in"). data: the episodes of the dataset,'
    ' unless these are parts of play. clone: the policy after cloning, at three'
    ' temperatures. self-distillation: the policy trained on its own samples,'
    ' without a critic, for the same number of online episodes, or for the'
    ' number in brackets.',
)
_PHASES = ('behavior_cloning', 'offline', 'online')


class Controls(NamedTuple):
  """Contents of `controls.json`, see the module.

  Attributes:
    num_episodes: Episodes of each evaluation.
    data: Scores of the dataset's episodes, and whether they are parts of play,
      which are no attempts at the task.
    clone: Scores of the clone, by temperature; None for one that a served
      policy does not have.
    self_distillation: Scores of self-distillation, and its settings.
  """

  num_episodes: int
  data: Optional[Mapping[str, Any]] = None
  clone: Mapping[str, Optional[Mapping[str, Any]]] = {}
  self_distillation: Optional[Mapping[str, Any]] = None


def are_complete(folder: str) -> bool:
  """Returns whether all controls of a run have been measured.

  Args:
    folder: The run's directory.

  Raises:
    ValueError: If a file is faulty.
  """
  found = read(folder)
  if found is None or found.data is None:
    return False
  if not set(TEMPERATURES) <= set(found.clone):
    return False
  metrics = run_files.read_metrics(folder)
  if 'online' not in metrics.phases:
    return True
  measured = found.self_distillation or {}
  episodes = metrics.column('episodes')[-1]
  return measured.get('num_online_episodes') == episodes


def read(folder: str) -> Optional[Controls]:
  """Reads the controls of a run; None if the run has none.

  Args:
    folder: The run's directory.

  Raises:
    ValueError: If the file is no JSON text, has other fields, or lacks a
      success rate.
  """
  path = os.path.join(folder, FILE)
  if not os.path.exists(path):
    return None
  text = run_files.read_text(path)
  try:
    controls = Controls(**json.loads(text))
  except (json.JSONDecodeError, TypeError) as error:
    raise ValueError(
        f'{path} must be JSON with the fields {list(Controls._fields)}: '
        f'{error}.'
    ) from error
  for name, scores in (
      ('data', controls.data),
      ('self_distillation', controls.self_distillation),
      *((f'clone.{key}', scores) for key, scores in controls.clone.items()),
  ):
    rate = None if scores is None else scores.get('success_rate')
    if scores is not None and not isinstance(rate, (int, float)):
      raise ValueError(
          f'{path}: `{name}.success_rate` must be a number, got {rate!r}.'
      )
  return controls


def table(runs: Sequence[runs_lib.Run]) -> List[List[str]]:
  """Returns one line per run with controls, in the order of `HEADER`.

  Args:
    runs: The runs; each is shown with the result of its last phase.
  """
  lines = []
  for run in runs:
    controls = read(run.path)
    if controls is None:
      continue
    results = {phase: runs_lib.phase_result(run, phase) for phase in _PHASES}
    results = {phase: x for phase, x in results.items() if x is not None}
    phase, result = list(results.items())[-1] if results else ('-', None)
    lines.append([
        run.domain,
        run.method,
        str(run.seed),
        phase.replace('_', ' '),
        _rate(
            result and result.success_rate, result and result.steps_to_success
        ),
        _rate(
            result and result.success_rate_without_search,
            result and result.steps_to_success_without_search,
        ),
        _data(controls.data),
        *(_success(controls.clone.get(x)) for x in TEMPERATURES),
        _self_distillation(controls, run.metrics.column('episodes')[-1]),
    ])
  return lines


def _self_distillation(controls: Controls, num_episodes: float) -> str:
  """Returns its success, and its online episodes unless the run has as many.

  The run may have been resumed for more episodes, or still be running.
  """
  text = _success(controls.self_distillation)
  measured = (controls.self_distillation or {}).get('num_online_episodes')
  if measured is None or measured == num_episodes:
    return text
  return f'{text} ({measured} episode{"s" * (measured != 1)})'


def _data(scores: Optional[Mapping[str, Any]]) -> str:
  return 'play' if (scores or {}).get('is_play') else _success(scores)


def _success(scores: Optional[Mapping[str, Any]]) -> str:
  if scores is None:
    return '-'
  return _rate(scores['success_rate'], scores.get('steps_to_success'))


def _rate(rate: Optional[float], num_steps: Optional[float]) -> str:
  if _is_unknown(rate):
    return '-'
  time = '' if _is_unknown(num_steps) else f' in {num_steps:.0f}'
  return f'{rate:.3f}{time}'


def _is_unknown(number: Optional[float]) -> bool:
  return number is None or number != number  # NaN differs from itself.
