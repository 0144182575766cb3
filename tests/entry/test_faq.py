"""docs/faq.md quotes messages that the code has."""
import ast
import os
import re

from feature_specs.files import PROJECT

PACKAGES = ("estimator_app", "feature_specs", "input_fn", "preprocessing", "rec_sdk_cpu")


def literals():
    found = []
    for package in PACKAGES:
        for base, _, names in os.walk(os.path.join(PROJECT, package)):
            for name in names:
                if name.endswith(".py"):
                    with open(os.path.join(base, name), encoding="utf-8") as stream:
                        tree = ast.parse(stream.read())
                    found += [node.s for node in ast.walk(tree) if isinstance(node, ast.Str)]
    return found


def test_quoted_messages_are_the_codes():
    with open(os.path.join(PROJECT, "docs", "faq.md"), encoding="utf-8") as stream:
        quoted = re.findall(r"^### `(.*)`$", stream.read(), re.MULTILINE)
    assert len(quoted) > 20
    # A message may be put together from several literals.
    texts = "\n".join(literals())
    missing = [part.strip() for text in quoted for part in text.split("…") if part.strip() not in texts]
    assert not missing
