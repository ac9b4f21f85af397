"""Writes a tiny vision-language model with random weights.

  python tiny_model.py tiny --action_size 2

The directory has the files of real weights: SmolVLM's architecture (a vision
transformer whose features go to a causal language model), a processor, a
tokenizer of bytes, and `dataset_statistics.json`. Nothing is downloaded.
"""

import argparse
import json
import os

import torch
import transformers

DATASET = 'tiny'
"""Name of the statistics."""

_IMAGE_SIZE = 48
_PATCH_SIZE = 8
_MERGED_PATCHES = 2  # In each direction.
_NUM_ACTION_TOKENS = 256
_HEAD_SCALE = 8.0
# Names under which SmolVLM's processor and LeRobot find these tokens.
_SPECIAL_TOKENS = {
    'image_token': '<image>',
    'fake_image_token': '<fake_token_around_image>',
    'global_image_token': '<global-img>',
    'end_of_utterance_token': '<end_of_utterance>',
}


def write(
    path: str, *, action_size: int, has_gripper: bool = False, width: int = 64,
    seed: int = 0,
) -> None:
  """Writes the model.

  Args:
    path: Directory to write.
    action_size: A.
    has_gripper: Whether the last dimension is a gripper, which is not scaled.
    width: Width of the language model, a multiple of 16.
    seed: Seed of the weights.
  """
  tokenizer = transformers.ByT5Tokenizer(
      extra_ids=0, extra_special_tokens=_SPECIAL_TOKENS
  )
  torch.manual_seed(seed)
  model = transformers.SmolVLMForConditionalGeneration(
      _config(tokenizer, width)
  )
  # The adapter leaves the last layer alone. With its initial size, no features
  # could give a confident prediction.
  model.get_output_embeddings().weight.data.mul_(_HEAD_SCALE)
  model.save_pretrained(path)
  _processor(tokenizer).save_pretrained(path)
  statistics = {
      'q01': [-1.0] * action_size,
      'q99': [1.0] * action_size,
      'mask': [True] * (action_size - has_gripper) + [False] * has_gripper,
  }
  name = os.path.join(path, 'dataset_statistics.json')
  with open(name, 'w', encoding='utf-8') as file:
    json.dump({DATASET: {'action': statistics}}, file, indent=1)


def _config(tokenizer, width):
  """Returns the configuration of the model."""
  image_token = tokenizer.convert_tokens_to_ids('<image>')
  return transformers.SmolVLMConfig(
      text_config=transformers.LlamaConfig(
          vocab_size=len(tokenizer) + _NUM_ACTION_TOKENS,
          hidden_size=width,
          intermediate_size=width * 43 // 16,  # As in Llama 2.
          num_hidden_layers=2,
          num_attention_heads=4,
          num_key_value_heads=4,
          max_position_embeddings=512,
          pad_token_id=tokenizer.pad_token_id,
          bos_token_id=None,
          eos_token_id=tokenizer.eos_token_id,
      ).to_dict(),
      vision_config=dict(
          hidden_size=32,
          intermediate_size=64,
          num_hidden_layers=2,
          num_attention_heads=2,
          image_size=_IMAGE_SIZE,
          patch_size=_PATCH_SIZE,
      ),
      image_token_id=image_token,
      scale_factor=_MERGED_PATCHES,
      pad_token_id=tokenizer.pad_token_id,
      tie_word_embeddings=False,
  )


def _processor(tokenizer):
  """Returns a processor without tiles: one picture, one row of features."""
  size = {'longest_edge': _IMAGE_SIZE}
  return transformers.Idefics3Processor(
      transformers.Idefics3ImageProcessor(
          size=size, max_image_size=size, do_image_splitting=False
      ),
      tokenizer,
      image_seq_len=(_IMAGE_SIZE // _PATCH_SIZE // _MERGED_PATCHES) ** 2,
  )


def main() -> None:
  """Writes the model that the options describe."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('path', help='directory to write')
  parser.add_argument('--action_size', type=int, default=7)
  parser.add_argument('--has_gripper', action='store_true')
  parser.add_argument('--width', type=int, default=64)
  parser.add_argument('--seed', type=int, default=0)
  write(**vars(parser.parse_args()))


if __name__ == '__main__':
  main()
