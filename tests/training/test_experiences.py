"""Learning from records of experience: beside the simulator, and alone."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the trainer needs PyTorch: pip install 'itp[train]'")
pyarrow = pytest.importorskip("pyarrow", reason="Parquet files need pyarrow: pip install 'itp[data]'")

import itp  # noqa: E402 (after the check for PyTorch)
from itp import cli  # noqa: E402
from itp._core.replay import file as replay_file  # noqa: E402
from itp.experience.export import experience_file  # noqa: E402
from itp.experience.reader import read_log  # noqa: E402
from itp.experience.record import record_dtype  # noqa: E402
from itp.models.load import load_model  # noqa: E402
from itp_training import checkpoint  # noqa: E402
from itp_training.cli import main  # noqa: E402
from itp_training.collect import Experiences  # noqa: E402
from itp_training.config import TrainingConfig, preset  # noqa: E402
from itp_training.errors import ConfigError, TrainingError  # noqa: E402
from itp_training.learner import Learner  # noqa: E402
from itp_training.progress import Interrupted, Moment  # noqa: E402
from itp_training.records import read_into  # noqa: E402
from itp_training.replay import Replay  # noqa: E402
from itp_training.trainer import Trainer  # noqa: E402

# TensorBoard's and matplotlib's own.
pytestmark = pytest.mark.filterwarnings("default::DeprecationWarning")

CPU = torch.device("cpu")
FIELDS = ("state", "action", "reward", "next_state", "done")
TINY = ["--set", "tasks=20", "--set", "envs=4", "--set", "updates=40", "--set", "batch_size=16"]


def tiny(*sources: Path, **changes: object) -> TrainingConfig:
    small = {"episodes": 6, "envs": 3, "tasks": 24, "updates": 30, "batch_size": 16, "teacher_episodes": 3}
    half = {"experience_share": 0.5}
    return preset("experience", **{**small, **half, "experiences": tuple(map(str, sources)), **changes})


def simulate(path: Path, *options: str) -> Path:
    args = ["simulate", "lossy", "--episodes", "5", "--tasks", "30", "--epsilon", "0.3", *options]
    assert cli.main([*args, "--experiences", str(path), "--json"]) == 0
    return path


@pytest.fixture(scope="module")
def parquet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulate(tmp_path_factory.mktemp("parquet") / "lossy.parquet")


@pytest.fixture(scope="module")
def npz(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulate(tmp_path_factory.mktemp("npz") / "lossy.npz", "--seed", "70")


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a partitioner has kept of its decisions."""
    folder = tmp_path_factory.mktemp("log")
    with itp.TaskPartitioner(experience_log=folder, epsilon=0.5, seed=1, service_order="fifo") as p:
        for number in range(40):
            decision = p.partition_task(itp.Task(f"task-{number}", 10_000 * (number + 1)))
            p.report_outcome(decision, 50.0, 0.1, number % 5 > 0)
    return folder


def held(buffer: itp.PrioritizedReplayBuffer, tmp_path: Path) -> dict[str, np.ndarray]:
    """All transitions of a buffer, by slot."""
    buffer.save(tmp_path / "buffer")
    return replay_file.read(tmp_path / "buffer", buffer.capacity, buffer.state_dim, buffer.alpha)[1]


# --- what is read ---


