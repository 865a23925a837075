"""Cross-encoders of sentence-transformers, language models with their template included, in our passes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_rerankkit._optional import require
from langchain_rerankkit.errors import ModelNotFoundError
from langchain_rerankkit.inference.pairs import Encoded, Limits, encode_pairs, too_long
from langchain_rerankkit.inference.passes import Passes, out_of_memory
from langchain_rerankkit.inference.tokens import Row, Tokenizer, pad, windows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langchain_rerankkit.inference.models import Precision

__all__ = ["TorchPairs", "dtype_of", "fastest", "open_cross_encoder", "pass_tokens", "runtime_of"]

_CPU_TOKENS, _GPU_TOKENS = 1024, 16384


def open_cross_encoder(
    model: str,
    *,
    precision: Precision = "auto",
    device: str | None = None,
    threads: int | None = None,
    revision: str | None = None,
    cache_dir: str | None = None,
    local_files_only: bool = False,
    trust_remote_code: bool = False,
) -> TorchPairs:
    """Load a cross-encoder with sentence-transformers.

    Args:
        model: A folder, or a name on the hub.
        precision: ``"auto"`` is bf16 on a CUDA device or processor that multiplies it natively, else fp32.
        device: torch's name; by default the fastest one found.
        threads: Threads of one operation, which torch sets for the whole process; by default left as it is.
        revision: Commit, tag or branch on the hub.
        cache_dir: Folder for downloads.
        local_files_only: Never download.
        trust_remote_code: Run Python code that comes with the model.

    Raises:
        ModelNotFoundError: If the model cannot be loaded.
        ValueError: If torch cannot compute as asked.
    """
    sentence_transformers, torch = require("sentence_transformers", extra="local"), require("torch", extra="local")
    if precision == "int8":
        msg = "The torch backend has no int8: export the model (rerankkit export) and use backend='onnx'."
        raise ValueError(msg)
    if threads is not None:
        torch.set_num_threads(threads)
    place = device or sentence_transformers.util.get_device_name()
    chosen = fastest(torch, place) if precision == "auto" else precision
    dtype = dtype_of(torch, chosen)
    try:
        loaded = sentence_transformers.CrossEncoder(
            model,
            device=place,
            revision=revision,
            cache_folder=cache_dir,
            local_files_only=local_files_only,
            trust_remote_code=trust_remote_code,
            model_kwargs={"dtype": dtype, "use_safetensors": True},  # never pickles
        )
    except OSError as error:
        msg = (
            f"The cross-encoder {model!r} could not be loaded: {error} Give an existing folder, or a model "
            "that is in the cache when there is no network."
        )
        raise ModelNotFoundError(msg, searched=[cache_dir or model]) from error
    if dtype != torch.float32:
        _widen_head(torch, loaded)
    return TorchPairs(loaded)


class TorchPairs:
    """A ``sentence_transformers.CrossEncoder`` in passes of a token budget.

    Args:
        model: The cross-encoder. A missing padding token is set; nothing else of it changes.
    """

    def __init__(self, model: Any) -> None:
        self._torch = require("torch", extra="local")
        self.model = model.eval()
        tokenizer = model.tokenizer
        _ensure_padding(model, tokenizer)
        self._pad_id = tokenizer.pad_token_id
        self._left = tokenizer.padding_side == "left"
        self._max_length = model.max_seq_length or tokenizer.model_max_length
        self._template = "message" in getattr(model, "modalities", ["text"]) or not hasattr(
            tokenizer, "backend_tokenizer"
        )
        names = getattr(tokenizer, "model_input_names", ())
        self._inputs = {"input_ids", "attention_mask", *({"token_type_ids"} & set(names))}
        self._tokenizer: Tokenizer | None = None
        if hasattr(tokenizer, "backend_tokenizer"):
            definition = tokenizer.backend_tokenizer.to_str()
            self._tokenizer = Tokenizer(definition, types="token_type_ids" in names)
        weights = next(iter(model.parameters()), None)
        self.runtime = runtime_of(getattr(weights, "dtype", None), model.device)
        self.batch_tokens = pass_tokens(model.device)
        self.passes = Passes(self._logits)

    def encode(self, pairs: Sequence[tuple[str, str]], limits: Limits, instruction: str | None) -> list[Encoded]:
        """See `PairModel`. An instruction goes into the model's template, or right before the query."""
        if not self._template and self._tokenizer is not None:
            if instruction:
                pairs = [(instruction + query, text) for query, text in pairs]
            return encode_pairs(self._tokenizer, pairs, limits, self._max_length)
        queries: dict[str, tuple[str, int, bool]] = {}
        for query, _ in pairs:
            if query not in queries:
                queries[query] = self._cut_query(query, limits, instruction)
        return [self._encode_in_template(*queries[query], text, limits, instruction) for query, text in pairs]

    def _cut_query(self, query: str, limits: Limits, instruction: str | None) -> tuple[str, int, bool]:
        """The query up to its cap, the tokens left for a text beside it and the template, and whether it was cut."""
        room = min(limits.pair or self._max_length, self._max_length)
        cut = False
        if self._tokenizer is not None:
            ids, offsets = self._tokenizer.spans(query)
            cap = limits.query or room // 2
            if len(ids) > cap:
                query, cut = query[: offsets[cap - 1][1]], True
        size = room - len(self._row(query, "", instruction).ids)
        if size < 1:
            msg = f"max_length={room} leaves nothing of a text beside query and template: make it larger."
            raise ValueError(msg)
        return query, size, cut

    def _encode_in_template(  # noqa: PLR0917 - the first three are one value
        self, query: str, size: int, cut: bool, text: str, limits: Limits, instruction: str | None
    ) -> Encoded:
        """One pair by the model's own template. What is cut is cut in the text, before the template is applied."""
        offsets = [] if self._tokenizer is None else self._tokenizer.spans(text)[1]
        if len(offsets) <= size:
            return Encoded([self._row(query, text, instruction)], None, cut)
        if limits.long_documents == "error":
            raise too_long(size)
        if limits.long_documents == "truncate":
            return Encoded([self._row(query, text[: offsets[size - 1][1]], instruction)], None, truncated=True)
        places = [
            (offsets[start][0], offsets[stop - 1][1])
            for start, stop in windows(len(offsets), size, min(limits.overlap, size - 1))
        ]
        return Encoded([self._row(query, text[start:stop], instruction) for start, stop in places], places, cut)

    def _row(self, query: str, text: str, instruction: str | None) -> Row:
        np = require("numpy", extra="local")
        with self.passes.alone():  # a fast tokenizer of transformers is changed while it truncates and pads
            features = self.model.preprocess([(query, text)], prompt=instruction)
        mask = features["attention_mask"][0].bool()
        return Row(features["input_ids"][0][mask].cpu().numpy().astype(np.uint32))

    def _logits(self, rows: list[Row]) -> Any:
        torch = self._torch
        arrays = pad(rows, self._pad_id, left=self._left)
        try:
            with torch.inference_mode():
                features = {
                    name: torch.from_numpy(array).to(self.model.device, non_blocking=True)
                    for name, array in arrays.items()
                    if name in self._inputs
                }
                scores = self.model(features)["scores"]
                return scores.float().reshape(len(rows), -1).cpu().numpy()
        except Exception as error:
            if self.model.device.type == "cuda" and out_of_memory(error):
                torch.cuda.empty_cache()
            raise


