"""Curves exist, decode, and leave out what was not logged."""

from itertools import combinations

import matplotlib
import numpy as np
import pytest
from matplotlib import pyplot
from PIL import Image

from modeling_data2vec.trainers.monitoring import curves as visualization
from modeling_data2vec.trainers.monitoring.curves import plot_curves


def pixels(path):
    """RGB [H, W, 3] of a picture that is not blank."""
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        array = np.asarray(picture.convert("RGB"), dtype=float)
    assert array.shape[0] > 150 and array.shape[1] > 150 and array.std() > 5
    return array


def history(steps=20):
    log = []
    for step in range(1, steps + 1):
        log.append(
            {
                "step": step,
                "epoch": step / 10,
                "loss": 2 / step,
                "regression_loss": 1.5 / step,
                "cls_loss": 0.5 / step,
                "constant_loss": 1.0,
                "target_std": 0.8,
                "prediction_std": 0.1 * step,
                "target_spread": 0.3,
                "feature_encoder_std": 0.2,
                "student_rank": 10 + step,
                "feature_encoder_rank": 9.0,
                "teacher_student_cosine": step / steps,
                "position_explained": 0.4,
                "learning_rate": 1e-4 * step,
                "ema_decay": 0.99 + step * 1e-4,
            }
        )
        if step % 5 == 0:
            log.append({"step": step, "probe_linear": 0.5 + step / 100, "probe_knn": 0.5, "probe_linear_random": 0.4})
    return [*log, {"train_runtime": 3.0}, {"step": steps, "train_loss": 1.0}]


# ---- curves ----


def test_curves_of_a_whole_run(tmp_path):
    path = plot_curves(history(), tmp_path / "new" / "curves.png")
    assert path == tmp_path / "new" / "curves.png"
    array = pixels(path)
    assert array.shape[1] > array.shape[0]  # 2 rows of 3 panels


def test_curves_of_a_joint_run_have_a_row_for_each_modality(tmp_path):
    shared = ("learning_rate", "ema_decay", "step", "epoch")
    log = []
    for entry in history():
        parts = {
            f"{name}/{key}": value for name in ("audio", "text") for key, value in entry.items() if key not in shared
        }
        log.append({key: entry[key] for key in (*shared, "loss") if key in entry} | parts)
        log[-1]["gradient_cosine/audio_text"] = -0.2
    array = pixels(plot_curves(log, tmp_path / "curves.png"))
    assert array.shape[:2] == (3 * 480, 5 * 630)  # what they share; two rows of loss, spread, rank, content, probes


def test_every_pair_of_four_members_has_a_line(tmp_path, monkeypatch):
    names = ("audio", "pairs", "text", "vision")
    keys = [f"gradient_cosine/{a}_{b}" for a, b in combinations(names, 2)] + [f"gradient_norm/{one}" for one in names]
    figures = []
    monkeypatch.setattr(visualization, "save_figure", lambda figure, path: figures.append(figure))
    plot_curves([{"step": step} | dict.fromkeys(keys, 0.1 * step) for step in (1, 2)], tmp_path / "curves.png")
    cosines, norms = figures[0].axes
    assert [text.get_text() for text in cosines.get_legend().get_texts()] == [
        *("audio and pairs", "audio and text", "audio and vision", "pairs and text", "pairs and vision"),
        "text and vision",
    ]
    assert [text.get_text() for text in norms.get_legend().get_texts()] == list(names)
    assert len({line.get_color() for line in cosines.lines}) == 7  # and that at 0
    assert [line.get_color() for line in norms.lines] == ["#0072B2", "#CC79A7", "#D55E00", "#009E73"]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "log",
    [
        [{"step": 1, "loss": 1.0}],
        [{"step": 1, "loss": float("nan")}, {"step": 2, "loss": 1.0}],
        [{"step": 1, "learning_rate": 0.0}, {"step": 2, "learning_rate": 0.0}],
        [{"step": 1, "ema_decay": 0.99}, {"step": 2, "ema_decay": 0.999}],
        [{"step": 1, "target_std": 0.8}, {"step": 2, "prediction_std": 0.0}],
        [{"step": 0, "target_std": 0.0}],
        [{"step": 5, "probe_knn": 0.5, "probe_knn_raw": 0.6}, {"step": 5, "probe_knn_random": 0.4}],
    ],
    ids=["one point", "nan", "zero rate", "decay only", "zero spread", "only zeros", "probe only"],
)
def test_curves_of_what_there_is(log, tmp_path):
    """A single panel rather than a grid with holes."""
    array = pixels(plot_curves(log, tmp_path / "few.png"))
    assert array.shape[:2] == (480, 630)


def test_curves_without_data(tmp_path):
    with pytest.raises(ValueError, match="log_history"):
        plot_curves([], tmp_path / "curves.png")
    with pytest.raises(ValueError, match="2 entries"):
        plot_curves([{"loss": 1.0}, {"step": 3, "train_runtime": 1.0}], tmp_path / "curves.png")
    assert not (tmp_path / "curves.png").exists()


def test_no_global_state_of_matplotlib(tmp_path):
    before = dict(matplotlib.rcParams)
    plot_curves(history(), tmp_path / "curves.png")
    assert dict(matplotlib.rcParams) == before and pyplot.get_fignums() == []