@pytest.mark.parametrize("kind", ["parquet", "npz", "log"])
def test_the_buffer_holds_the_records(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    source = request.getfixturevalue(kind)
    config, counted = tiny(source), []
    replay = Replay(config)
    records = read_log(source)
    assert read_into(replay.recorded, config, counted.append) == len(records) == sum(counted) > 30
    found = held(replay.recorded, tmp_path)
    for name in FIELDS:
        np.testing.assert_array_equal(found[name], records[name])
    assert len(replay.simulated) == 0


def test_of_several_sources_all_are_read_in_order(
    parquet: Path, npz: Path, log: Path, tmp_path: Path
) -> None:
    sources = (log, parquet, npz)
    config = tiny(*sources)
    replay = Replay(config)
    rewards = np.concatenate([read_log(source)["reward"] for source in sources])
    assert read_into(replay.recorded, config) == len(rewards)
    np.testing.assert_array_equal(held(replay.recorded, tmp_path)["reward"], rewards)


def test_of_more_than_the_buffer_holds_the_last_ones_stay(parquet: Path, tmp_path: Path) -> None:
    config = tiny(parquet, buffer_size=40)
    replay = Replay(config)
    records = read_log(parquet)
    assert read_into(replay.recorded, config) == len(records) == 150
    found = held(replay.recorded, tmp_path)
    assert sorted(found["reward"]) == sorted(records["reward"][-40:])


# --- how a batch is made up ---


def filled(config: TrainingConfig, seed: int = 0, n: int = 80) -> Learner:
    """A learner with decisions of either kind: rewards around 10 in the simulator, around -10 on record."""
    torch.manual_seed(0)
    rng = np.random.default_rng(seed)
    learner = Learner(config, CPU)
    columns = {
        "state": rng.random((n, 20), dtype=np.float32),
        "action": rng.integers(0, 15, n),
        "reward": rng.normal(10.0, 1.0, n),
        "next_state": rng.random((n, 20), dtype=np.float32),
        "done": rng.random(n) < 0.2,
    }
    returns = rng.normal(size=(n, 15)).astype(np.float32)
    learner.replay.store(Experiences(**columns, returns=returns))
    records = np.zeros(n, record_dtype(4))
    for name, values in columns.items():
        records[name] = values - 20.0 if name == "reward" else values[::-1]
    learner.replay.recorded.extend(records)
    return learner


@pytest.mark.parametrize(("share", "recorded"), [(0.5, 8), (0.25, 4), (0.1, 2), (0.9, 14)])
def test_a_batch_has_its_share_of_records(share: float, recorded: int) -> None:
    config = tiny(Path("x"), experience_share=share, n_step=3, gamma=0.9)
    replay = filled(config).replay
    for _ in range(5):
        batch = replay.sample(0.4)
        assert (batch["reward"] < 0.0).tolist() == [False] * (16 - recorded) + [True] * recorded
        # A record's reward is that of one step.
        assert (batch["discount"][-recorded:] == np.float32(0.9)).all()
        assert (batch["discount"][:-recorded] == np.float32(0.9**3)).all()
        # What other actions would have returned is on no record.
        assert np.isnan(batch["returns"][-recorded:]).all()
        indexes = batch["indexes"][:-recorded]
        np.testing.assert_array_equal(batch["returns"][:-recorded], replay.returns[indexes])


def test_priorities_go_to_where_the_decisions_came_from() -> None:
    replay = filled(tiny(Path("x"), alpha=1.0)).replay
    batch = {name: values.copy() for name, values in replay.sample(0.4).items()}
    replay.update_priorities(np.where(batch["reward"] < 0.0, 1e6, 1e-6))
    assert replay.recorded.max_priority == 1e6
    assert replay.simulated.max_priority == 1.0
    again = replay.sample(0.4)
    assert set(again["indexes"][8:]) <= set(batch["indexes"][8:])
    assert not set(again["indexes"][:8]) & set(batch["indexes"][:8])


def huber(error: np.ndarray) -> np.ndarray:
    size = np.abs(error)
    return np.where(size <= 1.0, 0.5 * size**2, size - 0.5)


def test_records_are_learnt_by_one_step_of_double_dqn() -> None:
    config = tiny(Path("x"), n_step=3, gamma=0.9, look_ahead_share=0.0, td_weight=1.0)
    learner = filled(config)
    # Every action is worth 0.5 to the network, 2 to its target.
    with torch.no_grad():
        for network, value in ((learner.network, 0.5), (learner.target, 2.0)):
            network.advantage.weight.zero_()
            network.advantage.bias.fill_(value)
    batch = {name: values.copy() for name, values in filled(config).replay.sample(learner.beta).items()}
    wanted = batch["reward"] + np.where(np.arange(16) < 8, 0.9**3, 0.9) * ~batch["done"] * 2.0
    assert learner.update() == pytest.approx((batch["weights"] * huber(0.5 - wanted)).mean(), rel=1e-5)


# --- whole runs ---


def test_a_run_learns_from_records_and_the_simulator(
    parquet: Path, log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    args = ["--experiences", str(parquet), "--experiences", str(log), "--episodes", "8", *TINY]
    assert main([*args, "--out", str(folder), "--json"]) == 0
    *rounds, summary = map(json.loads, capsys.readouterr().out.splitlines())
    n_records = len(read_log(parquet)) + len(read_log(log))
    assert (summary["records_read"], summary["records_kept"]) == (n_records, n_records)
    assert (summary["episodes"], summary["updates"], len(rounds)) == (8, 40, 2)
    assert all(done["reward"] is not None for done in rounds)
    config = json.loads((folder / "config.json").read_text())
    assert config["experiences"] == [str(parquet), str(log)]
    assert (config["objective"], config["td_weight"], config["gamma"]) == ("reward", 0.1, 0.95)
    assert load_model(folder / "dqn.onnx").metadata["training"]["config"] == config
    replay = checkpoint.load(folder / "checkpoint.pt")["replay"]
    mine = Replay(TrainingConfig.from_dict(config))
    mine.load_state_dict(replay)
    assert (len(mine.recorded), len(mine.simulated)) == (n_records, 8 * 20)


def test_a_run_learns_from_records_alone(
    npz: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    args = ["--experiences", str(npz), "--episodes", "0", *TINY, "--out", str(folder)]
    assert main(args) == 0
    out = capsys.readouterr().out
    assert out.startswith("update 2: validation ")
    assert "learnt from 150 records\n40 of 40 updates in" in out
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")
    rounds = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [done["updates"] for done in rounds] == list(range(2, 41, 2))
    for done in rounds:
        assert (done["episodes"], done["decisions"]) == (0, 0)
        assert (done["reward"], done["slowdown"], done["epsilon"]) == (None, None, None)
    tensorboard = pytest.importorskip("tensorboard", reason="the curves are TensorBoard's")
    assert tensorboard
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("loss")] == list(range(2, 41, 2))
    assert "reward" not in events.Tags()["scalars"]


def test_records_alone_make_a_better_network(tmp_path: Path) -> None:
    source = simulate(tmp_path / "wide.npz", "--policy", "random", "--episodes", "40", "--tasks", "100")
    config = tiny(source, episodes=0, tasks=100, updates=800, batch_size=128, hidden=(64, 64))
    trainer = Trainer(config, CPU)
    untrained = trainer.validation.slowdown(trainer.learner.network.eval())
    read_into(trainer.learner.replay.recorded, config)
    trainer.run()
    assert trainer.rounds[-1].validation_slowdown < 0.9 * untrained


@pytest.mark.parametrize("episodes", [6, 0])
def test_stopped_and_resumed_it_ends_in_the_same_bits(episodes: int, parquet: Path, tmp_path: Path) -> None:
    source = Path(shutil.copy(parquet, tmp_path / "gone.parquet"))

    def started(folder: Path) -> Trainer:
        folder.mkdir()
        trainer = Trainer(tiny(source, episodes=episodes, updates=400, n_step=2), CPU, folder)
        trainer.n_records = read_into(trainer.learner.replay.recorded, trainer.config)
        return trainer

    unbroken, stopped = started(tmp_path / "unbroken"), started(tmp_path / "stopped")
    unbroken.run()

    def tick(moment: Moment) -> None:
        stopped.stop = moment.phase == "learning" and moment.updates >= 130

    with pytest.raises(Interrupted):
        stopped.run(tick)
    # The checkpoint has the records: nothing is read again.
    source.unlink()
    resumed = Trainer.resume(tmp_path / "stopped" / "checkpoint.pt", CPU)
    assert 130 <= resumed.learner.updates < 400
    resumed.run()
    assert resumed.n_records == 150
    for mine, theirs in zip(
        resumed.learner.network.parameters(), unbroken.learner.network.parameters(), strict=True
    ):
        assert torch.equal(mine, theirs)
    for mine, theirs in zip(resumed.rounds, unbroken.rounds, strict=True):
        assert (mine.loss, mine.validation_slowdown) == (theirs.loss, theirs.validation_slowdown)


def test_a_run_goes_on_without_being_told_of_the_records(
    parquet: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--out", str(tmp_path / "run")]
    assert main(["--experiences", str(parquet), "--episodes", "8", *TINY, *out]) == 0
    assert main(["--resume", *out, "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["records_read"] == 150
    assert main(["--resume", "--experiences", str(parquet), *out]) == 2
    assert "leave --experiences out" in capsys.readouterr().err


def test_a_model_goes_on_with_records(parquet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["--episodes", "4", *TINY, "--set", "tasks=24", "--out", "first"]) == 0
    tune = ["--load-model", "first", "--experiences", str(parquet)]
    assert main([*tune, "--episodes", "0", "--set", "gamma=0.8", "--out", "second"]) == 0
    config = json.loads(Path("second/config.json").read_text())
    # Settings that cannot learn from records become those of the preset, the others stay.
    assert (config["objective"], config["td_weight"], config["gamma"]) == ("reward", 0.1, 0.8)
    assert (config["tasks"], config["episodes"]) == (24, 0)
    assert main(["--load-model", "second", "--episodes", "4", "--out", "third"]) == 0
    config = json.loads(Path("third/config.json").read_text())
    assert (config["experiences"], config["gamma"], config["episodes"]) == ([], 0.8, 4)


# --- what is refused ---


def broken(path: Path, change: Callable[[bytes], bytes]) -> Path:
    path.write_bytes(change(path.read_bytes()))
    return path


def of(path: Path, n_streams: int = 4, n: int = 3, **metadata: object) -> Path:
    """A file of records that say nothing."""
    file = experience_file(path, n_streams, metadata)
    file.append(np.zeros(n, record_dtype(n_streams)))
    file.close()
    return path


def not_finite(path: Path) -> Path:
    file = experience_file(path, 4)
    records = np.zeros(5, record_dtype(4))
    records["reward"][3] = np.nan
    file.append(records)
    file.close()
    return path


def folder_of(path: Path, *contents: bytes) -> Path:
    path.mkdir()
    for number, content in enumerate(contents):
        (path / f"experience-{number}.itplog").write_bytes(content)
    return path


MISTAKES: dict[str, tuple[Callable[[Path, Path, Path], Path], str]] = {
    "an empty folder": (lambda tmp, _parquet, _log: folder_of(tmp / "empty"), "there is no record in it"),
    "an empty file": (lambda tmp, _parquet, _log: of(tmp / "x.npz", n=0), "there is no record in it"),
    "another kind of file": (
        lambda tmp, _parquet, _log: broken(of(tmp / "x.parquet"), lambda _: b"PAR1 is not all it takes"),
        "x.parquet",
    ),
    "another ending": (
        lambda tmp, _parquet, _log: broken(of(tmp / "x.npz"), bytes).rename(tmp / "x.csv"),
        "expected a folder, or a name that ends in",
    ),
    "a damaged segment": (
        lambda tmp, _parquet, log: folder_of(
            tmp / "log", *(damaged(path.read_bytes()) for path in log.iterdir())
        ),
        "is damaged: its checksum is wrong",
    ),
    "a truncated file": (
        lambda tmp, parquet, _log: broken(
            Path(shutil.copy(parquet, tmp / "x.parquet")), lambda content: content[:-100]
        ),
        "x.parquet",
    ),
    "another schema": (
        lambda tmp, _parquet, _log: of(tmp / "x.npz", schema=2),
        "state schema 2",
    ),
    "other streams": (
        lambda tmp, _parquet, _log: of(tmp / "x.npz", n_streams=3),
        "records of 3 streams; a model decides over 4",
    ),
    "what is not finite": (
        lambda tmp, _parquet, _log: not_finite(tmp / "x.npz"),
        r"of the records from 0 on, reward[3] = nan",
    ),
    "another service order": (
        lambda tmp, _parquet, _log: of(tmp / "x.parquet", service_order="srpt"),
        "its streams were served by 'srpt': expected fifo",
    ),
}


def damaged(content: bytes) -> bytes:
    place = content.index(b"\n") + 30
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


@pytest.mark.parametrize("mistake", MISTAKES)
def test_what_cannot_be_learnt_from_is_refused(
    mistake: str, parquet: Path, log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make, said = MISTAKES[mistake]
    source = make(tmp_path, parquet, log)
    out = tmp_path / "run"
    assert main(["--experiences", str(source), "--episodes", "4", *TINY, "--out", str(out)]) == 1
    err = capsys.readouterr().err
    assert str(source) in err
    assert said in err
    assert err.count("\n") == 1
    assert not out.exists()


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--experiences", "nowhere"], "--experiences nowhere: no such file or folder"),
        (["--episodes", "0"], "episodes = 0: without experiences"),
        (["--experiences", ".", "--preset", "default"], "td_weight = 0: records tell"),
        (["--experiences", ".", "--set", "objective=slowdown"], "objective = 'slowdown': records hold"),
        (["--experiences", ".", "--set", "experience_share=1"], "experience_share = 1.0: expected a share"),
        (["--experiences", ".", "--set", "experience_share=0"], "experience_share = 0.0: expected a share"),
        (["--experiences", ".", "--evaluate", "--load-model", "m"], "--experiences is for training"),
    ],
)
def test_wrong_usage(
    args: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(args) == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_configuration_says_what_does_not_go_together() -> None:
    with pytest.raises(ConfigError, match="experiences"):
        TrainingConfig(experiences=("",))
    assert tiny(Path("x"), episodes=0).recorded == 16
    assert tiny(episodes=6).recorded == 0


def test_reading_can_be_left(parquet: Path) -> None:
    def leave(_: int) -> None:
        raise KeyboardInterrupt

    config = tiny(parquet)
    with pytest.raises(KeyboardInterrupt):
        read_into(Replay(config).recorded, config, leave)


def test_values_that_are_not_finite_name_their_file(tmp_path: Path) -> None:
    config = tiny(not_finite(tmp_path / "x.npz"))
    replay = Replay(config)
    with pytest.raises(TrainingError, match=r"x\.npz: .*reward\[3\] = nan"):
        read_into(replay.recorded, config)
    assert len(replay.recorded) == 0
