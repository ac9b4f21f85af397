"""Maps a critic's values over an ant maze.

  python -m benchmarks.value_map --root_dir runs/antmaze

Restores the run's agent and evaluates states of its dataset. For each point of
a grid it uses states nearby, so that joint angles and velocities are plausible.
V(s) is the value of the best action found by the evaluation search. Prints its
rank correlation (Spearman) with the remaining distance to the goal, which is -1
for a critic that knows the maze, and writes `report/value_map.png` and `.csv`.
"""

import csv
import os
from typing import Dict, List, NamedTuple, Sequence

from absl import app
from absl import flags
import gin
import numpy as np
from scipy import spatial
from scipy import stats
import tensorflow as tf

from parl_tf import randomness
from parl_tf.binaries import restored_run
from parl_tf.datasets import reading
from parl_tf.domains import domain as domain_lib
from parl_tf.domains import maze as maze_lib
from parl_tf.reports import drawing
from parl_tf.search import state_actions

_BATCH_SIZE = 128  # States evaluated at once.


class Point(NamedTuple):
  """A position and the critic's values there.

  Attributes:
    position: `[x, y]` in metres.
    distance: Distance to the goal along the maze, in metres.
    best_value: Mean value of the best action found, over nearby states.
    mean_value: Mean value of the policy's own actions, over nearby states.
    num_states: Number of nearby states in the data.
  """

  position: np.ndarray
  distance: float
  best_value: float
  mean_value: float
  num_states: int


def make_grid(maze: maze_lib.Maze, spacing: float) -> np.ndarray:
  """Returns points `[P, 2]` in the free cells, `spacing` metres apart."""
  offsets = np.arange(spacing / 2, maze.cell_size, spacing) - maze.cell_size / 2
  square = np.stack(np.meshgrid(offsets, offsets), axis=-1).reshape([-1, 2])
  return np.concatenate([maze.position(cell) + square for cell in maze.cells])


def distances_to(
    maze: maze_lib.Maze, goal: maze_lib.Cell, positions: np.ndarray
) -> np.ndarray:
  """Computes the path length from positions to the centre of a goal cell.

  The path goes straight to the centre of the next cell on the shortest route,
  and from centre to centre after that.

  Args:
    maze: The maze.
    goal: A free cell.
    positions: `[P, 2]` in metres.

  Returns:
    `[P]` metres.
  """
  costs, following = maze.routes_to(goal)
  ways = []
  for position in positions:
    ahead = following[maze.cell_at(position)]
    straight = np.linalg.norm(position - maze.position(ahead))
    ways.append(straight + maze.cell_size * costs[ahead])
  return np.array(ways)


def find_states(
    positions: np.ndarray, grid: np.ndarray, radius: float, num_states: int
) -> List[np.ndarray]:
  """Finds, for each grid point, the nearest states of the data.

  Args:
    positions: `[S, 2]` positions of the states.
    grid: `[P, 2]` points.
    radius: Maximum distance of a state in metres.
    num_states: Maximum number of states per point.

  Returns:
    P arrays of state indices, empty if no state is near.
  """
  distances, indices = spatial.cKDTree(positions).query(
      grid, k=num_states, distance_upper_bound=radius
  )
  shape = [len(grid), -1]
  return [
      found[np.isfinite(away)]
      for away, found in zip(
          distances.reshape(shape), indices.reshape(shape), strict=True
      )
  ]


