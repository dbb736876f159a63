"""Banks: drawn by a seed, and refused where they hold a pair of the test set."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import vse_gpo.retrieval.banks as banks_module
from vse_gpo.errors import VSEError
from vse_gpo.retrieval.banks import beside, check_ids, drawn, drawn_rows
from vse_gpo.retrieval.embeddings import Encoded, encoded
from vse_gpo.retrieval.similarity import matrix_similarities


def pairs(seed: int, images: int = 9, ids: str | None = None, width: int = 8) -> Encoded:
    """Images with two captions each, in no order."""
    draws = torch.Generator().manual_seed(seed)
    index = np.random.default_rng(seed).permutation(np.arange(images).repeat(2))
    return encoded(
        torch.randn(images, width, generator=draws),
        torch.randn(2 * images, width, generator=draws),
        caption_to_image=index,
        image_ids=None if ids is None else [f"{ids}{row}" for row in range(images)],
        caption_ids=None if ids is None else [f"{ids}{row}" for row in range(2 * images)],
    )


def test_rows_are_drawn_by_the_seed_without_repeats():
    assert drawn_rows(5, None, 0).tolist() == drawn_rows(5, 7, 0).tolist() == [0, 1, 2, 3, 4]
    first, again, other = (drawn_rows(1000, 20, seed).tolist() for seed in (0, 0, 1))
    assert first == again == sorted(set(first))
    assert len(first) == 20
    assert first != other


def test_drawn_images_keep_all_their_captions():
    every = pairs(0, ids="a")
    some = drawn(every, 4, seed=3)
    rows = drawn_rows(9, 4, seed=3).tolist()
    assert some.image_ids == [f"a{row}" for row in rows]
    for caption, image in enumerate(some.caption_to_image):
        row = int(some.caption_ids[caption][1:])
        assert every.caption_to_image[row] == rows[image]
        assert torch.equal(some.embeddings[1][caption], every.embeddings[1][row])
    assert len(some.caption_to_image) == 8
    assert torch.equal(some.embeddings[0], every.embeddings[0][rows])


def test_a_bank_compares_its_pairs_with_the_test_set():
    test, bank = pairs(0), pairs(1, images=5)
    found = beside(test, bank)
    assert found.similarities is test.similarities
    (images, captions), (banked, described) = test.embeddings, bank.embeddings
    for similarity, expected in (
        (found.bank.image_caption, banked @ described.T),
        (found.bank.image_tested, banked @ captions.T),
        (found.bank.tested_caption, images @ described.T),
        (found.bank.searched("t2i").queries, described @ images.T),
        (found.bank.searched("i2t").among, banked @ described.T),
    ):
        tile = similarity.tile(*(slice(0, size) for size in similarity.shape))
        torch.testing.assert_close(tile, expected)


def join(first: Encoded, second: Encoded) -> Encoded:
    """Both, the second last."""
    parts = [torch.cat(both) for both in zip(first.embeddings, second.embeddings, strict=True)]
    index = np.concatenate([first.caption_to_image, second.caption_to_image + len(first.embeddings[0])])
    return encoded(*parts, caption_to_image=index)


@pytest.mark.parametrize("precision", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("numbers", [1, 2**20])
def test_a_bank_with_one_pair_of_the_test_set_is_refused(precision, numbers, monkeypatch):
    monkeypatch.setattr(banks_module, "NUMBERS_AT_ONCE", numbers)
    test = pairs(0, width=256)
    taken = drawn(test, 1, seed=0)
    rounded = replace(taken, embeddings=tuple(part.to(precision).float() for part in taken.embeddings))
    row = drawn_rows(9, 1, seed=0)[0]
    message = f"the bank holds a pair of the test set: its image 4 and one of its captions embed as image {row} "
    with pytest.raises(VSEError, match=message):
        beside(test, join(pairs(1, images=4, width=256), rounded))


def test_an_image_or_a_caption_that_two_pairs_share_is_no_pair():
    """Two photographs are described by one text, or one photograph is in the data set twice, with other captions."""
    test, bank = pairs(0), pairs(1)
    for shared in (0, 1):
        parts = list(bank.embeddings)
        parts[shared] = test.embeddings[shared]
        assert beside(test, encoded(*parts, caption_to_image=bank.caption_to_image)).bank is not None


@pytest.mark.parametrize(
    ("bank", "message"),
    [
        (pairs(1, ids="a"), "the bank holds 9 images of the test set, first id a0; expected other pairs"),
        (pairs(1, width=6), "bank of embeddings 6 wide, the test set's are 8 wide; embed both by one model"),
        (
            Encoded(similarities=matrix_similarities(torch.eye(3)), caption_to_image=np.arange(3)),
            r"a bank of only similarities, as an \.npy file",
        ),
    ],
)
def test_a_bank_that_does_not_fit_is_refused(bank, message):
    with pytest.raises(VSEError, match=message):
        beside(pairs(0, ids="a"), bank)


def test_a_test_set_of_similarities_takes_no_bank():
    test = Encoded(similarities=matrix_similarities(torch.eye(3)), caption_to_image=np.arange(3))
    with pytest.raises(VSEError, match=r"a test set of only similarities, as an \.npy file"):
        beside(test, pairs(0))


def test_ids_that_are_not_known_share_nothing():
    check_ids(None, ["a"], "image")
    check_ids(["b"], ["a"], "image")
    with pytest.raises(VSEError, match="holds 1 captions of the test set, first id a"):
        check_ids(["b", "a"], ["c", "a"], "caption")
