"""What generating text takes beside a model's weights, and how long a text, or how many of them, there is room for.

Keys and values are counted to the byte from the config.json. What else a prompt takes while it is read was found with
`nb_oomhelper.forecast` for one model of each family (transformers 5.24): in most, for each token three values a unit of
the feed-forward part and four a hidden unit; no logits but the last, as `generate` asks for. Where attention is not
fused, and with experts, it is not known.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from nb_oomhelper.knowledge.versions import installed_version, release_of
from nb_oomhelper.loading.checkpoint import FORMS, Config
from nb_oomhelper.records.memory import DeviceMemory
from nb_oomhelper.records.note import Note, joined, note

TOKENS = 2048  # of the text that room is left for
_MIB = 1 << 20
SPARE = 256 * _MIB  # bytes of a GPU that are always left free
_NO_END = 1 << 40  # tokens: more than any memory holds
_LATENT = (5, 15)  # transformers keeps a latent as it is since this release
VLLM_SHARE = 0.9  # gpu_memory_utilization, if nothing is said
_VLLM_BLOCK = 16  # tokens
_VLLM_CONTEXT = 512 * _MIB  # what CUDA and its libraries take, about
_VLLM_LARGE = 70 << 30  # of a device, no A100, that it gives more at once


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """What is to be generated.

    Attributes:
        tokens: Length of a text, its prompt included.
        batch: Texts side by side.
        form: What keys and values are kept in, one of `FORMS`; None for what the model computes in.
    """

    tokens: int
    batch: int = 1
    form: str | None = None

    def in_form(self, dtype: str | None) -> str:
        """What keys and values are kept in.

        Args:
            dtype: What the model is loaded in, or None where nobody knows: 16 bits.
        """
        return self.form or (dtype if dtype in FORMS else None) or "float16"


@dataclass(frozen=True, slots=True, kw_only=True)
class TextRoom:
    """What there is room for beside the weights.

    Attributes:
        tokens: The longest text, at the batch that is asked for; no longer than the model was made for. None: unknown.
        batch: The most texts side by side, at the length that is asked for.
    """

    tokens: int | None = None
    batch: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class VllmStart:
    """What vLLM does with a GPU when it starts, by its version 1 engine.

    Attributes:
        takes: Bytes that it takes: `gpu_memory_utilization` of all that the GPU has.
        starts: Whether so much is free: else it refuses.
        cache: Bytes that are left for keys and values, about; less than 0 is none.
        tokens: Tokens that these hold; None where layers differ in what they keep.
        texts: Texts of the length that is asked for that these hold.
    """

    takes: int
    starts: bool | None
    cache: int | None = None
    tokens: int | None = None
    texts: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardPassEstimate:
    """An estimate of what a forward pass takes beside the weights, with its formula.

    Attributes:
        cache: Bytes of keys and values.
        activations: Bytes of the largest intermediate results.
        formula: How both were estimated.
    """

    cache: int | None
    activations: int | None
    formula: Note

    @property
    def margin(self) -> int:
        """Bytes to leave free on the device."""
        return max(SPARE, (self.cache or 0) + (self.activations or 0))


def beside(config: Config | None, tokens: int = TOKENS) -> ForwardPassEstimate:
    """Estimate the bytes of keys and values, and of activations, for one text in 16 bits.

    Activations are taken as eight values a token and hidden unit, in 16 bits, and one float32 logit a
    token and word: what a plain decoder holds at its widest. Attention that is not fused takes more.

    Args:
        config: The model's; without it both are unknown.
        tokens: Length of the text.
    """
    if config is None or config.hidden_size is None:
        return ForwardPassEstimate(cache=None, activations=None, formula=note("formula.no_config"))
    wanted = Generation(tokens=tokens)
    cache = cache_size(config, wanted, "float16")
    activations = tokens * (8 * config.hidden_size * 2 + 4 * (config.vocabulary or 0))
    formula = note(
        "formula.both",
        cache=formula_of(config, wanted, "float16"),
        activations=note("formula.activations", tokens=tokens, hidden=config.hidden_size, words=config.vocabulary or 0),
    )
    return ForwardPassEstimate(cache=cache, activations=activations, formula=formula)


def cache_size(config: Config | None, wanted: Generation, form: str, *, prompt: bool = False) -> int | None:
    """Count the bytes of keys and values as the transformers that is installed keeps them.

    Args:
        config: The model's; None is unknown.
        wanted: Length and batch.
        form: One of `FORMS`.
        prompt: While a prompt of that length is read in one go.
    """
    if config is None:
        return None
    return config.kv_cache(wanted.tokens, wanted.batch, form, prompt=prompt, expanded=_expands())


def _expands() -> bool:
    """Whether the transformers that is installed keeps a latent as keys and values."""
    have = release_of(installed_version("transformers") or "")
    return have is not None and tuple(have) < _LATENT


def needed_for(config: Config | None, wanted: Generation, dtype: str | None) -> int | None:
    """Estimate what a generation takes at its peak, beside the weights: the whole prompt is read in one go.

    Args:
        config: The model's.
        wanted: Length, batch and form.
        dtype: What the model is loaded in, or None.
    """
    form = wanted.in_form(dtype)
    cache = cache_size(config, wanted, form, prompt=True)
    if config is None or cache is None or config.reading is None:
        return None
    itemsize = max(2, FORMS.get(dtype or "", 0) // 64)
    return cache + config.reading * itemsize * wanted.tokens * wanted.batch


def find_room(config: Config | None, wanted: Generation, dtype: str | None, free: int | None) -> TextRoom:
    """Find the longest text and the largest batch.

    Args:
        config: The model's.
        wanted: Length, batch and form.
        dtype: What the model is loaded in, or None.
        free: Bytes beside the weights.
    """
    if config is None or free is None or needed_for(config, wanted, dtype) is None:
        return TextRoom()

    def fits(tokens: int, batch: int) -> bool:
        one = Generation(tokens=tokens, batch=batch, form=wanted.form)
        return (needed_for(config, one, dtype) or 0) <= free

    longest = _most(lambda tokens: fits(tokens, wanted.batch))
    made_for = config.context or longest
    return TextRoom(tokens=min(longest, made_for), batch=_most(lambda batch: fits(wanted.tokens, batch)))


def _most(fits: Callable[[int], bool]) -> int:
    """The largest number that fits; 0 if none does."""
    low, high = 0, 1
    while high < _NO_END and fits(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def formula_of(config: Config | None, wanted: Generation, form: str) -> Note:
    """Say how keys and values were counted.

    Args:
        config: The model's.
        wanted: Length and batch.
        form: One of `FORMS`.
    """
    if config is None or config.cache is None:
        return note("formula.unknown")
    size, rest = divmod(FORMS[form], 64)
    whole = note("formula.byte") if size == 1 else note("formula.bytes", bytes=size)
    each, expanded = note("formula.of_64", bytes=FORMS[form]) if rest else whole, _expands()
    parts = []
    for one in config.cache:
        tokens = wanted.batch * (wanted.tokens if one.window is None else min(wanted.tokens, one.window))
        if width := one.values(expanded=expanded):
            parts.append(note("formula.layers", layers=one.count, width=width, tokens=tokens, each=each))
        else:
            parts.append(note("formula.states", layers=one.count, bytes=one.size(1, wanted.batch, form) // one.count))
    return joined(*parts, key="formula.plus") or note("formula.unknown")


def start_vllm(
    config: Config | None,
    wanted: Generation,
    weights: int | None,
    device: DeviceMemory | None,
) -> VllmStart | None:
    """Estimate what vLLM would do with a GPU.

    Args:
        config: The model's.
        wanted: Length and form.
        weights: Bytes in 16 bits, or as they are stored in less.
        device: The GPU.

    Returns:
        None where the GPU is not known.
    """
    if device is None or device.capacity is None:
        return None
    form, takes = wanted.in_form("float16"), int(device.capacity * VLLM_SHARE)
    starts = None if device.free is None else device.free >= takes
    text = config.kv_cache(wanted.tokens, 1, form) if config else None
    if config is None or config.cache is None or text is None or weights is None:
        return VllmStart(takes=takes, starts=starts)
    large = device.capacity >= _VLLM_LARGE and "a100" not in (device.name or "").lower()
    at_once, texts = (16384, 1024) if large else (8192, 256)
    one = 2 * (3 * (config.intermediate or 0) + 4 * (config.hidden_size or 0))
    left = takes - weights - _VLLM_CONTEXT - at_once * one - texts * 2 * 4 * (config.vocabulary or 0)
    alike = all(layer.window is None and layer.width for layer in config.cache)
    block = config.kv_cache(_VLLM_BLOCK, 1, form) or 1
    tokens = max(0, left) // block * _VLLM_BLOCK if alike else None
    return VllmStart(takes=takes, starts=starts, cache=left, tokens=tokens, texts=max(0, left) // max(1, text))
