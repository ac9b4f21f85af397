"""Times the parts of a training step and of acting on a robot.

  python -m benchmarks.hot_path --setting antmaze --json hot_path.json
  python -m benchmarks.hot_path --gin_bindings 'Search.jit_compile = False'

Each round times every row, a batched matrix product and the plain reference
(`plain_reference.py`), on two threads. The median rate of the product is the
ceiling. "At ceiling" is a row's median time multiplied by that rate, a measure
of work that carries over to other machines. "GFLOP" counts the row's matrix
products, with every search and every distinct column counted once. "Peak" is
the memory growth of a fresh process over the row's first two calls, including
compilation.
"""

import json
import os
import subprocess
import sys
import time

from absl import app
from absl import flags
import numpy as np
import tensorflow as tf

from benchmarks import hot_path_rows
from benchmarks import hot_path_settings

_SETTING = flags.DEFINE_enum(
    'setting',
    'antmaze',
    list(hot_path_settings.SETTINGS),
    'Sizes of the environment, batch and networks.',
)
_BINDINGS = flags.DEFINE_multi_string(
    'gin_bindings', [], 'Gin bindings added to those of the setting.'
)
_ROUNDS = flags.DEFINE_integer('rounds', 7, 'Timings per row.')
_ROWS = flags.DEFINE_list('rows', [], 'Rows to time; all if empty.')
_JSON = flags.DEFINE_string('json', None, 'File to write the result to.')
_COMPARE = flags.DEFINE_string(
    'compare', None, 'File of an earlier result to compare with.'
)
_PEAKS = flags.DEFINE_bool('peaks', True, 'Whether to measure memory.')
_REFERENCE = flags.DEFINE_bool(
    'reference', True, 'Whether to time the plain reference.'
)
_TURN_STEPS = flags.DEFINE_integer(
    'turn_steps', 0, 'Steps of an online turn to measure waits in; 0: none.'
)
_ONLY_PEAK = flags.DEFINE_string(
    'only_peak', None, 'Prints the peak of one row; used internally.'
)

_BFLOAT16 = '_bfloat16'
_CEILING_SIZES = (10, 2560, 256)  # [E, rows, width]


def make_ceilings(dtype):
  """Returns runs of the product, plain and under XLA, and its GFLOP.

  Each half of a product runs on its own thread.
  """
  e, rows, width = _CEILING_SIZES
  x = tf.cast(tf.random.stateless_normal([e, rows, width], [0, 1]), dtype)
  y = tf.cast(tf.random.stateless_normal([e, width, width], [0, 2]), dtype)

  halves = list(zip(tf.split(x, 2), tf.split(y, 2)))

  def make(product):
    return tf.function(
        lambda: [product(*half) for half in halves], autograph=False
    )

  compiled = tf.function(tf.matmul, autograph=False, jit_compile=True)
  return [make(tf.matmul), make(compiled)], 2e-9 * e * rows * width * width


def seconds(run, calls=1):
  """Returns the seconds per call of `run`, including waiting for results."""
  start = time.perf_counter()
  for _ in range(calls):
    result = run()
    for leaf in tf.nest.flatten(result):
      if hasattr(leaf, 'numpy'):
        leaf.numpy()
  return (time.perf_counter() - start) / calls


class Rows:
  """The rows of both precisions, created on demand."""

  def __init__(self):
    setting = hot_path_settings.SETTINGS[_SETTING.value]
    self._setting = setting._replace(
        gin_bindings=[*setting.gin_bindings, *_BINDINGS.value]
    )
    self._paths = {}

  def make(self, name: str) -> hot_path_rows.Row:
    """Makes a row, and its agent if it does not exist yet."""
    precision = 'bfloat16' if name.endswith(_BFLOAT16) else 'float32'
    return self.path(precision).rows()[name.removesuffix(_BFLOAT16)]()

  def path(self, precision: str) -> hot_path_rows.HotPath:
    """Makes, once, everything that the rows of one precision need."""
    if precision not in self._paths:
      self._paths[precision] = hot_path_rows.HotPath(self._setting, precision)
    return self._paths[precision]

  def close(self) -> None:
    for path in self._paths.values():
      path.close()


def measure(names):
  """Times rows in turn; returns `{name: {'median_seconds', ...}}`."""
  rows = Rows()
  made = {name: rows.make(name) for name in names}
  ceilings, gflop = make_ceilings(tf.float32)
  half_ceilings, _ = make_ceilings(tf.bfloat16)
  first = {}
  times = {name: [] for name in made}
  reference_times = {name: [] for name in made}
  ceiling_times, half_times = [], []
  for run in (*ceilings, *half_ceilings):
    seconds(run)
  for name, row in made.items():
    first[name] = seconds(row.run)
    if _REFERENCE.value and row.reference:
      seconds(row.reference)
    print(f'{name}: first call {first[name]:.1f} s', file=sys.stderr)
  for _ in range(_ROUNDS.value):
    for name, row in made.items():
      ceiling_times += [min(seconds(run, 2) for run in ceilings)]
      half_times += [min(seconds(run, 2) for run in half_ceilings)]
      times[name].append(seconds(row.run, row.calls))
      if _REFERENCE.value and row.reference:
        reference_times[name].append(seconds(row.reference))
  choices = None
  if any(name.endswith(_BFLOAT16) for name in names):
    choices = rows.path('bfloat16').half_precision_choices()
  waiting = {
      source: rows.path('float32').waiting_share(source, _TURN_STEPS.value)
      for source in ('memory', 'reverb')
      if f'experience_{source}' in names and _TURN_STEPS.value
  }
  rows.close()
  ceiling = gflop / float(np.median(ceiling_times))
  result = {
      'ceiling': {
          'gflop_per_second': ceiling,
          'bfloat16_gflop_per_second': gflop / float(np.median(half_times)),
      }
  }
  if waiting:
    result['ceiling']['waiting_share'] = waiting
  if choices:
    names = ('changed_share', 'mean_loss', 'max_loss', 'deviation_of_samples')
    result['ceiling']['bfloat16_choices'] = dict(zip(names, choices))
  for name, row in made.items():
    median = float(np.median(times[name]))
    result[name] = {
        'median_seconds': median,
        'gflop': row.gflop,
        'gflop_at_ceiling': median * ceiling,
        'first_call_seconds': first[name],
    }
    if reference_times[name]:
      reference = float(np.median(reference_times[name]))
      result[name]['reference_seconds'] = reference
      result[name]['reference_gflop_at_ceiling'] = reference * ceiling
  return result


