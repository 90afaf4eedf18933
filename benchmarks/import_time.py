"""What importing the package costs over importing what it needs from transformers.

    python benchmarks/import_time.py

Fresh processes, interleaved, medians of CPU time; then that of `--help` of each command, which must not import torch.
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
IMPORTS = {
    "what is needed from transformers": NEEDED,
    "modeling_data2vec": "import modeling_data2vec",
}
HELP = "import data2vec_cli, sys; data2vec_cli.main({line}); assert not {{'torch', 'transformers'}} & set(sys.modules)"
ROUNDS = 7


def cpu_seconds(code: str) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def medians(codes: dict[str, str]) -> dict[str, float]:
    """CPU seconds of each piece of code."""
    for code in codes.values():
        cpu_seconds(code)  # fills the page cache
    rounds = [{name: cpu_seconds(code) for name, code in codes.items()} for _ in range(ROUNDS)]
    return {name: statistics.median(one[name] for one in rounds) for name in codes}


def main() -> None:
    imports = medians(IMPORTS)
    base = next(iter(imports.values()))
    print("| import | CPU seconds | ratio |\n|---|---:|---:|")
    for name, seconds in imports.items():
        print(f"| {name} | {seconds:.2f} | {seconds / base:.2f} |")

    from modeling_data2vec.trainers.commands import COMMANDS

    lines = [["--help"], *([name, "--help"] for name in COMMANDS)]
    helps = medians({" ".join(["data2vec", *line]): HELP.format(line=line) for line in lines})
    print("\n| command | CPU seconds |\n|---|---:|")
    for name, seconds in helps.items():
        print(f"| `{name}` | {seconds:.2f} |")


if __name__ == "__main__":
    main()
