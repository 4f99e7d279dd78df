"""The command `train`."""

import pathlib
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from pipelines.cli import options
from pipelines.cli.options import DEVICES, OUTPUT, SURENESS, TRAINING, option
from pipelines.cli.starting import starting


@options.takes_source_options
def train(
    context: typer.Context,
    data: options.Source,
    run: Annotated[pathlib.Path, typer.Option(help="Folder of the run; the same command continues it.")],
    model: Annotated[
        str | None, typer.Option(help="A name that `medkeras models` lists; a recipe has one already.")
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            help="Train as published: a name that `medkeras recipes` lists, or a .yaml; --data is then what "
            "`medkeras data prepare` made, and any other option overrides the recipe's."
        ),
    ] = None,
    epochs: Annotated[int, option(TRAINING, "Passes over the training images.")] = 20,
    seed: options.Seed = 0,
    task: options.Task = None,
    image_size: options.ImageSize = None,
    channels: options.Channels = None,
    preprocess: options.Preprocess = None,
    train_preprocess: options.TrainPreprocess = None,
    fractions: options.Fractions = "0.7,0.1,0.2",
    folds: options.Folds = None,
    fold: options.Fold = 0,
    split_file: options.SplitFile = None,
    group_duplicates: options.GroupDuplicates = False,
    leakage: options.Leakage = "stop",
    on_error: options.OnError = "raise",
    source_options: Mapping[str, Any] = options.NONE_GIVEN,
    cache: options.Cache = None,
    data_service: options.DataService = None,
    batch_size: Annotated[int, option(TRAINING, "Images per step, of all devices together.")] = 32,
    augment: Annotated[
        str,
        option(TRAINING, "Augmentation of training images; none leaves it out."),
    ] = "standard",
    optimizer: Annotated[str, option(TRAINING, "adamw, sgd or adam.")] = "adamw",
    momentum: Annotated[float, option(TRAINING, "Of sgd.")] = 0.9,
    learning_rate: Annotated[float, option(TRAINING, "Peak of the schedule.")] = 1e-3,
    weight_decay: Annotated[float, option(TRAINING, "Decoupled for adamw, in the gradient for sgd and adam.")] = 1e-4,
    decay_vectors: Annotated[
        bool,
        option(TRAINING, "Biases and weights of norms decay too.", "--decay-vectors/--no-decay-vectors"),
    ] = True,
    schedule: Annotated[str, option(TRAINING, "After the warm-up: cosine, step or constant.")] = "cosine",
    warm_up: Annotated[
        float | None, option(TRAINING, "Epochs of a linear rise; 5 % of all steps by default.", metavar="EPOCHS")
    ] = None,
    warm_up_start: Annotated[float, option(TRAINING, "Where it rises from, as a share of the peak.")] = 0.0,
    step_epochs: Annotated[int, option(TRAINING, "Epochs between the steps of the schedule step.")] = 10,
    step_factor: Annotated[float, option(TRAINING, "Factor of each of them.")] = 0.1,
    end_factor: Annotated[float, option(TRAINING, "Where cosine ends, as a share of the peak.")] = 0.0,
    clip_norm: Annotated[float | None, option(TRAINING, "Largest norm of all gradients together.")] = None,
    accumulate: Annotated[int, option(TRAINING, "Steps whose gradients make one update.", metavar="STEPS")] = 1,
    gradient_checkpointing: Annotated[
        bool,
        option(
            TRAINING,
            "Compute activations again in the backward pass: less memory, more time.",
            "--gradient-checkpointing/--no-gradient-checkpointing",
        ),
    ] = False,
    ema: Annotated[
        float | None,
        option(TRAINING, "Keep running means of the weights, as 0.999; they are what is validated and saved."),
    ] = None,
    deterministic: Annotated[
        bool,
        option(TRAINING, "The same run gives the same weights, bit for bit.", "--deterministic/--fast"),
    ] = True,
    loss: Annotated[str, option(TRAINING, "cross-entropy or focal.")] = "cross-entropy",
    balance: Annotated[
        str, option(TRAINING, "none, class-weights, effective-number, oversample, undersample or sqrt-sample.")
    ] = "none",
    monitor: Annotated[
        str,
        option(TRAINING, "auc, accuracy or loss: chooses the best epoch."),
    ] = "auc",
    patience: Annotated[
        int | None,
        option(TRAINING, "Stop after so many epochs without a better one."),
    ] = None,
    model_option: Annotated[
        list[str] | None,
        option(TRAINING, "An option of the model; repeatable.", "--model-option", metavar="KEY=VALUE"),
    ] = None,
    pretrained: Annotated[
        str | None,
        option(TRAINING, "Weights of the backbone: a torchvision or timm file, or a preset.", metavar="WEIGHTS"),
    ] = None,
    training: Annotated[
        str, option(TRAINING, "plain, or attention: by crops and drops that follow the model's attention maps.")
    ] = "plain",
    training_option: Annotated[
        list[str] | None,
        option(TRAINING, "An option of that training, as mask=true; repeatable.", metavar="KEY=VALUE"),
    ] = None,
    calibration: Annotated[
        str, option(SURENESS, "Fitted on validation at the end: temperature, vector or none.")
    ] = "temperature",
    coverage: Annotated[float, option(SURENESS, "Share of prediction sets that shall hold the true class.")] = 0.9,
    risk: Annotated[
        float, option(SURENESS, "Share of wrong decisions that is wanted among what is not referred.")
    ] = 0.05,
    strategy: Annotated[
        str,
        option(
            DEVICES, "none: one device; mirrored: all of this host; multi-worker: several hosts; auto: what there is."
        ),
    ] = "auto",
    gpus: Annotated[int | None, option(DEVICES, "How many GPUs of a host to take; all by default.")] = None,
    batch_per_replica: Annotated[
        bool, option(DEVICES, "--batch-size is that of each device.", "--batch-per-replica/--batch-of-all")
    ] = False,
    scale_learning_rate: Annotated[
        bool,
        option(
            DEVICES,
            "Multiply the learning rate by the number of devices.",
            "--scale-learning-rate/--keep-learning-rate",
        ),
    ] = False,
    sync_batch_norm: Annotated[
        bool,
        option(DEVICES, "BatchNorm over the batch of all devices.", "--sync-batch-norm/--no-sync-batch-norm"),
    ] = False,
    precision: Annotated[str, option(DEVICES, "float32, mixed_bfloat16 or mixed_float16.")] = "float32",
    jit: Annotated[
        str, option(DEVICES, "Compile the step by XLA, on each device: on, off, or auto, on one GPU.")
    ] = "auto",
    save_steps: Annotated[
        int | None, option(OUTPUT, "Save the state after every so many steps too; by default after each epoch.")
    ] = None,
    tensorboard: Annotated[bool, option(OUTPUT, "Write TensorBoard logs too.", "--tensorboard")] = False,
) -> None:
    """Train a model, or continue a training that was interrupted."""
    fields = options.train_fields(context.params)
    if recipe is None and model is None:
        raise options.UsageError("A training needs --model, or a --recipe that names one. Received: neither")
    with starting() as console:
        from pipelines.jobs.train import train as run_training
        from pipelines.training.config import TrainConfig

        if recipe is not None:
            fields = options.over_recipe(recipe, fields, given=options.given(context))
        run_training(TrainConfig(**fields), console=console)
