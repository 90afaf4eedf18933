"""Our formulas for the FLOPs of a step beside torch's counter on the meta device: ratio and time, recipe by recipe.

python benchmarks/flop_counter.py
"""

import time

import torch
from torch.utils.flop_counter import FlopCounterMode

from modeling_data2vec.auto import pretraining_class
from modeling_data2vec.hub_configs import recipe_names
from modeling_data2vec.trainers import load_recipe, mask_collator
from modeling_data2vec.trainers.inspection.costs import step_flops, step_shape

SAMPLES, SECONDS, TOKENS = 2, 10.0, 512


def counted(config) -> int:
    """FLOPs of one forward and backward pass, by torch."""
    with torch.device("meta"):
        # Of the other kinds of attention the counter sees nothing on this device.
        model = pretraining_class(config.model_type)._from_config(config, attn_implementation="eager").train()
    sample = {
        "pixel_values": lambda: torch.zeros(config.num_channels, config.image_size, config.image_size),
        "input_values": lambda: torch.zeros(int(SECONDS * 16_000)),
        "input_ids": lambda: torch.full((min(TOKENS, config.max_tokens),), 5),
    }[model.main_input_name]()
    batch = mask_collator(config)([{model.main_input_name: sample}] * SAMPLES)
    with FlopCounterMode(display=False) as counter:
        model(**{name: value.to("meta") for name, value in batch.items()}).loss.backward()
    return counter.get_total_flops()


def main() -> None:
    for name in recipe_names():
        config = load_recipe(name).model_config()
        if config.model_type == "data2vec2" or "spectrogram" in config.model_type:
            continue
        length = {"audio": SECONDS, "text": min(TOKENS, getattr(config, "max_tokens", TOKENS))}
        kind = config.model_type.split("-")[-1]
        ours = step_flops(config, step_shape(config, SAMPLES, length.get(kind))).total
        start = time.perf_counter()
        try:
            ratio = f"{counted(config) / ours:.3f}"
        except RuntimeError as error:
            ratio = f"not counted: {str(error).splitlines()[0]}"
        print(f"{name}: {ratio}, {time.perf_counter() - start:.1f} s")


if __name__ == "__main__":
    main()
