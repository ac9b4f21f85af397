"""Costs of the example that serves OpenVLA-style models, with a tiny model.

  openvla_venv/bin/python benchmarks/openvla_costs.py

Runs in the environment of `examples/openvla_policy`. First measures the parts
on a tiny model of random weights, on the processor: times (the sides take
turns, medians), floating-point operations, and bytes. Then projects the recipe
of `gin/experiments/openvla.gin` to 7 billion weights on one GPU. A projection
is no measurement; its assumptions are printed and are options.
"""

import argparse
import dataclasses
import pathlib
import statistics
import sys
import tempfile
import time

import numpy as np
import torch
from torch.utils import flop_counter

_EXAMPLE = pathlib.Path(__file__).parents[1] / 'examples' / 'openvla_policy'
sys.path.insert(0, str(_EXAMPLE))

import decoding  # noqa: E402
import policy as policy_lib  # noqa: E402
import tiny_model  # noqa: E402

_INSTRUCTION = 'put the cup on the plate'
_GIB = 2**30


def main() -> None:
  """Prints the measured parts and the projection."""
  options = _options()
  torch.set_num_threads(1)
  with tempfile.TemporaryDirectory() as path:
    tiny_model.write(path, action_size=7, has_gripper=True, width=options.width)
    settings = policy_lib.Settings(
        path, tiny_model.DATASET, states_per_pass=options.states,
        batch_size=options.rows,
    )
    parts = Parts(settings, options)
    parts.print_times()
    parts.print_sizes()
  project(options, parts)


