"""Compares runs in tables, figures and one HTML page.

  parl-report --runs runs/study --output runs/study/report

Each `--runs` is a run directory, or a folder with runs at any depth.
"""

from typing import Sequence

from absl import flags

from parl_tf.binaries import console

# That of `parl_tf.reports.statistics`, which needs NumPy and SciPy.
_NUM_RESAMPLES = 5_000


def main(argv: Sequence[str]) -> None:
  """Runs the command."""
  # Imported here: `--help` and usage errors do not wait for these modules.
  from parl_tf.binaries import report_files

  options = flags.FLAGS
  # With `--runs A B`, absl passes B as a positional argument.
  content = report_files.write_report(
      [*options.runs, *argv[1:]],
      options.output,
      baseline=options.baseline,
      group_by=options.group_by,
      num_resamples=options.num_resamples,
  )
  print(report_files.describe(content, options.output))


def run() -> None:
  """Console entry point."""
  console.run('parl-report', main, _define_flags)


def _define_flags():
  flags.DEFINE_multi_string(
      'runs',
      None,
      'A run directory, or a folder that contains runs at any depth.',
      required=True,
  )
  flags.DEFINE_string(
      'output', None, 'Directory of the report.', required=True
  )
  flags.DEFINE_string(
      'baseline',
      None,
      'Method to compare the others with; by default, all pairs are compared.',
  )
  flags.DEFINE_enum(
      'group_by',
      'auto',
      ['auto', 'parent', 'name'],
      "Source of a run's method name: its parent directory, or its own name"
      ' without the seed suffix. By default, the parent if the name is only a'
      ' seed, such as seed_3, otherwise the name.',
  )
  flags.DEFINE_integer(
      'num_resamples',
      _NUM_RESAMPLES,
      'Number of resamples of each bootstrap.',
      lower_bound=100,
  )


if __name__ == '__main__':
  run()
