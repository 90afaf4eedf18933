"""publishing.py and background_push.py, against a Hub on localhost: what arrives and stays, and what faults do."""

import logging
import os
import shutil
import subprocess
import sys
from collections import namedtuple
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from huggingface_hub import HfApi, ModelCard
from processors import save_processor
from published_models import NAME, saved
from safetensors.torch import load_file, save_file
from tiny_runs import KINDS, arguments, tiny_model, tiny_samples
from tiny_tasks import body, few_digits
from transformers import AutoModel, AutoModelForPreTraining
from xet_files import VERSION

from modeling_data2vec import Data2Vec2VisionForPreTraining, Data2Vec2VisionModel
from modeling_data2vec.model_files import EMBEDDING_FILES
from modeling_data2vec.trainers import (
    Data2VecTrainer,
    FinetuningArguments,
    FinetuningOptions,
    FinetuningTrainer,
    finetune,
)
from modeling_data2vec.trainers.cli import run
from modeling_data2vec.trainers.hub.preflight import PublishError, preflight
from modeling_data2vec.trainers.hub.provenance import Provenance
from modeling_data2vec.trainers.hub.publishing import PushOptions, publish
from modeling_data2vec.trainers.monitoring.health import CollapseError

pytestmark = pytest.mark.usefixtures("quick")

WRITER = {"push_to_hub": True, "hub_model_id": NAME, "hub_token": "hf_anna"}
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")
ELSEWHERE = """
import re, sys
sys.modules["modeling_data2vec"] = None
import torch
from huggingface_hub import hf_hub_download
from safetensors.torch import load_file, save_file
folder = sys.argv[1]
by_transformers, by_sentence_transformers = re.findall(
    "```python\\n(.*?)```", open(hf_hub_download("anna/tiny", "README.md")).read(), flags=re.DOTALL
)
exec(by_sentence_transformers)
assert vectors.shape == (1, 16)
exec(by_transformers)
model.eval()
inputs = load_file(folder + "/inputs.safetensors")
with torch.no_grad():
    save_file({"states": model(**inputs).last_hidden_state}, folder + "/states.safetensors")
"""
OFFLINE = """
from transformers import AutoModel
import modeling_data2vec
print(sum(value.sum().item() for value in AutoModel.from_pretrained("anna/tiny").state_dict().values()))
"""


def trainer(folder: Path, kind: str = "images 2.0", **overrides) -> Data2VecTrainer:
    model = tiny_model(kind)
    return Data2VecTrainer(model, arguments(folder, **(WRITER | overrides)), train_dataset=tiny_samples(model))


def inputs_of(model) -> dict[str, torch.Tensor]:
    samples = tiny_samples(model, 3)
    return {model.main_input_name: torch.stack([samples[i][model.main_input_name] for i in range(3)])}


# ---- what arrives ----


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_is_published_and_loaded(hub, token, kind, tmp_path):
    folder = saved(tmp_path / "model", kind)
    (folder / "training_args.bin").write_bytes(b"pickle")
    (folder / "notes.txt").write_text("mine")
    assert publish(folder, NAME).startswith(hub.endpoint)
    files = hub.files(NAME)
    code = {name for name in files if name.endswith(".py")}
    plain = {"README.md", "config.json", "model.safetensors"}
    assert files.keys() - code == (plain | set(EMBEDDING_FILES) if kind.endswith("2.0") else plain)
    assert bool(code) == kind.endswith("2.0")
    assert b"teacher." not in files["model.safetensors"][:10_000]

    local, loaded = AutoModel.from_pretrained(folder).eval(), AutoModel.from_pretrained(NAME, cache_dir=tmp_path).eval()
    inputs = inputs_of(tiny_model(kind))
    with torch.no_grad():
        assert torch.equal(local(**inputs).last_hidden_state, loaded(**inputs).last_hidden_state)


def test_the_teacher_goes_along_on_request(hub, token, tmp_path):
    folder = saved(tmp_path / "model")
    publish(folder, NAME, PushOptions(with_teacher=True))
    published = AutoModelForPreTraining.from_pretrained(NAME, cache_dir=tmp_path)
    expected = Data2Vec2VisionForPreTraining.from_pretrained(folder).state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in published.state_dict().items())


def test_the_cards_code_needs_no_package(hub, token, tmp_path):
    folder = saved(tmp_path / "model")
    save_processor("images", folder)
    publish(folder, NAME)
    assert "auto_map" not in (folder / "config.json").read_text()
    save_file(inputs_of(tiny_model()), tmp_path / "inputs.safetensors")
    environment = os.environ | {"HF_HOME": str(tmp_path / "home")}
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, str(tmp_path)], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    with torch.no_grad():
        expected = AutoModel.from_pretrained(folder).eval()(**inputs_of(tiny_model())).last_hidden_state
    assert torch.equal(load_file(tmp_path / "states.safetensors")["states"], expected)


