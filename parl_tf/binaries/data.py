"""Records, inspects and converts datasets.

  parl-data generate pointmaze --output maze.hdf5 --num_steps 30000 --seed 0
  parl-data generate cube --play --output play.hdf5 --num_steps 100000
  parl-data info maze.hdf5 --domain pointmaze
  parl-data convert minari_data_set --output rows.hdf5
  parl-data convert maze.hdf5 --format lerobot --output maze_lerobot

Commands:
  generate DOMAIN   records a dataset with the controller of a domain, which is
                    a file of gin/domains, such as pointmaze, or a gin file of
                    your own, such as reach.gin
  info DATA...      prints the contents and the faults of datasets
  convert DATA...   writes datasets of any format to one

A dataset is a file or a directory in the format of D4RL, Minari, robomimic,
OGBench, RLDS or LeRobot, or the episode log of a run.
"""

from typing import Sequence

from absl import app
from absl import flags
import gin

from parl_tf.binaries import configs
from parl_tf.binaries import console
from parl_tf.binaries import outputs

_COMMANDS = {
    'output': ('generate', 'convert'),
    'overwrite': ('generate', 'convert'),
    'format': ('convert',),
    'fps': ('convert',),
    'instruction': ('convert',),
    'domain': ('info',),
    'gamma': ('info',),
    'num_steps': ('generate',),
    'seed': ('generate',),
    'play': ('generate',),
}
"""The commands that have a flag; those not listed belong to all."""


def main(argv: Sequence[str]) -> int:
  """Runs the command; returns the exit status."""
  command, arguments = (argv[1] if len(argv) > 1 else ''), argv[2:]
  is_complete = len(arguments) == 1 if command == 'generate' else arguments
  if command not in ('generate', 'convert', 'info') or not is_complete:
    raise app.UsageError(
        'The command must be parl-data generate DOMAIN --output FILE, parl-data'
        ' convert DATA... --output FILE or parl-data info DATA..., got'
        f' {" ".join(["parl-data", *argv[1:]])}.'
    )
  options = flags.FLAGS
  for name, commands in _COMMANDS.items():
    if options[name].present and command not in commands:
      raise app.UsageError(
          f'{command} has no flag --{name}, which belongs to'
          f' {" and ".join(commands)}.'
      )
  for name in 'fps', 'instruction':
    if options[name].present and options.format != 'lerobot':
      raise app.UsageError(f'--{name} needs --format lerobot.')
  if command != 'info' and options.output is None:
    raise app.UsageError(f'{command} needs --output.')
  if command == 'convert' and options.format == 'lerobot':
    if options.overwrite:
      raise app.UsageError(
          '--overwrite replaces files only: remove the LeRobot directory.'
      )
    outputs.check_folder(options.output)  # The writer replaces nothing.
  elif command != 'info':
    outputs.check_file(
        options.output,
        overwrite=options.overwrite,
        inputs=arguments if command == 'convert' else (),
    )
  # Imported here: `--help` and usage errors do not wait for these modules.
  from parl_tf.binaries import dataset_commands

  if command == 'generate':
    dataset_commands.write_dataset(
        arguments[0],
        options.output,
        num_steps=options.num_steps,
        seed=options.seed,
        play=options.play,
        gin_files=options.gin_file,
        gin_bindings=options.gin_bindings,
    )
  elif command == 'convert':
    configs.parse(options.gin_file, options.gin_bindings)
    if options.format == 'lerobot':
      dataset_commands.convert_to_lerobot(
          arguments,
          options.output,
          rate=options.fps,
          instruction=options.instruction,
      )
    else:
      dataset_commands.convert(arguments, options.output)
  else:
    task = None
    if options.gamma is not None and not options.domain:
      raise app.UsageError('--gamma needs --domain.')
    if options.domain:
      task = dataset_commands.parse_task(
          options.domain, options.gin_file, options.gin_bindings
      )
    else:
      configs.parse(
          options.gin_file, options.gin_bindings, import_names=True
      )
    gamma = options.gamma
    if gamma is None:
      gamma = dataset_commands.bound_gamma()
    return dataset_commands.inform(arguments, task, gamma)
  if command == 'convert' and options.format == 'lerobot':
    units = dataset_commands.action_bounds()
  else:
    units = dataset_commands.known_units(options.output)
  gin.clear_config()  # The file is complete without the bindings.
  return dataset_commands.inform([options.output], **units)


def run() -> None:
  """Console entry point."""
  console.run('parl-data', main, _define_flags)


def _define_flags():
  flags.DEFINE_string(
      'output', None, 'generate, convert: file or directory to write.'
  )
  flags.DEFINE_enum(
      'format', 'd4rl', ['d4rl', 'lerobot'],
      'convert: layout to write, a file of D4RL or a directory of LeRobot.',
  )
  flags.DEFINE_integer(
      'fps',
      10,
      'convert: frames per second of a LeRobot dataset.',
      lower_bound=1,
  )
  flags.DEFINE_string(
      'instruction', '', 'convert: text of the task of a LeRobot dataset.'
  )
  flags.DEFINE_bool(
      'overwrite', False, 'generate, convert: replaces an existing file.'
  )
  flags.DEFINE_string(
      'domain',
      None,
      'info: domain that the data must fit, a name or a gin file.',
  )
  flags.DEFINE_float(
      'gamma',
      None,
      'info: discount factor of the returns that --domain prints; by default'
      ' Critic.gamma of the gin files, or 0.99.',
      0.0,
      1.0,
  )
  flags.DEFINE_integer(
      'num_steps', 30_000, 'generate: environment steps.', lower_bound=1
  )
  flags.DEFINE_integer(
      'seed', 0, 'generate: seed of the contents.', lower_bound=0
  )
  flags.DEFINE_bool(
      'play',
      False,
      'generate: record play without a goal, with the rewards of every task.',
  )
  flags.DEFINE_multi_string(
      'gin_file', [], "A gin file, applied after the domain's own."
  )
  flags.DEFINE_multi_string(
      'gin_bindings', [], 'A gin binding, applied after the files.'
  )


if __name__ == '__main__':
  run()
