"""Checks this machine: packages, processor, GPU, MuJoCo, Ray, disk and ports.

  parl-doctor
  parl-doctor --root_dir /data/runs --json

Each line is OK, a NOTE about something optional, or a PROBLEM with its fix.
The exit status is 1 if there is a problem.
"""

import json
from typing import Sequence

from absl import app
from absl import flags

from parl_tf.binaries import console


def main(argv: Sequence[str]) -> int:
  """Runs the command; returns the exit status."""
  if len(argv) > 1:
    raise app.UsageError(f'Unknown arguments: {argv[1:]}.')
  # Imported here: `--help` and usage errors do not wait.
  from parl_tf.binaries import doctor_checks

  options = flags.FLAGS
  findings = doctor_checks.examine(options.root_dir)
  if options.json:
    print(json.dumps([x._asdict() for x in findings], indent=2))
  else:
    print('\n'.join(map(doctor_checks.describe, findings)))
  return int(any(x.status == doctor_checks.PROBLEM for x in findings))


def run() -> None:
  """Console entry point."""
  console.run('parl-doctor', main, _define_flags)


def _define_flags():
  flags.DEFINE_string(
      'root_dir', '.', 'Directory for runs, whose disk is measured.'
  )
  flags.DEFINE_bool('json', False, 'Prints a JSON list instead of lines.')


if __name__ == '__main__':
  run()
