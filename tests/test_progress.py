"""Live news of a query: a bar of many openings, what a deployment waits for, and nothing where nobody watches."""

import io
import signal
import sys

import pytest
from rich.console import Console

import veilstat as vs
from tests.deployments import OWNERS, running
from veilstat.platform.driver import no_progress
from veilstat.platform.progress import FEWEST_OPENINGS, Watching, closing_bar, default_progress, in_words
from veilstat.testing.tables import small_schema, small_tables

STUDY = vs.simulate(small_tables(), small_schema())
SHORT = STUDY.plan(vs.Mean("bp"))
LONG = STUDY.plan(vs.LinearRegression("bp ~ age", method="gradient_descent"))
FROZEN = {
    "connected": ["north", "south"],
    "query": "ab",
    "round": "masked_input",
    "missing": ["west"],
    "bytes": {"north": 900, "server": 334},
}


def shown(plan, *news):
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    with closing_bar(plan, console) as report:
        for act in news:
            act(report)
            report._bar.refresh()
    return console.file.getvalue()


def test_many_openings_are_counted():
    assert LONG.openings > FEWEST_OPENINGS
    text = shown(LONG, lambda report: report("descend", 3, 1000))
    assert "descend" in text
    assert "3 of at most 1000" in text


def test_a_short_query_shows_nothing_unless_it_waits():
    assert shown(SHORT, lambda report: report("moments", 1, 1)) == ""
    text = shown(SHORT, lambda report: report.waits(FROZEN))
    assert f"{SHORT.title}, masked_input, waiting for west, 1,234 bytes" in text


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"round": None}, "approval, waiting for west, 1,234 bytes"),
        ({"round": None, "missing": []}, "computing, 1,234 bytes"),
        ({"missing": []}, "masked_input, 1,234 bytes"),
    ],
)
def test_a_status_is_one_line(changes, words):
    assert in_words(FROZEN | changes) == words


def test_what_others_say_is_shown_as_it_is():
    """The title holds the analyst's words, the rest is the gateway's: brackets are no commands for the terminal."""
    said = "[bold]age[/link]"
    assert f"{said}, waiting for west" in shown(SHORT, lambda report: report.waits(FROZEN | {"round": said}))


def test_nobody_watches_a_pipe_and_a_chosen_report_is_left_alone(monkeypatch):
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    with default_progress(LONG, None) as report:
        assert report is no_progress
    with default_progress(LONG, print) as report:
        assert report is print
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with default_progress(LONG, None) as report:
        assert isinstance(report, Watching)


@pytest.mark.long
def test_an_analyst_sees_whom_a_deployment_waits_for(tmp_path):
    class Recorder:
        def __init__(self):
            self.openings, self.waited = [], []

        def __call__(self, *told):
            self.openings.append(told)

        def waits(self, status):
            self.waited.append(status)

    with running(tmp_path, "masking", "colluding = 0", progress=4.0) as deployment:
        study, recorder = deployment.connect(), Recorder()
        deployment.processes["west"].send_signal(signal.SIGSTOP)
        assert study.mean("bp", progress=recorder).contributors == ("north", "south")
        deployment.processes["west"].send_signal(signal.SIGCONT)
        assert [status["missing"] for status in recorder.waited] == [["west"]] * len(recorder.waited)
        assert recorder.waited
        assert set(recorder.waited[0]["bytes"]) >= {"north", "south"}
        assert recorder.waited[0]["connected"] == list(OWNERS)
        assert len(recorder.openings) == 1
