import torch

from evaluation.copying import copied, nearest_distances, nearest_others
from evaluation.retrieval import Labels

TRAIN = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
SHOWN = Labels(["apple", "dog"], ["noto", "noto"])


def test_the_nearest_training_picture_is_sought_among_those_of_the_same_concept():
    pictures = torch.tensor([[2.0, 0.0], [2.0, 0.0], [1.0, 1.0], [1.0, 1.0]])
    got = nearest_distances(pictures, ["apple", "dog", "dog", "kite"], TRAIN, SHOWN)
    assert torch.allclose(got, torch.tensor([0.0, 1.0, 1 - 0.5**0.5, float("inf")]))


def test_a_training_picture_is_held_beside_the_others_of_its_concept_and_not_beside_itself():
    train = torch.tensor([[1.0, 0.0], [1.0, 1.0], [2.0, 0.0], [0.0, 1.0]])
    got = nearest_others(train, Labels(["apple", "apple", "apple", "dog"], ["a", "b", "c", "a"]))
    assert torch.allclose(got, torch.tensor([0.0, 1 - 0.5**0.5, 0.0, float("inf")]))


def test_a_copy_is_nearer_than_all_but_a_twentieth_of_held_out_pictures():
    held_out = torch.cat([torch.linspace(0, 1, 101), torch.tensor([float("inf")])])
    assert copied(torch.tensor([0.0, 0.049, 0.051, 1.0]), held_out).tolist() == [True, True, False, False]


def test_pictures_made_as_the_held_out_ones_are_called_copies_a_twentieth_of_the_time():
    generator = torch.Generator().manual_seed(0)
    drawn, held_out = torch.rand(4000, generator=generator), torch.rand(4000, generator=generator)
    assert 0.03 < copied(drawn, held_out).float().mean() < 0.07
