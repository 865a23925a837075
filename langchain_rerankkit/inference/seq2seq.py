"""Rerankers of the T5 family: prompts of query and text, and the few outputs that make a score."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from langchain_rerankkit._optional import require
from langchain_rerankkit.errors import ModelNotFoundError
from langchain_rerankkit.inference.models import ModelFiles
from langchain_rerankkit.inference.pairs import Encoded, Limits, encode_pairs
from langchain_rerankkit.inference.passes import Passes, out_of_memory
from langchain_rerankkit.inference.shared import shared
from langchain_rerankkit.inference.tokens import Row, Tokenizer, pad
from langchain_rerankkit.inference.torch import dtype_of, fastest, pass_tokens, runtime_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langchain_rerankkit.inference.models import Precision
    from langchain_rerankkit.inference.tokens import Ids

__all__ = ["Kind", "Recipe", "Seq2SeqPairs", "load_seq2seq"]

Kind = Literal["auto", "monot5", "rankt5", "encoder", "classifier"]

_QUERY, _TEXT = "{query}", "{text}"
_PROMPTS = {"monot5": "Query: {query} Document: {text} Relevant:"}
_PROMPTS["rankt5"] = _PROMPTS["encoder"] = "Query: {query} Document: {text}"
_NAMES = {"monot5": "monot5", "inranker": "monot5", "rankt5": "rankt5"}
_RANK_TOKEN = "<extra_id_10>"  # noqa: S105 - the token whose logit RankT5 trains
_LENGTH = 512  # tokens; what the models were trained on, though relative positions go on


@dataclass(frozen=True)
class Recipe:
    """How a model is asked, and where in its answer the score is.

    Attributes:
        kind: What was trained; ``"auto"`` is told by the model's configuration and name.
        prompt: Template of query and text; None for the kind's own.
        words: The answers "not relevant" and "relevant"; None for monoT5's.
    """

    kind: Kind = "auto"
    prompt: str | None = None
    words: tuple[str, str] | None = None


def load_seq2seq(
    model: str,
    recipe: Recipe,
    *,
    precision: Precision = "auto",
    device: str | None = None,
    threads: int | None = None,
    revision: str | None = None,
    cache_dir: str | None = None,
    local_files_only: bool = False,
    trust_remote_code: bool = False,
) -> Seq2SeqPairs:
    """The model of a folder or the hub, shared by all who ask for the same in this process.

    Args:
        model: A folder, or a name on the hub.
        recipe: How it is asked.
        precision: ``"auto"`` is bf16 where the device multiplies it natively, else fp32: T5 overflows in fp16.
        device: torch's name; by default the fastest one found.
        threads: Threads of one operation, which torch sets for the whole process; by default left as it is.
        revision: Commit, tag or branch on the hub.
        cache_dir: Folder for downloads.
        local_files_only: Never download.
        trust_remote_code: Run Python code that comes with the model.

    Raises:
        ModelNotFoundError: If the model cannot be loaded, or lacks weights.
        ValueError: If the kind is not known, or kind, prompt and words do not fit the model.
    """
    folder = Path(model).expanduser()
    local = ModelFiles(model, folder, None) if folder.is_dir() else None
    place, changed = (str(folder.resolve()), local.changed) if local else (model, 0)
    where = {"revision": revision, "cache_dir": cache_dir, "trust_remote_code": trust_remote_code}
    key = ("seq2seq", place, changed, recipe, precision, device, threads, *where.values())

    def load() -> Seq2SeqPairs:
        torch = require("torch", extra="local")
        if threads is not None:
            torch.set_num_threads(threads)
        if local:
            local.check_weights()
        return _open(torch, place, recipe, precision, device, {**where, "local_files_only": local_files_only})

    return shared(key, load)


class Prompt(Tokenizer):
    """A tokenizer whose pairs are a prompt.

    The parts of the prompt are tokenised once, apart from query and text. With white space between them the ids are
    those of the whole prompt, since tokenizers of the T5 family split there; a text that begins with a combining
    character is the exception.

    Args:
        definition: Content of a ``tokenizer.json``.
        template: Holds ``{query}`` and ``{text}``; None for the tokenizer's own way with pairs.

    Raises:
        ValueError: If the tokenizer does not split between the template and what is put into it.
    """

    def __init__(self, definition: str, template: str | None) -> None:
        super().__init__(definition, types=False)
        self._reversed = False
        if template is None:
            return
        parts = re.split(f"({re.escape(_QUERY)}|{re.escape(_TEXT)})", template)
        self._reversed = parts[1] == _TEXT
        (before, _), (after, _) = self._single
        first, second, third = (
            self._tokenizer.encode(part.strip(), add_special_tokens=False).ids for part in parts[::2]
        )
        self._pair = [([*before, *first], None), (second, None), ([*third, *after], None)]
        values = {_QUERY: "which river?", _TEXT: "The city."}
        whole = self._tokenizer.encode("".join(values.get(part, part) for part in parts)).ids
        (query, _), (text, _) = self.heads(list(values.values()), len(whole))
        if self.pair(query, text).ids.tolist() != whole:
            msg = "The tokenizer joins the prompt's words with query or text: put a blank around {query} and {text}."
            raise ValueError(msg)

    def pair(self, query: Ids, document: Ids) -> Row:
        """See `Tokenizer`."""
        return super().pair(document, query) if self._reversed else super().pair(query, document)

    def word(self, word: str) -> int:
        """The id of a word that is a single token.

        Raises:
            ValueError: If it is none, or unknown.
        """
        tokens = self._tokenizer.encode(word, add_special_tokens=False)
        unknown = self._tokenizer.encode("\U0010fffd", add_special_tokens=False).ids[-1:]
        if len(tokens.ids) != 1 or tokens.ids == unknown:
            msg = f"The answer {word!r} is not a token of the model: set relevant and irrelevant to words it was trained on."
            raise ValueError(msg)
        return int(tokens.ids[0])


class Seq2SeqPairs:
    """A T5 in passes of a token budget; see `PairModel`.

    Args:
        network: The model; of its vocabulary only the answers' rows are kept.
        tokenizer: Makes the prompts.
        kind: Anything but ``"auto"``.
        answers: Tokens whose logits are read at the first step of decoding, if the kind decodes.
    """

    def __init__(self, network: Any, tokenizer: Prompt, kind: str, answers: Sequence[int]) -> None:
        self._torch = torch = require("torch", extra="local")
        self._network, self._tokenizer, self._kind = network.eval(), tokenizer, kind
        config = network.config
        # In bf16 logits would tie; what is left of the last layer is small enough for full precision.
        if answers:
            head = network.get_output_embeddings()
            narrow = torch.nn.Linear(head.in_features, len(answers), bias=False, device=network.device)
            narrow.weight = torch.nn.Parameter(head.weight.detach()[answers].float(), requires_grad=False)
            narrow.register_forward_pre_hook(lambda _, given: (given[0].float(),))
            network.set_output_embeddings(narrow)
        else:
            self._head = (network.classifier if kind == "encoder" else network.classification_head).float()
        self._pad_id = config.pad_token_id or 0
        settings = config, getattr(network, "generation_config", None)
        starts = [getattr(place, "decoder_start_token_id", None) for place in settings]
        self._start = next((start for start in starts if start is not None), self._pad_id)
        self.runtime = runtime_of(network.dtype, network.device)
        self.batch_tokens = pass_tokens(network.device)
        self.passes = Passes(self._logits)

    def encode(self, pairs: Sequence[tuple[str, str]], limits: Limits, instruction: str | None) -> list[Encoded]:
        """See `PairModel`. An instruction comes right before the query."""
        if instruction:
            pairs = [(instruction + query, text) for query, text in pairs]
        return encode_pairs(self._tokenizer, pairs, limits, limits.pair or _LENGTH)

    def _logits(self, rows: list[Row]) -> Any:
        torch, network = self._torch, self._network
        arrays = pad(rows, self._pad_id)
        try:
            with torch.inference_mode():
                names = "input_ids", "attention_mask"
                given = {name: torch.from_numpy(arrays[name]).to(network.device) for name in names}
                start = torch.full((len(rows), 1), self._start, device=network.device)
                if self._kind == "encoder":
                    logits = self._head(network.transformer(**given).last_hidden_state[:, 0].float())
                elif self._kind == "classifier":  # the decoder reads the pair again; its end holds the answer
                    shifted = torch.cat([start, given["input_ids"][:, :-1]], dim=1)
                    hidden = network.transformer(**given, decoder_input_ids=shifted, use_cache=False).last_hidden_state
                    ends = given["attention_mask"].sum(dim=1) - 1
                    logits = self._head(hidden[torch.arange(len(rows), device=network.device), ends].float())
                else:
                    logits = network(**given, decoder_input_ids=start, use_cache=False).logits[:, 0]
                return logits.float().cpu().numpy()
        except Exception as error:
            if network.device.type == "cuda" and out_of_memory(error):
                torch.cuda.empty_cache()
            raise


def _open(  # noqa: PLR0917 - what load_seq2seq was given
    torch: Any, place: str, recipe: Recipe, precision: Precision, device: str | None, where: dict[str, Any]
) -> Seq2SeqPairs:
    transformers = require("transformers", extra="local")
    target = device or _best_device(torch)
    chosen = fastest(torch, target) if precision == "auto" else precision
    if precision == "auto" and chosen == "fp16":
        chosen = "fp32"
    try:
        config = transformers.AutoConfig.from_pretrained(place, **where)
        tokenizer = transformers.AutoTokenizer.from_pretrained(place, **where)
    except (OSError, ValueError, ImportError) as error:
        raise _not_loaded(place, where, error) from error
    kind = _kind(recipe.kind, Path(place).name if Path(place).is_absolute() else place, config)
    answers = _answers(kind, recipe.words, config)
    if not hasattr(tokenizer, "backend_tokenizer"):
        msg = f"The tokenizer of {place!r} is none of the tokenizers package: save it with a tokenizer.json."
        raise ModelNotFoundError(msg, missing=["tokenizer.json"], searched=[place])
    prompt = Prompt(tokenizer.backend_tokenizer.to_str(), recipe.prompt or _PROMPTS.get(kind))
    tokens = [prompt.word(answer) for answer in answers]
    opener = transformers.AutoModelForSeq2SeqLM
    if kind == "classifier":
        opener = transformers.AutoModelForSequenceClassification
    elif kind == "encoder":
        opener = transformers.AutoModelForTokenClassification
        config.num_labels = 1  # a score, whatever the configuration forgot to say
    try:
        network, found = opener.from_pretrained(
            place, config=config, dtype=dtype_of(torch, chosen), use_safetensors=True, output_loading_info=True, **where
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise _not_loaded(place, where, error) from error
    if missing := sorted(found["missing_keys"]):  # transformers fills them with random numbers
        msg = f"{place!r} lacks weights that kind={kind!r} needs, {missing[0]} for one: another kind may be meant."
        raise ModelNotFoundError(msg, missing=missing, searched=[place])
    return Seq2SeqPairs(network.to(target), prompt, kind, tokens)


def _kind(asked: Kind, name: str, config: Any) -> str:
    """What a model was trained for, or an error that says what to set."""
    made = str((config.architectures or [""])[0])
    if config.model_type not in {"t5", "mt5", "umt5"}:
        msg = f"The model is a {made or config.model_type}, not of the T5 family: try CrossEncoderReranker."
        raise ValueError(msg)
    decodes = not made or made.endswith(("ForConditionalGeneration", "WithLMHeadModel"))
    if asked != "auto":
        if asked in {"monot5", "rankt5"} and not decodes:
            msg = f"The model is a {made}, which answers no prompt: kind={asked!r} does not fit."
            raise ValueError(msg)
        return asked
    if made.endswith("ForSequenceClassification"):
        return "classifier"
    plain = re.sub(r"[^a-z0-9]", "", name.lower())
    kinds = {kind for part, kind in _NAMES.items() if part in plain} if decodes else set()
    if len(kinds) != 1:
        msg = (
            f"Neither name nor configuration ({made or config.model_type}) say how the model {name!r} ranks. Set "
            "kind='monot5' if it answers with a word, 'rankt5' if its score is the logit of <extra_id_10>, or 'encoder' "
            "if a linear layer reads the encoder's first token."
        )
        raise ValueError(msg)
    return kinds.pop()


def _answers(kind: str, words: tuple[str, str] | None, config: Any) -> tuple[str, ...]:
    """The tokens whose logits are read."""
    if words is not None and kind != "monot5":
        msg = f"The model is of kind {kind!r}, which answers with no words: leave out relevant and irrelevant."
        raise ValueError(msg)
    if kind != "monot5":
        return (_RANK_TOKEN,) if kind == "rankt5" else ()
    if words is None and config.model_type != "t5":
        msg = (
            f"The answers that monoT5 models of type {config.model_type} were trained on differ: set relevant='yes' and "
            "irrelevant='no', or what the model card says."
        )
        raise ValueError(msg)
    return words or ("false", "true")


def _best_device(torch: Any) -> str:
    return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"


def _not_loaded(place: str, where: dict[str, Any], error: Exception) -> ModelNotFoundError:
    msg = (
        f"The model {place!r} could not be loaded: {error} Give an existing folder with *.safetensors, or a model that is "
        "in the cache when there is no network. Pickles are never read: save such weights again with transformers."
    )
    return ModelNotFoundError(msg, searched=[where["cache_dir"] or place])
