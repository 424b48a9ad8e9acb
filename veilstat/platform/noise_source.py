"""Who adds the noise of a promise, given where it is to enter: the architecture's choice, every owner alone, or the recipient."""

from __future__ import annotations

import math

from veilstat.architectures.interface import NoiseSite, NoiseSource
from veilstat.dp.mechanism import AFTER_OPENING, LOCAL, Gaussian
from veilstat.errors import CapabilityError

from .definition import Definition


def noise_source(promise: Gaussian, definition: Definition) -> NoiseSource:
    """Who adds noise, and how many of them surely do.

    Raises:
        CapabilityError: the architecture has nobody who could add it there.
    """
    if promise.placement == AFTER_OPENING:
        return NoiseSource(NoiseSite.RECIPIENT, 1, 1)
    source = definition.trust.noise
    if promise.placement == LOCAL:
        if source is not None and source.site is NoiseSite.SERVERS:
            raise CapabilityError(
                "owners whose rows are with the compute servers add no noise of their own (placement='local'); leave placement out, "
                "or let owners send totals (entry='totals')",
                code="no_local_noise",
            )
        return NoiseSource(NoiseSite.OWNERS, len(definition.owners), 1)
    if source is None:
        raise CapabilityError(
            f"on the architecture {definition.architecture.name!r} as it is configured, nobody is sure to add noise before anything is opened; "
            "use another one, or placement='local' or 'after_opening'",
            code="no_noise_site",
        )
    return source


def placement_words(placement: str, source: NoiseSource) -> str:
    """For plans: who adds noise, and against whom the promise holds."""
    if source.site is NoiseSite.RECIPIENT:
        return (
            "weaker: noise enters after opening. Whoever is named above learns the exact totals and adds the noise itself; "
            "the promise holds for what is passed on, and not against whoever opened it"
        )
    if placement == LOCAL:
        return (
            "local: every owner adds noise that keeps the promise alone, whoever else colludes; "
            f"with all {source.count} the error is sqrt({source.count}) = {math.sqrt(source.count):.3g} times that of a single noise"
        )
    who = "owner" if source.site is NoiseSite.OWNERS else "compute server"
    excess = source.count / source.honest
    return (
        f"every {who} adds its own noise before anything is opened, enough that {source.honest} honest ones keep the promise; nobody ever holds "
        f"an exact total. With all {source.count} the error is sqrt({source.count}/{source.honest}) = {math.sqrt(excess):.3g} times that of a single noise"
    )
