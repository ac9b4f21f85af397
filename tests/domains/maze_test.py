"""Tests of mazes as graphs of cells."""

from absl.testing import absltest
from absl.testing import parameterized
import numpy as np

from parl_tf.domains import maze

# Two routes from (1, 1) to (1, 3): 2 steps above, 6 below.
_RING = ('#####', '#...#', '#.#.#', '#...#', '#####')


class MazeTest(parameterized.TestCase):

  def test_cells_are_centred_on_the_origin_with_y_upwards(self):
    ring = maze.Maze(_RING)
    np.testing.assert_array_equal(ring.position((1, 1)), [-1, 1])
    np.testing.assert_array_equal(ring.position((3, 1)), [-1, -1])
    np.testing.assert_array_equal(ring.position((2, 3)), [1, 0])

  def test_cell_size_scales_positions(self):
    ring = maze.Maze(_RING, cell_size=4.0)
    np.testing.assert_array_equal(ring.position((1, 1)), [-4, 4])
    self.assertEqual(ring.cell_at(np.array([-2.5, 5.0])), (1, 1))

  def test_centre_shifts_positions_and_image(self):
    ring = maze.Maze(_RING, cell_size=2.0, centre=(10.0, 20.0))
    np.testing.assert_array_equal(ring.position((1, 3)), [12, 22])
    self.assertEqual(ring.cell_at(np.array([8.5, 17.0])), (3, 1))
    red = (255, 0, 0)
    image = ring.draw([(ring.position((1, 3)), 0.5, red)])
    # The centre of its cell, which is 32 pixels wide.
    self.assertEqual(tuple(image[48, 112]), red)
    self.assertLen(np.unique(image.reshape(-1, 3), axis=0), 3)

  @parameterized.parameters(
      ((-1.2, 1.4), (1, 1)), ((1.4, -0.9), (3, 3)), ((0.1, 0.45), (1, 2))
  )
  def test_cell_of_a_position(self, position, cell):
    self.assertEqual(maze.Maze(_RING).cell_at(np.array(position)), cell)

  def test_a_position_in_a_wall_belongs_to_the_nearest_free_cell(self):
    self.assertEqual(maze.Maze(_RING).cell_at(np.array([-5.0, 0.1])), (2, 1))

  def test_routes_are_shortest(self):
    costs, following = maze.Maze(_RING).routes_to((1, 3))
    self.assertEqual(costs[(1, 1)], 2)
    self.assertEqual(costs[(3, 1)], 4)
    self.assertEqual(following[(1, 1)], (1, 2))
    self.assertEqual(following[(1, 3)], (1, 3))

  def test_routes_avoid_expensive_cells(self):
    ring = maze.Maze(_RING)
    costs = dict.fromkeys(ring.cells, 1.0)
    costs[(1, 2)] = 10.0
    # Above: 1 + 10 = 11. Below: (1, 1), (2, 1), (3, 1), (3, 2), (3, 3),
    # (2, 3) are left at a cost of 1 each: 6.
    costs_to_go, following = ring.routes_to((1, 3), costs)
    self.assertEqual(costs_to_go[(1, 1)], 6)
    self.assertEqual(following[(1, 1)], (2, 1))

  def test_image_has_row_0_on_top_and_discs_in_metres(self):
    # Cells of 2 m are 32 pixels: the disc of 0.5 m about the centre of (3, 1)
    # covers 8 pixels to each side of pixel (3.5 * 32, 1.5 * 32) = (112, 48).
    corner = maze.Maze(('###', '#.#', '#.#', '#.#', '###'), cell_size=2.0)
    red = (255, 0, 0)
    image = corner.draw([(corner.position((3, 1)), 0.5, red)])
    self.assertEqual((image.shape, image.dtype), ((160, 96, 3), np.uint8))
    self.assertEqual(tuple(image[112, 48]), red)
    self.assertEqual(tuple(image[112, 54]), red)
    self.assertEqual(tuple(image[112, 58]), (255, 255, 255))
    self.assertEqual(tuple(image[48, 48]), (255, 255, 255))
    self.assertEqual(len(set(image[10, 10])), 1)
    self.assertLess(image[10, 10, 0], 255)

  @parameterized.parameters(
      ((3, 1), (1, 1)), ((1, 1), (1, 3)), ((1, 2), (1, 3)), ((1, 3), (1, 3))
  )
  def test_a_run_ends_at_a_turn_or_at_the_target(self, cell, end):
    ring = maze.Maze(_RING)
    _, following = ring.routes_to((1, 3))
    # From the lower left corner both routes are equally long. Take the left.
    following[(3, 1)] = (2, 1)
    self.assertEqual(ring.end_of_run(cell, following), end)

  def test_unequal_rows_are_an_error(self):
    with self.assertRaisesRegex(ValueError, 'equally long rows'):
      maze.Maze(('###', '##'))

  def test_a_route_into_a_wall_is_an_error(self):
    with self.assertRaisesRegex(ValueError, r'`target`.*\(0, 0\)'):
      maze.Maze(_RING).routes_to((0, 0))


if __name__ == '__main__':
  absltest.main()
