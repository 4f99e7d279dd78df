"""Training of the autoencoder: what its losses are, and how its codebook stays in use."""

from typing import Any

import keras
import numpy as np
from keras import ops

from medkeras.errors import InputError
from medkeras.losses.replicas import replica_share
from medkeras.super_resolution.autoencoder.latents import encode, show
from medkeras.super_resolution.autoencoder.vqvae import VQVAE

DISTANCES = {"l1": ops.abs, "l2": ops.square}


class VQVAETraining(keras.Model):
    """Trains a vector-quantised autoencoder on images alone, by plain `fit`.

    The loss has three terms, each a mean: how far the decoded image is from the image; how far the codebook's vectors
    are from the latents that they stand for, which moves the vectors alone; and how far the latents are from their
    vectors, which moves the encoder alone. The gradient of the decoded image passes the codebook unchanged.

    The terms are logged as they add up to the loss, so `commitment` is always `commitment` times `codebook`. Beside
    them are logged the `perplexity` of the codebook over the epoch, which is the number of vectors if all are chosen
    equally often, and `used`, the share of vectors that were chosen at all. A codebook of which little is used is
    helped by `RestartCodes`.

    What is trained is `vqvae`: save that. The official autoencoder was trained with a perceptual network and a
    discriminator too, for sharper images; neither is here.

    Args:
        vqvae: The autoencoder to train.
        reconstruction: `"l1"` or `"l2"`, absolute or squared differences in units of [-1, 1].
        commitment: Factor of the third term, not negative.

    Input shape:
        Images `(batch, height, width, channels)` in [0, 1], without labels; edges multiples of `vqvae.factor`. Grey
        images are shown to a model of colours as equal channels.

    Raises:
        ValueError: If an argument is out of range, or in training, if images do not fit the autoencoder.

    Reference:
        van den Oord et al., Neural Discrete Representation Learning, arXiv 1711.00937.

    Example:
        >>> training = VQVAETraining(VQVAE(widths=(8,), depth=1, codebook_size=10, groups=4))
        >>> training.compile("adam")
        >>> seen = training(ops.ones((2, 4, 4, 1)))
        >>> sorted(seen), tuple(seen["decoded"].shape)
        (['decoded', 'indices', 'latent', 'nearest', 'shown'], (2, 4, 4, 3))
    """

    def __init__(self, vqvae: VQVAE, *, reconstruction: str = "l1", commitment: float = 0.25) -> None:
        super().__init__(name=f"{vqvae.name}_training", dtype=vqvae.dtype_policy, autocast=False)
        if reconstruction not in DISTANCES or not 0 <= commitment < float("inf"):
            raise InputError(
                f"`reconstruction` must be one of {', '.join(DISTANCES)}, `commitment` not negative. "
                f"Received: reconstruction={reconstruction!r}, commitment={commitment}"
            )
        self.vqvae, self.reconstruction, self.commitment = vqvae, reconstruction, commitment
        # The decoder quantises first; here the search is done once, for the image and for the losses.
        self.decoder = keras.Model(vqvae.codebook.output, vqvae.decoder.output, name="after_codebook")
        self.terms = {name: keras.metrics.Mean(name) for name in ("reconstruction", "codebook", "commitment")}
        self.use = CodebookUse(vqvae.codebook_size)
        self.built = True

    def call(self, images: Any, training: bool = False) -> dict[str, Any]:
        """Returns the images as shown and as decoded, the latents, which vector is nearest, and these vectors."""
        check_edges(images, self.vqvae.factor)
        shown = show(images, self.vqvae.channels)
        latent = ops.cast(self.vqvae.encoder(shown, training=training), "float32")
        indices = self.vqvae.codebook.indices(latent)
        nearest = ops.take(self.vqvae.codebook.embedding, indices, axis=0)
        passed = ops.stop_gradient(nearest) + (latent - ops.stop_gradient(latent))
        decoded = ops.cast(self.decoder(passed, training=training), "float32")
        return {"shown": shown, "decoded": decoded, "latent": latent, "indices": indices, "nearest": nearest}

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        """Returns the sum of the terms, in training and evaluation."""
        seen, distance = y_pred, DISTANCES[self.reconstruction]
        latent, nearest = seen["latent"], seen["nearest"]
        values = {
            "reconstruction": ops.mean(distance(seen["decoded"] - seen["shown"])),
            "codebook": ops.mean(ops.square(nearest - ops.stop_gradient(latent))),
            "commitment": self.commitment * ops.mean(ops.square(latent - ops.stop_gradient(nearest))),
        }
        for name, tracker in self.terms.items():
            tracker.update_state(values[name], sample_weight=ops.shape(latent)[0])
        self.use.update_state(seen["indices"])
        return sum(values.values()) * replica_share()


