"""What a vision-language-action model reads: a picture and an instruction."""

from typing import Any, Dict, Iterator, List, Mapping, Sequence, Tuple

import numpy as np
from PIL import Image
import torch

IMAGE, INSTRUCTION = 'image', 'instruction'
"""Keys of an observation: `[B, height, width, 3]` uint8, and the words."""

PROMPT = 'In: What action should the robot take to {instruction}?\nOut:'
"""OpenVLA's prompt (Kim et al., 2024, arXiv:2406.09246)."""

Batches = Iterator[Tuple[np.ndarray, Dict[str, torch.Tensor]]]
"""Places of states, and a model's inputs for them."""


class Reader:
  """Turns observations into batches of a model's inputs.

  The states of a batch have prompts of equal length, so that no model needs to
  ignore padding.
  """

  def __init__(
      self,
      processor,
      *,
      prompt: str = PROMPT,
      last_tokens: Sequence[int] = (),
      words: Sequence[str] = (),
  ):
    """Initializes the reader.

    Args:
      processor: The model's processor of Hugging Face.
      prompt: Text with `{instruction}`. The processor's token of an image, if
        it has one, is put in front unless the text contains it.
      last_tokens: Ids to append to a prompt that does not end with them.
      words: Vocabulary of instructions that are numbers.
    """
    image_token = str(getattr(processor, 'image_token', ''))
    if image_token not in prompt:
      prompt = image_token + prompt
    self._processor = processor
    self._prompt = prompt
    self._last_tokens = list(last_tokens)
    self._words = words

  def batches(
      self,
      observation: Mapping[str, Any],
      rows: Sequence[int],
      size: int,
      device: torch.device,
      dtype: torch.dtype,
  ) -> Batches:
    """Yields places in `rows` and the model's inputs for them.

    Args:
      observation: `[B, ...]`.
      rows: Rows to read, in any order.
      size: Maximum number of states of a batch.
      device: Where to put the inputs.
      dtype: Of pictures.

    Raises:
      ValueError: If the observation lacks a key or has the wrong type.
    """
    by_length: Dict[int, List[Tuple[int, Any]]] = {}
    images, texts = self._checked(observation)
    for place, row in enumerate(rows):
      inputs = self._read(images[row], _text(texts[row], self._words))
      length = inputs['input_ids'].shape[1]
      by_length.setdefault(length, []).append((place, inputs))
    for states in by_length.values():
      for start in range(0, len(states), size):
        places, parts = zip(*states[start : start + size])
        batch = {}
        for name in parts[0]:
          tensor = torch.cat([part[name] for part in parts]).to(device)
          is_float = tensor.is_floating_point()
          batch[name] = tensor.to(dtype) if is_float else tensor
        yield np.array(places), batch

  def _checked(self, observation):
    for name in (IMAGE, INSTRUCTION):
      if name not in observation:
        raise ValueError(
            f'The observation must have {name!r}, got '
            f'{sorted(map(str, observation))}. `RemotePolicy.keys` renames '
            'observations, and `RemotePolicy.constants` adds them.'
        )
    images = np.asarray(observation[IMAGE])
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
      raise ValueError(
          f'{IMAGE!r} must be uint8 [B, height, width, 3], got {images.dtype} '
          f'{list(images.shape)}.'
      )
    return images, np.asarray(observation[INSTRUCTION])

  def _read(self, image, text):
    prompt = self._prompt.format(instruction=text.lower())
    inputs = self._processor(
        text=prompt, images=Image.fromarray(image), return_tensors='pt'
    )
    ids = inputs['input_ids']
    size = len(self._last_tokens)
    if size and ids[0, -size:].tolist() != self._last_tokens:
      inputs['input_ids'] = torch.cat(
          [ids, torch.tensor([self._last_tokens])], dim=1
      )
      inputs['attention_mask'] = torch.ones_like(inputs['input_ids'])
    return inputs


def _text(instruction: np.ndarray, words: Sequence[str]) -> str:
  """Returns an instruction as text.

  Args:
    instruction: Text, UTF-8 in uint8 padded with zeros, or indices of words.
    words: The words.
  """
  if instruction.dtype.kind == 'U':
    return str(instruction)
  if instruction.dtype == np.uint8:
    return instruction.tobytes().rstrip(b'\0').decode()
  if not words:
    raise ValueError(
        f'{INSTRUCTION!r} must be text or UTF-8, got {instruction.dtype}: '
        'indices need a vocabulary (`--words`).'
    )
  return ' '.join(words[int(index)] for index in instruction)
