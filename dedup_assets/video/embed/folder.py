"""A model's folder in the layout of Hugging Face: what it holds, and loading it.

Loading never downloads, never reads a pickle, and runs Python files of the folder only where the
user trusts them.
"""

import importlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dedup_assets.errors import first_line, listed
from dedup_assets.video.embed.errors import EmbedError

PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")


@dataclass(frozen=True)
class ModelFolder:
    """A folder that has a config.json.

    Attributes:
        path: the folder.
        config: its config.json.
        trusted: whether the user lets Python files in it run.
    """

    path: Path
    config: dict[str, Any]
    trusted: bool

    @property
    def has_code(self) -> bool:
        """Whether it brings Python files of its own that make the model."""
        return "auto_map" in self.config


def open_folder(kind: str, model_dir: Path | None, *, trusted: bool) -> ModelFolder:
    """Read the config.json of `model_dir`."""
    if model_dir is None:
        raise EmbedError(
            f"{kind} reads its weights from a folder: name one with --model-dir, laid out as on "
            "Hugging Face (config.json, *.safetensors); nothing is downloaded"
        )
    if not (model_dir / "config.json").is_file():
        found = "has no config.json" if model_dir.is_dir() else "is not a directory"
        raise EmbedError(
            f"{model_dir}: {found}; --model-dir should be the folder of a model as on Hugging "
            "Face, with config.json and *.safetensors"
        )
    return ModelFolder(model_dir, read_json(model_dir / "config.json"), trusted)


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file."""
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise EmbedError(
            f"{path}: cannot be read as JSON: {first_line(error)}; copy the model's folder again"
        ) from error
    if not isinstance(value, dict):
        raise EmbedError(f"{path}: should hold a JSON object; copy the model's folder again")
    return value


def require_trust(folder: ModelFolder) -> None:
    """Refuse a folder whose Python files would have to run."""
    if not folder.trusted:
        raise EmbedError(
            f"{folder.path}: this model is made by Python files in its folder, which can do "
            "anything you can; read them, and allow them with --trust-remote-code"
        )


def require_safetensors(folder: ModelFolder) -> None:
    """Refuse a folder without *.safetensors: other weights are pickles, which can run code."""
    if any(folder.path.glob("*.safetensors")):
        return
    pickles = sorted(path.name for pattern in PICKLES for path in folder.path.glob(pattern))
    found = f"holds pickled weights ({listed(pickles, 3)})" if pickles else "holds no weights"
    raise EmbedError(
        f"{folder.path}: {found}; weights are read from *.safetensors alone, since a pickle can "
        "run code: take the model's safetensors, or convert them where you trust their origin"
    )


def require_torch(kind: str) -> None:
    """Refuse to go on where the extra `embed` is not installed."""
    for module in ("torch", "transformers", "PIL"):
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise EmbedError(
                f"{kind} needs {module}, which cannot be imported here ({first_line(error)}): "
                "pip install 'dedup-assets[embed]'"
            ) from error


def load_model(folder: ModelFolder, device: Any, dtype: Any) -> tuple[Any, dict[str, Any]]:
    """The folder's model on `device` in `dtype`, and the tensors that it has no weights for.

    transformers fills those with random numbers and goes on. They are harmless where what is asked
    of the model does not depend on them, which `ModelEmbedder` tries.
    """
    from transformers import AutoModel

    require_safetensors(folder)
    with explained(folder):
        model, loading = AutoModel.from_pretrained(
            folder.path,
            local_files_only=True,
            trust_remote_code=folder.trusted,
            use_safetensors=True,
            output_loading_info=True,
            dtype=dtype,
        )
        model = model.to(device=device, dtype=dtype).eval().requires_grad_(False)
        return model, _unloaded(model, set(loading["missing_keys"]))


def _unloaded(model: Any, missing: set[str]) -> dict[str, Any]:
    """Tensors of those names, without the ones that share memory with a loaded tensor."""
    tensors = model.state_dict(keep_vars=True)
    loaded = {tensor.data_ptr() for name, tensor in tensors.items() if name not in missing}
    return {
        name: tensor
        for name, tensor in tensors.items()
        if name in missing and tensor.is_floating_point() and tensor.data_ptr() not in loaded
    }


@contextmanager
def explained(folder: ModelFolder) -> Iterator[None]:
    """Turn what transformers or the folder's own code raises into one line; keep them quiet."""
    import transformers
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    except EmbedError:
        raise
    except ImportError as error:
        raise EmbedError(
            f"{folder.path}: this model needs a package that is not installed: "
            f"{first_line(error)}; install it and run again"
        ) from error
    # The folder's files decide what is raised: damaged weights, unknown names, code of its own.
    except Exception as error:
        if "trust_remote_code" in str(error):
            require_trust(folder)
        # Code that came with a model was written for the transformers of its day.
        older = "; or its Python files need pip install 'transformers<5'" if folder.has_code else ""
        raise EmbedError(
            f"{folder.path}: cannot be used with transformers {transformers.__version__}: "
            f"{type(error).__name__}: {first_line(error)}; check that the folder is whole{older}"
        ) from error
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
