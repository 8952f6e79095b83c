"""Searches written out one situation and one candidate at a time; only torch is imported.

`foresee(state, chunk)` gives the state after a chunk; noise is drawn as [situations, candidates,
spans, numbers], once a round.
"""

import torch

LOW, HIGH = -0.5, 0.75
HOLD, CHUNKS, STEPS = 2, 2, 4  # steps of a span, chunks, steps of a chunk
SPANS = CHUNKS * STEPS // HOLD


def steps_of(spans):
    """Actions [8, A] that hold each row of [4, A] for two steps."""
    return torch.stack([spans[step // HOLD] for step in range(CHUNKS * STEPS)]).clamp(LOW, HIGH)


def worth(foresee, state, goal, scale, actions):
    """Minus the mean over chunks and numbers of the squared scaled distance to the goal."""
    total = 0
    for chunk in range(CHUNKS):
        state = foresee(state, actions[chunk * STEPS : (chunk + 1) * STEPS])
        total = total + (((state - goal) / scale) ** 2).sum()
    return -total / (CHUNKS * len(goal))


def best(found):
    """The first of the candidates (score, spans) with the highest score."""
    return max(found, key=lambda one: float(one[0].detach()))


def random(judge, starts, samples, rounds, generator):
    """`judge(situation, actions)`; starts are lists of spans by situation."""
    count, numbers = len(starts), starts[0][0].shape[-1]
    seen = [[] for _ in range(count)]
    for number in range(rounds):
        share = torch.rand(
            (count, samples, SPANS, numbers), generator=generator, dtype=torch.float64
        )
        for at in range(count):
            drawn = [LOW + (HIGH - LOW) * one for one in share[at]]
            tried = (starts[at] + drawn)[:samples] if number == 0 else drawn
            seen[at] += [(judge(at, steps_of(one)), one) for one in tried]
    return [(steps_of(best(one)[1]), best(one)[0]) for one in seen]


def around(mean, deviation, extra, noise):
    """The mean, the other starts in the places behind it, then draws around the mean."""
    drawn = [mean + deviation * one for one in noise]
    drawn[0] = mean
    drawn[1 : 1 + len(extra)] = extra
    return [one.clamp(LOW, HIGH) for one in drawn]


def cem(judge, starts, samples, rounds, elites, spread, generator):
    count, shape = len(starts), starts[0][0].shape
    means = [one[0].clamp(LOW, HIGH) for one in starts]
    deviations = [torch.full(shape, spread * (HIGH - LOW) / 2).double() for _ in range(count)]
    seen = [[] for _ in range(count)]
    for number in range(rounds):
        noise = torch.randn((count, samples, *shape), generator=generator, dtype=torch.float64)
        for at in range(count):
            extra = starts[at][1:] if number == 0 else []
            tried = around(means[at], deviations[at], extra, noise[at])
            scored = [(judge(at, steps_of(one)), one) for one in tried]
            seen[at] += scored
            elite = sorted(scored, key=lambda one: -float(one[0].detach()))[:elites]
            stack = torch.stack([one for _, one in elite])
            means[at] = stack.sum(0) / elites
            deviations[at] = (((stack - means[at]) ** 2).sum(0) / elites).sqrt()
    return [(steps_of(best(one)[1]), best(one)[0]) for one in seen]


def mppi(judge, starts, samples, rounds, temperature, spread, generator):
    count, shape = len(starts), starts[0][0].shape
    means = [one[0].clamp(LOW, HIGH) for one in starts]
    deviation = torch.full(shape, spread * (HIGH - LOW) / 2).double()
    scores = [0] * count
    for number in range(rounds):
        noise = torch.randn((count, samples, *shape), generator=generator, dtype=torch.float64)
        for at in range(count):
            extra = starts[at][1:] if number == 0 else []
            tried = around(means[at], deviation, extra, noise[at])
            score = torch.stack([judge(at, steps_of(one)) for one in tried])
            scale = ((score - score.mean()) ** 2).mean().sqrt()
            weight = torch.exp((score - score.max()) / scale / temperature)
            weight = weight / weight.sum()
            means[at] = sum(w * one for w, one in zip(weight, tried, strict=True))
            scores[at] = (weight * score).sum()
    return [(steps_of(means[at]), scores[at]) for at in range(count)]


def gradient(judge, starts, samples, rounds, rate, spread, generator):
    count, shape = len(starts), starts[0][0].shape
    noise = torch.randn((count, samples, *shape), generator=generator, dtype=torch.float64)
    found = []
    for at in range(count):
        mean, seen = starts[at][0].clamp(LOW, HIGH), []
        for number in range(samples):
            place = mean + (spread * (HIGH - LOW) / 2 * noise[at, number] if number else 0)
            for _ in range(rounds):
                place = place.clamp(LOW, HIGH).detach().requires_grad_()
                score = judge(at, steps_of(place))
                (slope,) = torch.autograd.grad(score, place)
                seen.append((score.detach(), place.detach()))
                change = rate * (HIGH - LOW) / 2 * slope / slope.abs().max()
                place = place.detach() + change
        found.append((steps_of(best(seen)[1]), best(seen)[0]))
    return found
