"""Tests of the operator's input at the console."""

import os
from unittest import mock

from absl.testing import absltest

from parl_tf.binaries import input_errors
from parl_tf.domains import domain
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
    os.write(self._terminal, b'go\n')
    self.assertFalse(operator_console.ask_operator(None))

  def test_an_episode_can_be_discarded(self):
    os.write(self._terminal, b'd\n')
    with self.assertRaisesRegex(domain.EpisodeLostError, 'discarded'):
      operator_console.ask_operator(None)
    self.assertFalse(operator_console.ask_operator(None))

  def test_an_episode_can_be_ended_without_success(self):
    os.write(self._terminal, b'f\n')
    with self.assertRaisesRegex(domain.EpisodeFailedError, 'ended'):
      operator_console.ask_operator(None)
    self.assertFalse(operator_console.ask_operator(None))

  def test_closed_standard_input_is_an_error(self):
    os.close(self._terminal)
    with self.assertRaisesRegex(EOFError, 'operator needs a terminal'):
      operator_console.ask_operator(None)
    # Ctrl-D at the prompt.
    with mock.patch('builtins.input', side_effect=EOFError('EOF when reading')):
      with mock.patch.object(operator_console, '_typed_lines'):
        try:
          operator_console.ask_for_reset()
        except EOFError as error:
          self.assertIn('operator needs a terminal', str(error))
          self.assertTrue(input_errors.is_of_input(error))
        else:
          self.fail('There was no error.')

  def test_a_reset_waits_for_its_own_answer(self):
    prompts = []

    def type_after_prompt(prompt):
      prompts.append(prompt)
      return ['', 'no', ' go '][len(prompts) - 1]

    os.write(self._terminal, b'\ngo\n')  # Typed too early.
    with mock.patch('builtins.input', type_after_prompt):
      operator_console.ask_for_reset()
    self.assertLen(prompts, 3)
    self.assertRegex(prompts[0], 'Arrange the scene.*"go".*Enter')
    self.assertFalse(operator_console.ask_operator(None))


if __name__ == '__main__':
  absltest.main()
