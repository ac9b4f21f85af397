"""Compares a run with its best control, start by start."""

from typing import Dict, List, Optional, Sequence, Tuple

from parl_tf import proportion
from parl_tf.reports import controls as controls_lib
from parl_tf.reports import evaluations
from parl_tf.reports import runs as runs_lib

LEGEND = (
    'Starts won: the run succeeds and the best control fails; lost: the'
    ' reverse. In brackets, how often equal policies give the run such a lead'
    " by chance (McNemar's exact test, one-sided). It holds for this run, not"
    ' for other seeds.'
)
_NAMES = {'search': 'with search', 'alone': 'alone'}


def statements(runs: Sequence[runs_lib.Run]) -> List[str]:
  """Returns a sentence for each run whose controls were measured.

  Runs and controls of earlier versions, which did not keep their outcomes, have
  none.

  Args:
    runs: The runs; each is compared by its last evaluation.
  """
  found = ((run, _statement(run)) for run in runs)
  return [
      f'{run.domain}, {run.method}, seed {run.seed}: {text}'
      for run, text in found
      if text is not None
  ]


def _statement(run: runs_lib.Run) -> Optional[str]:
  best = _best_control(run.path)
  if best is None:
    return None
  name, control = best
  texts = []
  for policy, outcomes in _last_outcomes(run.path).items():
    if len(outcomes) != len(control):
      continue
    pairs = list(zip(outcomes, control))
    won, lost = pairs.count((True, False)), pairs.count((False, True))
    chance = proportion.paired_chance(control, outcomes)
    texts.append(
        f'{_NAMES[policy]} {won} starts won, {lost} lost ({_percent(chance)})'
    )
  return f'against {name}, {"; ".join(texts)}' if texts else None


def _best_control(folder: str) -> Optional[Tuple[str, List[bool]]]:
  """Returns the name and outcomes of the control that succeeds most."""
  found = controls_lib.read(folder)
  if found is None:
    return None
  scores = {
      f'the clone at temperature {x}': found.clone.get(x)
      for x in controls_lib.TEMPERATURES
  }
  scores['self-distillation'] = found.self_distillation
  known = {
      name: [x == '1' for x in own['outcomes']]
      for name, own in scores.items()
      if own and own.get('outcomes')
  }
  if not known:
    return None
  return max(known.items(), key=lambda x: sum(x[1]) / len(x[1]))


def _last_outcomes(folder: str) -> Dict[str, List[bool]]:
  """Returns the outcomes of the last evaluation by policy."""
  found = evaluations.read(folder)
  return {
      policy: x.successes.tolist()
      for policy in evaluations.POLICIES
      for x in found
      if x.policy == policy and x.metrics_row == found[-1].metrics_row
  }


def _percent(chance: float) -> str:
  return f'{chance:.1%}' if chance >= 0.0005 else 'below 0.1%'