def value_states(agent, observations: np.ndarray) -> Dict[str, np.ndarray]:
  """Evaluates states with the evaluation search.

  Args:
    agent: `PARLAgent` whose search has an optimizer.
    observations: `[S, ...]`, raw.

  Returns:
    `best_value` and `mean_value`, `[S]` each.
  """

  @tf.function(autograph=False)
  def value(observation, seed):
    actions = state_actions.StateActions(
        agent.searches.evaluation,
        agent.generative_policy,
        agent.critic,
        observation,
        seed,
    )
    own = agent.critic.bind(observation)(actions.base())
    return actions.candidates().values[:, 0], tf.reduce_mean(own, axis=1)

  # Only whole batches, so that one trace suffices.
  num_states = len(observations)
  padded = np.resize(
      np.arange(num_states), -(-num_states // _BATCH_SIZE) * _BATCH_SIZE
  )
  parts = [
      value(
          tf.constant(observations[rows]), randomness.fold_in([0, 0], i)
      )
      for i, rows in enumerate(padded.reshape([-1, _BATCH_SIZE]))
  ]
  best, mean = (np.concatenate(x)[:num_states] for x in zip(*parts))
  return {'best_value': best, 'mean_value': mean}


def make_map(
    agent, domain, observations: np.ndarray, *, spacing: float, num_states: int
) -> List[Point]:
  """Evaluates a maze at the grid points that have data nearby.

  Args:
    agent: `PARLAgent`.
    domain: `AntMaze`.
    observations: `[S, 29]` states of the data, starting with x and y.
    spacing: Distance between grid points, and radius of nearby states, in
      metres.
    num_states: Maximum number of states per point.

  Raises:
    ValueError: If no grid point has data nearby.
  """
  maze = domain.maze
  grid = make_grid(maze, spacing)
  found = find_states(observations[:, :2], grid, spacing, num_states)
  if not sum(map(len, found)):
    raise ValueError(
        f'The data must contain states within {spacing} m of a grid point, but'
        f' range from {observations[:, :2].min(axis=0)} to'
        f' {observations[:, :2].max(axis=0)}.'
    )
  values = value_states(agent, observations[np.concatenate(found)])
  ends = np.cumsum([len(x) for x in found])
  distances = distances_to(maze, domain.goal_cell, grid)
  return [
      Point(
          position,
          distance,
          float(np.mean(values['best_value'][end - len(states):end])),
          float(np.mean(values['mean_value'][end - len(states):end])),
          len(states),
      )
      for position, distance, states, end in zip(
          grid, distances, found, ends, strict=True
      )
      if len(states)
  ]


def rank_correlation(points: Sequence[Point], name: str) -> float:
  """Returns Spearman's correlation of a value with the distance."""
  return float(
      stats.spearmanr(
          [point.distance for point in points],
          [getattr(point, name) for point in points],
      ).statistic
  )


def draw(path: str, domain, points: Sequence[Point], title: str) -> None:
  """Draws the best values over the maze: walls grey, start blue, goal red."""
  maze = domain.maze
  rows, columns = maze.shape
  half = maze.cell_size / 2 * np.array([columns, rows])
  plot = drawing.make_plot(1.0 + columns, rows, title)
  panel = plot.add_subplot()
  panel.imshow(maze.draw(), extent=(-half[0], half[0], -half[1], half[1]))
  places = np.array([point.position for point in points])
  drawn = panel.scatter(
      *places.T, c=[point.best_value for point in points], s=60, marker='s'
  )
  for cell, color in ((domain.start_cell, 'blue'), (domain.goal_cell, 'red')):
    panel.plot(
        *maze.position(cell), marker='o', markersize=12, fillstyle='none',
        markeredgewidth=3, color=color,
    )
  panel.set(xlabel='x, metres', ylabel='y, metres')
  plot.colorbar(drawn, label='value of the best action, units of return')
  os.makedirs(os.path.dirname(path), exist_ok=True)
  plot.savefig(path, dpi=100)


def write_table(path: str, points: Sequence[Point]) -> None:
  """Writes one row per point."""
  with open(path, 'w', encoding='utf-8', newline='') as file:
    writer = csv.writer(file, lineterminator='\n')
    writer.writerow(('x', 'y', *Point._fields[1:]))
    writer.writerows((*point.position, *point[1:]) for point in points)


def main(_):
  """Runs the command."""
  options = flags.FLAGS
  agent = restored_run.restore_agent(options.root_dir)
  domain = domain_lib.select_domain()
  path = options.dataset_path
  if path is None:
    path = gin.query_parameter('run_experiment.dataset_path')
  episodes = reading.read_episodes(path, **domain.dataset_options())
  points = make_map(
      agent,
      domain,
      np.concatenate([episode.observation for episode in episodes]),
      spacing=options.spacing,
      num_states=options.num_states,
  )
  report = os.path.join(options.root_dir, 'report')
  plot = os.path.join(report, 'value_map.png')
  draw(plot, domain, points, f'Values of {options.root_dir}')
  write_table(os.path.join(report, 'value_map.csv'), points)
  print(f'{len(points)} positions, rank correlation with distance to goal:')
  for name in ('best_value', 'mean_value'):
    print(f'  {name}: {rank_correlation(points, name):.3f}')
  print(f'Figure: {plot}')


def run() -> None:
  """Defines the flags and runs the command."""
  flags.DEFINE_string('root_dir', None, 'Directory of the run.', required=True)
  flags.DEFINE_string(
      'dataset_path', None, "Data file; by default the run's own."
  )
  flags.DEFINE_float('spacing', 0.5, 'Metres between positions.', 0.05)
  flags.DEFINE_integer('num_states', 8, 'Maximum states per position.', 2)
  app.run(main)


if __name__ == '__main__':
  run()
