"""A policy of LeRobot that `parl_tf.serving` samples and trains.

Works on LeRobot's interface of all its policies: its own pre- and
post-processing, `select_action`, `forward` (the loss), and the optimizer of the
policy's configuration.
"""

import dataclasses
import hashlib
import logging
import os
from typing import Any, Dict, List, Mapping, Optional, Sequence

import numpy as np
import torch
import torchvision_operators

torchvision_operators.import_torchvision()

from lerobot.configs import policies as policy_configs  # noqa: E402
from lerobot.configs import types  # noqa: E402
from lerobot.policies import factory  # noqa: E402
from lerobot.policies import utils  # noqa: E402
from lerobot.utils import constants  # noqa: E402

from parl_tf.serving import policy_spec  # noqa: E402

_TASK = 'task'
_ROWS_PER_DRAW = 8_192
_BYTES_PER_DRAW = 2**25  # Of observations; networks take many times as much.


class LeRobotPolicy:
  """Draws chunks of actions of a checkpoint, and fits it to better ones.

  Attributes:
    policy: LeRobot's policy, with the current weights.
    config: Its configuration.
  """

  def __init__(
      self,
      path: str,
      *,
      batch_size: int = 256,
      learning_rate: Optional[float] = None,
      lora_rank: int = 0,
  ):
    """Loads a checkpoint.

    Args:
      path: Directory with `config.json` and `model.safetensors`.
      batch_size: Rows of a gradient step.
      learning_rate: Of the fit; None takes that of the configuration.
      lora_rank: Rank of the change that a fit makes to each matrix; 0 trains
        all weights. The change is merged into the weights when the fit ends.

    Raises:
      ValueError: If the checkpoint is an adapter.
    """
    self._batch_size = batch_size
    self._learning_rate = learning_rate
    self._lora_rank = lora_rank
    self.load(path)

  def load(self, path: str) -> None:
    """Loads a checkpoint; see `__init__`."""
    config = policy_configs.PreTrainedConfig.from_pretrained(path)
    if config.use_peft:
      raise ValueError(
          f'{path}: must be a whole policy, got an adapter. Merge it first.'
      )
    config.pretrained_path = path
    if hasattr(config, 'do_mask_loss_for_padding'):
      # A fit does not know the actions that follow the first ones.
      config.do_mask_loss_for_padding = True
    self.config = config
    self.policy = factory.get_policy_class(config.type).from_pretrained(
        path, config=config
    )
    self._preprocess, self._postprocess = factory.make_pre_post_processors(
        config,
        pretrained_path=path,
        preprocessor_overrides={'device_processor': {'device': config.device}},
    )

  def save(self, path: str) -> None:
    """Writes a checkpoint that LeRobot loads without this program."""
    self.policy.save_pretrained(path)
    self._preprocess.save_pretrained(path)
    self._postprocess.save_pretrained(path)

  def spec(self) -> policy_spec.PolicySpec:
    """Describes the policy.

    Observations have LeRobot's names, images `[height, width, channels]` uint8.
    Where all inputs are vectors of one length, there is a single one, called
    `observation`, from which all of them are taken. The last `n_obs_steps`
    observations are stacked along the last axis, oldest first.
    """
    action = self.config.output_features[constants.ACTION]
    observation = {
        name: _array_spec(feature, self.config.n_obs_steps)
        for name, feature in self.config.input_features.items()
    }
    if self._is_single():
      observation = {policy_spec.SINGLE: next(iter(observation.values()))}
    if self._reads_task():
      observation[_TASK] = policy_spec.ArraySpec((), 'str')
    return policy_spec.PolicySpec(
        observation,
        action_size=action.shape[0],
        chunk_length=self.config.n_action_steps,
        max_batch=1_024,
        stochastic=self.config.type != 'act',
        has_temperature=self._noise_shape() is not None,
    )

  def version(self) -> str:
    """Returns a name of the current weights."""
    sha = hashlib.sha256()
    for name, weights in sorted(self.policy.state_dict().items()):
      sha.update(name.encode())
      # NumPy has no bfloat16, in which LeRobot loads large models.
      flat = weights.detach().cpu().contiguous().flatten()
      sha.update(flat.view(torch.uint8).numpy().data)
    return f'{self.config.type}-{sha.hexdigest()[:12]}'

  @torch.no_grad()
  def sample(
      self,
      observation: Mapping[str, Any],
      num_samples: int,
      seed: int,
      temperature: float = 1.0,
  ) -> np.ndarray:
    """Draws chunks `[B, N, T, A]`, T being LeRobot's `n_action_steps`.

    Args:
      observation: Arrays `[B, ...]` by name.
      num_samples: N.
      seed: Seed of the noise.
      temperature: Scale of the noise; other than 1 only for policies whose
        only noise is the initial one: diffusion with DDIM, and SmolVLA.
    """
    torch.manual_seed(seed)
    num_states = policy_spec.num_states(observation)
    num_bytes = sum(np.asarray(x).nbytes for x in observation.values())
    step = max(1, _BYTES_PER_DRAW * num_states // num_bytes)
    step = min(step, _ROWS_PER_DRAW)
    size = num_states * num_samples
    chunks = []
    for start in range(0, size, step):
      states = np.arange(start, min(start + step, size)) // num_samples
      chunks.append(self._draw(_slice(observation, states), temperature))
    drawn = np.concatenate(chunks)
    return drawn.reshape(-1, num_samples, *drawn.shape[1:])

  def train(
      self,
      observation: Mapping[str, Any],
      actions: np.ndarray,
      mask: np.ndarray,
      num_steps: int,
      seed: int,
  ) -> List[float]:
    """Takes gradient steps of LeRobot's loss; returns its values.

    The optimizer starts without moments, so that the result depends only on the
    weights and the arguments.

    Args:
      observation: Arrays `[R, ...]`.
      actions: `[R, T, A]`.
      mask: `[R, T]`, 0 after the end of an episode. As in LeRobot's datasets,
        the last valid action is repeated there, and `action_is_pad` is set. So
        is the first one, in place of the actions of earlier observations.
      num_steps: Gradient steps.
      seed: Seed of batches, noise and dropout.
    """
    torch.manual_seed(seed)
    random = np.random.default_rng(seed)
    rows = dict(observation)
    rows[constants.ACTION], rows[f'{constants.ACTION}_is_pad'] = _padded(
        actions, mask, self.config.action_delta_indices
    )
    preset = self.config.get_optimizer_preset()
    if self._learning_rate is not None:
      preset = dataclasses.replace(preset, lr=self._learning_rate)
    policy, parameters = self.policy, self.policy.get_optim_params()
    if self._lora_rank:
      policy, parameters = _with_adapter(policy, self._lora_rank)
    optimizer = preset.build(parameters)
    policy.train()
    losses = []
    for _ in range(num_steps):
      chosen = random.integers(len(actions), size=self._batch_size)
      loss, _ = policy.forward(self._fit_batch(_slice(rows, chosen)))
      optimizer.zero_grad()
      loss.backward()
      if preset.grad_clip_norm > 0:
        torch.nn.utils.clip_grad_norm_(
            policy.parameters(), preset.grad_clip_norm
        )
      optimizer.step()
      losses.append(loss.item())
    if self._lora_rank:
      self.policy = policy.merge_and_unload()
      self.policy.requires_grad_(True)
    self.policy.eval()
    logging.info('Loss %.4f after %d steps.', losses[-1], num_steps)
    return losses

  def _draw(self, rows: Mapping[str, Any], temperature: float) -> np.ndarray:
    """Returns one chunk `[rows, T, A]` for each row."""
    self.policy.reset()
    options = {}
    if temperature != 1.0:
      shape = [policy_spec.num_states(rows), *self._noise_shape()]
      noise = torch.randn(shape, device=self.config.device)
      options['noise'] = temperature * noise
    *earlier, present = self._frames(rows)
    for frame in earlier:
      self._remember(self._batch(frame))
    batch = self._batch(present)
    # The first call predicts the chunk, and each call takes an action of it.
    actions = [
        self._postprocess(self.policy.select_action(batch, **options))
        for _ in range(self.config.n_action_steps)
    ]
    return torch.stack(actions, dim=1).float().cpu().numpy()

  def _remember(self, batch: Mapping[str, Any]) -> None:
    """Adds an observation to the history of LeRobot's policy."""
    if self.config.image_features:
      images = [batch[name] for name in self.config.image_features]
      batch = {**batch, constants.OBS_IMAGES: torch.stack(images, dim=-4)}
    utils.populate_queues(self.policy._queues, batch, [constants.ACTION])

  def _fit_batch(self, rows: Mapping[str, Any]) -> Dict[str, Any]:
    """Returns rows for the loss, observations with an axis of time."""
    frames = [self._batch(frame) for frame in self._frames(rows)]
    batch = frames[-1]
    padding = f'{constants.ACTION}_is_pad'
    batch['actions_id_pad'] = batch[padding]  # SmolVLA's name of it.
    if self.config.observation_delta_indices is not None:
      for name in self.config.input_features:
        batch[name] = torch.stack([frame[name] for frame in frames], dim=1)
    return batch

  def _frames(self, rows: Mapping[str, Any]) -> List[Dict[str, Any]]:
    """Returns rows with each of their stacked observations, oldest first."""
    rows = dict(rows)
    if self._is_single():
      state = rows.pop(policy_spec.SINGLE)
      rows.update(dict.fromkeys(self.config.input_features, state))
    num_frames = self.config.n_obs_steps
    stacks = {
        name: np.split(rows.pop(name), num_frames, axis=-1)
        for name in self.config.input_features
    }
    return [
        {**rows, **{name: stack[i] for name, stack in stacks.items()}}
        for i in range(num_frames)
    ]

  def _batch(self, rows: Mapping[str, Any]) -> Dict[str, Any]:
    """Returns single observations as LeRobot takes them, normalized.

    Args:
      rows: Arrays `[rows, ...]`.
    """
    batch = {}
    for name, array in rows.items():
      if name == _TASK:
        batch[name] = list(map(str, array))
        continue
      tensor = torch.from_numpy(np.ascontiguousarray(array))
      feature = self.config.input_features.get(name)
      if feature is not None and feature.type is types.FeatureType.VISUAL:
        tensor = tensor.movedim(-1, -3).float() / 255.0
      batch[name] = tensor
    return self._preprocess(batch)

  def _is_single(self) -> bool:
    """Returns whether all inputs are vectors of one length."""
    return len({
        (feature.type is types.FeatureType.VISUAL, tuple(feature.shape))
        for feature in self.config.input_features.values()
    }) == 1 and not self.config.image_features

  def _noise_shape(self) -> Optional[List[int]]:
    """Returns the shape of a sample's noise, if it has initial noise alone."""
    config = self.config
    if config.type == 'diffusion' and config.noise_scheduler_type == 'DDIM':
      action = config.output_features[constants.ACTION]
      return [config.horizon, *action.shape]
    if config.type == 'smolvla':
      return [config.chunk_size, config.max_action_dim]
    return None

  def _reads_task(self) -> bool:
    return any(hasattr(step, 'task_key') for step in self._preprocess.steps)


def _array_spec(feature: Any, num_frames: int) -> policy_spec.ArraySpec:
  shape = tuple(feature.shape)
  if feature.type is types.FeatureType.VISUAL:
    channels, height, width = shape
    return policy_spec.ArraySpec(
        (height, width, num_frames * channels), 'uint8'
    )
  return policy_spec.ArraySpec((*shape[:-1], num_frames * shape[-1]))


def _slice(rows: Mapping[str, Any], places: Any) -> Dict[str, Any]:
  return {name: array[places] for name, array in rows.items()}


def _padded(actions: np.ndarray, mask: np.ndarray, steps: Sequence[int]):
  """Returns the actions of some steps, and which of them are padding.

  Args:
    actions: `[R, T, A]`, of the steps from 0.
    mask: `[R, T]`, 0 where there is no action.
    steps: L steps; negative ones lie before the first action.

  Returns:
    Actions `[R, L, A]`, and padding `[R, L]`.
  """
  wanted = np.asarray(steps)
  num_valid = np.sum(mask > 0.0, axis=1)[:, np.newaxis]
  places = np.clip(wanted, 0, np.maximum(num_valid, 1) - 1)
  padded = np.take_along_axis(actions, places[:, :, np.newaxis], axis=1)
  return padded, (wanted < 0) | (wanted >= num_valid)


def _with_adapter(policy, rank: int):
  """Returns the policy with a LoRA adapter, and the adapter's parameters."""
  import peft

  layers = (torch.nn.Linear, torch.nn.Conv1d)
  targets = [
      name
      for name, module in policy.named_modules()
      # The modules of attention read their own matrices.
      if isinstance(module, layers) and not _is_in_attention(policy, name)
  ]
  adapted = peft.get_peft_model(
      policy, peft.LoraConfig(r=rank, lora_alpha=rank, target_modules=targets)
  )
  return adapted, [x for x in adapted.parameters() if x.requires_grad]


def _is_in_attention(policy, name: str) -> bool:
  parent = policy.get_submodule(os.path.splitext(name)[0])
  return isinstance(parent, torch.nn.MultiheadAttention)
