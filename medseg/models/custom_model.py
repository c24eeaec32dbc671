"""The place of a network that is handed over from Python and that no configuration can build."""

from __future__ import annotations

from typing import Literal

from torch import nn

from medseg.config.base import Spec
from medseg.errors import ModelFileError
from medseg.task import Task


class InjectedConfig(Spec):
    """A network given as ``fit(config, model=my_module)``: its class's name, for the record and for messages.

    Attributes:
        class_name: qualified name of the module's class.
    """

    name: Literal["injected"] = "injected"
    class_name: str

    def build(self, task: Task) -> nn.Module:
        """Refuse: no code is run from a configuration or a model file.

        Raises: ModelFileError, always, with the way out.
        """
        raise ModelFileError(
            f"the network is your own class {self.class_name}, which medseg cannot build from a file; "
            "construct it in Python and pass it: Predictor(file, model=my_module) to predict, "
            "fit(config, model=my_module) to train"
        )
