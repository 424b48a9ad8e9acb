"""Whose nodes the cluster has: relays go where a label says, so a label that is missing, twice there or unknown leaves an owner out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from ..doctor import Finding
from .ray_cluster import LabelledNode


def judge_labels(nodes: Iterable[LabelledNode], head: str, owners: Mapping[str, str]) -> Iterator[Finding]:
    """One finding for each owner, and for each node that is nobody's.

    Args:
        nodes: those that are alive. head: the address of the head's own node, which needs no label. owners: the owners that are
        reached over Ray, and where the study's file says that their nodes are.
    """
    nodes = tuple(nodes)
    for owner, expected in owners.items():
        found = sorted(node.address for node in nodes if node.owner == owner)
        yield Finding(f"label owner={owner}", ", ".join(found) or "no node", _advice(owner, expected, found))
    for node in nodes:
        if node.owner not in owners and (node.owner, node.address) != (None, head):
            label = "no label" if node.owner is None else f"label owner={node.owner}"
            advice = (
                f"no owner that is reached over Ray has this name; end the node, or start it with --owner and one of: {', '.join(owners)}"
            )
            yield Finding(f"node at {node.address}", label, advice)


def _advice(owner: str, expected: str, found: list[str]) -> str:
    match found:
        case []:
            return f"start it: veilstat node --owner {owner} --address {expected}"
        case [address]:
            mend = f"start it with --address {expected}, or correct the file and run: veilstat renew --config study.toml"
            return "" if address == expected else f"[coordinator.ray.nodes] says {expected}; {mend}"
    return f"a relay may go to any of them; end all but the one of {owner!r}"
