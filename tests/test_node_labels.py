"""The doctor looks at the labels of nodes: one for each owner, where the study's file says, and none that is nobody's."""

import pytest

from veilstat.platform.deployment.node_labels import judge_labels
from veilstat.platform.deployment.ray_cluster import LabelledNode

HEAD = LabelledNode("10.0.0.1", None)
NORTH, SOUTH = LabelledNode("10.0.0.11", "north"), LabelledNode("10.0.0.12", "south")
OWNERS = {"north": "10.0.0.11", "south": "10.0.0.12"}


def advice(*nodes):
    return {
        finding.what: f"{finding.found}: {finding.advice}" for finding in judge_labels(nodes, "10.0.0.1", OWNERS) if not finding.is_well
    }


def test_one_node_for_each_owner_is_well():
    assert advice(HEAD, NORTH, SOUTH) == {}
    assert [finding.found for finding in judge_labels((HEAD, NORTH, SOUTH), "10.0.0.1", OWNERS)] == ["10.0.0.11", "10.0.0.12"]


@pytest.mark.parametrize(
    ("nodes", "what", "words"),
    [
        ((HEAD, NORTH), "label owner=south", "no node: start it: veilstat node --owner south --address 10.0.0.12"),
        ((HEAD, NORTH, SOUTH, LabelledNode("10.0.0.13", "north")), "label owner=north", "10.0.0.11, 10.0.0.13: a relay may go to any"),
        ((HEAD, NORTH, LabelledNode("10.0.0.99", "south")), "label owner=south", "10.0.0.99: [coordinator.ray.nodes] says 10.0.0.12"),
        ((HEAD, NORTH, SOUTH, LabelledNode("10.0.0.13", "West")), "node at 10.0.0.13", "label owner=West: no owner that is reached"),
        ((HEAD, NORTH, SOUTH, LabelledNode("10.0.0.13", None)), "node at 10.0.0.13", "no label: no owner that is reached"),
    ],
)
def test_a_label_that_is_missing_twice_there_elsewhere_or_unknown_is_named_and_nothing_else(nodes, what, words):
    found = advice(*nodes)
    assert set(found) == {what}
    assert words in found[what]
