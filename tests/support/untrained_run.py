"""A run folder as training leaves it, without the training."""

from pipelines.io.run_folder import RunFolder
from pipelines.splits.by_patient import manifest
from pipelines.training.config import TrainConfig
from pipelines.training.data import load_data


def write_run(config: TrainConfig, model) -> RunFolder:
    """Writes the configuration, the splits and the model of a run."""
    run = RunFolder(config.run)
    run.write_config(config.to_dict())
    run.write_text("splits.csv", manifest(load_data(config).records).to_csv(index=False))
    model.save(run / "model.keras")
    return run
