"""Settings of a network that is passed from Python and cannot be built from a configuration."""

from __future__ import annotations

from typing import Literal

from torch import nn

from medseg.errors import ModelFileError
from medseg.models.base import ArchitectureConfig
from medseg.task import Task


class CustomModelConfig(ArchitectureConfig):
    """A network given as ``fit(config, model=my_module)``.

    Attributes:
        class_name: qualified name of the module's class, for the record and for messages.
    """

    name: Literal["custom"] = "custom"
    class_name: str

    def build(self, task: Task) -> nn.Module:
        """Raise an error: no code is run from a configuration or a model file.

        Raises:
            ModelFileError: always.
        """
        raise ModelFileError(
            f"the network is the custom class {self.class_name}, which cannot be built from a file",
            hint="Construct it in Python and pass it: Predictor(file, model=my_module) to predict, "
            "fit(config, model=my_module) to train.",
        )
