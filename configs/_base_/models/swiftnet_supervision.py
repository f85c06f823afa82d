"""The supervision of SwiftNet with pyramid: cross entropy, larger near boundaries and where the network is unsure."""

from segkd.supervision import BoundaryWeightedCE

supervision = dict(main=dict(loss=dict(type=BoundaryWeightedCE, distances=(16, 64, 128), factors=(8.0, 4.0, 2.0, 1.0))))
