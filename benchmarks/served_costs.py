"""What the epochs of a served policy cost."""

import csv
from typing import Dict

import numpy as np


def of_epochs(path: str) -> Dict[str, float]:
  """Returns what the epochs of a run cost, the first one left out.

  Args:
    path: `metrics.csv` of the run.

  Returns:
    `seconds` of an epoch, with acting and evaluations; the shares of this time
    that the learner waited for samples (`samples_share`) and for the server's
    fit with its search (`fit_share`); the mean `staleness` of the critic's
    samples in versions; and the `drawn_share` of all states whose samples were
    drawn in an epoch.
  """
  with open(path, encoding='utf-8', newline='') as file:
    rows = [x for x in csv.DictReader(file) if x['cache/staleness']]
  if not rows:
    return {}  # A critic that reads no samples, such as IQL's.
  values = {
      name: np.array([float(row[name]) for row in rows])
      for name in (
          'wall_seconds', 'cache/seconds', 'served/seconds', 'cache/staleness',
          'cache/share_drawn',
      )
  }
  seconds = np.diff(values.pop('wall_seconds'))
  later = {name: x[1:] for name, x in values.items()}
  return {
      'seconds': float(np.mean(seconds)),
      'samples_share': float(np.sum(later['cache/seconds']) / np.sum(seconds)),
      'fit_share': float(np.sum(later['served/seconds']) / np.sum(seconds)),
      'staleness': float(np.mean(later['cache/staleness'])),
      'drawn_share': float(np.mean(later['cache/share_drawn'])),
  }
