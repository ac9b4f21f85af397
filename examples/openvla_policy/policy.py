"""A vision-language-action policy that `parl_tf.serving` samples and trains.

Follows OpenVLA (Kim et al., 2024, arXiv:2406.09246): a picture and an
instruction give the distribution of A action tokens, one a dimension. Training
changes a low-rank adapter of all linear layers (LoRA, rank 32) alone.
"""

import dataclasses
import hashlib
import json
import logging
import os
from typing import Any, Dict, List, Mapping, Optional, Sequence

import actions as actions_lib
import decoding
import numpy as np
import peft
import reading
import torch
import transformers

from parl_tf.serving import policy_spec

_BASE = 'base.json'
_ADAPTER_SEED = 0
_MAX_ERROR = {torch.float32: 1e-4}
_MAX_ERROR_OF_HALVES = 0.03


@dataclasses.dataclass(frozen=True)
class Settings:
  """How a model is loaded, sampled and trained.

  Attributes:
    path: Directory of the weights, in Hugging Face's format.
    dataset: Name of the statistics that scale actions.
    statistics: File of statistics; None takes `dataset_statistics.json` of the
      weights, or else `norm_stats` of their configuration.
    prompt: Text with `{instruction}`.
    last_tokens: Ids that end a prompt.
    words: Vocabulary of instructions that are numbers.
    trust_remote_code: Whether code that comes with the weights may run.
    device: PyTorch's name of the device.
    dtype: PyTorch's name of the type of the weights.
    attention: 'sdpa' or 'eager'; flash attention takes no mask of our own.
    lora_rank: Rank of the adapter.
    lora_alpha: Its scale, which is divided by the rank.
    learning_rate: Of a training.
    batch_size: Rows of a gradient step.
    states_per_pass: Maximum number of states that the model reads at once, in
      sampling and training.
    max_batch: Maximum number of states of a call, and the unit in which several
      servers share a draw.
  """

  path: str
  dataset: str
  statistics: Optional[str] = None
  prompt: str = reading.PROMPT
  last_tokens: Sequence[int] = ()
  words: Sequence[str] = ()
  trust_remote_code: bool = False
  device: str = 'cpu'
  dtype: str = 'float32'
  attention: str = 'sdpa'
  lora_rank: int = 32
  lora_alpha: float = 16.0
  learning_rate: float = 2e-5
  batch_size: int = 16
  states_per_pass: int = 16
  max_batch: int = 64


