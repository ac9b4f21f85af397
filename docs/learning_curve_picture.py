"""Draws `learning_curve.png` from the committed run of the quickstart, seed 0.

  python docs/learning_curve_picture.py
"""

import json
import pathlib

from parl_tf.reports import learning_curve
from parl_tf.reports import run_files

_HERE = pathlib.Path(__file__).resolve().parent
_RUN = _HERE.parent / 'benchmarks/results/quickstart/cal_ql_diffusion_0'


def main() -> None:
  """Draws the picture."""
  summary = json.loads((_RUN / run_files.SUMMARY).read_text(encoding='utf-8'))
  learning_curve.draw(
      str(_HERE / 'learning_curve.png'),
      run_files.read_metrics(str(_RUN)),
      references={
          'controller': summary['controller_success_rate'],
          'data': summary['data_success_rate'],
      },
      title=f'{summary["domain"]}, seed {summary["seed"]}',
  )


if __name__ == '__main__':
  main()
