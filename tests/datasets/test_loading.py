"""Batches: pairs that share a true caption, captions that are certainly false, and each picture by itself."""

from collections import Counter
from itertools import islice

import numpy as np
import pytest
import torch

from workbench.datasets.loading import Batches, PairedBatches, PictureTable, batches
from workbench.datasets.pairing import derangement, group_ids, lonely_partners
from workbench.datasets.world import captions
from workbench.datasets.world.folder import write_world
from workbench.errors import WorkbenchError

SIDE = 16
FACTORS = captions.FACTOR_NAMES


def factor_table(sizes: list[int], *, partial: bool = False) -> PictureTable:
    """Groups of the given sizes; picture k holds the value k everywhere, so that it is known again."""
    choices = [
        (coat, pose, "park", "day") for coat in ("white", "black", "red") for pose in ("sitting", "lying")
    ]
    known = [
        dict(zip(FACTORS, choices[group], strict=True))
        for group, size in enumerate(sizes)
        for _ in range(size)
    ]
    texts = [
        f"a {factors['coat']} dog"
        if partial and row % 2
        else f"a {factors['coat']} dog {factors['pose']} in the park"
        for row, factors in enumerate(known)
    ]
    groups = group_ids(texts, known)
    pixels = torch.arange(len(texts), dtype=torch.uint8)[:, None, None, None].expand(-1, 4, 4, 3).contiguous()
    partners = lonely_partners(texts, known, groups, [str(row) for row in range(len(texts))])
    return PictureTable(pixels.permute(0, 3, 1, 2), texts, groups, partners, known)


def text_table(texts: list[str]) -> PictureTable:
    known = [{} for _ in texts]
    groups = group_ids(texts, known)
    partners = lonely_partners(texts, known, groups, [str(row) for row in range(len(texts))])
    return PictureTable(torch.zeros(len(texts), 3, 4, 4, dtype=torch.uint8), texts, groups, partners, known)


# ---------------------------------------------------------------- pairs


def test_pairs_are_two_pictures_of_one_group_under_the_first_s_caption():
    table = factor_table([5, 4, 2, 3, 6])
    batches = PairedBatches(table, 8, seed=0)
    for step in range(200):
        batch = batches.batch_at(step)
        first, second = batch.rows[0::2], batch.rows[1::2]
        assert (first != second).all()
        assert torch.equal(table.groups[first], table.groups[second])
        assert batch.captions[0::2] == batch.captions[1::2] == [table.texts[row] for row in first.tolist()]
        assert batch.caption_rows.tolist() == first.repeat_interleave(2).tolist()
        for text, row in zip(batch.captions, batch.rows.tolist(), strict=True):
            claims = captions.named_factors(text)
            assert claims and claims.items() <= table.known[row].items()  # true of both
        # Pictures hold their row number: the images are those of the rows.
        assert torch.equal(((batch.images[:, 0, 0, 0] + 1) * 127.5).round().long(), batch.rows)
    assert batch.images.shape == (8, 3, 4, 4) and batch.images.dtype == torch.float32
    assert batch.images.is_contiguous(memory_format=torch.channels_last)


def test_every_picture_comes_once_an_epoch_and_one_of_an_odd_group_twice():
    table = factor_table([5, 4, 2, 3, 6])
    batches = PairedBatches(table, 2, seed=3)
    assert batches.pairs_per_epoch == 3 + 2 + 1 + 2 + 3
    total = Counter()
    for epoch in range(40):
        steps = range(epoch * 11, epoch * 11 + 11)
        rows = Counter(row for step in steps for row in batches.batch_at(step).rows.tolist())
        assert set(rows) == set(range(20)) and sorted(rows.values())[-3:] == [1, 2, 2]
        total += rows
    for group in range(5):  # within a group nobody is left behind over the epochs
        used = [total[row] for row in range(20) if table.groups[row] == group]
        assert max(used) <= 1.25 * min(used)


def test_groups_are_spread_over_an_epoch():
    batches = PairedBatches(factor_table([40, 40, 4]), 2, seed=1)
    order = [int(batches.table.groups[batches.batch_at(step).rows[0]]) for step in range(42)]
    for half in (order[:21], order[21:]):
        assert half.count(0) == 10 or half.count(0) == 11
        assert half.count(2) == 1


def test_a_batch_is_a_function_of_seed_and_step():
    table = factor_table([5, 4, 2, 3, 6])
    ahead = PairedBatches(table, 6, seed=9)
    wanted = [ahead.batch_at(step) for step in range(30)]
    back = PairedBatches(table, 6, seed=9)
    for step in (29, 3, 17, 0, 29, 11):  # as a resumed run meets them, or in any order
        batch = back.batch_at(step)
        assert torch.equal(batch.rows, wanted[step].rows) and torch.equal(batch.images, wanted[step].images)
        assert torch.equal(back.mismatched(batch)[0], ahead.mismatched(wanted[step])[0])
    other = [PairedBatches(table, 6, seed=10).batch_at(step).rows for step in range(30)]
    assert not all(torch.equal(rows, batch.rows) for rows, batch in zip(other, wanted, strict=True))