class Parts:
  """What is measured on the tiny model.

  Attributes:
    flops_ratio: Operations of a draw that shares its readings, divided by two
      for each weight and token read.
    training_ratio: Operations of a gradient step, divided by those of its
      forward pass.
    saved_bytes: Bytes kept for the gradient, for each token, layer and unit of
      width, with weights in 2 bytes and adapters in 4.
  """

  def __init__(self, settings, options):
    """Measures operations and bytes.

    Args:
      settings: Settings of the tiny model.
      options: Options of the program.
    """
    self._policy = policy = policy_lib.VLAPolicy(settings)
    self._options = options
    self._observation = _observation(max(options.states, options.rows))
    _, inputs = next(policy.batches(self._observation, range(options.states)))
    self._inputs = inputs
    self._arguments = policy.token_arguments()
    self._flops()
    self.saved_bytes = self._saved_bytes(
        policy_lib.VLAPolicy(dataclasses.replace(settings, dtype='bfloat16'))
    )

  def print_times(self) -> None:
    """Prints seconds of draws and gradient steps."""
    options = self._options
    copies = {
        name: tensor.repeat_interleave(options.samples, dim=0)
        for name, tensor in self._inputs.items()
    }
    num_samples = options.states * options.samples
    actions = np.zeros([options.rows, 1, 7], np.float32)
    mask = np.ones([options.rows, 1], np.float32)
    sides = {
        'sample, reading shared': (
            lambda: self._draw(self._inputs, options.samples), num_samples
        ),
        'sample, reading copied': (lambda: self._draw(copies, 1), num_samples),
        f'gradient step of {options.rows} rows': (
            lambda: self._policy.train(
                self._observation_of_rows(), actions, mask, 1, 0
            ), 1
        ),
    }
    seconds = {name: [] for name in sides}
    for function, _ in sides.values():
      function()
    for _ in range(options.repeats):
      for name, (function, count) in sides.items():
        start = time.process_time()
        function()
        seconds[name].append((time.process_time() - start) / count)
    print(
        f'Measured: {options.states} states x {options.samples} samples, '
        f'{self.prefix_length} tokens of a state, one core'
    )
    for name, values in seconds.items():
      print(f'  {name}: {1e3 * statistics.median(values):.2f} ms')
    ratios = [
        copied / shared
        for shared, copied in zip(*list(seconds.values())[:2])
    ]
    print(f'  copied / shared: {statistics.median(ratios):.2f}')

  def print_sizes(self) -> None:
    """Prints bytes, and operations relative to their estimates."""
    model = self._policy.model
    adapter = sum(
        x.numel() * x.element_size()
        for x in model.parameters() if x.requires_grad
    )
    base = sum(
        x.numel() * x.element_size()
        for x in model.parameters() if not x.requires_grad
    )
    samples = self._options.samples
    print(f'  base {base / 2**20:.2f} MiB, adapter {adapter / 2**20:.2f} MiB')
    print(
        f'  action cache: {4 * 7 * samples} bytes a state for {samples} samples'
        f' ({2 * 7 * samples} in float16)'
    )
    print(
        f'  operations of a shared draw: {self.flops_ratio:.2f} times 2 x '
        'weights x tokens read'
    )
    print(
        f'  operations of a gradient step: {self.training_ratio:.2f} times '
        'its forward pass'
    )
    print(
        f'  kept for the gradient: {self.saved_bytes:.0f} bytes for each '
        'token, layer and unit of width (weights in 2 bytes, adapter in 4)'
    )

  def _draw(self, inputs, num_samples):
    shape = [len(inputs['input_ids']), num_samples, 7]
    uniform = torch.from_numpy(np.random.default_rng(0).random(shape))
    return decoding.decode(
        self._policy.model, inputs, decoding.by_uniform(uniform),
        **self._arguments,
    )

  def _observation_of_rows(self):
    return {
        name: array[: self._options.rows]
        for name, array in self._observation.items()
    }

  def _ids(self):
    count = len(self._inputs['input_ids'])
    return torch.full([count, 7], self._policy.tokens.first)

  def _forward(self):
    return decoding.action_logits(self._policy.model, self._inputs, self._ids())

  def _flops(self):
    """Counts operations of a draw, a forward pass and a gradient step."""
    options, model = self._options, self._policy.model.get_base_model()
    # SmolVLM has a token for each feature of a picture.
    self.prefix_length = self._inputs['input_ids'].shape[1]
    text = _num_weights(model.model.text_model) + _num_weights(model.lm_head)
    # The embedding is looked up.
    text -= model.get_input_embeddings().weight.numel()
    vision = _num_weights(model.model.vision_model)
    config = model.config.vision_config
    patches = (config.image_size // config.patch_size) ** 2
    tokens = self.prefix_length + options.samples * 6
    estimate = 2 * options.states * (text * tokens + vision * patches)
    drawn = _count(lambda: self._draw(self._inputs, options.samples))
    self.flops_ratio = drawn / estimate
    with torch.no_grad():
      forward = _count(self._forward)
    step = _count(lambda: self._forward().float().sum().backward())
    self.training_ratio = step / forward
    self._policy.model.zero_grad()

  def _saved_bytes(self, policy) -> float:
    """Returns what a forward pass keeps for the gradient.

    Args:
      policy: Policy of the tiny model, with weights in 2 bytes.
    """
    seen = {}

    def pack(tensor):
      storage = tensor.untyped_storage()
      seen[storage.data_ptr()] = storage.nbytes()
      return tensor

    _, inputs = next(
        policy.batches(self._observation, range(self._options.states))
    )
    weights = {
        x.untyped_storage().data_ptr() for x in policy.model.parameters()
    }
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
      kept = decoding.action_logits(policy.model, inputs, self._ids())
    total = sum(n for pointer, n in seen.items() if pointer not in weights)
    del kept
    config = policy.model.config.text_config
    tokens = self._options.states * (self.prefix_length + 6)
    return total / (tokens * config.num_hidden_layers * config.hidden_size)


def project(options, parts: Parts) -> None:
  """Prints the memory and seconds of 7 billion weights on one GPU.

  Args:
    options: Options of the program.
    parts: What was measured.
  """
  rate = options.utilization * options.teraflops * 1e12
  weights, tokens = 1e9 * options.billions, options.prefix_tokens
  flops = 2.0 * weights * parts.flops_ratio
  print(
      f'Projected, not measured: {options.billions:g} billion weights on one '
      'GPU, assuming\n'
      f'  {options.teraflops:g} TFLOP/s of which {options.utilization:.0%} are '
      f'reached, {options.terabytes:g} TB/s, weights in 2 bytes,\n'
      f'  {options.layers} layers of width {options.width_of_billions}, '
      f'{tokens} tokens of a state (256 of its picture), 7 of an action, rank '
      f'{options.rank},\n'
      '  operations for each weight and token, and bytes kept for the '
      'gradient, as in the tiny model'
  )

  def draw_seconds(num_samples):
    """Seconds of the draw at a state, among `options.states` at once."""
    reading = flops * tokens / rate
    # A step reads all weights once, for all states and samples.
    step = max(
        flops * num_samples / rate,
        2.0 * weights / (1e12 * options.terabytes) / options.states,
    )
    return reading + 6 * step

  for name, count in (('offline', 16), ('online', 8)):
    shared = draw_seconds(count)
    copied = flops * count * (tokens + 6) / rate
    print(
        f'  {count} samples of a state ({name}): projected {shared:.3f} s, '
        f'{copied:.2f} s without sharing'
    )
  step = flops * (tokens + 6) * 16 * parts.training_ratio / rate
  print(f'  gradient step of 16 rows: projected {step:.2f} s')
  _project_recipe(options, draw_seconds, step)
  _project_memory(options, parts)


def _project_recipe(options, draw_seconds, step) -> None:
  """Prints the seconds of the recipe's parts."""
  trials = 50 * options.episode_steps
  new = 5 * options.episode_steps
  for workers in (1, 12):
    cache = trials * draw_seconds(16) / workers
    epoch = (trials + new) * draw_seconds(8) / workers
    print(
        f'  {workers} GPUs that draw: cache of {trials} states projected '
        f'{cache:.0f} s; first epoch: {epoch:.0f} s of draws at '
        f'{trials + new} states and {64 * step:.0f} s of 64 gradient steps'
    )


def _project_memory(options, parts) -> None:
  """Prints the memory of sampling and training."""
  width, layers = options.width_of_billions, options.layers
  tokens = options.prefix_tokens
  weights = 2e9 * options.billions
  token = 2 * 2 * layers * width  # Keys and values, in 2 bytes.
  cache = options.states * (tokens + 16 * 6) * token
  copied = options.states * 16 * (tokens + 6) * token
  # Seven matrices of a layer of Llama: four are square, three are wider.
  inner = options.inner_width
  adapter = options.rank * layers * (8 * width + 3 * (width + inner))
  # Adapters, gradients and two moments in 4 bytes.
  state = 16 * adapter
  kept = parts.saved_bytes * (tokens + 6) * layers * width
  print(
      f'  adapter of the language model: {adapter / 1e6:.0f} million weights, '
      f'projected {4 * adapter / _GIB:.2f} GiB a version'
  )
  print(
      f'  memory of sampling {options.states} states: projected '
      f'{(weights + cache) / _GIB:.1f} GiB, {(weights + copied) / _GIB:.1f} '
      'GiB without sharing'
  )
  for rows in (1, 4, 16):
    total = weights + state + rows * kept
    print(
        f'  memory of training, {rows} rows a pass: projected '
        f'{total / _GIB:.1f} GiB'
    )


def _num_weights(module) -> int:
  """Returns the number of weights, those of adapters included."""
  return sum(x.numel() for x in module.parameters())


def _count(function) -> int:
  with flop_counter.FlopCounterMode(display=False) as counter:
    function()
  return counter.get_total_flops()


def _observation(count):
  random = np.random.default_rng(0)
  return {
      'image': random.integers(0, 256, [count, 48, 48, 3], np.uint8),
      'instruction': np.array([_INSTRUCTION] * count),
  }


def _options():
  parser = argparse.ArgumentParser(description=__doc__)
  for name, value, text in (
      ('states', 8, 'states of a draw'),
      ('samples', 16, 'N of the measured draw'),
      ('rows', 16, 'rows of a gradient step'),
      ('repeats', 9, 'repetitions'),
      ('width', 128, 'width of the tiny model'),
      ('layers', 32, 'layers of the projected model'),
      ('width_of_billions', 4_096, 'its width'),
      ('inner_width', 11_008, 'width of its inner layers'),
      ('prefix_tokens', 290, 'tokens of a state'),
      ('rank', 32, 'rank of the adapter'),
      ('episode_steps', 200, 'environment steps of an episode'),
      ('billions', 7.0, 'weights of the projected model, in billions'),
      ('teraflops', 312.0, 'peak of the GPU for 2-byte numbers (A100)'),
      ('utilization', 0.4, 'share of the peak that is reached'),
      ('terabytes', 2.0, 'bandwidth of its memory in TB/s'),
  ):
    parser.add_argument(
        f'--{name}', type=type(value), default=value, help=text
    )
  return parser.parse_args()


if __name__ == '__main__':
  main()