def measure_peak(name: str) -> int:
  """Returns the bytes by which two calls of a row grow this process."""
  rows = Rows()
  row = rows.make(name)
  with open('/proc/self/clear_refs', 'w', encoding='utf-8') as file:
    file.write('5')  # Resets the peak resident size.
  before = _status('VmRSS')
  for _ in range(2):
    seconds(row.run)
  peak = _status('VmHWM') - before
  rows.close()
  return peak


def _status(key):
  """Returns a value of this process's status in bytes."""
  with open('/proc/self/status', encoding='utf-8') as file:
    for line in file:
      if line.startswith(key + ':'):
        return int(line.split()[1]) * 1024
  raise KeyError(key)


def peaks(names):
  """Measures the peak of each row in a separate process."""
  found = {}
  for name in names:
    output = subprocess.run(
        [
            sys.executable,
            '-m',
            'benchmarks.hot_path',
            f'--setting={_SETTING.value}',
            *(f'--gin_bindings={x}' for x in _BINDINGS.value),
            f'--only_peak={name}',
        ],
        check=True,
        stdout=subprocess.PIPE,
        cwd=os.path.dirname(os.path.dirname(os.path.abspath(__file__))),
    ).stdout
    found[name] = int(output.split()[-1])
  return found


def print_table(result):
  """Prints one line per row."""
  ceiling = result['ceiling']
  print(
      f'Setting {_SETTING.value}. Ceiling: '
      f'{ceiling["gflop_per_second"]:.0f} GFLOP/s in float32, '
      f'{ceiling["bfloat16_gflop_per_second"]:.0f} in bfloat16.\n'
  )
  print(
      '| work | median, ms | GFLOP | at ceiling | plain reference, at ceiling '
      '| first call, s | peak, MiB |'
  )
  print('|---|---|---|---|---|---|---|')
  for name, row in result.items():
    if name == 'ceiling':
      continue
    reference = row.get('reference_gflop_at_ceiling')
    peak = row.get('peak_bytes')
    print(
        f'| {name} | {1e3 * row["median_seconds"]:.3g} | {row["gflop"]:.3g} '
        f'| {row["gflop_at_ceiling"]:.3g} '
        f'| {"" if reference is None else format(reference, ".3g")} '
        f'| {row["first_call_seconds"]:.1f} '
        f'| {"" if peak is None else peak // 2**20} |'
    )


  for source, share in ceiling.get('waiting_share', {}).items():
    print(
        f'\nAn online turn of {_TURN_STEPS.value} steps spends {share:.2%} of'
        f' its time waiting for rows from {source}.'
    )
  choices = ceiling.get('bfloat16_choices')
  if choices:
    print(
        f'\nWith bfloat16 {choices["changed_share"]:.1%} of the states get a'
        f' different action. Q is lower by {choices["mean_loss"]:.2g} on'
        f' average and {choices["max_loss"]:.2g} at most; the'
        f' standard deviation over the samples of a state is'
        f' {choices["deviation_of_samples"]:.2g}.'
    )


def print_comparison(result, earlier):
  """Prints the speedup of each row relative to an earlier result."""
  print('\n| work | at ceiling, before | now | before / now |')
  print('|---|---|---|---|')
  for name, row in result.items():
    if name == 'ceiling' or name not in earlier:
      continue
    before, now = (r['gflop_at_ceiling'] for r in (earlier[name], row))
    print(f'| {name} | {before:.3g} | {now:.3g} | {before / now:.2f} |')


def main(_):
  """Runs all measurements and writes the result."""
  if _ONLY_PEAK.value:
    print(measure_peak(_ONLY_PEAK.value))
    return
  names = _ROWS.value or list(hot_path_rows.NAMES)
  unknown = set(names) - set(hot_path_rows.NAMES)
  if unknown:
    raise app.UsageError(
        f'--rows must be among {hot_path_rows.NAMES}, got {sorted(unknown)}.'
    )
  result = measure(names)
  if _PEAKS.value:
    for name, peak in peaks(names).items():
      result[name]['peak_bytes'] = peak
  print_table(result)
  if _COMPARE.value:
    with open(_COMPARE.value, encoding='utf-8') as file:
      print_comparison(result, json.load(file))
  if _JSON.value:
    with open(_JSON.value, 'w', encoding='utf-8') as file:
      json.dump(result, file, indent=2)


if __name__ == '__main__':
  hot_path_settings.use_two_threads()
  app.run(main)
