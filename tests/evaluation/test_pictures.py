"""Pictures exist, decode, and show what they claim to: images of any shape and channels, clips, and texts."""

import matplotlib
import numpy as np
import pytest
import torch
from encoders import OURS, TEXT, encoder, samples
from matplotlib import pyplot
from PIL import Image
from recordings import tone
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, ViTImageProcessor, Wav2Vec2FeatureExtractor

from modeling_data2vec import Data2Vec2VisionConfig, Data2Vec2VisionForPreTraining, Data2Vec2VisionModel
from modeling_data2vec.masking import block_mask_2d
from modeling_data2vec.trainers.evaluation.baselines import random_weights
from modeling_data2vec.trainers.evaluation.features import frame_features
from modeling_data2vec.trainers.evaluation.pictures import pca_maps, plot_masks
from modeling_data2vec.trainers.modalities.drawing import HIDDEN

SHAPES = [(1, 8, 16), (5, 16, 8), (2, 8, 8)]
HIDDEN_RGB = np.round(np.array(HIDDEN) * 255)


def pixels(path):
    """RGB [H, W, 3] of a picture that is not blank."""
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        array = np.asarray(picture.convert("RGB"), dtype=float)
    assert array.shape[0] > 100 and array.shape[1] > 150 and array.std() > 5
    return array


def share_of(array, colour):
    return (np.abs(array - colour).max(-1) <= 2).mean()


def image_model(channels, height, width, patch_size=2):
    fields = {"image_size": [height, width], "patch_size": patch_size, "num_channels": channels}
    return Data2Vec2VisionModel(Data2Vec2VisionConfig(**OURS, **fields))


def masks_for(grid, count, num_masks, prob=0.5):
    generator = torch.Generator().manual_seed(0)
    return block_mask_2d(count * num_masks, grid, prob, 1, generator=generator).view(count, num_masks, -1)


def lengths_of(model, inputs):
    return np.bincount(frame_features(model, inputs)[1])


