"""Similarity of pixels (Tung, Mori 2019) in the head's last feature.

RepDistiller's weight 3000 at 64 samples; there is none published for segmentation.
"""

from segkd.losses.sp import SimilarityPreserving

binds = dict(similarity=dict(student="@head", teacher="@head", loss=dict(type=SimilarityPreserving), weight=47.0))
