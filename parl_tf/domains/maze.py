"""A maze of square cells as a graph: positions, distances and routes."""

import heapq
from typing import Dict, Iterable, List, Mapping, Optional, Sequence, Tuple

import numpy as np

Cell = Tuple[int, int]
"""`(row, column)`, counted from the top left corner."""

Disc = Tuple[np.ndarray, float, Tuple[int, int, int]]
"""Centre `[x, y]` and radius in metres, and RGB colour."""

# Layouts of D4RL (Fu et al., 2020, arXiv:2004.07219).
LAYOUTS = {
    'UMaze': (
        '#####',
        '#...#',
        '###.#',
        '#...#',
        '#####',
    ),
    'Medium': (
        '########',
        '#..##..#',
        '#..#...#',
        '##...###',
        '#..#...#',
        '#.#..#.#',
        '#...#..#',
        '########',
    ),
    'Large': (
        '############',
        '#....#.....#',
        '#.##.#.#.#.#',
        '#......#...#',
        '#.####.###.#',
        '#..#.#.....#',
        '##.#.#.#.###',
        '#..#...#...#',
        '############',
    ),
}
WALL = '#'
_PIXELS_PER_CELL = 32
_FREE_SHADE, _WALL_SHADE = 255, 110
_NEIGHBOURS = ((0, 1), (1, 0), (0, -1), (-1, 0))


def as_cell(pair: Sequence[int]) -> Cell:
  """Returns a pair of numbers as a cell; gin may pass a list."""
  row, column = pair
  return row, column


class Maze:
  """A maze with x to the right and y upwards.

  Attributes:
    layout: One string per row; `#` is a wall, anything else is free.
    cells: All free cells, row by row.
    cell_size: Side of a cell in metres.
    centre: Centre `[x, y]` of the maze in metres.
  """

  def __init__(
      self,
      layout: Sequence[str],
      *,
      cell_size: float = 1.0,
      centre: Tuple[float, float] = (0.0, 0.0),
  ):
    """Initializes the maze; see the attributes.

    Raises:
      ValueError: If the rows differ in length, there are none, or `cell_size`
        is not positive.
    """
    if not layout or len({len(row) for row in layout}) != 1:
      raise ValueError(f'`layout` must have equally long rows, got {layout}.')
    if cell_size <= 0:
      raise ValueError(f'`cell_size` must be positive, got {cell_size}.')
    self.layout = tuple(layout)
    self.cell_size = cell_size
    self.centre = np.array(centre)
    self.cells: List[Cell] = [
        (row, column)
        for row, line in enumerate(self.layout)
        for column, symbol in enumerate(line)
        if symbol != WALL
    ]
    self._free = frozenset(self.cells)
    self._centres = np.array([self.position(cell) for cell in self.cells])

  @property
  def shape(self) -> Tuple[int, int]:
    """Number of rows and columns, including walls."""
    return len(self.layout), len(self.layout[0])

  def is_free(self, cell: Cell) -> bool:
    """Returns whether `cell` is inside the maze and not a wall."""
    return tuple(cell) in self._free

  def position(self, cell: Cell) -> np.ndarray:
    """Returns the centre `[x, y]` of a cell in metres."""
    rows, columns = self.shape
    row, column = cell
    return self.centre + self.cell_size * np.array(
        [column + 0.5 - columns / 2, rows / 2 - row - 0.5]
    )

  def cell_at(self, position: np.ndarray) -> Cell:
    """Returns the free cell whose centre is nearest to `[x, y]`."""
    offset = self._centres - position
    return self.cells[int(np.argmin(np.sum(offset * offset, axis=1)))]

  def neighbours(self, cell: Cell) -> List[Cell]:
    """Returns the free cells that share a side with `cell`."""
    row, column = cell
    return [
        (row + down, column + right)
        for down, right in _NEIGHBOURS
        if (row + down, column + right) in self._free
    ]

  def routes_to(
      self, target: Cell, cell_costs: Optional[Mapping[Cell, float]] = None
  ) -> Tuple[Dict[Cell, float], Dict[Cell, Cell]]:
    """Finds the cheapest route from every cell to `target`.

    Args:
      target: A free cell.
      cell_costs: Positive cost of leaving each cell. None uses 1, so that costs
        are distances in cells.

    Returns:
      The cost of the route from each cell, and the next cell on that route;
      `target` is its own next cell.

    Raises:
      ValueError: If `target` is not a free cell.
    """
    if not self.is_free(target):
      raise ValueError(f'`target` must be a free cell, got {target}.')
    costs = {target: 0.0}
    following = {target: target}
    queue = [(0.0, target)]
    while queue:
      cost, cell = heapq.heappop(queue)
      if cost > costs[cell]:
        continue
      for neighbour in self.neighbours(cell):
        step = 1.0 if cell_costs is None else cell_costs[neighbour]
        if cost + step < costs.get(neighbour, np.inf):
          costs[neighbour] = cost + step
          following[neighbour] = cell
          heapq.heappush(queue, (cost + step, neighbour))
    return costs, following

  def end_of_run(self, cell: Cell, following: Mapping[Cell, Cell]) -> Cell:
    """Returns the cell where the route from `cell` first turns or ends.

    Args:
      cell: A free cell.
      following: Next cell of each cell, as returned by `routes_to`.
    """
    ahead = following[cell]
    down, right = ahead[0] - cell[0], ahead[1] - cell[1]
    while (down, right) != (0, 0) and following[ahead] == (
        ahead[0] + down, ahead[1] + right
    ):
      ahead = following[ahead]
    return ahead

  def draw(self, discs: Iterable[Disc] = ()) -> np.ndarray:
    """Renders the maze from above, `[height, width, 3]` uint8."""
    rows, columns = self.shape
    shades = [
        [_WALL_SHADE if symbol == WALL else _FREE_SHADE for symbol in line]
        for line in self.layout
    ]
    cell = np.ones([_PIXELS_PER_CELL, _PIXELS_PER_CELL, 3], np.uint8)
    image = np.kron(np.array(shades, np.uint8)[:, :, None], cell)
    y, x = (np.indices(image.shape[:2]) + 0.5) * (
        self.cell_size / _PIXELS_PER_CELL
    )
    x = x - columns / 2 * self.cell_size
    y = rows / 2 * self.cell_size - y
    for place, radius, color in discs:
      right, up = place - self.centre
      image[np.hypot(x - right, y - up) <= radius] = color
    return image
