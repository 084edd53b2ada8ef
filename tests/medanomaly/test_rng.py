import hashlib

import numpy as np
import pytest
import torch

from medanomaly.rng import generator, numpy_generator, stable_hash


def test_a_hash_is_of_the_parts_text_alone_and_so_the_same_in_every_process() -> None:
    digest = hashlib.blake2b(b"0\x1fphantom-film\x1f3", digest_size=8).digest()
    assert stable_hash(0, "phantom-film", 3) == int.from_bytes(digest, "big") // 2
    assert 0 <= stable_hash("x") < 2**63


def test_parts_do_not_run_together() -> None:
    assert len({stable_hash("a", "b"), stable_hash("ab"), stable_hash("a", "", "b"), stable_hash("b", "a")}) == 4


def test_equal_arguments_draw_equally_and_any_other_draws_otherwise() -> None:
    def draw(*key: object) -> tuple[float, ...]:
        return tuple(torch.rand(4, generator=generator(*key)).tolist())  # type: ignore[arg-type]

    assert draw(0, "train", 5) == draw(0, "train", 5)
    assert len({draw(0, "train", 5), draw(1, "train", 5), draw(0, "flip", 5), draw(0, "train", 6), draw(0, "train")}) == 5


def test_numpys_generator_follows_the_same_rule() -> None:
    draws = [numpy_generator(*key).random() for key in ((0, "a", 1), (0, "a", 1), (0, "a", 2), (1, "a", 1))]
    assert draws[0] == draws[1]
    assert len(set(draws)) == 3


def test_nothing_global_is_seeded() -> None:
    before = torch.random.get_rng_state(), str(np.random.get_state())
    generator(0, "x")
    numpy_generator(0, "x").random()
    assert torch.equal(torch.random.get_rng_state(), before[0])
    assert str(np.random.get_state()) == before[1]


@pytest.mark.parametrize("seed", [0, -1, 2**80])
def test_any_integer_is_a_seed(seed: int) -> None:
    assert torch.rand(1, generator=generator(seed, "x")).isfinite()
