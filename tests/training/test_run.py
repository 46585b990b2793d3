"""Training: a tiny run, an exact resume, an interruption, a divergence."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict, replace

import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from faststyle.config import LossConfig, TrainerConfig
from faststyle.errors import ConfigError, FaststyleError, ModelError, TrainingError, WriteError
from faststyle.modelcard import ModelCard
from faststyle.nets.files import load_net
from faststyle.nets.rescaling import rescale
from faststyle.runtime.folding import has_norms
from faststyle.runtime.stylizer import Stylizer
from faststyle.training.callbacks import Progress
from faststyle.training.run import fit


def test_a_run_writes_weights_card_model_and_a_log(settings, tmp_path):
    seen: list[Progress] = []
    result = fit(settings(max_steps=4, name="stripes", val_every=2, title=("Stripes",)), seen.append)
    assert [item.step for item in seen if not item.validation] == [1, 2, 3, 4]
    assert [item.step for item in seen if item.validation][:2] == [2, 4]
    assert all(item.losses["total"] > 0 for item in seen)
    assert result.finished
    card = Stylizer(result.model, provider="cpu").card
    assert card == ModelCard.from_dict(json.loads((tmp_path / "out" / "stripes.json").read_text()))
    assert card is not None
    assert (card.styles[0].title, card.training["steps"], card.training["photos"]) == ("Stripes", 4, 8)
    assert card.training["crops"] == 6
    assert card.metrics["style_relu2_2"] > 0
    assert not (tmp_path / "runs" / "stripes" / "last.ckpt").exists(), "a finished run leaves nothing to resume"
    log = EventAccumulator(str(tmp_path / "runs" / "stripes"), size_guidance={"images": 0}).Reload()
    assert {"style", "photo | stylized"} <= set(log.Tags()["images"])


def test_the_objective_falls(settings):
    totals = []
    fit(settings(max_steps=40, optim={"crops": ("32x4:1",)}), lambda item: totals.append(item.losses["total"]))
    assert sum(totals[30:40]) < 0.8 * sum(totals[:10])


SCRIPT = """
import pickle, signal, sys, os
from faststyle.training.callbacks import Progress
from faststyle.training.run import fit
config, how, at = pickle.load(open(sys.argv[1], "rb"))
def report(progress):
    if progress.step == at and not progress.validation:
        os.kill(os.getpid(), getattr(signal, how))