class VLAPolicy:
  """Draws actions of a model, and fits its adapter to better ones.

  Attributes:
    model: The adapted model.
    tokens: Its action tokens.
    percentiles: Scale of its actions.
    reader: Makes its inputs.
    settings: See `Settings`.
  """

  def __init__(self, settings: Settings):
    """Loads the weights and adds an adapter that changes nothing at first.

    Raises:
      ValueError: If the statistics are missing, or the samples of this model
        cannot share the reading of their state.
    """
    self.settings = settings
    model, processor = _load(settings)
    config = model.config
    self.percentiles = actions_lib.Percentiles.from_statistics(
        _statistics(settings, config), settings.dataset
    )
    # OpenVLA pads its embedding; the action tokens are in front of the padding.
    self.tokens = actions_lib.ActionTokens(
        config.text_config.vocab_size
        - getattr(config, 'pad_to_multiple_of', 0)
    )
    self.reader = reading.Reader(
        processor,
        prompt=settings.prompt,
        last_tokens=settings.last_tokens,
        words=settings.words,
    )
    # All servers of the same weights must begin with the same adapter.
    torch.manual_seed(_ADAPTER_SEED)
    self.model = peft.get_peft_model(
        model,
        peft.LoraConfig(
            r=settings.lora_rank,
            lora_alpha=settings.lora_alpha,
            lora_dropout=0.0,
            target_modules='all-linear',
            init_lora_weights='gaussian',
        ),
    ).eval()
    self._base_checksum = self.base_checksum()
    self._check_shared_reading()

  def spec(self) -> policy_spec.PolicySpec:
    """Describes the policy, which checks its observations itself."""
    return policy_spec.PolicySpec(
        {},
        action_size=self.percentiles.action_size,
        max_batch=self.settings.max_batch,
        has_temperature=True,
        normalization={
            'q01': self.percentiles.low, 'q99': self.percentiles.high
        },
    )

  def version(self) -> str:
    """Returns a name of the current weights."""
    adapter = peft.get_peft_model_state_dict(
        self.model, save_embedding_layers=False
    )
    # `save` verifies the base. Hashing billions of weights takes seconds.
    digest = f'{self._base_checksum} {_checksum(adapter)}'
    return f'vla-{hashlib.sha256(digest.encode()).hexdigest()[:12]}'

  def base_checksum(self) -> str:
    """Returns a checksum of all weights but the adapter's."""
    return _checksum({
        name: weights
        for name, weights in self.model.state_dict().items()
        if 'lora_' not in name
    })

  def sample(
      self,
      observation: Mapping[str, Any],
      num_samples: int,
      seed: int,
      temperature: float = 1.0,
  ) -> np.ndarray:
    """Draws actions `[B, N, 1, A]` in the units of the robot.

    Args:
      observation: Arrays `[B, ...]` by name.
      num_samples: N.
      seed: Seed of the tokens.
      temperature: Divides the logits; 0 takes the most likely tokens.
    """
    num_states = policy_spec.num_states(observation)
    shape = [num_states, num_samples, self.percentiles.action_size]
    uniform = np.random.default_rng(seed).random(shape)
    ids = np.zeros(shape, np.int64)
    for rows, inputs in self.batches(observation, range(num_states)):
      places = decoding.decode(
          self.model,
          inputs,
          decoding.by_uniform(
              torch.from_numpy(uniform[rows]).to(self._device), temperature
          ),
          **self.token_arguments(),
      )
      ids[rows] = self.tokens.first + places.cpu().numpy()
    actions = self.percentiles.unscale(self.tokens.decode(ids))
    return actions[:, :, np.newaxis].astype(np.float32)

  def train(
      self,
      observation: Mapping[str, Any],
      actions: np.ndarray,
      mask: np.ndarray,
      num_steps: int,
      seed: int,
  ) -> List[float]:
    """Fits the adapter to actions; returns the cross entropy per token.

    The optimizer starts without moments, so that the result depends only on the
    weights and the arguments.

    Args:
      observation: Arrays `[R, ...]`.
      actions: `[R, 1, A]` in the units of the robot.
      mask: `[R, 1]`, 0 for rows to ignore.
      num_steps: Gradient steps.
      seed: Seed of the batches.

    Raises:
      ValueError: If all rows are masked.
    """
    random = np.random.default_rng(seed)
    ids = self.tokens.encode(self.percentiles.scale(actions[:, 0]))
    valid = np.flatnonzero(mask[:, 0] > 0.0)
    if not len(valid):
      raise ValueError('`mask` must be positive in some row, got none.')
    optimizer = torch.optim.AdamW(
        [x for x in self.model.parameters() if x.requires_grad],
        lr=self.settings.learning_rate,
    )
    self.model.train()
    losses = []
    for _ in range(num_steps):
      rows = random.choice(valid, self.settings.batch_size)
      losses.append(self._step(optimizer, observation, rows, ids[rows]))
    self.model.eval()
    logging.info('Cross entropy %.4f after %d steps.', losses[-1], num_steps)
    return losses

  def save(self, path: str) -> None:
    """Writes the adapter alone, and the checksum of the weights it is for.

    Raises:
      RuntimeError: If the weights beside the adapter have changed.
    """
    checksum = self.base_checksum()
    if checksum != self._base_checksum:
      raise RuntimeError(
          'Training must change the adapter alone, but the checksum of the '
          f'other weights is {checksum}, before {self._base_checksum}.'
      )
    # The embedding is no part of the adapter, and asking peft would need a hub.
    self.model.save_pretrained(path, save_embedding_layers=False)
    with open(os.path.join(path, _BASE), 'w', encoding='utf-8') as file:
      json.dump({'checksum': checksum}, file)

  def load(self, path: str) -> None:
    """Reads an adapter that `save` wrote.

    Raises:
      ValueError: If it is for other weights.
    """
    with open(os.path.join(path, _BASE), encoding='utf-8') as file:
      checksum = json.load(file)['checksum']
    if checksum != self._base_checksum:
      raise ValueError(
          f'The adapter {path} is for weights with checksum {checksum}, got '
          f'{self._base_checksum}.'
      )
    adapter = peft.load_peft_weights(path, device=str(self._device))
    peft.set_peft_model_state_dict(self.model, adapter)

  def batches(
      self, observation: Mapping[str, Any], rows: Sequence[int]
  ) -> reading.Batches:
    """Yields places in `rows` and the model's inputs; see `Reader.batches`."""
    return self.reader.batches(
        observation,
        rows,
        self.settings.states_per_pass,
        self._device,
        self.model.dtype,
    )

  def token_arguments(self) -> Dict[str, int]:
    """Returns the arguments of `decoding.decode` that name the tokens."""
    return dict(
        num_tokens=self.percentiles.action_size,
        first=self.tokens.first,
        num_ids=self.tokens.num_tokens,
    )

  @property
  def _device(self) -> torch.device:
    return torch.device(self.settings.device)

  def _step(self, optimizer, observation, rows, ids) -> float:
    """Takes a gradient step on some rows; returns the loss before it."""
    optimizer.zero_grad()
    total = 0.0
    for places, inputs in self.batches(observation, rows):
      wanted = torch.from_numpy(ids[places]).to(self._device)
      logits = decoding.action_logits(self.model, inputs, wanted)
      # As in OpenVLA, over the whole vocabulary.
      loss = torch.nn.functional.cross_entropy(
          logits.flatten(0, 1).float(), wanted.flatten(), reduction='sum'
      ) / ids.size
      loss.backward()
      total += loss.item()
    optimizer.step()
    return total

  def _check_shared_reading(self) -> None:
    """Raises `ValueError` if `decoding.decode` is wrong for this model."""
    word = self.settings.words[0] if self.settings.words else 'move'
    image = np.random.default_rng(0).integers(0, 256, [1, 64, 64, 3], np.uint8)
    observation = {
        reading.IMAGE: image, reading.INSTRUCTION: np.array([word])
    }
    _, inputs = next(self.batches(observation, [0]))
    error = decoding.shared_reading_error(
        self.model, inputs, **self.token_arguments()
    )
    limit = _MAX_ERROR.get(self.model.dtype, _MAX_ERROR_OF_HALVES)
    if not error <= limit:
      raise ValueError(
          'The samples of a state cannot share its reading in this model '
          f'({type(self.model.get_base_model()).__name__}): their logits '
          f'differ by {error:.2g} of their range.'
      )