def test_private_revision_and_licence(hub, token, tmp_path):
    folder = saved(tmp_path / "model")
    publish(folder, NAME, PushOptions(private=True, revision="v2", license="mit"))
    assert hub.repositories["model", NAME].private
    assert hub.files(NAME) == {} and "config.json" in hub.files(NAME, "v2")
    card = ModelCard(hub.files(NAME, "v2")["README.md"].decode())
    assert card.data.license == "mit"
    with pytest.raises(OSError, match="not a valid model identifier"):
        AutoModel.from_pretrained(NAME, revision="v2", token=False, cache_dir=tmp_path)
    with pytest.raises(OSError, match="not a valid git identifier"):
        AutoModel.from_pretrained(NAME, revision="v3", cache_dir=tmp_path)
    AutoModel.from_pretrained(NAME, revision="v2", cache_dir=tmp_path)


def test_a_gated_model_says_so(hub, token, tmp_path, monkeypatch):
    publish(saved(tmp_path / "model"), NAME)
    hub.repositories["model", NAME].gated = True
    with pytest.raises(OSError, match="gated repo"):
        AutoModel.from_pretrained(NAME, token="hf_rita", cache_dir=tmp_path / "other")


def test_the_same_folder_again_sends_nothing_large(hub, token, tmp_path):
    folder = saved(tmp_path / "model")
    publish(folder, NAME)
    hub.requests.clear()
    publish(folder, NAME)
    assert not [path for method, path, _ in hub.requests if method == "PUT"]


def test_a_large_model_in_several_files(hub, token, tmp_path):
    tiny_model().save_pretrained(tmp_path / "model", max_shard_size="20KB")
    assert len(list((tmp_path / "model").glob("*.safetensors"))) > 1
    expected = tiny_model().state_dict()
    for with_teacher in (False, True, False):  # what an earlier push had in other files is gone
        publish(tmp_path / "model", NAME, PushOptions(with_teacher=with_teacher))
        single = "model.safetensors" in hub.files(NAME)
        assert single != any(name.startswith("model-0") for name in hub.files(NAME)) and single != with_teacher
        model = AutoModelForPreTraining.from_pretrained(NAME, cache_dir=tmp_path / str(with_teacher))
        assert all(torch.equal(value, expected[name]) for name, value in model.state_dict().items())


def test_a_refusal_is_put_in_words(hub, token, tmp_path):
    hub.fail("POST", "/api/repos/create", status=403, body={"error": "no write access"})
    with pytest.raises(PublishError, match="refuses to make anna/tiny: .*no write access.*right to write"):
        publish(saved(tmp_path / "model"), NAME)


def test_the_command(hub, token, tmp_path, capsys):
    folder = saved(tmp_path / "model")
    assert run("push", [str(folder), "tiny", "--license", "apache-2.0"]) == 0
    assert "Published: http" in capsys.readouterr().out and "config.json" in hub.files(NAME)
    assert run("push", [str(folder), "rita/tiny"]) == 1
    assert "the namespace must be anna or lab" in capsys.readouterr().err


