"""A session against queries asked by hand on windows that the training loader cut."""

import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

import wmdsl
from tests.runtime.conftest import ROWS, ROWS_HZ, STRIDE
from wmdsl.data import keys
from wmdsl.data.reader import Dataset
from wmdsl.data.windows import WindowedDataset
from wmdsl.runtime import binding, errors
from wmdsl.runtime.chunks import Chunks
from wmdsl.runtime.session import Session

SPEC = Path(__file__).with_name("memory.wm")
TOP = keys.image_key("top")
HOLD, CHUNK = 2, 8  # control steps at 40 Hz of an action at 20 Hz, and of four of them


def module_of(execute=2, text=None):
    torch.manual_seed(5)
    module = wmdsl.compile(text or SPEC.read_text(), execute=execute)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return module


@pytest.fixture(scope="module")
def modules():
    return {execute: module_of(execute) for execute in (1, 2, 4)}


class Recorded:
    """An episode of the data set as a robot that does what was recorded, whatever it is told."""

    def __init__(self, root, number):
        data = Dataset(root)
        self.number, self.first = number, int(data.episodes.start[number])
        columns = data.columns([keys.STATE, keys.ACTION])
        rows = slice(self.first, self.first + ROWS)
        self.state, self.actions = columns[keys.STATE][rows], columns[keys.ACTION][rows]
        self.frames = list(data.frames(TOP))[number * ROWS // STRIDE :]

    def at(self, row):
        return {
            keys.STATE: self.state[row],
            keys.TASK: f"task {self.number}",
            TOP: self.frames[row // STRIDE],
        }


def driven(session, episode, rows):
    """Chunks at every asked row, with exactly what the session wants to be shown."""
    chunks, before = [], None
    for row in rows:
        between, executed = {}, None
        if before is not None:
            between = {n: episode.at(before + n) for n in session.between}
            executed = episode.actions[before:row]
        chunks.append(session.step(episode.at(row), between, executed))
        before = row
    return np.stack(chunks)


def asked(module, root, episode, rows):
    """The policy asked by hand on the loader's windows [rows, chunk in control steps, A]."""
    anchors = np.array([episode.first + row for row in rows])
    windows = binding.windows(module.plan.model, Fraction(ROWS_HZ))
    batches = WindowedDataset(root, windows, anchors=anchors)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        answers = [
            module.query("policy", batches.batch([at]), generator=generator)["action"]
            for at in range(len(rows))
        ]
    return np.repeat(torch.cat(answers).numpy(), HOLD, axis=1)


@pytest.mark.parametrize("execute", [2, 4])
@pytest.mark.parametrize("number", [0, 2])
def test_a_session_asks_what_training_would_have_cut(modules, dataset, execute, number):
    """Bitwise, from the padded start on: frames, states and actions of other rates."""
    module, episode = modules[execute], Recorded(dataset, number)
    session = wmdsl.session(module, control_hz=ROWS_HZ)
    steps = execute * HOLD
    rows = range(0, ROWS, steps)
    assert session.execute == steps
    expected = asked(module, dataset, episode, rows)[:, :steps]
    assert np.array_equal(driven(session, episode, rows), expected)
    assert session.used == (rows[-1],)


def test_only_what_a_window_reads_is_asked_for_between_chunks(modules):
    assert wmdsl.session(modules[2], control_hz=ROWS_HZ).between == {2: (keys.STATE,)}
    assert wmdsl.session(modules[4], control_hz=ROWS_HZ).between == {
        4: (TOP, keys.STATE),
        6: (keys.STATE,),
    }


def test_reset_forgets(modules, dataset):
    episode, other = Recorded(dataset, 0), Recorded(dataset, 1)
    session = wmdsl.session(modules[2], control_hz=ROWS_HZ)
    first = driven(session, episode, range(0, ROWS, 4))
    session.reset()
    driven(session, other, range(0, 12, 4))
    session.reset()
    assert np.array_equal(driven(session, episode, range(0, ROWS, 4)), first)


def test_an_episode_that_begins_in_a_slot_knows_nothing_of_the_last_one(modules, dataset):
    """Beside another episode that goes on."""
    episodes = [Recorded(dataset, number) for number in (0, 1)]
    session = wmdsl.session(modules[2], control_hz=ROWS_HZ)

    def told(slot, number, row):
        between = {2: episodes[number].at(row - 2)} if row else {}
        done = episodes[number].actions[row - 4 : row] if row else None
        place = {"slot": slot, "step": row, "between": between, "executed": done}
        return {**episodes[number].at(row), **place}

    session.reset(2)
    session.act([told(0, 0, 0), told(1, 1, 0)])
    session.act([told(0, 0, 4), told(1, 1, 4)])
    both = session._batch([session._look(told(0, 1, 0)), session._look(told(1, 1, 8))])
    windows = binding.windows(session.module.plan.model, Fraction(ROWS_HZ))
    anchors = np.array([episodes[1].first, episodes[1].first + 8])
    expected = WindowedDataset(dataset, windows, anchors=anchors).batch([0, 1])
    for name, window in both.items():
        assert torch.equal(window, expected[name][:, : window.shape[1]])


def test_the_actions_that_it_gave_count_as_executed(modules, dataset):
    """Clipped as the robot clips them."""
    episode = Recorded(dataset, 0)
    session = wmdsl.session(modules[2], control_hz=ROWS_HZ, bounds=((-0.1, -0.2), (0.1, 0.2)))
    told = session.step(episode.at(0))
    assert np.abs(told).max(axis=0) == pytest.approx([0.1, 0.2])
    episode.actions[:4] = told
    session.step(episode.at(4), {2: episode.at(2)})
    again = wmdsl.session(modules[2], control_hz=ROWS_HZ)
    again.step(episode.at(0))
    again.step(episode.at(4), {2: episode.at(2)}, told)
    for left, right in zip(session._episodes.values(), again._episodes.values(), strict=True):
        left, right = (one.history._samples["action"] for one in (left, right))
        assert all(np.array_equal(left[at], right[at]) for at in range(4))


def test_action_by_action_is_chunk_by_chunk(modules, dataset):
    episode = Recorded(dataset, 1)
    one, other = (wmdsl.session(modules[4], control_hz=ROWS_HZ) for _ in range(2))
    chunks = [
        other.step(
            episode.at(row),
            {number: episode.at(row - 8 + number) for number in other.between if row},
        )
        for row in range(0, ROWS, 8)
    ]
    single = [one.next_action(episode.at(row)) for row in range(ROWS)]
    assert np.array_equal(np.stack(single), np.concatenate(chunks))


def test_a_step_that_was_not_shown_is_named(modules, dataset):
    episode = Recorded(dataset, 0)
    session = wmdsl.session(modules[2], control_hz=ROWS_HZ)
    session.step(episode.at(0))
    with pytest.raises(errors.RunError, match="WM885.*state.*control step 2") as caught:
        session.step(episode.at(4))
    assert "between" in caught.value.help
    with pytest.raises(ValueError, match="is that of step"):
        session.act([{**episode.at(4), "slot": 0, "step": 12}])


def test_predictions_stand_in_until_reality_arrives(dataset):
    """`cache predicted`: where a frame was not shown there is the one foreseen for it."""
    sought = "policy: action.future, top.future |"
    text = SPEC.read_text().replace("policy: action.future |", sought)
    spec = text.replace("execute execute", "execute execute; cache predicted")
    module, episode = module_of(4, spec), Recorded(dataset, 0)
    windows = binding.windows(module.plan.model, Fraction(ROWS_HZ))
    anchors = np.array([episode.first, episode.first + 8])
    loaded = WindowedDataset(dataset, windows, anchors=anchors).batch([0, 1])
    first = {name: window[:1] for name, window in loaded.items()}
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        foreseen = module.query("policy", first, generator=generator)["top"]
    state = {number: {keys.STATE: episode.at(number)[keys.STATE]} for number in (4, 6)}
    shown = {4: episode.at(4), 6: episode.at(6)}
    found = {}
    for name, between in {"not": state, "shown": shown}.items():
        session = wmdsl.session(module, control_hz=ROWS_HZ)
        session.step(episode.at(0))
        told = {"slot": 0, "step": 8, "between": between, "executed": episode.actions[:8]}
        found[name] = session._batch([session._look({**episode.at(8), **told})])["top"][0]
    assert torch.equal(found["shown"], loaded["top"][1, :2])
    assert torch.equal(found["not"], torch.stack([foreseen[0, 0], loaded["top"][1, 1]]))
    committed = module_of(4, spec.replace("cache predicted", "cache committed"))
    session = wmdsl.session(committed, control_hz=ROWS_HZ)
    session.step(episode.at(0))
    with pytest.raises(errors.RunError, match="WM885.*top.*control step 4"):
        session.step(episode.at(8), state)


@pytest.mark.parametrize("decay", [0.0, 0.1, 2.0])
def test_ensembling_is_the_weighted_mean_of_all_chunks_that_speak_of_a_step(
    modules, dataset, decay
):
    """Asked for at every second control step, of which each second one shows an old frame."""
    episode, rows = Recorded(dataset, 0), range(0, ROWS, 2)
    module = modules[1]
    session = wmdsl.session(module, control_hz=ROWS_HZ, ensemble=decay)
    assert session.execute == 2 and session.decay == decay
    said = asked(module, dataset, episode, rows)
    found = driven(session, episode, rows).astype(np.float64)
    for number, begun in enumerate(rows):
        for step in range(2):
            total = weights = 0.0
            spoken = [row for row in rows if row <= begun and begun + step < row + CHUNK]
            for age, row in enumerate(spoken):
                weight = np.exp(-decay * age)
                total = total + weight * said[row // 2][begun + step - row].astype(np.float64)
                weights += weight
            np.testing.assert_allclose(found[number, step], total / weights, rtol=1e-5, atol=1e-6)


def test_without_an_ensemble_the_newest_chunk_decides():
    chunks = Chunks()
    chunks.add(0, np.zeros((4, 1)))
    chunks.add(2, np.ones((4, 1)))
    assert chunks.actions(2, 2).tolist() == [[1], [1]] and chunks.newest == 2


def test_a_declared_ensemble_is_the_session_s(dataset):
    text = SPEC.read_text().replace("execute execute", "execute execute; ensemble 0.25")
    assert wmdsl.session(module_of(2, text), control_hz=ROWS_HZ).decay == 0.25


def test_prefetch_gives_what_waiting_gives_and_says_what_it_saw(modules, dataset):
    """From the second chunk on a chunk is the second half of the answer to the observation one
    chunk before, computed in a thread or not."""
    module, episode, rows = modules[2], Recorded(dataset, 0), range(0, ROWS, 4)
    threaded = wmdsl.session(module, control_hz=ROWS_HZ, prefetch=True)
    waiting = wmdsl.session(module, control_hz=ROWS_HZ, prefetch=True, background=False)
    found = driven(threaded, episode, rows)
    assert np.array_equal(found, driven(waiting, episode, rows))
    assert threaded.used == (rows[-2],)
    said = asked(module, dataset, episode, rows)
    assert np.array_equal(found[0], said[0][:4])
    for number in range(1, len(rows)):
        assert np.array_equal(found[number], said[number - 1][4:8])
    threaded.reset()
    assert np.array_equal(driven(threaded, episode, rows), found)


@pytest.mark.parametrize(
    ("rate", "settings", "reason"),
    [
        (50, {}, "WM877.*lasts 2.5 control steps.*16.6667 Hz and 25 Hz"),
        (10, {}, "WM877.*0.5 control steps"),
        (ROWS_HZ, {"execute": 5}, "WM885.*5 steps are to be executed, 4 are predicted from now on"),
        (ROWS_HZ, {"execute": 4, "ensemble": 0.1}, "WM885.*no two chunks"),
        (ROWS_HZ, {"execute": 3, "prefetch": True}, "WM885.*used up when the next one begins"),
    ],
)
def test_what_cannot_be_done_is_refused(modules, rate, settings, reason):
    with pytest.raises(errors.RunError) as caught:
        wmdsl.session(modules[2], control_hz=rate, **settings)
    assert re.search(reason, str(caught.value), re.DOTALL)


def test_what_is_predicted_for_the_past_is_not_executed(dataset):
    """A window of actions that ends two steps after now, of which the last two are ahead."""
    window = "past 3 steps; future 4 steps"
    text = SPEC.read_text().replace(window, "future 4 steps; offset -2 steps")
    text = text.replace(", action.past", "").replace("action.future", "action")
    module, episode = module_of(2, text), Recorded(dataset, 0)
    session = wmdsl.session(module, control_hz=ROWS_HZ)
    said = asked(module, dataset, episode, range(0, ROWS, 4))
    assert np.array_equal(driven(session, episode, range(0, ROWS, 4)), said[:, 4:])
    with pytest.raises(errors.RunError, match="3 steps are to be executed, 2 are predicted"):
        wmdsl.session(module, control_hz=ROWS_HZ, execute=3)
    late = text.replace("offset -2 steps", "offset 1 step")
    with pytest.raises(errors.RunError, match="WM885.*no action of action"):
        wmdsl.session(module_of(2, late), control_hz=ROWS_HZ)


def test_a_future_that_is_given_cannot_be_observed():
    text = SPEC.read_text().replace("| top.past, top.now,", "| top,")
    text = text.replace("future sees task, top.past, top.now,", "future sees task, top,")
    seen = "top.future sees task, top, state, action"
    text = text.replace(seen, f"{seen}.past")
    with pytest.raises(errors.RunError, match="top.future is given, and nobody can observe it"):
        wmdsl.session(module_of(2, text))


def test_a_camera_slower_than_its_stream_s_steps_shows_the_frame_before(modules):
    """As rows of a data set hold the frames between two of them."""
    tracks = Session(modules[2], control_hz=ROWS_HZ, camera_hz=Fraction(40, 3)).tracks
    rows = {track.stream.name: track.rows for track in tracks}
    assert rows == {"top": (-6, 0), "state": (-4, -2, 0), "task": (), "action": (-6, -4, -2)}
