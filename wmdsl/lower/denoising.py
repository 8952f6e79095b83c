"""Generation along a path of noise levels: flow, diffusion, EDM, and their samplers."""

from __future__ import annotations

from fractions import Fraction

from wmdsl.check.model import Generate
from wmdsl.lower.context import number
from wmdsl.lower.errors import Unsupported
from wmdsl.lower.frame import LIKE, SIZE
from wmdsl.lower.generation import Generating
from wmdsl.lower.objectives import DATA, NOISY, deviation, levels_of, shifted
from wmdsl.lower.program import Block, Expression, Name, expression, of, torch
from wmdsl.lower.stepping import PATH

AHEAD = "_ahead"  # of the second evaluation of a step
NOW, THEN, STEPS = Name("now"), Name("then"), Name("steps")
PAIRS = Name("pairs")
Times = tuple[Expression, Expression]  # (now, then)


class Denoiser(Generating):
    """Steps from noise to data, or to the level at which sampling stops."""

    def produce(self) -> None:
        noisy = self.noisy()
        self._check(noisy)
        for reference in noisy:
            self.start(reference, self._first(reference))
        self.stepper.ahead()
        for reference in noisy if self.generation.sampler == "multistep" else ():
            self.frame.body.assign(self._last(reference), None)
        with self._loop(noisy):
            if not self._together(noisy):
                for place, reference in enumerate(noisy):
                    self.frame.body.assign(self._pair(reference), PAIRS[place])
            times = {reference: self._times(reference) for reference in noisy}
            self.stepper.step()
            if self.generation.sampler == "heun":
                self._twice(times)
            else:
                for reference in noisy:
                    self._advance(reference, *times[reference])
        for reference in self.generation.segments:
            self.settle(reference)

    def noisy(self) -> list[str]:
        """What the steps change; nothing of another kind may stand beside it."""
        noisy = [reference for reference in self.moving if self.objective(reference) in NOISY]
        if len(noisy) < len(self.moving):
            message = "segments of different objectives cannot be generated in one pass"
            raise Unsupported(message, self.generate(self.moving[0]).span)
        return noisy

    # The path.

    def _check(self, noisy: list[str]) -> None:
        """Refuse segments that no path leads through together."""
        generates = [self.generate(reference) for reference in noisy]
        levels = [levels_of(generate) for generate in generates if generate.objective == "edm"]
        if levels and (len(levels) < len(generates) or len(set(levels)) > 1):
            message = "segments with different noise levels cannot be generated in one pass"
            raise Unsupported(message, generates[0].span)
        if self.generation.sampler == "heun" and not self._together(noisy):
            message = "heun takes segments of different steps or terminal levels one by one"
            raise Unsupported(message, self.query.span)

    def _together(self, noisy: list[str]) -> bool:
        """Whether all segments take the same steps to the same level."""
        return len({self.generation.walk(reference) for reference in noisy}) == 1

    def _walk(self, reference: str) -> Expression:
        """The pairs of times, or of levels of EDM, that a segment's steps lead through."""
        generate, walk = self.generate(reference), self.generation.walk(reference)
        steps, stop = STEPS.or_(walk.steps), walk.stop
        if generate.objective == "edm":
            end = [number(stop / (1 - stop))] if stop else []
            return Block("descending_levels")(steps, *levels_of(generate), *end)
        end = [number(_unshifted(stop, generate.shift))] if stop else []
        return Block("descending")(steps, *end)

    def _loop(self, noisy: list[str]):
        """Over (now, then) of all segments, or over those of each; and beside them what each step
        tells the trunks."""
        body, stepper = self.frame.body, self.stepper
        together = self._together(noisy)
        path = self._walk(noisy[0])
        if not together:
            path = Block("abreast")(*map(self._walk, noisy))
        pairs = expression((NOW, THEN)) if together else PAIRS
        if not stepper.folds():
            return body.loop((NOW, THEN) if together else PAIRS, path)
        body.assign(PATH, path)
        self._fold(noisy, 0, "")
        if self.generation.sampler == "heun":
            self._fold(noisy, 1, AHEAD)
        names = (pairs, *stepper.codes.values())
        return body.loop(names, Name("zip")(PATH, *stepper.folded.values(), strict=True))

    def _pair(self, reference: str) -> Times:
        """Names of (now, then) of a segment, which may share them with the others."""
        if self._together(self.noisy()):
            return NOW, THEN
        name = self.name_of(reference)
        return tuple(
            self.frame.local((time, reference), f"{name}_{time}") for time in ("now", "then")
        )

    def _fold(self, noisy: list[str], end: int, part: str) -> None:
        """Compute what all steps tell the trunks, at one end of each."""
        together = self._together(noisy)
        ends = [(NOW, THEN) if together else PAIRS[place] for place in range(len(noisy))]
        roles = self.evaluation.roles.items()
        times = {
            **{
                name: self._told(self.generate(name), pair[end])
                for name, pair in zip(noisy, ends, strict=True)
            },
            **{name: expression(1) for (_, name), role in roles if role == "pinned"},
        }
        self.stepper.fold((NOW, THEN) if together else (PAIRS,), times, part)

    def _told(self, generate: Generate, at: Expression) -> Expression:
        """The time that tokens are told at a point of the path."""
        return Block("told_level")(at) if generate.objective == "edm" else shifted(generate, at)

    def _first(self, reference: str) -> Expression:
        """Pure noise; where EDM begins, noise of the highest level."""
        generate = self.generate(reference)
        noise = self.frame.normal(self.shape(self.groups(reference)[0]))
        return levels_of(generate)[1] * noise if generate.objective == "edm" else noise

    # What the trunks are told.

    def _times(self, reference: str) -> Times:
        """(now, then) on the segment's own schedule; now is told to its tokens."""
        generate = self.generate(reference)
        pair = now, then = self._pair(reference)
        if generate.objective == "edm":
            self.level(reference, now)
            return now, then
        if generate.shift != 1:
            if pair == (NOW, THEN):
                wanted = f"{generate.name}_now", f"{generate.name}_then"
                now, then = (self.frame.local((name, generate.name), name) for name in wanted)
            for name, time in zip((now, then), pair, strict=True):
                self.frame.body.assign(name, shifted(generate, time))
        self.tell(reference, now)
        return now, then

    def level(self, reference: str, at: Expression) -> None:
        """What the trunk reads at a level of EDM, and the time it is told."""
        scaled = Block("scaled")(self.x(reference), at, deviation(self.generate(reference)))
        wanted = f"{self.name_of(reference)}_scaled"
        scaled = self.frame.keep(("scaled", reference), wanted, scaled)
        for group in self.groups(reference):
            self.inputs.tokens[group.trunk, group.name] = scaled
        self.tell(reference, Block("told_level")(at))

    def tell(self, reference: str, time: Expression) -> None:
        """The time of a segment's tokens, under its name where somebody is told it in a step."""
        time = of(LIKE, "new_full")((SIZE, 1), time)
        if self.stepper.tells(reference):
            wanted = f"{self.name_of(reference)}_time"
            time = self.frame.keep(("time", reference), wanted, time)
        self.inputs.times[reference] = time

    # Steps.

    def _advance(self, reference: str, now: Name, then: Name) -> None:
        """The segment's step, where it does not wait for those with more of them."""
        if self.generation.walk(reference).steps == self.generation.steps:
            self._move(reference, now, then)
            return
        with self.frame.body.branch(then.below(now)):
            self._move(reference, now, then)

    def _move(self, reference: str, now: Expression, then: Expression) -> None:
        """The segment's step by the sampler."""
        if self.generation.sampler == "multistep":
            self._extrapolate(reference, now, then)
        else:
            self._step(reference, now, then)

    def _step(self, reference: str, now: Expression, then: Expression) -> None:
        """A step along what is predicted here: Euler's, DDIM's or an ancestral one."""
        generate, x = self.generate(reference), self.x(reference)
        if generate.predict in DATA or generate.objective == "edm":
            # Under autocast a head answers in half precision; what is sampled stays wide.
            clean = of(self.clean(reference, now), "to")(x)
            self.frame.body.assign(x, of(torch, "lerp")(clean, x, then / now), generate.span)
            return
        if generate.objective == "flow":
            velocity = self.named(reference, "velocity", self.output(reference))
            self.frame.body.assign(x, x + (then - now) * velocity)
            return
        at, later = (of(LIKE, "new_full")((1, 1, 1), time) for time in (now, then))
        found = Block(f"ends_from_{generate.predict}")(x, self.output(reference), at)
        found = self.named(reference, "ends", found)
        if self.generation.sampler == "ancestral":
            fresh = self.frame.normal(of(x, "shape"))
            self.frame.body.assign(x, Block("ancestral")(found[0], found[1], fresh, at, later))
            return
        self.frame.body.assign(x, Block("noised")(found[0], found[1], later))

    def _twice(self, times: dict[str, Times]) -> None:
        """Heun's step: along the slope here, then along the mean with the slope ahead."""
        found = {}
        for reference, (now, then) in times.items():
            x = self.x(reference)
            slope = self.named(reference, "slope", self.slope(reference, now))
            start = self.frame.keep(("start", reference), f"{self.name_of(reference)}_start", x)
            self.frame.body.assign(x, x + (then - now) * slope)
            found[reference] = slope, start
        with self.frame.body.branch(THEN):
            for reference, (_, then) in times.items():
                if self.objective(reference) == "edm":
                    self.level(reference, then)
                else:
                    self.tell(reference, then)
            self.stepper.tell(AHEAD)
            self.stepper.step()
            self.stepper.tell("")
            for reference, (now, then) in times.items():
                slope, start = found[reference]
                wanted = f"{self.name_of(reference)}_slope{AHEAD}"
                ahead = self.slope(reference, then)
                ahead = self.frame.keep(("slope", reference, AHEAD), wanted, ahead)
                half = (then - now) / 2
                self.frame.body.assign(self.x(reference), start + half * (slope + ahead))

    def _extrapolate(self, reference: str, now: Expression, then: Expression) -> None:
        """A step of second order from this prediction and the one before."""
        generate, x, last = self.generate(reference), self.x(reference), self._last(reference)
        if generate.objective == "flow" and generate.predict == "velocity":
            velocity = self.named(reference, "velocity", self.output(reference))
            moved = Block("adams_bashforth")(x, velocity, last, now, then)
        else:
            clean = self.named(reference, "clean", self.clean(reference, now))
            if generate.objective == "flow":
                moved = Block("adams_bashforth")(x, (x - clean) / now, last, now, then)
            else:
                shares = (self._shares(generate, time) for time in (now, then))
                moved = Block("dpm_solver")(x, clean, last, *shares)
        self.frame.body.assign((x, last), moved)

    def _last(self, reference: str) -> Name:
        """The last prediction, and where it was made."""
        return self.frame.local(("last", reference), f"{self.name_of(reference)}_last")

    def _shares(self, generate: Generate, at: Expression) -> Expression:
        """Those of data and noise at a point of the path."""
        return expression((1, at)) if generate.objective == "edm" else Block("on_cosine")(at)

    def slope(self, reference: str, at: Expression) -> Expression:
        """How x changes with the time of a flow, or with the level of EDM."""
        generate = self.generate(reference)
        if generate.objective == "flow" and generate.predict not in DATA:
            return self.output(reference)
        return (self.x(reference) - self.clean(reference, at)) / at

    def clean(self, reference: str, at: Expression) -> Expression:
        """The data that the head's output implies, but for a flow that predicts velocities."""
        generate, output = self.generate(reference), self.output(reference)
        if generate.objective == "edm":
            return Block("denoised")(self.x(reference), output, at, deviation(generate))
        if generate.objective == "flow":
            return output
        at = of(LIKE, "new_full")((1, 1, 1), at)
        return Block(f"ends_from_{generate.predict}")(self.x(reference), output, at)[0]

    def named(self, reference: str, what: str, value: Expression) -> Name:
        """The value under its segment's name, with its line of the spec."""
        wanted = f"{self.name_of(reference)}_{what}"
        return self.frame.keep((what, reference), wanted, value, self.generate(reference).span)

    def settle(self, reference: str) -> None:
        """The segment stands, or stands at the level where a later tap reads it."""
        until, generate = self.generation.until, self.generate(reference)
        if not until:
            super().settle(reference)
            return
        x = self.x(reference)
        if generate.objective == "edm":
            x = Block("scaled")(x, number(until / (1 - until)), deviation(generate))
        self.query.partial[reference, until] = x


def _unshifted(time: Fraction, shift: Fraction) -> Fraction:
    """The time that the shift moves to `time`."""
    return time / (shift - (shift - 1) * time)
