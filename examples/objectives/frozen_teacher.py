"""A frozen teacher from an earlier run, instead of the student's own average (SALT, arXiv 2509.24317).

    earlier = Data2Vec2VisionForPreTraining.from_pretrained("runs/first")
    model = with_frozen_teacher(Data2Vec2VisionForPreTraining(Data2Vec2VisionConfig(teacher_scope="model")), earlier)

The earlier run may be short. Both have one shape, since the teacher is of the student's config; in SALT the teacher may
be smaller, and was trained to predict pixels.
"""

from modeling_data2vec import Data2Vec2PreTrainingConfig


def with_frozen_teacher(model, earlier):
    """Give a new model the teacher of an earlier one, and let it stand still.

    Args:
        model: a pretraining model whose teacher owns all that it computes with (`teacher_scope="model"`).
        earlier: a trained one of the same shape.

    Returns:
        `model`; a decay of 1 in its config says that the teacher never moves, also after saving and loading.

    Raises:
        ValueError: the teacher would read the new student's features.
    """
    config: Data2Vec2PreTrainingConfig = model.config
    if config.teacher_scope != "model" or earlier.config.teacher_scope != "model":
        raise ValueError('teacher_scope must be "model" in both: else the teacher moves with the student\'s features')
    model.teacher.load_state_dict(earlier.teacher.state_dict())
    config.ema_decay = config.ema_end_decay = 1.0
    return model
