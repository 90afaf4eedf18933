"""A recipe's word vectors: what goes together is alike, training leaves them, and where there are none it is said."""

from dataclasses import replace

import datasets
import pytest
import torch
from transformers import AutoModel

from modeling_data2vec import Data2VecTrainer
from modeling_data2vec.trainers.modalities.text import python_docs
from modeling_data2vec.trainers.recipes.recipe import load_recipe

SMALL = {"hidden_size": 32, "intermediate_size": 32, "decoder_dim": 16, "num_attention_heads": 2}
RECIPE = load_recipe("data2vec2-text-tiny")


def table(model):
    return model.base_model.get_input_embeddings().weight


def random_ones(tokenizer, **changes):
    """The embeddings that a new model has without word vectors."""
    return table(RECIPE.build(python_docs().to_iterable_dataset(), tokenizer=str(tokenizer), **changes)[0])


@pytest.fixture
def built(tokenizer, datasets_cache):
    return RECIPE.build("python-docs", tokenizer=str(tokenizer), **SMALL)


def test_tokens_that_stand_in_the_same_places_are_alike(built, tokenizer):
    model, samples = built
    words = samples.modality.processor
    vectors = {
        word: table(model)[words(f" {word}", add_special_tokens=False).input_ids[0]] for word in ("is", "are", "(")
    }
    alike = torch.cosine_similarity
    assert alike(vectors["is"], vectors["are"], 0) > alike(vectors["is"], vectors["("], 0) + 0.1
    random = random_ones(tokenizer, **SMALL)
    assert torch.isclose(table(model).std(), random.std(), rtol=0.1), "the spread stays"
    unseen = words.mask_token_id  # in no text: what was drawn for it stays
    assert torch.equal(table(model)[unseen], random[unseen])


def test_training_leaves_them(built, tmp_path):
    model, samples = built
    before, trunk = table(model).clone(), model.base_model.trunk.layers[0].state_dict()
    trunk = {name: value.clone() for name, value in trunk.items()}
    arguments = RECIPE.arguments(tmp_path, max_steps=2, warmup_steps=1, save_steps=1, use_cpu=True, report_to="none")
    Data2VecTrainer(model, arguments, train_dataset=samples).train()
    assert torch.equal(table(model), before)
    assert any(
        not torch.equal(value, trunk[name]) for name, value in model.base_model.trunk.layers[0].state_dict().items()
    )
    saved = AutoModel.from_pretrained(tmp_path / "checkpoint-2")
    assert torch.equal(saved.get_input_embeddings().weight, before)
    again, _ = RECIPE.build("python-docs", model=str(tmp_path / "checkpoint-2"))
    assert torch.equal(table(again), before) and table(again).requires_grad, "a model that goes on keeps its own"


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (python_docs().to_iterable_dataset(), "a stream's texts are not known before training"),
        (datasets.Dataset.from_dict({"text": ["not and or"]}), "too few for vectors of hidden_size 32"),
    ],
)
def test_data_without_any(data, why, tokenizer, datasets_cache, caplog):
    model, _ = RECIPE.build(data, tokenizer=str(tokenizer), **SMALL)
    assert "Token embeddings begin at random and are trained, not word vectors: " in caplog.text and why in caplog.text
    assert table(model).requires_grad and torch.equal(table(model), random_ones(tokenizer, **SMALL))


def test_a_joint_model(tokenizer, datasets_cache):
    recipe = load_recipe("data2vec2-tiny")
    text = replace(recipe.modalities["text"], data={**recipe.modalities["text"].data, "word_vectors": True})
    recipe = replace(recipe, modalities={**recipe.modalities, "text": text})
    model, _ = recipe.build({"text": "python-docs", "vision": "digits"}, tokenizer=str(tokenizer))
    frozen = [name for name, value in model.base_model.named_parameters() if not value.requires_grad]
    assert frozen == ["feature_encoders.text.embed_tokens.weight"]
