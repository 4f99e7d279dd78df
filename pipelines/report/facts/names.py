"""The names of measures and settings as people write them."""

MEASURES = {
    "auc": "AUC",
    "average_precision": "average precision",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "precision": "precision",
    "f1": "F1",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "mcc": "Matthews correlation",
    "kappa": "kappa",
    "cohen_kappa": "kappa without weights",
    "brier": "Brier score",
    "iou": "IoU",
    "dice": "Dice",
    "pointing": "pointing game",
    "energy": "energy within",
}


def words(name: str) -> str:
    """Returns the name of a measure as people write it.

    Example:
        >>> words("iou"), words("val_loss")
        ('IoU', 'val loss')
    """
    return MEASURES.get(name, name.replace("_", " "))
