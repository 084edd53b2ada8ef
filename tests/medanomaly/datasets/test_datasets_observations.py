from __future__ import annotations

import pytest

from medanomaly.datasets.observations import observations_of, observations_text
from medanomaly.errors import InputError


@pytest.mark.parametrize("observations", [(), (("Pleural Effusion", 1),), (("No Finding", 0), ("Edema", -1), ("a=b", 1))])
def test_observations_survive_their_cell(observations: tuple[tuple[str, int], ...]) -> None:
    assert observations_of(observations_text(observations)) == observations


@pytest.mark.parametrize("cell", ["Edema", "Edema=2", "=1", "Edema=1; Edema=0", "Edema=1;"])
def test_what_is_no_observation_is_refused(cell: str) -> None:
    with pytest.raises(InputError) as refused:
        observations_of(cell)
    assert refused.value.code == "E_OBSERVATION"
