"""In which number format each layer computes: a default, and the layers that differ from it.

precision: fp16          precision: {default: int8, fp16: [stem/*], fp32: [logits, prob]}
"""

from __future__ import annotations

import fnmatch
from typing import Any, Dict, Iterable, Tuple

from pydantic import BaseModel, ConfigDict, Field, model_validator
from typing_extensions import Literal

from spec.errors import ConfigError, did_you_mean
from spec.layers.fields import Names

Precision = Literal["fp32", "tf32", "fp16", "int8"]
EXCEPTIONS = ("fp32", "fp16", "int8")


class PrecisionSpec(BaseModel):
    """The default, and glob patterns of the layers that compute in another precision.

    fp32 has all 23 bits of the mantissa (TF32 off); tf32 lets tensor cores round factors to 10 bits; int8 quantizes
    convolutions and the shortcuts added to them, and computes the rest in fp16.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    default: Precision = "fp32"
    fp32: Names = Field((), description="layers kept in fp32")
    fp16: Names = Field((), description="layers kept in fp16")
    int8: Names = Field((), description="layers quantized")

    @model_validator(mode="before")
    @classmethod
    def _one_word(cls, value: Any) -> Any:
        return {"default": value} if isinstance(value, str) else value

    @property
    def words(self) -> Tuple[str, ...]:
        """Every precision that is asked for."""
        return tuple(dict.fromkeys((self.default,) + tuple(word for word in EXCEPTIONS if getattr(self, word))))

    def as_written(self) -> Any:
        """The word alone where no layer differs."""
        return self.model_dump(exclude_defaults=True) if len(self.words) > 1 else self.default

    def of_layers(self, names: Iterable[str], place: str) -> Dict[str, str]:
        """Precision by layer name.

        Raises:
            ConfigError: a pattern matches no layer, or a layer is named twice.
        """
        names = list(names)
        found = dict.fromkeys(names, str(self.default))
        claimed: Dict[str, str] = {}
        problems = []
        for word in EXCEPTIONS:
            for pattern in getattr(self, word):
                matching = fnmatch.filter(names, pattern)
                if not matching:
                    problems.append(f"{place}: precision: {word}: no layer '{pattern}'{did_you_mean(pattern, names)}")
                for name in matching:
                    if claimed.get(name, word) != word:
                        problems.append(f"{place}: precision: layer '{name}' is both {claimed[name]} and {word}")
                    claimed[name] = found[name] = word
        if problems:
            raise ConfigError(problems)
        return found
