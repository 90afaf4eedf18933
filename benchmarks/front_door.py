"""Lines of Python from a `datasets.Dataset` to a trained, pushed model: ours, trl's and sentence-transformers'.

Each is the shortest way that the project's own quick start documents, written down here anew (trl: "SFTTrainer" of its
README, and `push_to_hub` of transformers' Trainer; sentence-transformers: "Training Overview"). A line is a statement,
imports included, however it is wrapped; the dataset is there already. Ours run in `tests/test_snippets.py`.

    python benchmarks/front_door.py
"""

import ast

OURS = {
    "data2vec, from a published model": """
from modeling_data2vec import Data2VecTrainer
trainer = Data2VecTrainer("facebook/data2vec-vision-base", train_dataset=dataset)
trainer.train()
trainer.push_to_hub()
""",
    "data2vec, from scratch by a recipe": """
from modeling_data2vec import Data2VecTrainer, load_recipe
recipe = load_recipe("data2vec2-vision-base")
model, data = recipe.build(dataset)
trainer = Data2VecTrainer(model, recipe.arguments("runs/photos"), train_dataset=data)
trainer.train()
trainer.push_to_hub()
""",
}
OTHERS = {
    "trl, supervised fine-tuning": """
from trl import SFTTrainer
trainer = SFTTrainer(model="Qwen/Qwen3-0.6B", train_dataset=dataset)
trainer.train()
trainer.push_to_hub()
""",
    "sentence-transformers": """
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer
from sentence_transformers.losses import MultipleNegativesRankingLoss
model = SentenceTransformer("microsoft/mpnet-base")
loss = MultipleNegativesRankingLoss(model)
trainer = SentenceTransformerTrainer(model=model, train_dataset=dataset, loss=loss)
trainer.train()
model.push_to_hub("mpnet-base-pairs")
""",
}


def lines(code: str) -> int:
    """Statements of a piece of code without functions or loops.

    Example:
        >>> lines("x = [1,\\n     2]\\n\\n# a comment\\nprint(x)")
        2
    """
    return len(ast.parse(code).body)


def main() -> None:
    print("| from a `datasets.Dataset` to a pushed model | lines |\n|---|---:|")
    for name, code in (OURS | OTHERS).items():
        print(f"| {name} | {lines(code)} |")


if __name__ == "__main__":
    main()
