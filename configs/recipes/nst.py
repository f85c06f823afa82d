"""Neuron selectivity transfer (Huang, Wang 2017) of the head's last feature.

Weight as for classification; there is none published for segmentation.
"""

from segkd.losses.nst import NeuronSelectivity

binds = dict(selectivity=dict(student="@head", teacher="@head", loss=dict(type=NeuronSelectivity), weight=50.0))
