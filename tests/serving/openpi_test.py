"""Tests openpi's own client, installed from PyPI, against our server."""

import json
import os
import subprocess
import sys

from absl.testing import absltest
import numpy as np
import pytest

from tests.serving import toy_policy

_PROGRAM = """
import json, sys
import numpy as np
from openpi_client import websocket_client_policy
host, port = sys.argv[1].split(':')
client = websocket_client_policy.WebsocketClientPolicy(
    host, int(port), api_key='secret')
state = np.array([0.5, -0.5, 0.0])
actions = [client.infer({'state': state, 'prompt': 'push'})['actions']]
try:
  client.infer({'stat': state})
except RuntimeError as error:
  fault = str(error)
actions.append(client.infer({'state': state})['actions'])
print(json.dumps([np.stack(actions).tolist(), fault]))
"""


@pytest.mark.full
class OpenpiClientTest(absltest.TestCase):

  def test_openpis_client_gets_the_actions_of_our_server(self):
    environment = os.path.join(self.create_tempdir().full_path, 'theirs')
    python = os.path.join(environment, 'bin', 'python')
    subprocess.run([sys.executable, '-m', 'venv', environment], check=True)
    subprocess.run(
        [
            python, '-m', 'pip', 'install', '--quiet',
            'openpi-client', 'typing_extensions',
        ],
        check=True,
    )
    toy = toy_policy.ToyPolicy()
    server = self.enter_context(
        toy_policy.serving(toy.functions(), api_key='secret', seed=5)
    )

    done = subprocess.run(
        [python, '-c', _PROGRAM, server.address],
        capture_output=True,
        text=True,
        check=False,
    )

    self.assertEqual(done.returncode, 0, done.stderr)
    actions, fault = json.loads(done.stdout)
    seeds = np.random.default_rng(5).integers(2**31, size=2)
    state = {'state': np.array([[0.5, -0.5, 0.0]], np.float32)}
    wanted = [toy.sample(state, 1, int(seed))[0, 0] for seed in seeds]
    np.testing.assert_allclose(actions, wanted, rtol=1e-5, atol=1e-6)
    self.assertIn("['state'] missing", fault)


if __name__ == '__main__':
  absltest.main()
