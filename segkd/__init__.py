"""segkd: light semantic-segmentation networks, taught by heavy ones and shipped as int8."""

__version__ = "0.1.0"
