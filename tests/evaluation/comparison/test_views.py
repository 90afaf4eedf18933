"""Two crops of a sample: of its own content, half of it, the same with the same seed."""

import torch

from modeling_data2vec.trainers.evaluation.comparison.views import two_views


def test_views_of_an_image_keep_its_size_and_range():
    rows = torch.arange(16.0)[None, :, None].expand(3, 16, 12)  # brightness tells the row
    first, second = two_views([rows] * 20)
    assert all(view.shape == rows.shape for view in first + second)
    tops = torch.stack([view[0, 0, 0] for view in first + second])
    spans = torch.stack([view[0, -1, 0] - view[0, 0, 0] for view in first + second])
    assert tops.unique().numel() > 3 and tops.min() > -1 and tops.max() < 7
    assert ((spans > 8.5) & (spans < 12)).all()  # 11 of 16 rows, half of the area


def test_views_of_a_clip_are_stretches_of_half_of_it():
    first, second = two_views([torch.arange(4000.0)] * 10)
    for view in first + second:
        assert torch.equal(view, torch.arange(2000.0) + view[0])
    assert len({float(view[0]) for view in first + second}) > 5


def test_views_of_a_text_keep_its_ends():
    text = torch.tensor([0, *range(10, 30), 2])
    first, second = two_views([text] * 10)
    for view in first + second:
        assert view[0] == 0 and view[-1] == 2 and len(view) == 12
        assert torch.equal(view[1:-1], torch.arange(10) + view[1])


def test_the_shortest_samples_stay_whole():
    for sample in (torch.tensor([5]), torch.tensor([5, 6]), torch.tensor([5, 6, 7]), torch.randn(700)):
        for (view,) in two_views([sample]):
            assert torch.equal(view, sample)
    ((view,), _) = two_views([torch.ones(1, 1, 1)])
    assert view.shape == (1, 1, 1)


def test_a_seed_decides():
    clips = [torch.randn(5000) for _ in range(5)]
    again = two_views(clips, seed=1)
    for views, others in zip(two_views(clips, seed=1), again, strict=True):
        assert all(torch.equal(one, other) for one, other in zip(views, others, strict=True))
    assert not torch.equal(two_views(clips, seed=2)[0][0], again[0][0])
