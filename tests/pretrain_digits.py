"""A tiny pretraining run on the digits, as a script: the tests kill it, resume it and run it in two processes."""

import argparse
import os
import signal

import torch
from safetensors.torch import save_file

from modeling_data2vec import Data2Vec2VisionConfig, Data2Vec2VisionForPreTraining
from modeling_data2vec.trainers import Data2VecTrainer, Data2VecTrainingArguments, ImageTransform, load_images
from modeling_data2vec.trainers.images import ImageReader
from modeling_data2vec.trainers.samples import PretrainingSamples

TINY = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_prenet_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "average_top_k_layers": 2,
    "decoder_dim": 16,
    "decoder_groups": 2,
    "decoder_layers": 2,
    "image_size": 8,
    "patch_size": 2,
    "num_channels": 1,
    "num_masks": 2,
    "mask_prob": 0.6,
    "mask_length": 2,
    "ema_decay": 0.9,
    "ema_end_decay": 0.99,
    "ema_anneal_end_step": 10,
}


def tiny_model(**overrides) -> Data2Vec2VisionForPreTraining:
    torch.manual_seed(0)
    return Data2Vec2VisionForPreTraining(Data2Vec2VisionConfig(**(TINY | overrides)))


def digit_images(config: Data2Vec2VisionConfig, split: str = "train", **kwargs) -> PretrainingSamples:
    dataset, column = load_images("digits", split=split)
    transform = ImageTransform(config.image_shape, 1, [0.3], [0.35], crop_scale=(0.6, 1.0), horizontal_flip=False)
    return PretrainingSamples(dataset, ImageReader(transform, column), **kwargs)


def arguments(output_dir, **overrides) -> Data2VecTrainingArguments:
    settings = {
        "max_steps": 5,
        "per_device_train_batch_size": 8,
        "learning_rate": 1e-3,
        "warmup_steps": 2,
        "logging_steps": 1,
        "save_strategy": "no",
        "use_cpu": True,
        "disable_tqdm": True,
    }
    return Data2VecTrainingArguments(str(output_dir), **(settings | overrides))


def kill_in_save(trainer: Data2VecTrainer, step: int) -> None:
    """Send SIGKILL to this process between the model's and the optimizer's file of a checkpoint."""
    save_optimizer = trainer._save_optimizer_and_scheduler

    def save_or_die(output_dir):
        if trainer.state.global_step == step:
            os.kill(os.getpid(), signal.SIGKILL)
        save_optimizer(output_dir)

    trainer._save_optimizer_and_scheduler = save_or_die


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("output_dir")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--save-steps", type=int, default=4)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--kill-in-save", type=int)
    parser.add_argument("--slow", type=float, default=0.0, help="seconds to wait at each step, to be killed in time")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = tiny_model()
    # 45 images in batches of 8 make 5 steps an epoch: runs cross epochs.
    images = digit_images(model.config)
    images.dataset = images.dataset.select(range(45))
    args = arguments(
        options.output_dir,
        max_steps=options.steps,
        per_device_train_batch_size=options.batch,
        save_strategy="steps",
        save_steps=options.save_steps,
        ddp_backend="gloo" if "RANK" in os.environ else None,
    )
    trainer = Data2VecTrainer(model, args, train_dataset=images)
    if options.kill_in_save:
        kill_in_save(trainer, options.kill_in_save)
    if options.slow:
        import time

        from transformers import TrainerCallback

        class Slow(TrainerCallback):
            def on_step_end(self, *args, **kwargs):
                time.sleep(options.slow)

        trainer.add_callback(Slow())
    trainer.train(resume_from_checkpoint=True)
    rank = os.environ.get("RANK", "0")
    save_file(trainer.model.state_dict(), os.path.join(options.output_dir, f"rank{rank}.safetensors"))


if __name__ == "__main__":
    main()