def test_flips_are_by_picture_and_by_option():
    table = factor_table([20, 20])
    ramp = torch.arange(4, dtype=torch.uint8).expand(40, 3, 4, 4).contiguous()
    table = PictureTable(ramp, table.texts, table.groups, table.partners, table.known)
    turned = []
    for step in range(100):
        images = PairedBatches(table, 8, seed=0).batch_at(step).images
        turned.append(images[:, 0, 0, 0] > images[:, 0, 0, 3])
        straight = PairedBatches(table, 8, seed=0, flip=False).batch_at(step).images
        assert torch.equal(torch.where(turned[-1][:, None, None, None], images.flip(3), images), straight)
    turned = torch.cat(turned).float()
    assert 0.42 < turned.mean() < 0.58  # 800 throws: 0.5 ± 0.018
    assert abs(np.corrcoef(turned[0::2], turned[1::2])[0, 1]) < 0.2  # the members of a pair independently


def test_a_picture_alone_goes_with_the_nearest_caption():
    table = text_table(["a cat on a red sofa", "a cat on a blue sofa", "two birds", "three birds in the sky"])
    assert table.partners.tolist() == [1, 0, 3, 2]
    batches = PairedBatches(table, 2, seed=0)
    for step in range(12):
        first, second = batches.batch_at(step).rows.tolist()
        assert table.partners[first] == second


def test_a_picture_alone_prefers_one_that_its_caption_is_true_of():
    # Word for word picture 1 is nearer to picture 0; but "white" and "lying" are true of picture 2.
    known = [
        dict(zip(FACTORS, values, strict=True))
        for values in (
            ("white", "lying", "park", "day"),
            ("black", "sitting", "park", "day"),
            ("white", "lying", "snow", "night"),
        )
    ]
    texts = ["a white dog lying", "a black dog lying", "snow, winter"]
    partners = lonely_partners(texts, known, group_ids(texts, known), ["a", "b", "c"])
    assert partners[0] == 2


def test_equal_partners_take_turns():
    table = text_table([f"dog number{row}" for row in range(12)])
    assert max(Counter(table.partners.tolist()).values()) <= 2


def test_one_picture_under_many_captions_still_pairs():
    known = [{}, {}]
    partners = lonely_partners(["x", "y"], known, group_ids(["x", "y"], known), ["a.png", "a.png"])
    assert partners.tolist() == [1, 0]


def test_senseless_requests_are_refused():
    table = factor_table([2, 2])
    for size in (0, 3, -2, 2.0, True):
        with pytest.raises(WorkbenchError, match="expected an even number"):
            PairedBatches(table, size, seed=0)
    with pytest.raises(WorkbenchError, match="1 picture: expected 2"):
        PairedBatches(factor_table([1]), 2, seed=0)
    with pytest.raises(WorkbenchError, match="step is -1"):
        PairedBatches(table, 2, seed=0).batch_at(-1)


# ---------------------------------------------------------------- mismatches


@pytest.mark.parametrize("sizes", [[5, 4, 2, 3, 6], [1, 1, 1, 1, 1, 1], [9, 1, 1]])
def test_a_mismatched_caption_is_false_of_the_picture(sizes):
    # Half of the captions name the coat alone: another group of the same coat would not contradict them.
    table = factor_table(sizes, partial=True)
    batches = PairedBatches(table, 8, seed=4)
    seen = []
    for step in range(150):
        batch = batches.batch_at(step)
        index, valid = batches.mismatched(batch)
        assert index.shape == valid.shape == (8,)
        seen.append(valid)
        for at in range(8):
            claims = captions.named_factors(batch.captions[index[at]])
            truth = table.known[int(batch.rows[at])]
            if valid[at]:
                assert any(truth[name] != value for name, value in claims.items())
                assert table.groups[batch.caption_rows[index[at]]] != table.groups[batch.rows[at]]
            else:
                assert index[at] == at
        pairs = index.view(4, 2)
        assert (pairs[:, 0] % 2 == 0).all() and torch.equal(pairs[:, 1], pairs[:, 0] + 1)
    assert torch.cat(seen).float().mean() > (0.9 if len(sizes) > 3 else 0.3)


def test_the_world_s_own_captions_are_mismatched_truly():
    table = PictureTable.from_world(1, 48, SIDE)
    batches = PairedBatches(table, 16, seed=0)
    share = []
    for step in range(20):
        batch = batches.batch_at(step)
        index, valid = batches.mismatched(batch)
        share.append(valid.float().mean())
        for at in valid.nonzero().flatten().tolist():
            claims = captions.named_factors(batch.captions[index[at]])
            assert not claims.items() <= table.known[int(batch.rows[at])].items()
    assert torch.stack(share).mean() > 0.98


def test_without_factors_a_mismatch_is_another_text():
    table = text_table(["a", "a", "b", "b", "c", "c", "d"])
    batches = PairedBatches(table, 4, seed=0)
    for step in range(60):
        batch = batches.batch_at(step)
        index, valid = batches.mismatched(batch)
        for at in range(4):
            wrong, own = batch.captions[index[at]], table.texts[int(batch.rows[at])]
            assert (wrong not in (own, batch.captions[at])) == bool(valid[at])