def dtype_of(torch: Any, precision: Precision) -> Any:
    """The dtype of an arithmetic."""
    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]


def runtime_of(dtype: Any, device: Any) -> str:
    """What a model runs on, in words."""
    precision = {"torch.bfloat16": "bf16", "torch.float16": "fp16"}.get(str(dtype), "fp32")
    return f"torch {precision} {str(device).upper()}"


def pass_tokens(device: Any) -> int:
    """Tokens of a pass that are fastest on a device."""
    return _CPU_TOKENS if device.type == "cpu" else _GPU_TOKENS


def fastest(torch: Any, place: str) -> Precision:
    """Arithmetic that the device has natively; half precision of processors without it is slower than full."""
    if place.startswith("cuda"):
        return "bf16" if torch.cuda.is_bf16_supported() else "fp16"
    native = getattr(torch.cpu, "_is_amx_tile_supported", None), getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return "bf16" if place == "cpu" and any(ask() for ask in native if ask is not None) else "fp32"


def _widen_head(torch: Any, model: Any) -> None:
    """Let the last layer compute in full precision: bf16 has eight bits, in which logits near 10 are 1/16 apart and tie.

    Of a language model's vocabulary only the tokens that make the score are kept.
    """
    network = model.model
    answer = next((module for module in model.modules() if type(module).__name__ == "LogitScore"), None)
    if answer is not None:
        head = network.get_output_embeddings()
        tokens = [token for token in (answer.true_token_id, answer.false_token_id) if token is not None]
        widened = torch.nn.Linear(head.in_features, len(tokens), bias=head.bias is not None)
        for name, values in head.named_parameters():
            setattr(widened, name, torch.nn.Parameter(values.detach()[tokens].float(), requires_grad=False))
        network.set_output_embeddings(widened)
        answer.true_token_id, answer.false_token_id = 0, (1 if len(tokens) > 1 else None)
    else:
        layers = [module for module in network.modules() if isinstance(module, torch.nn.Linear)]
        if not layers or layers[-1].out_features != network.config.num_labels:
            return  # a head of a kind unknown here stays as it is
        widened = layers[-1].float()
    widened.register_forward_pre_hook(lambda _, given: (given[0].float(), *given[1:]))


def _ensure_padding(model: Any, tokenizer: Any) -> None:
    """Language models often have no padding token, and then cannot score more than one pair at a time."""
    if getattr(tokenizer, "pad_token", None) is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    config = getattr(getattr(model, "model", None), "config", None)
    if config is not None and getattr(config, "pad_token_id", None) is None:
        config.pad_token_id = tokenizer.pad_token_id
