"""Tiny models of all kinds and their data; as a script, a run that tests kill, resume and start in two processes."""

import argparse
import os
import signal
from collections.abc import Iterable, Iterator, Sequence
from random import Random
from typing import Any

import datasets
import torch
from recordings import voice
from safetensors.torch import save_file

from modeling_data2vec import (
    Data2Vec2AudioForPreTraining,
    Data2Vec2Config,
    Data2Vec2ForPreTraining,
    Data2Vec2SpectrogramFeatureExtractor,
    Data2Vec2SpectrogramForPreTraining,
    Data2Vec2TextForPreTraining,
    Data2Vec2VisionForPreTraining,
    Data2VecAudioForPreTraining,
    Data2VecTextForPreTraining,
    Data2VecVisionForPreTraining,
)
from modeling_data2vec.trainers import Data2VecTrainer, Data2VecTrainingArguments, ImageTransform, load_images
from modeling_data2vec.trainers.data.samples import IterableSampleDataset, SampleDataset
from modeling_data2vec.trainers.data.streams import Stream
from modeling_data2vec.trainers.modalities.image import ImageReader
from modeling_data2vec.trainers.modalities.mixture import MixtureDataset, MixtureSource

SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "average_top_k_layers": 2,
    "ema_decay": 0.9,
    "ema_end_decay": 0.99,
    "ema_anneal_end_step": 10,
}
DECODER = {"decoder_dim": 16, "decoder_groups": 2, "decoder_layers": 2, "num_masks": 2}
IMAGE = {"image_size": 8, "patch_size": 2, "num_channels": 1}
TINY = SIZES | DECODER | IMAGE | {"num_prenet_layers": 1, "mask_prob": 0.6, "mask_length": 2}
WAVE = {"conv_dim": [8, 8], "conv_kernel": [20, 16], "conv_stride": [10, 16], "num_conv_pos_embedding_groups": 2}
WAVE |= {"num_conv_pos_embeddings": 2, "conv_pos_kernel_size": 3, "mask_length": 3}
MELS = {"num_mel_bins": 16, "patch_size": 4, "mask_prob": 0.6, "mask_length": 2, "cls_loss_weight": 0.5}
DROPOUTS_2 = ["hidden", "attention", "post_mlp", "prenet", "decoder"]
NO_DROPOUT_2 = {f"{name}_dropout": 0.0 for name in DROPOUTS_2} | {"layerdrop": 0.0, "prenet_layerdrop": 0.0}
NO_DROPOUT_SPEECH_1 = {"hidden_dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0, "layerdrop": 0.0}
NO_DROPOUT_1 = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
VOCABULARY = {"vocab_size": 60, "max_position_embeddings": 40}

# Tiny models of all kinds: class and config fields. Without dropout, since what one micro-batch draws from the global
# generator depends on the others.
KINDS: dict[str, tuple[type, dict]] = {
    "images 2.0": (Data2Vec2VisionForPreTraining, TINY),
    "speech 2.0": (Data2Vec2AudioForPreTraining, SIZES | DECODER | WAVE | NO_DROPOUT_2),
    "spectrograms 2.0": (Data2Vec2SpectrogramForPreTraining, SIZES | DECODER | MELS),
    "text 2.0": (
        Data2Vec2TextForPreTraining,
        SIZES | DECODER | VOCABULARY | NO_DROPOUT_2 | {"embedding_dropout": 0.0},
    ),
    "images 1.0": (
        Data2VecVisionForPreTraining,
        SIZES | IMAGE | NO_DROPOUT_1 | {"min_mask_block": 2, "drop_path_rate": 0.0, "layer_scale_init_value": 0.5},
    ),
    "speech 1.0": (Data2VecAudioForPreTraining, SIZES | WAVE | NO_DROPOUT_SPEECH_1),
    "text 1.0": (Data2VecTextForPreTraining, SIZES | VOCABULARY | NO_DROPOUT_1),
}
JOINT = "joint"
NUM_SAMPLES = 45  # in batches of 8 these make 5 steps an epoch: runs cross epochs


def tiny_model(kind: str = "images 2.0", **overrides: Any) -> Any:
    torch.manual_seed(0)
    model_class, fields = KINDS[kind]
    return model_class(model_class.config_class(**(fields | overrides)))


# What the joint model's modalities must agree in: what a trunk is made of.
TRUNK = {"norm_position": "post", "layer_norm_eps": 1e-5, "initializer_range": 0.02}
OF_MODALITIES = {"audio": "speech 2.0", "vision": "images 2.0", "text": "text 2.0"}


def tiny_joint_model(modalities: Iterable[str] = OF_MODALITIES, **fields: Any) -> Data2Vec2ForPreTraining:
    """One trunk for tiny models of speech, images and text; `fields` are those of the joint config."""
    torch.manual_seed(0)
    configs = {}
    for name in modalities:
        model_class, own = KINDS[OF_MODALITIES[name]]
        configs[f"{name}_config"] = model_class.config_class(**(own | NO_DROPOUT_2 | TRUNK))
    return Data2Vec2ForPreTraining(Data2Vec2Config(**configs, **fields))


def tiny_mix(model: Data2Vec2ForPreTraining, batch_size: int = 4, **options: Any) -> MixtureDataset:
    """Samples for all of its modalities, of unequal numbers, and pairs where it has heads for them."""
    sources = {}
    for number, name in enumerate(model.config.modalities):
        single = tiny_model(OF_MODALITIES[name])
        sources[name] = MixtureSource(tiny_samples(single, NUM_SAMPLES - 8 * number), batch_size=batch_size)
    if model.config.cross_modal_layers:
        sources["pairs"] = MixtureSource(SampleDataset(range(NUM_SAMPLES), Pairs()), batch_size=batch_size)
    return MixtureDataset(sources, **options)


def digit_images(config: Any, split: str = "train", **kwargs: Any) -> SampleDataset:
    dataset, column = load_images("digits", split=split)
    transform = ImageTransform(config.image_shape, 1, [0.3], [0.35], crop_scale=(0.6, 1.0), horizontal_flip=False)
    return SampleDataset(dataset, ImageReader(transform, column), **kwargs)


class Clips:
    """Reads waveforms that are made up; crops are random."""

    noun = "clip"

    def __call__(self, example: int, rng: Random | None) -> dict[str, torch.Tensor]:
        clip = torch.from_numpy(voice(0.12, seed=example))
        start = rng.randint(0, 320) if rng else 0
        return {"input_values": (clip[start : start + 1_600] - clip.mean()) / clip.std()}

    def name(self, example: int) -> None:
        return None


class Spectrograms(Clips):
    """Reads the same clips as log-mel spectrograms."""

    def __init__(self, num_mel_bins: int):
        self.extractor = Data2Vec2SpectrogramFeatureExtractor(feature_size=num_mel_bins)

    def __call__(self, example: int, rng: Random | None) -> dict[str, torch.Tensor]:
        clip = super().__call__(example, rng)["input_values"]
        return {"input_features": torch.as_tensor(self.extractor.log_mel(clip))}


class Sentences:
    """Reads token ids that are made up."""

    noun = "sentence"

    def __call__(self, example: int, rng: Random | None) -> dict[str, torch.Tensor]:
        generator = torch.Generator().manual_seed(example)
        return {"input_ids": torch.randint(4, 58, (24,), generator=generator)}

    def name(self, example: int) -> None:
        return None


def tiny_samples(model: Any, num: int = NUM_SAMPLES) -> SampleDataset:
    """Samples for any of the models, all of one length."""
    if model.main_input_name == "pixel_values":
        images = digit_images(model.config)
        return SampleDataset(images.dataset.select(range(num)), images.reader)
    if model.main_input_name == "input_features":
        return SampleDataset(range(num), Spectrograms(model.config.num_mel_bins))
    reader = Clips() if model.main_input_name == "input_values" else Sentences()
    return SampleDataset(range(num), reader)


class Pairs:
    """Reads a clip and a sentence that belong together."""

    noun = "pair"

    def __init__(self) -> None:
        self.readers = {"audio": Clips(), "text": Sentences()}

    def __call__(self, example: int, rng: Random | None) -> dict[str, Any]:
        return {"pairs": {name: reader(example, rng) for name, reader in self.readers.items()}}

    def name(self, example: int) -> None:
        return None


def tiny_streamed(model: Any, num: int = NUM_SAMPLES, sizes: Sequence[int] = ()) -> IterableSampleDataset:
    """The samples of `tiny_samples` as a stream in three shards, shuffled; or in shards whose sizes are not known."""
    samples = tiny_samples(model, num)

    class Rows:
        noun = samples.reader.noun

        def __call__(self, example: dict[str, Any], rng: Random | None) -> dict[str, torch.Tensor]:
            return samples.reader(samples.dataset[example["number"]], rng)

        def name(self, example: dict[str, Any]) -> None:
            return None

    def numbers(ranges: list[tuple[int, int]]) -> Iterator[dict[str, int]]:
        return ({"number": number} for first, last in ranges for number in range(first, last))

    rows = datasets.Dataset.from_dict({"number": list(range(num))}).to_iterable_dataset(num_shards=3)
    if sizes:
        ranges = [(sum(sizes[:shard]), sum(sizes[: shard + 1])) for shard in range(len(sizes))]
        rows = datasets.IterableDataset.from_generator(numbers, gen_kwargs={"ranges": ranges})
    return IterableSampleDataset(Stream(rows, seed=0), Rows())


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
    parser.add_argument("--kind", choices=[*KINDS, JOINT], default="images 2.0")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--save-steps", type=int, default=4)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--streamed", action="store_true", help="samples come as a stream, with two workers")
    parser.add_argument("--sizes", type=int, nargs="+", default=[], help="of the stream's shards, and not to be known")
    parser.add_argument("--kill-in-save", type=int)
    parser.add_argument("--slow", type=float, default=0.0, help="seconds to wait at each step, to be killed in time")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.kind == JOINT:
        model = tiny_joint_model()
        samples = tiny_mix(model, options.batch)
    else:
        model = tiny_model(options.kind)
        samples = tiny_streamed(model, sizes=options.sizes) if options.streamed else tiny_samples(model)
    args = arguments(
        options.output_dir,
        max_steps=options.steps,
        per_device_train_batch_size=options.batch,
        gradient_accumulation_steps=3 if options.kind == JOINT else 1,
        save_strategy="steps",
        save_steps=options.save_steps,
        dataloader_num_workers=2 if options.streamed else 0,
        ddp_backend="gloo" if "RANK" in os.environ else None,
    )
    trainer = Data2VecTrainer(model, args, train_dataset=samples)
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
    if torch.distributed.is_initialized():
        torch.distributed.barrier()
        os._exit(0)  # gloo's threads may abort or hold up a process that ends the usual way


if __name__ == "__main__":
    main()
