"""Similarity of pairs: scikit-image's SSIM, equal images, and pairs drawn fairly."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity
from toys import images

from medanomaly.errors import InputError
from medanomaly.metrics.diversity import ms_ssim_of, num_scales, pairwise_similarity, random_pairs, ssim_of
from medanomaly.metrics.jackknife import deal_groups


def test_ssim_is_scikit_images_with_the_papers_window() -> None:
    x, y = images(1, seed=0, side=20), images(1, seed=1, side=20) * 0.3
    first, second = (((one + 1) / 2)[0, 0].double().numpy() for one in (x, y))
    expected = structural_similarity(first, second, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1.0)
    assert float(ssim_of(20)(x, y)[0]) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("side", [11, 28, 64])
def test_equal_images_are_fully_alike_at_every_size(side: int) -> None:
    x = images(2, side=side)
    for similarity in (ssim_of(side), ms_ssim_of(side)):
        torch.testing.assert_close(similarity(x, x), torch.ones(2))
        assert bool((similarity(x, x.flip(0)) < 0.5).all())


def test_scales_are_as_many_as_hold_the_window() -> None:
    assert [num_scales(side) for side in (10, 11, 21, 22, 43, 44, 64, 128, 175, 176, 256)] == [0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    torch.testing.assert_close(ms_ssim_of(11)(images(1, side=11), -images(1, side=11)), torch.zeros(1))


def test_images_smaller_than_the_window_are_refused() -> None:
    for make in (ssim_of, ms_ssim_of):
        with pytest.raises(InputError, match="at least 11 px, got 10"):
            make(10)


def test_few_images_give_all_pairs_and_many_give_different_ones() -> None:
    assert random_pairs(5).tolist() == [list(pair) for pair in itertools.combinations(range(5), 2)]
    drawn = [tuple(pair) for pair in random_pairs(7, max_pairs=20, seed=3).tolist()]
    assert len(set(drawn)) == 20
    assert set(drawn) < set(itertools.combinations(range(7), 2))
    seen = {tuple(pair) for seed in range(30) for pair in random_pairs(7, max_pairs=5, seed=seed).tolist()}
    assert seen == set(itertools.combinations(range(7), 2))
    with pytest.raises(InputError, match="E_TOO_FEW"):
        random_pairs(1)


def test_leaving_a_group_out_leaves_out_every_pair_with_it() -> None:
    values = torch.tensor([0.0, 1.0, 3.0, 7.0])
    x = values.reshape(4, 1, 1, 1)
    found = pairwise_similarity(
        x, random_pairs(4), lambda a, b: -(a - b).abs().flatten() / 10, deal_groups(["a", "b", "c", "d"]), batch_size=4
    )
    pairs = {pair: -abs(float(values[pair[0]] - values[pair[1]])) / 10 for pair in itertools.combinations(range(4), 2)}
    assert found.value == pytest.approx(np.mean(list(pairs.values())))
    without = np.array([np.mean([value for pair, value in pairs.items() if out not in pair]) for out in range(4)])
    assert found.standard_error == pytest.approx(np.sqrt(3 / 4 * ((without - without.mean()) ** 2).sum()))
