r"""Finds the action search that suits a run's critic: samples and steps.

  parl-search --root_dir runs/quickstart
  parl-search --root_dir runs/quickstart --checkpoint offline
  parl-search --root_dir runs/cube --checkpoint offline --num_rounds 1 \
    --num_samples 8,32 --num_gradient_steps 0,5,10 --step_sizes 1e-2,3e-2

Too many samples or gradient steps find the errors of a critic, too few find
nothing. The program plays episodes with a grid of searches, without training.
A search draws --num_samples samples at a temperature, lets the best
--num_candidates of them climb --num_gradient_steps steps along the critic's
gradient, and takes the best action. By default, the grid is around the search
of the run's evaluations, which takes part, like the policy alone.

Each search plays --num_episodes episodes; the better half (by success rate,
then by mean return) plays as many others, and so on for --num_rounds rounds.
The winner is the cheapest of those within about a standard error of the best.
All searches of a round have the same starts, and are compared start by start.
The best of many scores is too high by chance. Therefore the winner, the run's
own search and the policy alone then play --num_final_episodes fresh episodes,
and only these estimate how good they are.

search_<checkpoint>.gin in the run's directory then binds the winner for acting
and evaluation, unless the run's own search is better in the fresh episodes by
more than about a standard error, or the policy alone by more than chance
explains; the last lines printed are the commands that use it. Before an online
phase, use --checkpoint offline. searches_<checkpoint>.csv has a row per search
and round, written after each; its column `ascent_gain` is what gradient steps
add to the critic's value at the first decision. Rerun the same command to
resume: rows that the file has for the same networks are not measured again.

With --num_rounds 1, the grid alone is measured: nothing is added to it, and
nothing is chosen. With --gin_bindings, the task can differ from that of the
run, for instance in its time limit. A served policy draws with the weights that
its server has, and is always measured again.
"""

import math
from typing import Sequence

from absl import app
from absl import flags

from parl_tf.binaries import console
from parl_tf.binaries import run_flags
from parl_tf.binaries import search_settings
from parl_tf.binaries import third_party_messages
from parl_tf.training import run_directory


def main(argv: Sequence[str]) -> None:
  """Runs the command."""
  if len(argv) > 1:
    raise app.UsageError(f'Unknown arguments: {argv[1:]}.')
  options = flags.FLAGS
  if options.num_rounds == 1 and options['num_final_episodes'].present:
    raise app.UsageError(
        '--num_final_episodes has no effect with --num_rounds 1.'
    )
  axes = search_settings.Axes(
      num_samples=_numbers('num_samples', int, 1),
      temperatures=_numbers('temperatures', float, 0),
      num_candidates=_numbers('num_candidates', int, 1),
      num_gradient_steps=_numbers('num_gradient_steps', int, 0),
      step_sizes=_numbers('step_sizes', float, is_positive=True),
  )
  run_directory.config_path(options.root_dir)  # Raises without a run.
  # Imported here: `--help` and usage errors do not wait for TensorFlow.
  from parl_tf.binaries import search_run

  third_party_messages.silence_first_compilation()
  print(
      search_run.search(
          options.root_dir,
          options.checkpoint,
          axes,
          num_episodes=options.num_episodes,
          num_rounds=options.num_rounds,
          num_final_episodes=options.num_final_episodes,
          gin_bindings=options.gin_bindings,
      )
  )


def _numbers(name, type_, low=0, is_positive=False):
  """Returns the numbers of a flag, or None without it."""
  texts = flags.FLAGS[name].value
  if texts is None:
    return None
  kind = 'integers' if type_ is int else 'numbers'
  wanted = f'{kind} above 0' if low or is_positive else f'{kind}, at least 0'
  try:
    numbers = [type_(x) for x in texts]
  except ValueError:
    numbers = []
  if (
      not numbers
      or not all(low <= x < math.inf for x in numbers)
      or (is_positive and 0 in numbers)
  ):
    raise app.UsageError(
        f'--{name} must be {wanted}, separated by commas, got'
        f' {",".join(texts)!r}.'
    )
  return numbers


def run() -> None:
  """Console entry point."""
  console.run('parl-search', main, _define_flags, is_resumable=True)


def _define_flags():
  flags.DEFINE_string('root_dir', None, 'Directory of the run.', required=True)
  run_flags.define_checkpoint()
  flags.DEFINE_list(
      'num_samples', None, "N. By default 1, 2, 4, 8, 16, 32 and the run's."
  )
  flags.DEFINE_list(
      'temperatures', None, "Of the samples. By default the run's."
  )
  flags.DEFINE_list(
      'num_candidates',
      None,
      "K, of which at most N climb. By default the run's.",
  )
  flags.DEFINE_list(
      'num_gradient_steps', None, "T. By default 0 and the run's."
  )
  flags.DEFINE_list(
      'step_sizes',
      None,
      "In action units per unit of the critic's gradient. By default the"
      " run's.",
  )
  flags.DEFINE_integer(
      'num_episodes', 16, 'Episodes per search and round.', lower_bound=1
  )
  flags.DEFINE_integer(
      'num_rounds', 3, 'Largest number of rounds.', lower_bound=1
  )
  flags.DEFINE_integer(
      'num_final_episodes',
      32,
      "Fresh episodes of the winner, the run's own search and the policy"
      ' alone.',
      lower_bound=1,
  )
  flags.DEFINE_multi_string(
      'gin_bindings',
      [],
      'A gin binding that overrides the configuration of the run.',
  )


if __name__ == '__main__':
  run()
