"""Writes small datasets in LeRobot's layouts, and small videos."""

import functools
import json
import os
import tempfile

import imageio_ffmpeg
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow as tf

RATE = 10
SIZE = 16
CAMERA = 'observation.images.top'

_PATHS = {
    'v2.1': dict(
        data_path='data/chunk-{episode_chunk:03d}/'
                  'episode_{episode_index:06d}.parquet',
        video_path='videos/chunk-{episode_chunk:03d}/{video_key}/'
                   'episode_{episode_index:06d}.mp4',
    ),
    'v3.0': dict(
        data_path='data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet',
        video_path='videos/{video_key}/chunk-{chunk_index:03d}/'
                   'file-{file_index:03d}.mp4',
    ),
}


def images(values, height=SIZE, width=SIZE):
  """Returns uniform grey images, one per value."""
  grey = np.asarray(values, np.uint8)[:, None, None, None]
  return np.broadcast_to(grey, [len(grey), height, width, 3])


@functools.lru_cache(maxsize=None)
def video(values, height=SIZE, width=SIZE, rate=RATE):
  """Returns the bytes of a video with uniform grey frames."""
  with tempfile.TemporaryDirectory() as directory:
    path = os.path.join(directory, 'video.mp4')
    writer = imageio_ffmpeg.write_frames(
        path, (width, height), fps=rate, codec='libx264', macro_block_size=1,
        pix_fmt_out='yuv444p', output_params=['-crf', '0', '-threads', '1'],
    )
    writer.send(None)
    for image in images(values, height, width):
      writer.send(np.ascontiguousarray(image))
    writer.close()
    with open(path, 'rb') as file:
      return file.read()


def save(path, content):
  """Writes a file and creates its parent directories."""
  os.makedirs(os.path.dirname(path), exist_ok=True)
  with open(path, 'wb') as file:
    file.write(content)


def episode(number, length, *, is_solved=True, first=0, **changes):
  """Returns the columns of an episode whose first frame is `first`.

  Args:
    number: Index of the episode.
    length: Number of frames.
    is_solved: Whether the last frame is a success.
    first: Index of the first frame in the dataset.
    **changes: Columns to replace; None removes a column. `__` in a name means a
      dot.
  """
  index = np.arange(first, first + length)
  is_last = np.arange(length) == length - 1
  columns = {
      'observation.state': np.stack([index, -index], 1).astype(np.float32),
      'action': np.tile(np.float32([[0.5, -0.25]]), [length, 1]),
      'next.reward': (is_last & is_solved).astype(np.float32),
      'next.done': is_last,
      'next.success': is_last & is_solved,
      'episode_index': np.full([length], number),
      'frame_index': np.arange(length),
      'timestamp': (np.arange(length) / RATE).astype(np.float32),
      'index': index,
      'task_index': np.zeros([length], np.int64),
  }
  columns.update({x.replace('__', '.'): y for x, y in changes.items()})
  return {name: x for name, x in columns.items() if x is not None}


def three_episodes(**changes):
  """Returns episodes of 3 (terminal), 2 and 4 (timeout) frames."""
  return [
      episode(0, 3, **changes),
      episode(1, 2, first=3, is_solved=False, **changes),
      episode(2, 4, first=5, is_solved=False, **changes),
  ]


def encoded(values):
  """Returns a Parquet column of encoded grey images."""
  return [
      {'bytes': tf.io.encode_png(x).numpy(), 'path': f'{i}.png'}
      for i, x in enumerate(images(values))
  ]


def _describe(column):
  if isinstance(column, list):
    return dict(dtype='image', shape=[SIZE, SIZE, 3], names=None)
  return dict(
      dtype=str(column.dtype), shape=[*column.shape[1:]] or [1], names=None
  )


def _table(columns):
  # LeRobot stores columns with one entry per row flat.
  return pa.table({
      name: x if isinstance(x, list)
      else pa.array(x.reshape(len(x), -1)[:, 0]) if x.size == len(x)
      else pa.array(x.tolist(), _list_type(x))
      for name, x in columns.items()
  })


def _list_type(array):
  kind = pa.from_numpy_dtype(array.dtype)
  for _ in array.shape[1:]:
    kind = pa.list_(kind)
  return kind


def _save_table(path, columns):
  os.makedirs(os.path.dirname(path), exist_ok=True)
  pq.write_table(_table(columns), path)


