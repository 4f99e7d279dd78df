"""Augmentations by name: general ones of growing strength, and one per modality, for images and volumes."""

from pipelines.augment.augmenter import Augmentation
from pipelines.augment.dropout import CoarseDropout
from pipelines.augment.geometric.crop import RandomResizedCrop
from pipelines.augment.geometric.flips import Flip
from pipelines.augment.geometric.warp import Warp
from pipelines.augment.photometric.bias_field import BiasField
from pipelines.augment.photometric.blur import Blur
from pipelines.augment.photometric.color import ColorJitter
from pipelines.augment.photometric.intensity import Gain, Intensity, Noise

AUGMENTATIONS: dict[str, tuple[Augmentation, ...]] = {
    "none": (),
    "light": (Flip(("width",)), Intensity(brightness=0.1, contrast=0.1, gamma=0.0)),
    "standard": (
        Warp(rotation=10.0, scale=0.1, translation=0.06, flip=("width",)),
        Intensity(brightness=0.1, contrast=0.2, gamma=0.2),
        Noise(std=0.02),
    ),
    "strong": (
        Warp(rotation=15.0, scale=0.15, translation=0.1, flip=("width",)),
        Intensity(brightness=0.2, contrast=0.3, gamma=0.35),
    ),
    # A chest is never upside down, and mirrored its heart is on the wrong side: no flips.
    "xray": (
        Warp(rotation=7.0, scale=0.1, translation=0.05),
        Intensity(brightness=0.1, contrast=0.2, gamma=0.2),
        Noise(std=0.01),
    ),
    # A mirrored eye is the other eye, any angle occurs nearly, and around the disc it is black.
    "fundus": (
        Warp(rotation=180.0, scale=0.1, translation=0.03, flip=("width",), border="zero"),
        ColorJitter(saturation=0.15, hue=6.0),
        Intensity(brightness=0.1, contrast=0.2, gamma=0.2),
    ),
    # Depth runs downwards, and so do shadows and enhancement: no vertical flip, little rotation.
    "ultrasound": (
        Warp(rotation=5.0, scale=0.1, translation=0.05, flip=("width",)),
        Intensity(brightness=0.1, contrast=0.2, gamma=0.25),
        Noise(std=0.02),
    ),
    # Tissue has no up or down, and stains differ between laboratories in colour, slides in focus.
    "histology": (
        Warp(rotation=180.0, scale=0.1, flip=("width", "height"), border="reflect"),
        ColorJitter(saturation=0.25, hue=15.0),
        Intensity(brightness=0.1, contrast=0.2, gamma=0.1),
        Blur(sigma=1.0),
    ),
    # A lesion is photographed from any side; its colour is a finding and changes little. Hairs and rulers cover.
    "dermatology": (
        Warp(rotation=180.0, scale=0.15, translation=0.05, flip=("width", "height"), border="reflect"),
        ColorJitter(saturation=0.15, hue=5.0),
        Intensity(brightness=0.1, contrast=0.2, gamma=0.15),
        CoarseDropout(count=3, size=(0.05, 0.15)),
    ),
    # Coils shade, grey values have no unit, soft tissue bends. Organs have sides: no flips.
    "mri": (
        Warp(rotation=10.0, scale=0.1, translation=0.05, elastic=0.01, border="zero"),
        BiasField(strength=0.2, order=3),
        Intensity(brightness=0.1, contrast=0.2, gamma=0.25),
        Noise(std=0.02),
    ),
    # Hounsfield units are absolute: a slight shift of the window and no gamma. Organs have sides: no flips.
    "ct": (
        Warp(rotation=10.0, scale=0.1, translation=0.05, border="zero"),
        Intensity(brightness=0.05, contrast=0.1, gamma=0.0),
        Noise(std=0.02),
    ),
    # What HEMF and CAME were trained with, as many networks for natural images.
    "imagenet": (RandomResizedCrop(motion=Warp(flip=("width",))),),
    # What DualAttendMed was trained with: of 256 pixels 224, anywhere. Evaluation sees the middle, see centre-crop.
    "fundus-published": (
        RandomResizedCrop((0.875**2, 0.875**2), (1.0, 1.0), Warp(flip=("width",))),
        Gain(0.126),
        ColorJitter(saturation=0.5, hue=0.0),
    ),
}
