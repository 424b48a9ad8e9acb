"""The gateway against its own description, by schemathesis: whatever is sent, every answer is one that the description lists, and none is a crash."""

import importlib.util
import re
import subprocess
import sys

import pytest

from tests.deployments import running

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(importlib.util.find_spec("schemathesis") is None, reason="schemathesis is not installed"),
]


# Whoever shows wrong tokens too often is refused with 429 instead of 401, a later session takes an earlier one's place, no schema of
# OpenAPI says which octets are frames, and waits of twenty seconds for frames are left to other tests.
CONFIGURATION = """
headers = {{ Authorization = "Bearer {token}" }}
tls-verify = "{authority}"
rate-limit = "40/s"
request-timeout = 30
[parameters]
"query.wait" = 0
[generation]
max-examples = 50
database = "none"
[checks]
ignored_auth.enabled = false
ensure_resource_availability.enabled = false
missing_required_header.expected-statuses = ["401", "429"]
positive_data_acceptance.expected-statuses = ["2xx", "400", "404", "409", "429"]
"""


def test_every_answer_is_one_that_the_description_lists(tmp_path):
    (tmp_path / "study").mkdir()
    with running(tmp_path / "study") as deployment:
        settings = CONFIGURATION.format(token=deployment.token, authority=deployment.folder / "private/authority.pem")
        (tmp_path / "schemathesis.toml").write_text(settings)
        command = [sys.executable, "-m", "schemathesis.cli", "run", f"{deployment.url}/openapi.json", "--seed=1"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        assert int(re.search(r"(\d+) generated", done.stdout)[1]) > 300
        assert deployment.connect().mean("bp").n == 93
