"""Explanation: where a model looked, what its pathways saw, what it marks, and what carried the answer.

Everything here works from a model's explain points, or from its input and output alone; nobody names a layer.
"""

from medkeras.explain.explainable import explainable
from medkeras.explain.explanation import Explanation, explain
from medkeras.explain.faithfulness import (
    Curve,
    Randomization,
    deletion_curve,
    insertion_curve,
    randomization_check,
)
from medkeras.explain.figures.appearance import Appearance
from medkeras.explain.figures.explanation import explanation_figure
from medkeras.explain.figures.maps import maps_figure
from medkeras.explain.figures.receptive_field import receptive_field_figure
from medkeras.explain.figures.regions import localization_figure
from medkeras.explain.fixations import Fixations, fixations
from medkeras.explain.methods.class_map import CLASS_MAP_METHODS, class_map
from medkeras.explain.methods.feature_maps import activations, pathway_maps, resize_maps
from medkeras.explain.methods.input_gradients import integrated_gradients, smooth_grad
from medkeras.explain.methods.native import native_attention
from medkeras.explain.methods.occlusion import occlusion
from medkeras.explain.methods.registry import explanation_maps, methods_of
from medkeras.explain.methods.rollout import attention_maps, attention_rollout, relevance_map
from medkeras.explain.receptive_field import effective_receptive_field, field_radius
from medkeras.explain.regions import Regions, default_map, localize, map_names, mark_regions, saliency_maps

__all__ = [
    "CLASS_MAP_METHODS",
    "Appearance",
    "Curve",
    "Explanation",
    "Fixations",
    "Randomization",
    "Regions",
    "activations",
    "attention_maps",
    "attention_rollout",
    "class_map",
    "default_map",
    "deletion_curve",
    "effective_receptive_field",
    "explain",
    "explainable",
    "explanation_figure",
    "explanation_maps",
    "field_radius",
    "fixations",
    "insertion_curve",
    "integrated_gradients",
    "localization_figure",
    "localize",
    "map_names",
    "maps_figure",
    "mark_regions",
    "methods_of",
    "native_attention",
    "occlusion",
    "pathway_maps",
    "randomization_check",
    "receptive_field_figure",
    "relevance_map",
    "resize_maps",
    "saliency_maps",
    "smooth_grad",
]
