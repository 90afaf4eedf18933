"""What importing the package costs over importing what it needs from transformers.

    python benchmarks/import_time.py

Fresh processes, interleaved, medians of CPU time. `data2vec --help` is measured too: it must not import torch.
"""

import resource
import statistics
import subprocess
import sys

NEEDED = (
    "from transformers import AutoConfig, AutoFeatureExtractor, AutoImageProcessor, AutoModel, "
    "AutoModelForPreTraining, Data2VecAudioModel, Data2VecTextModel, Data2VecVisionModel, PreTrainedConfig, "
    "PreTrainedModel, ViTImageProcessorPil, Wav2Vec2FeatureExtractor; "
    "from transformers.modeling_layers import GradientCheckpointingLayer; "
    "from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS; from transformers import initialization; "
    "from transformers.utils.output_capturing import capture_outputs"
)
COMMANDS = {
    "what is needed from transformers": NEEDED,
    "modeling_data2vec": "import modeling_data2vec",
    "data2vec --help": "import data2vec_cli, sys; data2vec_cli.main(['--help']); assert 'torch' not in sys.modules",
}


def cpu_seconds(code: str) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    for code in COMMANDS.values():
        cpu_seconds(code)  # fills the page cache
    rounds = [{name: cpu_seconds(code) for name, code in COMMANDS.items()} for _ in range(7)]
    medians = {name: statistics.median(r[name] for r in rounds) for name in COMMANDS}
    base = next(iter(medians.values()))
    print("| import | CPU seconds | ratio |\n|---|---:|---:|")
    for name, seconds in medians.items():
        print(f"| {name} | {seconds:.2f} | {seconds / base:.2f} |")


if __name__ == "__main__":
    main()