def _join(episodes):
  return {
      name: sum((x[name] for x in episodes), [])
      if isinstance(column, list)
      else np.concatenate([x[name] for x in episodes])
      for name, column in episodes[0].items()
  }


def write(path, version, episodes, *, has_video=True, features=None, **info):
  """Writes a dataset whose images have ten times the frame index as grey value.

  In version 3 the last episode has its own Parquet file, the others share one,
  and all episodes share a video.

  Args:
    path: Directory.
    version: 'v2.1' or 'v3.0'.
    episodes: Columns of each episode.
    has_video: Whether the dataset has a camera.
    features: Feature descriptions that replace those of the data.
    **info: Fields of `meta/info.json` to replace.
  """
  described = {name: _describe(x) for name, x in episodes[0].items()}
  if has_video:
    described[CAMERA] = dict(
        dtype='video', shape=[SIZE, SIZE, 3],
        names=['height', 'width', 'channels'],
    )
  described.update(features or {})
  lengths = [len(x['action']) for x in episodes]
  content = {
      'codebase_version': version, 'features': described, 'fps': RATE,
      'total_episodes': len(episodes), 'total_frames': sum(lengths),
      'chunks_size': 1000, **_PATHS[version], **info,
  }
  save(os.path.join(path, 'meta/info.json'), json.dumps(content).encode())
  write_files = _write_single if version == 'v2.1' else _write_packed
  write_files(path, episodes, lengths, has_video)


def grey(columns):
  return tuple((columns['index'] * 10).tolist())


def _write_single(path, episodes, lengths, has_video):
  paths = _PATHS['v2.1']
  entries = []
  for columns, length in zip(episodes, lengths, strict=True):
    number = int(columns['episode_index'][0])
    place = dict(episode_chunk=0, episode_index=number, video_key=CAMERA)
    _save_table(
        os.path.join(path, paths['data_path'].format(**place)), columns
    )
    if has_video:
      save(os.path.join(path, paths['video_path'].format(**place)),
           video(grey(columns)))
    entries.append(dict(episode_index=number, tasks=['lift'], length=length))
  write_entries(path, 'v2.1', entries)


def _write_packed(path, episodes, lengths, has_video):
  paths = _PATHS['v3.0']
  entries = []
  for i, (columns, length) in enumerate(zip(episodes, lengths, strict=True)):
    file_index = int(i > 0 and i == len(episodes) - 1)
    entries.append({
        'episode_index': int(columns['episode_index'][0]),
        'tasks': ['lift'],
        'length': length,
        'data/chunk_index': 0,
        'data/file_index': file_index,
        'dataset_from_index': sum(lengths[:i]),
        'dataset_to_index': sum(lengths[:i + 1]),
        f'videos/{CAMERA}/chunk_index': 0,
        f'videos/{CAMERA}/file_index': 0,
        f'videos/{CAMERA}/from_timestamp': sum(lengths[:i]) / RATE,
        f'videos/{CAMERA}/to_timestamp': sum(lengths[:i + 1]) / RATE,
    })
  for file_index in {x['data/file_index'] for x in entries}:
    place = dict(chunk_index=0, file_index=file_index)
    _save_table(os.path.join(path, paths['data_path'].format(**place)), _join([
        columns for columns, x in zip(episodes, entries, strict=True)
        if x['data/file_index'] == file_index
    ]))
  if has_video:
    place = dict(chunk_index=0, file_index=0, video_key=CAMERA)
    save(os.path.join(path, paths['video_path'].format(**place)),
         video(grey(_join(episodes))))
  write_entries(path, 'v3.0', entries)


def write_entries(path, version, entries):
  """Writes the metadata entries of the episodes."""
  if version == 'v2.1':
    text = ''.join(json.dumps(x) + '\n' for x in entries)
    save(os.path.join(path, 'meta/episodes.jsonl'), text.encode())
  else:
    file = os.path.join(path, 'meta/episodes/chunk-000/file-000.parquet')
    os.makedirs(os.path.dirname(file), exist_ok=True)
    pq.write_table(pa.Table.from_pylist(entries), file)


def read_entries(path, version):
  """Reads the entries that `write_entries` writes."""
  if version == 'v2.1':
    with open(os.path.join(path, 'meta/episodes.jsonl')) as file:
      return [json.loads(line) for line in file]
  file = os.path.join(path, 'meta/episodes/chunk-000/file-000.parquet')
  return pq.read_table(file).to_pylist()
