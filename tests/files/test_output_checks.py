"""What may be written where: never into another's folder, below a file or where nothing can be written."""

import os

import pytest

from modeling_data2vec import Data2Vec2VisionConfig
from modeling_data2vec.trainers.files.output_checks import (
    check_output,
    check_output_file,
    check_output_folder,
    check_tokenizer_folder,
)


def test_new_and_empty_folders_and_notes_will_do(tmp_path):
    check_output_folder(tmp_path / "a" / "b")
    check_output_folder(tmp_path)
    for name in (".gitignore", "slurm-17.out", "train.log", "why.txt", ".incomplete-masks.png"):
        (tmp_path / name).write_text("x")
    (tmp_path / "tokenizer").mkdir()
    check_output_folder(tmp_path)
    check_output(tmp_path, resume=False)
    (tmp_path / "masks_audio.png").write_text("x")
    check_output(tmp_path, resume=False)  # an earlier try of the same


@pytest.mark.parametrize(
    ("files", "what"),
    [
        (["photo1.jpg", "photo2.jpg"], "other files (photo1.jpg, photo2.jpg)"),
        (["model.pt"], "other files (model.pt)"),
        (["tokenizer.json"], "a tokenizer (tokenizer.json)"),
    ],
)
def test_folders_of_something_else_are_refused(tmp_path, files, what):
    for name in files:
        (tmp_path / name).write_text("x")
    for check in (check_output_folder, check_tokenizer_folder, lambda path: check_output(path, resume=True)):
        with pytest.raises(ValueError) as caught:
            check(tmp_path)
        assert str(caught.value) == (f"{tmp_path} already holds {what}: choose another output_dir, or remove it first")


def test_a_model_is_named_by_its_type(tmp_path):
    Data2Vec2VisionConfig().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"already holds a model of type data2vec2-vision \(config.json\)"):
        check_output(tmp_path, resume=False)
    with pytest.raises(ValueError, match="a model of type data2vec2-vision"):
        check_tokenizer_folder(tmp_path)  # a text model's would do
    (tmp_path / "checkpoint-3").mkdir()
    check_output(tmp_path, resume=True)
    with pytest.raises(ValueError, match="already holds checkpoint-3 of an earlier run: pass --resume"):
        check_output(tmp_path, resume=False)


def test_files_and_what_lies_below_them(tmp_path):
    file = tmp_path / "file"
    file.write_text("x")
    for path in (file, file / "below", file / "far" / "below"):
        with pytest.raises(ValueError, match=f"since {file} is a file: name a folder"):
            check_output_folder(path)
    with pytest.raises(ValueError, match=f"--output: .* since {file} is a file"):
        check_output_file(file / "table.json", "--output")
    check_output_file(file, "--output")
    with pytest.raises(ValueError, match="is a folder: name a file"):
        check_output_file(tmp_path, "--output")
    with pytest.raises(ValueError, match="File name too long"):
        check_output_folder(tmp_path / ("x" * 300))


def test_no_permission(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)  # root may do anything
    with pytest.raises(ValueError, match=f"{tmp_path}/new can't be written to: no permission for {tmp_path}"):
        check_output_folder(tmp_path / "new")
