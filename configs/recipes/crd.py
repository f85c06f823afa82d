"""Contrastive representations (Tian et al. 2020) of class regions in the head's last feature.

Weight as published for classification.
"""

from segkd.losses.crd import ContrastiveRepresentation

binds = dict(
    contrast=dict(
        student="@head",
        teacher="@head",
        loss=dict(type=ContrastiveRepresentation, n_data="@images", num_classes="@classes"),
        weight=0.8,
    ),
)
