"""Images that travel as bytes are the same after the device has normalised them."""

import pytest
import torch
from tiny_runs import digit_images, tiny_joint_model, tiny_mix, tiny_model
from torch.utils.data import DataLoader

from modeling_data2vec import Data2VecTrainer, Data2VecTrainingArguments
from modeling_data2vec.trainers.modalities.mixture import MixtureDataset, MixtureSource
from modeling_data2vec.trainers.modalities.names import mask_collator
from modeling_data2vec.trainers.pretraining.device_normalization import kept_as_bytes


def test_pixels_and_masks_are_the_same():
    model = tiny_model()
    images = digit_images(model.config)
    as_bytes, normalization = kept_as_bytes(images)
    plain, small = (
        next(iter(DataLoader(data, 4, collate_fn=mask_collator(model.config)))) for data in (images, as_bytes)
    )
    assert plain["pixel_values"].dtype == torch.float32 and small["pixel_values"].dtype == torch.uint8
    for name, value in normalization(small).items():
        torch.testing.assert_close(value, plain[name], rtol=0, atol=1e-6)


def test_a_run_has_the_same_losses(tmp_path):
    losses = []
    for normalize_on_device in (False, True):
        model = tiny_model()
        images = digit_images(model.config)
        args = Data2VecTrainingArguments(
            str(tmp_path / str(normalize_on_device)),
            normalize_on_device=normalize_on_device,
            per_device_train_batch_size=4,
            max_steps=2,
            logging_steps=1,
            use_cpu=True,
            report_to=[],
            save_strategy="no",
        )
        trainer = Data2VecTrainer(model, args, train_dataset=images)
        trainer.train()
        losses.append([entry["loss"] for entry in trainer.state.log_history if "loss" in entry])
        assert images[0]["pixel_values"].dtype == torch.float32  # the caller's own stay as they are
    assert losses[1] == pytest.approx(losses[0], rel=1e-5) and len(losses[0]) == 2


def test_the_images_of_a_mix_become_bytes_and_all_else_stays():
    vision = tiny_model()
    texts = tiny_mix(tiny_joint_model(["vision", "text"])).sources["text"]
    mix = MixtureDataset({"vision": MixtureSource(digit_images(vision.config), 4), "text": texts})
    as_bytes, normalization = kept_as_bytes(mix)
    assert as_bytes["vision", 0, 0]["pixel_values"].dtype == torch.uint8
    assert mix["vision", 0, 0]["pixel_values"].dtype == torch.float32
    assert torch.equal(as_bytes["text", 0, 0]["input_ids"], mix["text", 0, 0]["input_ids"])
    nested = normalization({"pairs": {"vision": as_bytes["vision", 0, 0]}})["pairs"]["vision"]["pixel_values"]
    torch.testing.assert_close(nested, mix["vision", 0, 0]["pixel_values"], rtol=0, atol=1e-6)


def test_data_without_images_are_refused():
    texts = tiny_mix(tiny_joint_model(["vision", "text"])).sources["text"].samples
    with pytest.raises(ValueError, match="normalize_on_device is given, but train_dataset has no image files"):
        kept_as_bytes(texts)
