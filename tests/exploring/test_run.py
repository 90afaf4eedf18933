"""`data2vec explore` but for the page: its log of a run, its errors, and what it writes for a Space."""

import configparser
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import tiny_tasks
from joint_models import save_paired_model

import data2vec_cli
from modeling_data2vec.trainers.embedding.data import open_data
from modeling_data2vec.trainers.exploring import run, space
from modeling_data2vec.trainers.exploring.across import across_modalities
from modeling_data2vec.trainers.exploring.options import ExploreOptions
from modeling_data2vec.trainers.exploring.run_log import HEALTHY, read_run
from modeling_data2vec.trainers.exploring.views import across_html
from modeling_data2vec.trainers.modalities.encoders import load_encoder


def state(folder, **last):
    """A checkpoint with a log of 10 entries, the last 4 of which have other figures."""
    healthy = {"loss": 1.0, "regression_loss": 1.0, "constant_loss": 2.0, "feature_encoder_std": 1.0}
    history = [{"step": 50 * (i + 1), **healthy, **(last if i > 5 else {})} for i in range(10)]
    (folder / "checkpoint-500").mkdir(parents=True)
    content = {"global_step": 500, "log_history": history, "best_metric": None}
    (folder / "checkpoint-500" / "trainer_state.json").write_text(json.dumps(content))
    return folder


def test_a_runs_log_is_drawn_and_judged(tmp_path):
    well = read_run(state(tmp_path / "well"))
    assert well.diagnosis == HEALTHY and "| model | 50 to 500 | 1.00 to 1.00 |" in well.table
    assert well.curves.startswith('<img alt="curves of the run" src="data:image/png;base64,')
    ill = read_run(state(tmp_path / "ill", feature_encoder_std=0.001))
    assert "hardly depends on the input" in ill.diagnosis
    assert read_run(tmp_path) is None and read_run("NAMESPACE/name") is None
    (tmp_path / "well" / "checkpoint-500" / "trainer_state.json").write_text("{")
    assert read_run(tmp_path / "well") is None


def test_gradio_is_asked_for_as_the_extra_has_it(monkeypatch, capsys):
    config = configparser.ConfigParser()
    config.read(Path(__file__).parents[2] / "setup.cfg")
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert data2vec_cli.main(["explore", "model", "photos"]) == 2
    said, extra = capsys.readouterr().err, config["options.extras_require"]["explore"].strip()
    assert f"pip install '{extra}'" in said and len(said.splitlines()) == 1


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_tasks.body("images 2.0", tmp_path_factory.mktemp("explored") / "model")


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    return tiny_tasks.few_digits(tmp_path_factory.mktemp("explored") / "digits")


class Gradio:
    """All that is asked of gradio where no page is built."""

    __version__ = "6.31.0"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["nothing", "{data}"], "there is no folder nothing"),
        (["{model}", "nothing"], "'nothing'"),
        (["{model}", "{data}", "{data}"], "has a single modality: give one"),
        (["{model}", "{data}", "--modality", "audio"], "takes vision alone"),
        (["{model}", "{data}", "--pooling", "middle"], "--pooling is 'middle'"),
        (["{model}", "{data}", "--limit", "1"], "--limit is 1"),
        (["{model}", "{data}", "--port", "70000"], "--port is 70000"),
        (["{model}", "{data}", "--export", "{data}"], "is there already"),
        (["{model}"], "DATA"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_wrong_is_said_in_a_line(argv, message, model, digits, monkeypatch, capsys):
    monkeypatch.setattr(run, "require_gradio", Gradio)
    words = [word.format(model=model, data=digits) for word in argv]
    assert data2vec_cli.main(["explore", *words]) == 2
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("data2vec explore: ")]
    assert len(said) == 1 and message in said[0]


def test_a_space_holds_model_data_and_package(model, digits, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(run, "require_gradio", Gradio)
    state(model, loss=0.5)
    folder = tmp_path / "space"
    argv = ["explore", str(model), str(digits), "--limit", "9", "--device", "cpu", "--export", str(folder)]
    assert data2vec_cli.main(argv) == 0
    assert "python app.py" in capsys.readouterr().out
    for name in ("app.py", "requirements.txt", "README.md", "modeling_data2vec/trainers/exploring/page.py"):
        assert (folder / name).is_file()
    assert not [path for path in folder.rglob("*") if path.name in ("__pycache__", "training_args.bin")]
    assert "sdk: gradio\nsdk_version: 6.31.0\napp_file: app.py\n" in (folder / "README.md").read_text()
    assert "open_page('model', ['data/vision.parquet'], title='model')" in (folder / "app.py").read_text()
    encoder, kind = load_encoder(str(folder / "model"))
    samples = list(open_data(kind, str(folder / "data" / "vision.parquet")).read())
    assert len(samples) == 9 and samples[0].inputs.shape[-2:] == tuple(encoder.config.image_shape)
    assert "| model | 50 to 500 | 1.00 to 0.50 |" in read_run(folder / "model").table


def test_requirements_are_the_packages_own(monkeypatch):
    said = [
        "torch>=2.6",
        'gradio>=6.0; extra == "explore"',
        'tomli; python_version < "3.11"',
        "pytest; extra == 'test'",
    ]
    monkeypatch.setattr(space, "requires", lambda name: said)
    assert space.requirements() == ["torch>=2.6", "gradio>=6.0", 'tomli; python_version < "3.11"']


def test_a_kind_of_ones_own_is_not_exported(tmp_path, model, digits):
    (explorer,) = run.open_explorers(str(model), [str(digits)], ExploreOptions(limit=4, device="cpu"))

    class Mine(type(explorer.kind)):
        pass

    explorer.kind.__class__ = Mine
    with pytest.raises(ValueError, match="not vision from a plugin"):
        space.write_space(tmp_path / "space", str(model), [explorer], title="mine", gradio="6.31.0")
    assert not list(tmp_path.iterdir())


def test_a_joint_model_is_searched_across_modalities(tmp_path, digits):
    save_paired_model(tmp_path / "joint")
    sounds = tiny_tasks.sounds(tmp_path / "sounds")
    options = ExploreOptions(limit=8, device="cpu")
    explorers = run.open_explorers(str(tmp_path / "joint"), [f"vision={digits}", f"audio={sounds}"], options)
    assert [explorer.kind.name for explorer in explorers] == ["vision", "audio"]
    across = across_modalities(str(tmp_path / "joint"), explorers)
    found = across.nearest("vision", explorers[0].sample(2))
    assert list(found) == ["audio"] and len(found["audio"]) == 6
    assert across_html(across, explorers[1], explorers[1].sample(0)).count("<figure") == 6
    assert across_modalities(str(tmp_path / "joint"), explorers[:1]) is None

    (one,) = run.open_explorers(str(tmp_path / "joint"), [str(digits)], replace(options, modality="vision"))
    assert one.kind.name == "vision"
    with pytest.raises(ValueError, match="say what the data are, as in audio="):
        run.open_explorers(str(tmp_path / "joint"), [str(digits)], options)