def _load(settings: Settings):
  """Returns the model and its processor."""
  options = dict(trust_remote_code=settings.trust_remote_code)
  config = transformers.AutoConfig.from_pretrained(settings.path, **options)
  processor = transformers.AutoProcessor.from_pretrained(
      settings.path, **options
  )
  # Code that comes with weights, such as OpenVLA's, registers the older class.
  name = 'AutoModelForVision2Seq'
  if name not in getattr(config, 'auto_map', {}):
    name = 'AutoModelForImageTextToText'
  model = getattr(transformers, name).from_pretrained(
      settings.path,
      config=config,
      torch_dtype=getattr(torch, settings.dtype),
      attn_implementation=settings.attention,
      **options,
  )
  return model.to(settings.device), processor


def _statistics(settings: Settings, config) -> Mapping[str, Any]:
  path = settings.statistics or os.path.join(
      settings.path, 'dataset_statistics.json'
  )
  if settings.statistics or os.path.exists(path):
    return actions_lib.read_statistics(path)
  return getattr(config, 'norm_stats', {})


def _checksum(weights: Mapping[str, torch.Tensor]) -> str:
  sha = hashlib.sha256()
  for name, tensor in sorted(weights.items()):
    sha.update(f'{name} {tuple(tensor.shape)} {tensor.dtype}'.encode())
    # NumPy has no bfloat16.
    array = tensor.detach().contiguous().flatten().view(torch.uint8)
    sha.update(array.cpu().numpy().data)
  return sha.hexdigest()[:16]
