import torch
from hypothesis import given
from hypothesis import strategies as st

from evaluation.retrieval import Labels, ranks

GALLERY = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 0.9]])
SHOWN = Labels(["apple", "apple", "dog", "dog"], ["noto", "flat", "noto", "flat"])


def test_the_asked_concept_in_another_style_is_found_first():
    asked = Labels(["apple", "dog"], ["noto", "noto"])
    assert ranks(GALLERY[[0, 2]], asked, GALLERY, SHOWN).tolist() == [0, 0]


def test_pictures_of_something_else_come_before():
    assert ranks(GALLERY[[2]], Labels(["apple"], ["noto"]), GALLERY, SHOWN).tolist() == [2]


def test_the_asked_picture_itself_is_left_out_so_a_copy_does_not_find_itself():
    alone = Labels(["apple", "pear", "dog", "dog"], SHOWN.styles)
    assert ranks(GALLERY[[0]], Labels(["apple"], ["noto"]), GALLERY, alone).tolist() == [4]


def test_where_no_style_was_asked_no_picture_is_left_out():
    assert ranks(GALLERY[[0]], Labels(["apple"], [""]), GALLERY, SHOWN).tolist() == [0]


@given(st.integers(0, 1000), st.integers(1, 5))
def test_ranks_equal_a_plain_search(seed, nearest):
    generator = torch.Generator().manual_seed(seed)
    gallery, queries = torch.randn(12, 4, generator=generator), torch.randn(3, 4, generator=generator)
    concepts = [str(int(i)) for i in torch.randint(0, 4, (12,), generator=generator)]
    styles = [str(i % 3) for i in range(12)]
    asked = Labels(concepts[:3], styles[:3])
    got = ranks(queries, asked, gallery, Labels(concepts, styles)) < nearest
    for q in range(3):
        scored = [
            (float(torch.cosine_similarity(queries[q], gallery[g], dim=0)), concepts[g])
            for g in range(12)
            if (concepts[g], styles[g]) != (asked.concepts[q], asked.styles[q])
        ]
        best = [concept for _, concept in sorted(scored, reverse=True)[:nearest]]
        assert bool(got[q]) == (asked.concepts[q] in best)