fit(config, report)
"""


def run_and_signal(config, how, at, tmp_path):
    """Train in a process of its own that gets a signal after a step."""
    import pickle

    (tmp_path / "job").write_bytes(pickle.dumps((config, how, at)))
    return subprocess.run([sys.executable, "-c", SCRIPT, tmp_path / "job"], capture_output=True, text=True)


def same(one, other):
    first, second = load_file(one), load_file(other)
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("val_every", [5, 7])
def test_killed_at_step_11_and_resumed_is_the_whole_run_bit_for_bit(settings, tmp_path, val_every):
    seen: list[Progress] = []
    whole = fit(settings(max_steps=20, name="whole", val_every=val_every), seen.append)
    totals = {item.step: item.losses["total"] for item in seen if item.validation}
    config = settings(max_steps=20, name="parts", checkpoint_every=10, val_every=val_every)
    assert run_and_signal(config, "SIGKILL", 11, tmp_path).returncode == -signal.SIGKILL
    checkpoint = torch.load(tmp_path / "runs" / "parts" / "last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == 10
    assert not any("features" in key for key in checkpoint["state_dict"]), "the loss network stays out of checkpoints"
    (plateau,) = (state for name, state in checkpoint["callbacks"].items() if name.startswith("Plateau"))
    least = min(total for step, total in totals.items() if step <= 10)
    assert least <= plateau["least"] <= 1.006 * least, "a validation that is due at its step is in it"
    items: list[Progress] = []
    parts = fit(replace(config, resume=True), items.append)
    assert items[0].step == 11
    assert [item.step for item in items if item.validation] == [step for step in totals if step > 10]
    assert same(whole.weights, parts.weights)
    assert whole.card.metrics == parts.card.metrics
    assert whole.card.training == parts.card.training | {"seconds": whole.card.training["seconds"]}


def test_ctrl_c_exports_what_it_has_and_can_be_resumed(settings, tmp_path):
    config = settings(max_steps=1000, name="stopped", checkpoint_every=2)
    done = run_and_signal(config, "SIGINT", 5, tmp_path)
    assert done.returncode == 0, done.stderr
    card = Stylizer(tmp_path / "out" / "stopped.onnx", provider="cpu").card
    assert card is not None
    assert (card.training["steps"], card.training["finished"]) == (5, False)
    kept = torch.load(tmp_path / "runs" / "stopped" / "last.ckpt", weights_only=True)
    assert kept["global_step"] == 5, "nothing is lost"


def test_ctrl_c_and_resume_is_the_whole_run_bit_for_bit(settings, tmp_path):
    whole = fit(settings(max_steps=9, name="whole"))
    config = settings(max_steps=9, name="halves", checkpoint_every=100)
    run_and_signal(config, "SIGINT", 5, tmp_path)
    steps: list[int] = []
    halves = fit(replace(config, resume=True), lambda item: steps.append(item.step))
    assert steps[0] == 6
    assert same(whole.weights, halves.weights)


def test_a_second_ctrl_c_ends_it_at_once(settings, tmp_path):
    """Lightning makes an exit of it, which a program that calls us would not expect."""

    def twice(item: Progress) -> None:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        fit(settings(max_steps=50, name="ended"), twice)
    assert not (tmp_path / "out" / "ended.onnx").exists()


def test_max_time_ends_the_run(settings):
    result = fit(settings(max_steps=100_000, optim={"max_time": "00:00:02"}))
    assert result.finished
    assert 2 <= result.card.training["seconds"] < 30


def test_a_run_ends_when_the_validation_loss_has_stopped_falling(settings, tmp_path):
    still = {"learning_rate": 1e-12, "patience": 2}
    config = settings(max_steps=1000, name="still", val_every=10, checkpoint_every=31, optim=still)
    assert run_and_signal(config, "SIGKILL", 32, tmp_path).returncode == -signal.SIGKILL  # its end began at step 30
    steps: list[int] = []
    result = fit(replace(config, resume=True), lambda item: steps.append(item.step))
    assert (steps[0], result.card.training["steps"], result.finished) == (32, 33, True)
    config = settings(max_steps=1000, name="stopped", val_every=10, optim=still)
    assert run_and_signal(config, "SIGINT", 25, tmp_path).returncode == 0
    result = fit(replace(config, resume=True))
    assert result.card.training["steps"] == 33, "the validation of what Ctrl-C left does not count"
    forever = settings(max_steps=40, name="forever", val_every=10, optim=still | {"patience": 0})
    assert fit(forever).card.training["steps"] == 40


def test_a_run_starts_from_earlier_weights(settings):
    first = fit(settings(max_steps=2, name="first"))
    again = fit(
        settings(max_steps=1, name="again", init=str(first.weights), optim={"learning_rate": 1e-9, "warmup_steps": 0})
    )
    begun, _ = load_net(first.weights)
    rescale(begun)
    before, after = begun.state_dict(), load_file(again.weights)
    assert all(torch.allclose(before[key], after[key], atol=1e-6) for key in before)
    assert (again.card.training["init"], again.card.training["init_steps"]) == ("first", 2)
    with pytest.raises(ModelError, match="another shape"):
        fit(settings(name="other", net="fast", init=str(first.weights)))


def test_not_a_number_stops_the_run_and_keeps_the_checkpoint(settings, tmp_path, monkeypatch):
    from faststyle.training.system import StyleTransferSystem

    judge = StyleTransferSystem.judge

    def broken(self, photos, *how):
        terms, stylized = judge(self, photos, *how)
        return (replace(terms, total=terms.total * float("nan")) if self.global_step == 5 else terms), stylized

    monkeypatch.setattr(StyleTransferSystem, "judge", broken)
    with pytest.raises(TrainingError, match=r"stopped at step 5: the loss is not a number.*--learning-rate"):
        fit(settings(max_steps=10, name="nan"))
    kept = torch.load(tmp_path / "runs" / "nan" / "last.ckpt", weights_only=True)
    assert kept["global_step"] == 4
    assert all(torch.isfinite(value).all() for value in kept["state_dict"].values())
    assert not list((tmp_path / "out").iterdir())


def test_too_large_a_step_is_answered_in_one_line(settings, monkeypatch):
    def greedy(self, photos, *how):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr("faststyle.training.system.StyleTransferSystem.judge", greedy)
    with pytest.raises(TrainingError, match=r"^the memory did not suffice: .*--crops"):
        fit(settings())


def test_what_a_worker_process_has_to_say_comes_without_its_traceback(settings, monkeypatch):
    def unplugged(self, index):
        raise TrainingError("no photo can be read any more")

    monkeypatch.setattr("faststyle.training.data.PhotoCrops._photo", unplugged)
    with pytest.raises(TrainingError) as error:
        fit(settings(trainer=TrainerConfig(accelerator="cpu", devices="1", workers=1)))
    assert str(error.value) == "no photo can be read any more"


def test_a_flat_output_stops_the_run(settings, monkeypatch):
    monkeypatch.setattr("faststyle.training.system.FLAT", 1.0)
    with pytest.raises(TrainingError, match="flat or saturated"):
        fit(settings(max_steps=60))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"net": "huge"}, ConfigError, "quality"),
        ({"trainer": TrainerConfig(accelerator="abacus")}, ConfigError, "--accelerator"),
        ({"trainer": TrainerConfig(accelerator="cpu", devices="0,x")}, ConfigError, "--devices"),
        ({"style": ("missing.jpg",)}, FaststyleError, "missing.jpg"),
        ({"data": "missing"}, TrainingError, "--data"),
        ({"resume": True}, TrainingError, "no run to resume"),
        ({"init": "missing"}, ModelError, "no weights file missing"),
        ({"loss_weights": "missing.pth"}, FaststyleError, "missing.pth"),
        ({"loss": LossConfig(style_layers=("relu9_9",))}, ConfigError, "relu"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(settings, tmp_path, changes, error, message):
    with pytest.raises(error, match=message) as caught:
        fit(settings(**changes))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_a_style_that_is_no_image_is_refused(settings, tmp_path):
    (tmp_path / "style.jpg").write_text("no picture")
    with pytest.raises(FaststyleError, match=r"style\.jpg"):
        fit(settings(style=(str(tmp_path / "style.jpg"),)))


def test_an_output_folder_that_cannot_be_written_to_is_refused_before_the_training(settings, tmp_path):
    (tmp_path / "out").write_text("a file in its place")
    with pytest.raises(WriteError, match="--out"):
        fit(settings())
    assert not (tmp_path / "runs").exists()


def test_a_resumed_run_takes_the_learning_rate_that_is_asked_for(settings, tmp_path):
    config = settings(max_steps=20, name="slower", checkpoint_every=4)
    run_and_signal(config, "SIGKILL", 6, tmp_path)
    slower = replace(config, resume=True, optim=replace(config.optim, learning_rate=3e-6))
    before = torch.load(tmp_path / "runs" / "slower" / "last.ckpt", weights_only=True)["state_dict"]
    result = fit(slower)
    after = load_file(result.weights)
    assert all((after[key] - before[f"net.{key}"]).abs().max() < 16 * 3e-6 * 1.5 for key in after)


def test_a_finished_style_is_not_overwritten(settings, tmp_path):
    fit(settings(max_steps=1, name="done"))
    kept = (tmp_path / "out" / "done.onnx").read_bytes()
    with pytest.raises(TrainingError, match=r"done\.onnx exists already.*--name"):
        fit(settings(max_steps=1, name="done", optim={"seed": 1}))
    assert (tmp_path / "out" / "done.onnx").read_bytes() == kept


def test_a_full_disk_at_a_checkpoint_keeps_the_one_before(settings, tmp_path, monkeypatch):
    config = settings(max_steps=1000, name="full", checkpoint_every=2)
    run_and_signal(config, "SIGKILL", 3, tmp_path)
    checkpoint = tmp_path / "runs" / "full" / "last.ckpt"
    kept = checkpoint.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(WriteError, match=r"last\.ckpt cannot be written .*free some space"):
        fit(replace(config, resume=True))
    assert checkpoint.read_bytes() == kept


def test_mixed_precision_and_worker_processes(settings):
    result = fit(
        settings(
            max_steps=2,
            optim={"crops": ("32x1:1",)},
            trainer=TrainerConfig(accelerator="cpu", devices="1", precision="bf16-mixed", workers=1),
        )
    )
    assert result.finished and result.main


def test_a_frozen_run_starts_from_weights_and_writes_a_model_without_norms(settings, tmp_path):
    first = fit(settings(name="first"))
    frozen = fit(settings(name="second", init=str(first.weights), frozen=True))
    assert frozen.card.net["norm"] == "frozen" and first.card.net["norm"] == "instance"
    assert not has_norms(frozen.model.read_bytes()) and has_norms(first.model.read_bytes())
    again = fit(settings(name="third", init=str(frozen.weights), frozen=True))
    assert again.card.net["norm"] == "frozen", "a frozen net is trained on as it is"
    with pytest.raises(ModelError, match="cannot be thawed: train it on with --frozen"):
        fit(settings(name="fourth", init=str(frozen.weights)))
    with pytest.raises(ConfigError, match="--frozen needs trained weights: name them with --init"):
        settings(frozen=True)


def test_a_frozen_run_resumes_where_it_was(settings, tmp_path):
    first = fit(settings(name="first"))
    whole = fit(settings(name="whole", init=str(first.weights), frozen=True, max_steps=6))
    config = settings(name="cut", init=str(first.weights), frozen=True, max_steps=6)
    assert run_and_signal(config, "SIGKILL", 4, tmp_path).returncode == -signal.SIGKILL
    resumed = fit(replace(config, resume=True))
    one, other = load_file(whole.weights), load_file(resumed.weights)
    assert all(torch.equal(one[name], other[name]) for name in one)


def of_the_first_version(checkpoint):
    """Its norms were of one style, and their tensors of another shape."""
    del checkpoint["faststyle"]["net"]["styles"]


def of_a_loss_with_fewer_terms(checkpoint):
    del checkpoint["faststyle"]["config"]["loss"]["light_weight"]


def begun_by_adam(checkpoint):
    checkpoint["optimizer_states"] = [torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))]).state_dict()]


def without_the_count_of_flat_pictures(checkpoint):
    del checkpoint["faststyle"]["suspect"]


def with_seeds_of_noise(checkpoint):
    """Three fields of it, where a relief has six."""
    gain = checkpoint["state_dict"]["net.body.0.seeds.gain"]
    checkpoint["state_dict"]["net.body.0.seeds.gain"] = gain[:, :3]


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (of_the_first_version, r"a run of faststyle 0\.1, which cannot be resumed"),
        (of_a_loss_with_fewer_terms, r"last\.ckpt holds a run of an older version: choose another --name"),
        (begun_by_adam, r"last\.ckpt holds a run of an older version: choose another --name"),
        (without_the_count_of_flat_pictures, r"last\.ckpt holds a run of an older version: choose another --name"),
        (with_seeds_of_noise, r"last\.ckpt holds a run of an older version: choose another --name"),
    ],
)
def test_a_run_of_an_older_version_is_refused(settings, tmp_path, made, message):
    config = settings(max_steps=1000, name="old", checkpoint_every=2)
    run_and_signal(config, "SIGKILL", 3, tmp_path)
    path = tmp_path / "runs" / "old" / "last.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    made(checkpoint)
    torch.save(checkpoint, path)
    with pytest.raises(TrainingError, match=message):
        fit(replace(config, resume=True))


def test_two_runs_are_not_mixed(settings, tmp_path):
    config = settings(max_steps=1000, name="mixed", checkpoint_every=2)
    assert run_and_signal(config, "SIGKILL", 4, tmp_path).returncode == -signal.SIGKILL
    with pytest.raises(TrainingError, match="--resume"):
        fit(config)
    with pytest.raises(TrainingError, match=r"--strength 0\.5"):
        fit(replace(config, resume=True, loss=replace(config.loss, strength=0.7)))
    with pytest.raises(TrainingError, match="--net nano"):
        fit(replace(config, resume=True, net="fast"))
    with pytest.raises(TrainingError, match=r"the painting .*stripes\.png"):
        fit(replace(config, resume=True, style=(str(next((tmp_path / "photos").glob("*.jpg"))),)))
    checkpoint = tmp_path / "runs" / "mixed" / "last.ckpt"
    older = torch.load(checkpoint, weights_only=True)
    older["faststyle"]["net"]["channels"] = (8, 16)
    torch.save(older, checkpoint)
    with pytest.raises(TrainingError, match="a version whose --net nano was another: choose another --name"):
        fit(replace(config, resume=True))
    for size in (checkpoint.stat().st_size // 2, 0):
        os.truncate(checkpoint, size)
        with pytest.raises(TrainingError, match="cannot be read"):
            fit(replace(config, resume=True))


def test_a_checkpoint_remembers_its_settings(settings, tmp_path):
    config = settings(max_steps=1000, name="kept", checkpoint_every=2)
    run_and_signal(config, "SIGKILL", 3, tmp_path)
    saved = torch.load(tmp_path / "runs" / "kept" / "last.ckpt", weights_only=True)["faststyle"]
    assert saved["config"] == asdict(config)
