"""temporary"""

import re


def is_role(text):
    return bool(re.fullmatch(r"@(logits|classifier|head|backbone|stages)(_preact)?(\[-?\d+\])?", text))


def resolve_role(network, text, x):
    return [
        {
            "@logits": "",
            "@classifier": "classifier",
            "@head": "classifier@input",
            "@backbone": "global_features" if hasattr(network, "global_features") else "encoder.join3",
        }[text]
    ]


def pair_stages(a, b):
    n = min(len(a), len(b))
    return a[-n:], b[-n:]