def words():
    """A byte-level tokenizer of a few words."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    settings = {"show_progress": False, "initial_alphabet": alphabet, "special_tokens": ["<s>", "<pad>", "</s>"]}
    trainer = trainers.BpeTrainer(vocab_size=400, **settings)
    tokenizer.train_from_iterator(
        ["the student sees what the mask leaves, the teacher everything", *["学生"] * 9], trainer
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>")


# ---- masks of images ----


@pytest.mark.parametrize("shape", SHAPES)
def test_masks_grey_out_what_is_hidden(shape, tmp_path):
    channels, height, width = shape
    model, grid = image_model(*shape), (height // 2, width // 2)
    images = torch.rand(3, channels, height, width, generator=torch.Generator().manual_seed(0))
    few = pixels(plot_masks(model, images, masks_for(grid, 3, 4, 0.25), tmp_path / "few.png"))
    many = pixels(plot_masks(model, list(images), masks_for(grid, 3, 4, 0.75), tmp_path / "many.png"))
    assert few.shape == many.shape
    assert share_of(many, HIDDEN_RGB) == pytest.approx(3 * share_of(few, HIDDEN_RGB), rel=0.15)


def test_masks_hide_the_right_patches(tmp_path):
    """A bright upper left patch shows up only where it is visible."""
    images = torch.zeros(1, 1, 8, 8)
    images[:, :, :4, :4] = 1.0
    hidden, visible = torch.zeros(2, 1, 1, 4, dtype=torch.bool)
    hidden[..., 0], visible[..., 3] = True, True
    model = image_model(1, 8, 8, patch_size=4)
    white = [share_of(pixels(plot_masks(model, images, mask, tmp_path / "m.png")), 255) for mask in (hidden, visible)]
    assert white[1] > white[0] + 0.05


def test_masks_undo_the_normalisation(tmp_path):
    colour, mean, std = torch.tensor([0.8, 0.4, 0.2]), [0.5, 0.4, 0.3], [0.2, 0.3, 0.4]
    images = ((colour - torch.tensor(mean)) / torch.tensor(std)).view(1, 3, 1, 1).expand(1, 3, 8, 8)
    processor = ViTImageProcessor(image_mean=mean, image_std=std)
    array = pixels(plot_masks(image_model(3, 8, 8), images, masks_for((4, 4), 1, 1), tmp_path / "m.png", processor))
    assert share_of(array, colour.numpy() * 255) > 0.3
    processor = ViTImageProcessor(image_mean=[0.3], image_std=[0.5])
    array = pixels(
        plot_masks(image_model(1, 8, 8), images[:, :1] * 0, masks_for((4, 4), 1, 1), tmp_path / "m.png", processor)
    )
    assert share_of(array, 0.3 * 255) > 0.3


def test_only_the_first_images_and_masks_are_shown(tmp_path):
    images, model = torch.rand(9, 1, 8, 8), image_model(1, 8, 8)
    many = pixels(plot_masks(model, images, masks_for((4, 4), 9, 8), tmp_path / "many.png"))
    few = pixels(plot_masks(model, images[:6], masks_for((4, 4), 6, 5), tmp_path / "few.png"))
    assert many.shape == few.shape


def test_errors_of_masks(tmp_path):
    images, model, path = torch.rand(2, 1, 8, 16), image_model(1, 8, 16), tmp_path / "masks.png"
    for masks in (masks_for((4, 4), 2, 1), masks_for((4, 8), 1, 1), masks_for((4, 8), 2, 1)[0]):
        with pytest.raises(ValueError, match=r"masks has shape .*2 samples of at most 32 positions.*\[2, masks, 32\]"):
            plot_masks(model, images, masks, path)


def test_no_global_state_of_matplotlib(tmp_path):
    before = dict(matplotlib.rcParams)
    plot_masks(image_model(1, 8, 8), torch.rand(1, 1, 8, 8), masks_for((4, 4), 1, 1), tmp_path / "masks.png")
    assert dict(matplotlib.rcParams) == before and pyplot.get_fignums() == []


# ---- masks of speech and text ----


@pytest.mark.parametrize("kind", ["our speech", "our text", "HuBERT, group norm", "BERT"])
def test_masks_of_sequences_are_cut_to_each_sample(kind, tmp_path):
    """Nothing hidden is nothing grey, whatever the padding of the masks holds; everything hidden is all grey."""
    model, inputs = encoder(kind), samples(kind)[1:4]
    lengths = lengths_of(model, inputs)
    padding = torch.arange(max(lengths)) >= torch.tensor(lengths)[:, None]
    masks = padding[:, None].expand(-1, 4, -1)
    none = pixels(plot_masks(model, inputs, masks, tmp_path / "none.png"))
    every = pixels(plot_masks(model, inputs, masks | True, tmp_path / "every.png"))
    assert share_of(none, HIDDEN_RGB) < 0.001
    assert share_of(every, HIDDEN_RGB) > (0.05 if kind in TEXT else 0.55)


def test_masks_lie_over_their_time(tmp_path):
    """Of a clip that is silent and then loud, the bright half is hidden by a mask of its second half alone."""
    clip = torch.cat([torch.zeros(4_000), torch.from_numpy(tone(1_000, 0.25, 16_000))])
    model = encoder("our speech")
    length = int(lengths_of(model, [clip])[0])
    late = (torch.arange(length) >= length // 2 - 2)[None, None]
    width = 0.2 + 2 * 2.37 + 3 * 0.08  # inches: a margin and two panels
    bright = []
    for mask in (late, ~late):
        array = pixels(plot_masks(model, [clip], mask, tmp_path / "masks.png"))
        right = array[45:, int(150 * (width / 2 + 0.1)) : -12]  # the masked panel
        bright.append(((right[..., 0] > 180) & (right[..., 2] < 180)).mean())  # yellow or orange
    assert bright[0] < 0.01 < bright[1]


def test_sampling_rate_of_the_feature_extractor(tmp_path):
    clip, model = torch.randn(16_000), encoder("our speech")
    masks = torch.zeros(1, 1, int(lengths_of(model, [clip])[0]), dtype=torch.bool)
    pictures = []
    for rate in (8_000, 16_000):
        processor = Wav2Vec2FeatureExtractor(sampling_rate=rate)
        pictures.append(pixels(plot_masks(model, [clip], masks, tmp_path / "masks.png", processor)))
    assert not np.array_equal(*pictures)
    np.testing.assert_array_equal(pixels(plot_masks(model, [clip], masks, tmp_path / "masks.png")), pictures[1])


@pytest.mark.filterwarnings("error")
def test_texts_of_any_script_are_written(tmp_path):
    """Formulas are no mathematics, a glyph that the font lacks is no warning, and a long text is cut."""
    tokenizer, model = words(), encoder("our text")
    model = type(model)(
        type(model.config)(**model.config.to_dict() | {"vocab_size": 400, "max_position_embeddings": 500})
    )
    texts = [
        torch.tensor(tokenizer(text)["input_ids"])
        for text in ("costs 5$ or 6$", "学生 видит \n\t", "the student " * 99)
    ]
    length = max(map(len, texts))
    masks = torch.rand(3, 2, length) < 0.5
    written = pixels(plot_masks(model, texts, masks, tmp_path / "masks.png", tokenizer))
    numbers = pixels(plot_masks(model, texts, masks, tmp_path / "masks.png"))
    assert written.shape != numbers.shape and max(written.shape + numbers.shape) < 2000


# ---- PCA maps ----


@pytest.mark.parametrize("shape", SHAPES)
def test_pca_maps_are_coloured(shape, tmp_path):
    model = image_model(*shape).train()
    array = pixels(pca_maps(model, torch.rand(2, *shape), tmp_path / "pca.png"))
    colours = array[:, array.shape[1] // 3 :]  # beside the picture
    assert (np.ptp(colours, axis=-1) > 60).mean() > 0.3
    assert model.training


@pytest.mark.parametrize("kind", ["our speech", "our text", "ViT", "wav2vec 2.0, layer norm", "RoBERTa"])
def test_pca_maps_of_any_encoder(kind, tmp_path):
    processor = words() if kind in TEXT else None
    array = pixels(pca_maps(encoder(kind), samples(kind)[1:4], tmp_path / "pca.png", processor, layer=1))
    assert (np.ptp(array, axis=-1) > 30).mean() > 0.05


def test_pca_maps_of_a_pretraining_model(tmp_path):
    model = Data2Vec2VisionForPreTraining(image_model(1, 8, 8).config)
    pixels(pca_maps(model, torch.rand(1, 1, 8, 8), tmp_path / "pca.png", layer=1))


def test_pca_colours_mean_the_same_in_every_image(tmp_path):
    """The same image twice has the same colours twice, and an untrained model those of its baseline."""
    model = random_weights(image_model(1, 8, 8))
    images = torch.rand(2, 1, 8, 8)[[0, 0, 1]]
    array = pixels(pca_maps(model, images, tmp_path / "pca.png"))
    assert array.shape == (45 + 3 * 237, 12 + 3 * 237, 3)  # a title, and 1.5 inches each with a gap of 0.08
    centres = np.array([45 + 14, 45 + 14 + 56, 45 + 14 + 112, 45 + 14 + 168])  # 4 patches of 56 dots
    model_column = array[centres[:, None], 249 + centres - 45]
    assert len(np.unique(model_column.reshape(-1, 3), axis=0)) > 10
    np.testing.assert_allclose(model_column, array[237 + centres[:, None], 249 + centres - 45], atol=1)
    np.testing.assert_allclose(model_column, array[centres[:, None], 486 + centres - 45], atol=1)


def test_pca_maps_show_content_rather_than_position(tmp_path):
    """Patches alone, with their positions: half of them are empty in every image, and have nearly one colour."""
    images = torch.rand(40, 1, 8, 8)
    images[:, :, :4] = 0.0
    array = pixels(pca_maps(image_model(1, 8, 8), images, tmp_path / "pca.png", layer=0))
    empty, full = (array[top : top + 110, 249:474].std(axis=(0, 1)).mean() for top in (45, 160))
    assert empty < 0.4 * full


def test_pca_maps_show_samples_from_all_over(tmp_path):
    """Of many images six are shown, the first and the last among them."""
    images = torch.linspace(0, 1, 20)[:, None, None, None] * torch.rand(1, 8, 8)
    array = pixels(pca_maps(image_model(1, 8, 8), images, tmp_path / "pca.png"))
    pictures = [array[45 + 237 * row : 45 + 237 * row + 225, 12 : 12 + 225] for row in range(6)]
    brightness = [picture.mean() for picture in pictures]
    assert array.shape[0] == 45 + 6 * 237 and brightness == sorted(brightness) and brightness[0] < 1


def test_too_few_positions(tmp_path):
    with pytest.raises(ValueError, match=r"2 position\(s\) are too few for 3 components"):
        pca_maps(image_model(1, 8, 8), torch.rand(2, 1, 2, 2), tmp_path / "pca.png")
    with pytest.raises(ValueError, match="too few"):
        pca_maps(encoder("our text"), [torch.tensor([5, 6])], tmp_path / "pca.png")
