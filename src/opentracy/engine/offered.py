"""What `auto` chooses from where nobody has said it: which of the models with published figures are worth asking.

Belongs here: one name for each model and provider, and leaving out what another model of the same provider makes
needless. Not here: figures (`routing.prior`), prices (`core.pricing`), a configured list (`state`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from opentracy.core.pricing import expected_cost
from opentracy.providers import registry

if TYPE_CHECKING:
    from opentracy.routing.prior import Abilities, Ability

_ORDINARY = 1000, 1000  # tokens of the request whose cost is compared


@dataclass(frozen=True, slots=True)
class _Model:
    name: str
    ability: Ability
    cost: float

    @property
    def sure(self) -> float:
        """Its figure less the standard error: what is hardly known must not displace what is known well."""
        return self.ability.overall.value - self.ability.overall.se

    def makes_needless(self, other: _Model) -> bool:
        """Whether it costs no more and is nowhere known to be worse; of two that are alike the first name stays."""
        mine, theirs = self.ability.domains, other.ability.domains
        if self.cost > other.cost or self.sure < other.sure:
            return False
        if any(mine[d].value < theirs[d].value for d in mine.keys() & theirs.keys()):
            return False
        return (self.cost, self.sure) != (other.cost, other.sure) or self.name < other.name


def offered(figures: Abilities, has_key: Callable[[str], bool]) -> list[str]:
    """`provider/model` of every model that is offered, has figures and a price, and that no other model of its
    provider makes needless; sorted. A model goes by the first of its names that belongs to the provider.
    """
    of_provider: defaultdict[str, dict[int, _Model]] = defaultdict(dict)
    for name in figures:
        ability = figures.find(name)
        if ability is None or not ability.offered:
            continue
        try:
            row, bare = registry.split(name)
        except ValueError:
            continue
        known = of_provider[row.name]
        if id(ability) in known or not has_key(row.name):
            continue
        cost = expected_cost(row.name, bare, *_ORDINARY)
        if cost is not None:
            known[id(ability)] = _Model(f"{row.name}/{bare}", ability, cost)
    return sorted(model.name for found in of_provider.values() for model in _worth_asking(list(found.values())))


def _worth_asking(models: list[_Model]) -> Iterable[_Model]:
    return (m for m in models if not any(other.makes_needless(m) for other in models if other is not m))
