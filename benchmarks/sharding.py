"""Bytes that each process of a run holds, with whole weights (DDP) and with shards of them (FSDP2), measured on a CPU.

    python benchmarks/sharding.py

An image model of 12 layers and width 512, three optimizer steps of AdamW in fp32, a batch of 8 in all. Counted are the
tensors between two steps; gradients, which are gone by then, are as large as the trained weights.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests" / "support")]
CASES = (("one", 1), ("ddp", 2), ("fsdp", 2), ("ddp", 4), ("fsdp", 4))
SIZES = {"hidden_size": 512, "num_hidden_layers": 12, "decoder_dim": 64, "decoder_layers": 2, "num_masks": 2}
IMAGE = {"image_size": 32, "patch_size": 4, "num_channels": 1}
MIB = 2**20


def held(tensors: Any) -> int:
    """Bytes of the parts that this process has of some tensors."""
    from modeling_data2vec.ema import local_shard

    return sum(local_shard(one).numel() * one.element_size() for one in tensors)


def measure(form: str, folder: str) -> dict[str, float]:
    """Train, and measure this process."""
    import torch
    from distributed_runs import FORMS
    from fsdp_on_cpu import shard_on_cpu
    from tiny_runs import arguments, digit_images

    from modeling_data2vec import Data2Vec2VisionConfig, Data2Vec2VisionForPreTraining
    from modeling_data2vec.trainers import Data2VecTrainer

    torch.set_num_threads(1)
    shard_on_cpu()
    config = Data2Vec2VisionConfig(**SIZES, **IMAGE, ema_decay=0.99, ema_end_decay=0.99, ema_anneal_end_step=1)
    world = int(os.environ.get("WORLD_SIZE", 1))
    args = arguments(
        folder,
        max_steps=3,
        per_device_train_batch_size=8 // world,
        ddp_backend="gloo" if world > 1 else None,
        **FORMS[form],
    )
    trainer = Data2VecTrainer(Data2Vec2VisionForPreTraining(config), args, train_dataset=digit_images(config))
    trainer.train()
    trained = [weight for weight in trainer.model.parameters() if weight.requires_grad]
    kept = [one for state in trainer.optimizer.state.values() for one in state.values()]
    return {
        "parameters": sum(weight.numel() for weight in trainer.model.parameters()),
        "weights": held(trained) / MIB,
        "teacher": held(weight for weight in trainer.model.parameters() if not weight.requires_grad) / MIB,
        "optimizer": held(kept) / MIB,
    }


def main() -> None:
    if len(sys.argv) > 1:
        form, folder = sys.argv[1:]
        figures = measure(form, folder)
        if os.environ.get("RANK", "0") == "0":
            (Path(folder) / "figures.json").write_text(json.dumps(figures))
        sys.stdout.flush()
        os._exit(0)
    print("| processes | form | weights | teacher | Adam |\n|---:|---|---:|---:|---:|")
    for form, processes in CASES:
        with tempfile.TemporaryDirectory() as folder:
            launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
            command = [sys.executable, *(launch if processes > 1 else []), __file__, form, folder]
            subprocess.run(command, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, stderr=subprocess.DEVNULL)
            figures = json.loads((Path(folder) / "figures.json").read_text())
        shown = " | ".join(f"{figures[name]:.0f}" for name in ("weights", "teacher", "optimizer"))
        print(f"| {processes} | {form} | {shown} |", flush=True)
    print(f"\nMiB; {figures['parameters'] / 1e6:.1f}M parameters with the teacher's.")


if __name__ == "__main__":
    main()
