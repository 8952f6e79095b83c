"""The bound of masked tokens and the divergence of fields, against sums over all cases."""

import itertools

import torch

from wmdsl.blocks.density import divergence, subset, subset_bound

VOCABULARY, COUNT = 4, 3


def laws(hidden):
    """Logits of three tokens that depend on which of them are hidden."""
    seed = sum(2**place for place in hidden)
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, COUNT, VOCABULARY, generator=generator, dtype=torch.float64)


def test_subsets_stand_for_all_orders():
    index = torch.tensor([[2, 0, 3]])
    orders = []
    for order in itertools.permutations(range(COUNT)):
        each = [
            laws(order[place:]).log_softmax(-1)[0, token, index[0, token]]
            for place, token in enumerate(order)
        ]
        orders.append(sum(each))
    by_size = []
    for size in range(1, COUNT + 1):
        found = []
        for hidden in itertools.combinations(range(COUNT), size):
            chosen = torch.zeros(1, COUNT, dtype=torch.bool)
            chosen[0, list(hidden)] = True
            found.append(subset_bound(laws(hidden), index, chosen))
        by_size.append(torch.cat(found).mean())
    torch.testing.assert_close(torch.stack(by_size).mean(), torch.stack(orders).mean())


def test_every_size_of_a_subset_is_as_likely():
    index = torch.zeros(6000, COUNT, dtype=torch.long)
    sizes = subset(index, torch.Generator().manual_seed(0)).sum(1).bincount(minlength=4) / 6000
    torch.testing.assert_close(sizes, torch.tensor([0, 1, 1, 1]) / 3, rtol=0, atol=0.03)


def test_the_divergence_of_fields_that_read_each_other():
    generator = torch.Generator().manual_seed(0)
    points = [torch.randn(2, n, 2, generator=generator, dtype=torch.float64) for n in (2, 3)]
    points = [point.requires_grad_() for point in points]
    left, right = points
    fields = [left**3 + right.sum(dim=1, keepdim=True), right.exp() * left.mean(dim=1)[:, None]]
    exact = 3 * (left**2).sum(dim=(1, 2)) + fields[1].sum(dim=(1, 2))
    torch.testing.assert_close(divergence(fields, points, None, None), exact)
    drawn = divergence(fields, points, 4000, torch.Generator().manual_seed(0))
    torch.testing.assert_close(drawn, exact, rtol=0.1, atol=0.1)
