"""What README, guides and skill show in Python runs as it stands, but for the sizes of models and runs.

tests/test_page_code.py has the other pages.
Their commands are checked as far as that needs no run: the command, its options, their values.
"""

import importlib.util
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image
from tiny_tasks import body
from transformers import Data2VecVisionConfig, Data2VecVisionModel, ViTImageProcessorPil

from data2vec_cli import main
from modeling_data2vec import Data2VecTrainingArguments, FinetuningArguments, train_tokenizer
from modeling_data2vec.hub_configs import recipe_names
from modeling_data2vec.trainers.modalities.image import digits
from modeling_data2vec.trainers.option_parser import OptionParser
from modeling_data2vec.trainers.plugins import split_plugins

ROOT = Path(__file__).parents[1]
SHORT = "max_steps=2, warmup_steps=1, use_cpu=True"
# Where a snippet is, words by which it is found, and what is made small in it.
SNIPPETS = {
    "features of a model of one's own": (("docs/images.md", "import modeling_data2vec"), {}),
    "neighbors": (("docs/images.md", "import embed"), {}),
    "frames": (("docs/speech.md", "decode_audio("), {}),
    "vectors of texts": (("docs/text.md", "AutoTokenizer"), {}),
    "vectors, for agents": (("skills/data2vec/SKILL.md", "import embed"), {}),
    "a recipe, for agents": (
        ("skills/data2vec/SKILL.md", 'recipe.build("photos")'),
        {
            "data2vec2-vision-small": "data2vec2-vision-tiny",
            'arguments("runs/photos")': f'arguments("runs/photos", {SHORT})',
        },
    ),
}


def snippet(file: str, words: str) -> str:
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / file).read_text(), flags=re.DOTALL | re.MULTILINE)
    (found,) = [block for block in blocks if words in block]
    return found


@pytest.fixture
def published(hub, tmp_path):
    """facebook/data2vec-vision-base, data2vec-audio-base and data2vec-text-base, with tiny models."""
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    config = Data2VecVisionConfig(**sizes, image_size=16, patch_size=4)
    Data2VecVisionModel(config).save_pretrained(tmp_path / "model")
    ViTImageProcessorPil().save_pretrained(tmp_path / "model")
    body("speech 1.0", tmp_path / "speech")
    train_tokenizer(["one sentence", "and a longer one"], vocab_size=300).save_pretrained(tmp_path / "tokenizer")
    body("text 1.0", tmp_path / "text", tmp_path / "tokenizer")
    for name, folder in (("vision", "model"), ("audio", "speech"), ("text", "text")):
        files = {path.name: path.read_bytes() for path in (tmp_path / folder).iterdir()}
        hub.put(f"facebook/data2vec-{name}-base", files)


@pytest.fixture
def own_files(tmp_path, monkeypatch):
    """The folders that pages speak of: photos, recordings, reviews.csv."""
    monkeypatch.chdir(tmp_path)
    for number, image in enumerate(digits().select(range(12))["image"]):
        Path("photos").mkdir(exist_ok=True)
        image.resize((16, 16), Image.Resampling.BICUBIC).convert("RGB").save(f"photos/{number}.png")
    Path("recordings").mkdir()
    for number in range(1, 9):
        wave = np.sin(np.arange(16_000) / (10 + number)) + 0.1 * np.random.default_rng(number).standard_normal(16_000)
        soundfile.write(f"recordings/{number}.wav", wave, 16_000, subtype="FLOAT")
    rows = [f"{'a good' if number % 2 else 'a bad'} film number {number},{number % 2}" for number in range(20)]
    Path("reviews.csv").write_text("\n".join(["text,label", *rows]))


@pytest.mark.parametrize("name", SNIPPETS)
def test_it_runs(name, published, own_files, datasets_cache, capsys):
    body("text 2.0", Path("runs/text"), Path("tokenizer"))
    body("images 2.0", Path("runs/photos"))
    place, changes = SNIPPETS[name]
    code = snippet(*place)
    for written, small in changes.items():
        assert written in code, f"{place[0]} no longer says {written!r}: change this test along with it"
        code = code.replace(written, small)
    names: dict = {}
    exec(compile(code, place[0], "exec"), names)
    if "vectors" in names:
        assert len(names["vectors"]) == 2
    if "trainer" in names:
        assert names["trainer"].state.global_step == 2


def test_the_readme_runs_from_top_to_bottom(published, own_files, datasets_cache, capsys):
    """Commands and Python as they are printed, in this order, but for smaller models and fewer steps."""
    small = {"-small": "-tiny", "max_steps=200, warmup_steps=50": SHORT}
    options = {"pretrain": "--max_steps 2 --warmup_steps 1 --use_cpu", "finetune": "--max_steps 2 --use_cpu"}
    text = (ROOT / "README.md").read_text()
    for written, changed in small.items():
        assert written in text, f"README.md no longer says {written!r}: change this test along with it"
        text = text.replace(written, changed)
    for language, code in re.findall(r"^```(python|bash)\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE):
        if language == "python":
            exec(compile(code, "README.md", "exec"), {})
        for line in code.replace("\\\n", " ").splitlines() if language == "bash" else ():
            if line != "pip install .":  # tests/test_wheel.py
                words = shlex.split(line)
                assert words.pop(0) == "data2vec"
                assert main(words + options.get(words[0], "").split()) == 0, line
    printed = capsys.readouterr().out
    assert "1.00  0.png" in printed and "'score'" in printed


PAGES = [ROOT / name for name in ("README.md", "AGENTS.md", "skills/data2vec/SKILL.md")] + sorted(
    (ROOT / "docs").rglob("*.md")
)
# Commands whose options are more than those of the table.
MORE = {"pretrain": [Data2VecTrainingArguments], "finetune": [FinetuningArguments]}


def commands(page: Path) -> list[list[str]]:
    """The words of each `data2vec ...` line in a page's blocks; `...` stands for options that another line shows."""
    blocks = re.findall(r"^```bash\n(.*?)^```", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [
        shlex.split(line, comments=True)[1:] for line in lines if line.startswith("data2vec ") and " ..." not in line
    ]


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)], ids=lambda page: page.name)
def test_commands_are_understood(page):
    for command, *words in commands(page):
        options, rest = OptionParser(command, *MORE.get(command, [])).parse_known_args(split_plugins(words)[1])
        assert not rest, f"{command}: {rest}"
        if command == "pretrain" and options.recipe.startswith("data2vec"):  # others are one's own
            assert options.recipe in recipe_names()


@pytest.mark.parametrize("name", ["data2vec, from a published model", "data2vec, from scratch by a recipe"])
def test_the_shortest_ways_end_in_a_pushed_model(name, hub, published, tmp_path, monkeypatch):
    """Ours of benchmarks/front_door.py, in as few lines as are counted there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_TOKEN", "hf_anna")
    spec = importlib.util.spec_from_file_location("front_door", ROOT / "benchmarks" / "front_door.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    code = module.OURS[name].replace('vision-base")\nmodel', 'vision-tiny")\nmodel')
    code = code.replace('arguments("runs/photos")', f'arguments("runs/photos", {SHORT})')
    assert module.lines(code) == module.lines(module.OURS[name]) <= 6
    exec(compile(code, name, "exec"), {"dataset": digits().select(range(12))})
    (pushed,) = [one for _, one in hub.repositories if one.startswith("anna/")]
    assert "model.safetensors" in hub.files(pushed)
