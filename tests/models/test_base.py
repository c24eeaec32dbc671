import pytest
from pydantic import TypeAdapter

from medseg.errors import ModelFileError
from medseg.models import CustomModelConfig, ModelConfig
from medseg.task import Task


def test_a_custom_network_cannot_be_built_from_a_file():
    config = TypeAdapter(ModelConfig).validate_python({"name": "custom", "class_name": "lab.nets.MyNet"})
    assert config == CustomModelConfig(class_name="lab.nets.MyNet")
    with pytest.raises(ModelFileError, match=r"lab\.nets\.MyNet.*Predictor\(file, model=my_module\)"):
        config.build(Task(2, 1, 2))