def test_a_batch_of_one_group_has_no_mismatch():
    batches = PairedBatches(factor_table([6]), 4, seed=0)
    index, valid = batches.mismatched(batches.batch_at(0))
    assert not valid.any() and index.tolist() == [0, 1, 2, 3]


def test_a_derangement_is_a_permutation_where_one_exists():
    generator = torch.Generator().manual_seed(0)
    ring = np.array([[(column - row) % 6 in (1, 2) for column in range(6)] for row in range(6)])
    drawn = {tuple(derangement(ring, generator)) for _ in range(50)}
    assert len(drawn) > 1
    for columns in drawn:
        assert sorted(columns) == list(range(6)) and all(
            ring[row, column] for row, column in enumerate(columns)
        )
    # Two rows want the one column: both get it; a row that allows none gets -1.
    assert derangement(np.array([[0, 0, 1], [0, 0, 1], [0, 0, 0]], dtype=bool), generator) == [2, 2, -1]


# ---------------------------------------------------------------- each picture by itself


def test_each_picture_comes_once_an_epoch_in_another_order():
    shuffled = Batches(factor_table([5, 4, 2, 3, 6]), 7, seed=3)
    rows = torch.cat([shuffled.batch_at(step)[2] for step in range(60)])  # 21 epochs of 20, across their ends
    orders = {tuple(rows[at : at + 20].tolist()) for at in range(0, 420, 20)}
    assert len(orders) == 21 and all(sorted(order) == list(range(20)) for order in orders)


def test_a_plain_batch_is_a_function_of_seed_and_step():
    table = factor_table([5, 4, 2])
    wanted = list(islice(batches(table, 4, 3, seed=5, flip=True), 30))
    assert wanted[0][0].shape == (3, 3, 4, 4) and wanted[0][0].is_contiguous(
        memory_format=torch.channels_last
    )
    for start in (29, 0, 17):
        images, texts, rows = next(batches(table, 4, 3, seed=5, flip=True, start=start))
        assert torch.equal(images, wanted[start][0]) and torch.equal(rows, wanted[start][2])
        assert texts == wanted[start][1] == [table.texts[row] for row in rows.tolist()]
    # Pictures hold their row number, in [-1, 1].
    assert torch.equal(images, (rows.float() / 127.5 - 1)[:, None, None, None].expand(3, 3, 4, 4))
    other = torch.cat([rows for _, _, rows in islice(batches(table, 4, 3, seed=6), 30)])
    assert not torch.equal(other, torch.cat([rows for _, _, rows in wanted]))


def test_batches_from_a_folder(tmp_path):
    path = write_world(tmp_path / "set", count=6, seed=2, resolution=SIDE, workers=1, progress=False)
    table = PictureTable.from_world(2, 6, SIDE)
    images, texts, rows = next(batches(path, SIDE, 6))
    assert sorted(rows.tolist()) == list(range(6)) and texts == [table.texts[row] for row in rows.tolist()]
    assert torch.equal(((images + 1) * 127.5).round().to(torch.uint8), table.images[rows])


def sided_table() -> PictureTable:
    """Ramps that show whether they were mirrored; rows 0, 2, 4 … name a side."""
    texts = [f"a dog {('on the left', 'in the park')[row % 2]} {row // 4}" for row in range(40)]
    ramp = torch.arange(4, dtype=torch.uint8).expand(40, 3, 4, 4).contiguous()
    table = text_table(texts)
    return PictureTable(ramp, texts, table.groups, table.partners, table.known)


def test_no_picture_is_mirrored_whose_caption_names_a_side():
    table, turned = sided_table(), Counter()
    for images, texts, _ in islice(batches(table, 4, 8, flip=True), 100):
        for image, text in zip(images, texts, strict=True):
            turned["left" in text, bool(image[0, 0, 0] > image[0, 0, 3])] += 1
    assert turned[True, True] == 0 and turned[True, False] > 300
    assert 0.4 < turned[False, True] / (turned[False, True] + turned[False, False]) < 0.6


def test_no_pair_is_mirrored_under_a_caption_that_names_a_side():
    table, turned = sided_table(), Counter()
    pairs = PairedBatches(table, 8, seed=1)
    for step in range(100):
        batch = pairs.batch_at(step)
        for at in range(8):
            shown = "left" in batch.captions[at] or "left" in table.texts[int(batch.rows[at])]
            turned[shown, bool(batch.images[at, 0, 0, 0] > batch.images[at, 0, 0, 3])] += 1
    assert turned[True, True] == 0 and turned[False, True] > 100


def test_senseless_plain_batches_are_refused():
    for size in (0, -1, 2.0, True):
        with pytest.raises(WorkbenchError, match="batch_size is"):
            Batches(factor_table([2]), size, seed=0)
    with pytest.raises(WorkbenchError, match="step is -1"):
        next(batches(factor_table([2]), 4, 2, start=-1))