@pytest.mark.skipif(version("hf_xet") != VERSION, reason=f"how files are listed is known of hf_xet {VERSION} alone")
def test_by_xet_as_users_have_it(hub, tmp_path):
    hub.xet_folder = str(tmp_path / "xet")
    environment = {name: value for name, value in os.environ.items() if name != "HF_HUB_DISABLE_XET"}
    environment |= {"HF_TOKEN": "hf_anna", "HF_HOME": str(tmp_path / "home")}
    folder = saved(tmp_path / "model")
    for command in (["-m", "data2vec_cli", "push", str(folder), NAME], ["-c", OFFLINE]):
        done = subprocess.run([sys.executable, *command], capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr
    assert any("xet-write-token" in path for _, path, _ in hub.requests)


def test_offline_from_a_warm_cache(hub, token, tmp_path):
    publish(saved(tmp_path / "model"), NAME)
    environment = os.environ | {"HF_HOME": str(tmp_path / "home")}
    warm = subprocess.run([sys.executable, "-c", OFFLINE], capture_output=True, text=True, env=environment)
    asked = len(hub.requests)
    offline = environment | {"HF_HUB_OFFLINE": "1"}
    cold = subprocess.run([sys.executable, "-c", OFFLINE], capture_output=True, text=True, env=offline)
    assert warm.returncode == cold.returncode == 0 and warm.stdout == cold.stdout
    assert len(hub.requests) == asked


def test_pickles_are_not_loaded(hub, tmp_path):
    model = tiny_model()
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    model.config.save_pretrained(tmp_path)
    hub.put(NAME, {name: (tmp_path / name).read_bytes() for name in ("config.json", "pytorch_model.bin")})
    for model_class in (Data2Vec2VisionModel, Data2Vec2VisionForPreTraining, AutoModel):
        for place in (NAME, str(tmp_path)):
            with pytest.raises(OSError, match=f"{place} has no weights as safetensors. Pickles"):
                model_class.from_pretrained(place, cache_dir=tmp_path / "cache")
    assert not any("pytorch_model.bin" in path for method, path, _ in hub.requests if method == "GET")
    assert Data2Vec2VisionModel.from_pretrained(NAME, use_safetensors=False, cache_dir=tmp_path / "cache")


# ---- before anything is sent ----


@pytest.mark.parametrize(
    ("name", "token", "message"),
    [
        (NAME, None, "no token .*hf auth login"),
        (NAME, "hf_nobody", "does not know the token"),
        ("rita/tiny", "hf_rita", "can only read"),
        ("rita/tiny", "hf_anna", "must be anna or lab"),
        ("a b", "hf_anna", "can't be a name"),
    ],
)
def test_preflight_says_what_is_wrong(hub, monkeypatch, name, token, message):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with pytest.raises(PublishError, match=message):
        preflight(name, token=token)


def test_preflight_completes_the_name(hub, token):
    assert preflight("tiny") == NAME and preflight("lab/tiny") == "lab/tiny"


def test_another_kind_of_model_is_not_written_over(hub, token, tmp_path):
    hub.put(NAME, {"config.json": b'{"model_type": "bert"}'})
    with pytest.raises(PublishError, match="already holds a model of type bert"):
        publish(saved(tmp_path / "model"), NAME)
    assert list(hub.files(NAME)) == ["config.json"]


def test_a_full_disk_is_seen_before(hub, token, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(2**40, 2**40, 1000))
    for attempt in (lambda: publish(saved(tmp_path / "model"), NAME), lambda: trainer(tmp_path / "run")):
        with pytest.raises(PublishError, match="0.0 GiB left"):
            attempt()
    assert not hub.repositories


@pytest.mark.parametrize(("change", "message"), [("no config", "no readable config"), ("pickle", "which is a pickle")])
def test_a_folder_that_is_no_model(hub, token, tmp_path, change, message):
    folder = saved(tmp_path / "model")
    if change == "pickle":
        (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    else:
        (folder / "config.json").unlink()
    with pytest.raises(PublishError, match=message):
        publish(folder, NAME)


# ---- the trainer ----


@pytest.mark.parametrize("strategy", ["end", "every_save", "checkpoint", "all_checkpoints"])
def test_training_publishes_in_all_strategies(hub, tmp_path, strategy):
    run_ = trainer(tmp_path / "run", hub_strategy=strategy, save_strategy="steps", save_steps=2, hub_always_push=True)
    run_.train()
    titles = [commit.title for commit in HfApi(token="hf_anna").list_repo_commits(NAME)]
    progress = [title for title in titles if title.startswith("Training in progress")]
    assert "End of training" in titles and bool(progress) == (strategy != "end")
    files = hub.files(NAME)
    assert not [name for name in files if name.endswith(PICKLES)]
    places = {name.split("/")[0] for name in files if "/" in name}
    expected = {
        "checkpoint": {"last-checkpoint"},
        "all_checkpoints": {"checkpoint-2", "checkpoint-4", "checkpoint-5"},
    }
    assert places == expected.get(strategy, set())
    trained = run_.model.base_model.state_dict()
    loaded = AutoModel.from_pretrained(NAME, cache_dir=tmp_path / "cache").state_dict()
    assert all(torch.equal(value, trained[name]) for name, value in loaded.items())
    text = files["README.md"].decode()
    assert "Optimizer steps: 5" in text and "effective rank" in text


def test_fine_tuning_publishes_at_its_end_too(hub, tmp_path):
    settings = {"max_steps": 1, "per_device_train_batch_size": 8, "use_cpu": True, "disable_tqdm": True}
    model, digits = body("images 2.0", tmp_path / "body"), few_digits(tmp_path / "digits")
    options = FinetuningOptions(task="image-classification", model=str(model), dataset=str(digits))
    done = finetune(options, FinetuningArguments(str(tmp_path / "first"), **settings))
    assert not hub.repositories
    data, facts = done.trainer.train_dataset, Provenance(license="mit", task="image-classification")
    unevaluated = {"eval_strategy": "no", "save_strategy": "no", "load_best_model_at_end": False}
    args = FinetuningArguments(str(tmp_path / "run"), **settings | WRITER | unevaluated)
    FinetuningTrainer(done.model, args, done.task, train_dataset=data, provenance=facts).train()
    card = hub.files(NAME)["README.md"].decode()
    assert "model.safetensors" in hub.files(NAME) and "license: mit" in card and "Fine-tuned for image-class" in card


def test_a_run_that_can_not_publish_does_not_start(hub, tmp_path, monkeypatch):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with pytest.raises(PublishError, match="no token"):
        trainer(tmp_path / "run", hub_token=None)
    with pytest.raises(PublishError, match="must be anna or lab"):
        trainer(tmp_path / "run", hub_model_id="rita/tiny")


def test_a_failed_background_push_is_said_and_made_up_for(hub, tmp_path, caplog):
    run_ = trainer(
        tmp_path / "run", hub_strategy="every_save", save_strategy="steps", save_steps=2, hub_always_push=True
    )
    hub.fail("POST", "/commit/", status=500, times=3)  # all tries of the first push
    with caplog.at_level(logging.ERROR):
        run_.train()
    assert "A push failed while training went on" in caplog.text
    assert "model.safetensors" in hub.files(NAME) and run_.pusher.error is None


def test_nothing_is_lost_when_the_network_is(hub, tmp_path):
    run_ = trainer(tmp_path / "run")
    hub.fail("POST", "/commit/", status=500, times=100)
    with pytest.raises(PublishError, match="It is complete on this disk: `data2vec push"):
        run_.train()
    saved_model = AutoModel.from_pretrained(tmp_path / "run").state_dict()
    trained = run_.model.base_model.state_dict()
    assert all(torch.equal(value, trained[name]) for name, value in saved_model.items())


def test_a_collapsed_run_is_not_published(hub, tmp_path):
    run_ = trainer(tmp_path / "run")
    run_.health_callback.on_log = lambda *args, **kwargs: None
    run_.health_callback.diagnosis = "The run collapsed."
    with pytest.raises(CollapseError):
        run_.train()
    assert hub.files(NAME) == {}


def test_models_push_themselves(hub, tmp_path):
    """The client's own call, as users know it."""
    tiny_model().push_to_hub(NAME, token="hf_anna")
    assert "model.safetensors" in hub.files(NAME)


# ---- what people write ----


def test_what_people_write_into_a_card_stays(hub, token, tmp_path):
    folder = saved(tmp_path / "model")
    publish(folder, NAME)
    api = HfApi(token="hf_anna")

    def edited(path_or_text: str, old: str, new: str) -> bytes:
        assert old in path_or_text
        return path_or_text.replace(old, new).encode()

    # On the Hub.
    there = hub.files(NAME)["README.md"].decode()
    changed = edited(
        edited(there, "outside of the marks, stays.", "From the Hub.").decode(), "- data2vec\n", "- mine\n"
    )
    api.upload_file(repo_id=NAME, path_in_repo="README.md", path_or_fileobj=changed)
    publish(folder, NAME)
    assert b"From the Hub." in hub.files(NAME)["README.md"] and b"- mine" in hub.files(NAME)["README.md"]

    # Here.
    card = folder / "README.md"
    card.write_bytes(edited(card.read_text(), "From the Hub.", "From here."))
    publish(folder, NAME, PushOptions(license="mit"))
    text = hub.files(NAME)["README.md"].decode()
    assert "From here." in text and ModelCard(text).data.license == "mit"

    # On both sides.
    card.write_bytes(edited(card.read_text(), "From here.", "Here again."))
    api.upload_file(repo_id=NAME, path_in_repo="README.md", path_or_fileobj=edited(text, "From here.", "There again."))
    with pytest.raises(PublishError, match="changed both"):
        publish(folder, NAME)
    assert "Here again." in card.read_text() and b"There again." in hub.files(NAME)["README.md"]


def test_a_card_on_the_hub_is_kept_by_a_new_folder(hub, token, tmp_path):
    hub.put(NAME, {"README.md": b"---\nlicense: mit\n---\n# My model\n\nWritten before.\n"})
    publish(saved(tmp_path / "model"), NAME)
    text = hub.files(NAME)["README.md"].decode()
    assert "Written before." in text and "## Use" in text and ModelCard(text).data.license == "mit"