class CodebookUse(keras.metrics.Metric):
    """Counts which vectors of a codebook are chosen; gives their `perplexity` and the share `used`.

    Args:
        size: Vectors of the codebook.
        name: Name of the metric.

    Example:
        >>> use = CodebookUse(4)
        >>> use.update_state(ops.array([[0, 0, 1, 1]]))
        >>> {name: round(float(value), 3) for name, value in use.result().items()}
        {'perplexity': 2.0, 'used': 0.5}
    """

    def __init__(self, size: int, name: str = "codebook_use") -> None:
        super().__init__(name=name)
        self.size = size
        self.counts = self.add_variable((size,), "zeros", name="counts")

    def update_state(self, indices: Any, sample_weight: Any = None) -> None:
        """Counts the vectors that are chosen, int of any shape."""
        flat = ops.reshape(indices, (-1,))
        self.counts.assign_add(ops.segment_sum(ops.ones_like(flat, "float32"), flat, num_segments=self.size))

    def result(self) -> dict[str, Any]:
        """Returns the perplexity, from 1 to `size`, and the share of vectors that were chosen."""
        share = self.counts / ops.maximum(ops.sum(self.counts), 1.0)
        entropy = -ops.sum(share * ops.log(ops.maximum(share, 1e-12)))
        return {"perplexity": ops.exp(entropy), "used": ops.mean(ops.cast(self.counts > 0, "float32"))}


class RestartCodes(keras.callbacks.Callback):
    """Replaces vectors of the codebook that no place of some images chooses by latents of these images.

    Done before the first epoch and after each but the last. A new codebook lies in a corner that latents soon leave;
    the few vectors that they choose learn and all others never do.

    Args:
        images: `(n, height, width, channels)`, float in [0, 1], as `VQVAETraining` takes them; so many that they
            have several places for each vector.
        seed: Of which latents are taken.

    Raises:
        ValueError: When a training begins, if the images do not fit the autoencoder.

    Example:
        >>> training = VQVAETraining(VQVAE(widths=(8,), depth=1, codebook_size=100, groups=4))
        >>> restart = RestartCodes(np.random.default_rng(0).random((2, 8, 8, 1)))
        >>> restart.set_model(training)
        >>> restart.restart() > restart.restart()
        True
    """

    def __init__(self, images: Any, *, seed: int = 0) -> None:
        super().__init__()
        self.images, self.draw = images, np.random.default_rng(seed)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Brings the codebook to where the latents are."""
        self.restart()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Brings back what fell out of use; after the last epoch nothing could learn from it."""
        if epoch + 1 < self.params["epochs"]:
            self.restart()

    def restart(self) -> int:
        """Replaces the vectors that are not chosen, and returns how many those were."""
        book = self.model.vqvae.codebook
        latents = encode(self.model.vqvae, self.images)
        unused = np.setdiff1d(np.arange(book.size), np.asarray(book.indices(latents)))
        places, table = latents.reshape(-1, latents.shape[-1]), np.asarray(book.embedding).copy()
        table[unused] = places[self.draw.choice(len(places), len(unused), replace=len(places) < len(unused))]
        book.embedding.assign(table)
        return len(unused)


def check_edges(images: Any, multiple: int) -> None:
    """Holds a batch of images to its rule, as far as its shape is known.

    Raises:
        ValueError: If it is no batch of images or an edge is no multiple of `multiple`.
    """
    shape = tuple(images.shape)
    if len(shape) != 4 or any(n is not None and n % multiple for n in shape[1:3]):
        raise InputError(
            f"Images must be (batch, height, width, channels), with edges that are multiples of {multiple}. "
            f"Received: shape={shape}"
        )
