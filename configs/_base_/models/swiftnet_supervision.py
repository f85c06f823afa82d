"""SwiftNet's supervision: cross entropy, larger near boundaries and where the network is unsure; no auxiliary head."""

from segkd.supervision import BoundaryWeightedCE

supervision = dict(main=dict(loss=dict(type=BoundaryWeightedCE)))
