"""Tests of the operator's input at the console."""

import io
import os
from unittest import mock

from absl.testing import absltest

from parl_tf.domains import operator_console


class OperatorConsoleTest(absltest.TestCase):

  def setUp(self):
    super().setUp()
    reader, self._terminal = os.pipe()
    file = os.fdopen(reader, encoding='utf-8')
    self.addCleanup(file.close)
    self.enter_context(mock.patch('sys.stdin', file))

  def test_enter_reports_success_once(self):
    self.assertFalse(operator_console.ask_operator(None))
    os.write(self._terminal, b'\n\n')
    self.assertTrue(operator_console.ask_operator(None))
    self.assertFalse(operator_console.ask_operator(None))
    os.close(self._terminal)

  def test_closed_standard_input_is_an_error(self):
    os.close(self._terminal)
    with self.assertRaisesRegex(EOFError, '`ask_operator`.*terminal'):
      operator_console.ask_operator(None)
    with self.assertRaises(EOFError):
      operator_console.ask_for_reset()

  def test_a_reset_waits_for_enter(self):
    output = self.enter_context(
        mock.patch('sys.stdout', new_callable=io.StringIO)
    )
    os.write(self._terminal, b'\n')
    operator_console.ask_for_reset()
    self.assertRegex(output.getvalue(), 'Arrange the scene.*Enter')
    self.assertFalse(operator_console.ask_operator(None))
    os.close(self._terminal)


if __name__ == '__main__':
  absltest.main()
