"""Configs, preprocessors and published hyperparameters, one folder for each model."""

from pathlib import Path

ROOT = Path(__file__).parent


def recipe_names() -> list[str]:
    """Names of all recipes, sorted.

    Example:
        >>> "data2vec2-vision-base" in recipe_names()
        True
    """
    return sorted(path.parent.name for path in ROOT.glob("*/recipe.yaml"))


def recipe_folder(name: str) -> Path:
    """The folder with a recipe's `config.json`, `recipe.yaml` and, but for text, `preprocessor_config.json`.

    Raises:
        ValueError: if there is no such recipe.

    Example:
        >>> sorted(path.name for path in recipe_folder("data2vec2-vision-base").iterdir())
        ['config.json', 'preprocessor_config.json', 'recipe.yaml']
    """
    if name not in recipe_names():
        raise ValueError(f"there is no recipe {name!r}: choose one of {', '.join(recipe_names())}")
    return ROOT / name
