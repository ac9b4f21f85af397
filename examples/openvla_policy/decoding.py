"""Action tokens of N samples that share the reading of their state.

The picture and the instruction of a state are read once, into a cache of keys
and values. At each step the model then reads one token of every sample: a mask
shows each sample the state and its own tokens only. So the cache grows by N
tokens a step, and is never copied. The model's own `generate` is not used.

Axes: B states with prompts of equal length, N samples, A tokens of an action, M
action tokens, the last ids before `first + M`.
"""

from typing import Any, Callable, Dict, Mapping

import torch

Choose = Callable[[int, torch.Tensor], torch.Tensor]
"""Maps a step and logits `[B, 1 or N, M]` to the places `[B, N]` of tokens."""


def action_logits(
    model, inputs: Mapping[str, Any], ids: torch.Tensor
) -> torch.Tensor:
  """Returns the logits of given action tokens, for the loss.

  Args:
    model: Model of Hugging Face, or an adapted one.
    inputs: What its processor returns, `[B, ...]`.
    ids: Ids of the tokens, `[B, A]`.

  Returns:
    `[B, A, vocabulary]`.
  """
  inputs = dict(inputs)
  length = ids.shape[1]
  # The last token predicts nothing.
  inputs['input_ids'] = torch.cat([inputs['input_ids'], ids[:, :-1]], dim=1)
  inputs['attention_mask'] = torch.ones_like(inputs['input_ids'])
  # From the end, since models put a picture's features among the tokens.
  return model(**inputs, use_cache=False).logits[:, -length:]


@torch.no_grad()
def decode(
    model,
    inputs: Mapping[str, Any],
    choose: Choose,
    *,
    num_tokens: int,
    first: int,
    num_ids: int,
) -> torch.Tensor:
  """Returns the places `[B, N, A]` of tokens among the action tokens.

  Args:
    model: Model of Hugging Face, or an adapted one. Its decoder must be causal
      and count positions from 0.
    inputs: What its processor returns, `[B, ...]`.
    choose: Chooses the tokens of a step.
    num_tokens: A.
    first: Id of the first action token.
    num_ids: M.
  """
  base = _base_model(model)
  decoder, head = base.get_decoder(), base.get_output_embeddings()
  read = model(**inputs, use_cache=True)
  prefix_length, cache = read.logits.shape[1], read.past_key_values
  ids = slice(first, first + num_ids)
  logits = read.logits[:, -1:, ids]
  chosen = [choose(0, logits)]
  for step in range(1, num_tokens):
    places = chosen[-1]
    read = decoder(
        input_ids=first + places,
        attention_mask=_mask(prefix_length, places, step, base.dtype),
        position_ids=torch.full_like(places, prefix_length + step - 1),
        past_key_values=cache,
        use_cache=True,
    )
    cache = read.past_key_values
    logits = head(read.last_hidden_state)[..., ids]
    chosen.append(choose(step, logits))
  return torch.stack(chosen, dim=2)


def by_uniform(uniform: torch.Tensor, temperature: float = 1.0) -> Choose:
  """Returns a choice from the logits' distribution.

  Args:
    uniform: `[B, N, A]` float64 in [0, 1), which determines the tokens.
    temperature: Divides the logits; 0 takes the most likely token.
  """

  def choose(step, logits):
    if temperature == 0.0:
      return logits.argmax(dim=-1).expand(uniform.shape[:2])
    probabilities = torch.softmax(logits.double() / temperature, dim=-1)
    cumulative = torch.cumsum(probabilities, dim=-1)
    wanted = uniform[:, :, step, None].contiguous()
    cumulative = cumulative.expand(-1, wanted.shape[1], -1).contiguous()
    places = torch.searchsorted(cumulative, wanted, right=True)[..., 0]
    return places.clamp(max=logits.shape[-1] - 1)

  return choose


def shared_reading_error(
    model, inputs: Mapping[str, Any], *, num_tokens: int, first: int,
    num_ids: int,
) -> float:
  """Returns the largest error of `decode`'s logits, relative to their range.

  Compares them with logits for which the model reads everything at once. The
  error exceeds rounding if the model needs more than `decode` gives it.

  Args:
    model: See `decode`.
    inputs: One state, `[1, ...]`.
    num_tokens: A.
    first: Id of the first action token.
    num_ids: M.
  """
  device = inputs['input_ids'].device
  places = torch.arange(2 * num_tokens, device=device) * 7919 % num_ids
  places = places.reshape(2, num_tokens)
  found: Dict[int, torch.Tensor] = {}

  def choose(step, logits):
    found[step] = logits[0]
    return places[None, :, step]

  decode(
      model, inputs, choose, num_tokens=num_tokens, first=first, num_ids=num_ids
  )
  largest = torch.zeros(())
  for sample in range(2):
    with torch.no_grad():
      logits = action_logits(model, inputs, first + places[sample : sample + 1])
    expected = logits[0, :, first : first + num_ids].float()
    for step in range(num_tokens):
      seen = found[step][min(sample, len(found[step]) - 1)].float()
      error = (seen - expected[step]).abs().max()
      spread = expected[step].max() - expected[step].min()
      largest = torch.maximum(largest, (error / spread).cpu())  # Keeps NaN.
  return largest.item()


def _base_model(model):
  """Returns the model of Hugging Face within an adapted one."""
  return model.get_base_model() if hasattr(model, 'get_base_model') else model


def _mask(prefix_length, places, step, dtype):
  """Returns the mask `[B, 1, N, keys]` that is added to scores.

  The keys are those of the state and then, for each step so far, of every
  sample.
  """
  num_states, num_samples = places.shape
  own = torch.eye(num_samples, dtype=torch.bool, device=places.device)
  state = torch.ones(
      [num_samples, prefix_length], dtype=torch.bool, device=places.device
  )
  is_seen = torch.cat([state, *([own] * step)], dim=1)
  mask = torch.zeros(is_seen.shape, dtype=dtype, device=places.device)
  mask.masked_fill_(~is_seen, torch.finfo(dtype).min)
  return mask.expand(num_states, 1, -1, -1)
