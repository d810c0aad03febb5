"""Declare the two torchvision operators whose compiled part is missing from a CPU-only installation.

The wheel's compiled part is linked against CUDA and cannot be loaded here, and importing torchvision fails when its
operators are unknown. SGLang imports torchvision but calls neither operator for a language model.
"""

import importlib.abc
import sys


class _DeclareOperators(importlib.abc.MetaPathFinder):
    """Acts once, just before the first import of torchvision: other Python starts don't pay for importing torch."""

    def find_spec(self, fullname, path, target=None):
        if fullname == "torchvision":
            sys.meta_path.remove(self)
            import torch

            # Kept on the module: the declarations vanish with the Library object.
            sys.modules[__name__].library = torch.library.Library("torchvision", "DEF")
            for operator in ("nms", "qnms"):
                sys.modules[__name__].library.define(
                    f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
                )


sys.meta_path.insert(0, _DeclareOperators())
