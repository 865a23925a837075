"""Small models with random weights, made on the spot in the layouts that people's models come in."""

from __future__ import annotations

import json
import random
import warnings
from pathlib import Path

WORDS = [
    *("river", "city", "flows", "bridge", "museum", "train", "coast", "bread", "cheese", "plain", "opens", "nine"),
    *("hour", "modern", "art", "leave", "every", "under", "through", "which", "what", "where", "when", "the", "and"),
    *("of", "a", "in", "on", "for"),
]
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


# A published name and file, so that flashrank's own Ranker opens the folder too (it only knows names).
FLASHRANK_NAME, FLASHRANK_FILE = "ms-marco-TinyBERT-L-2-v2", "flashrank-TinyBERT-L-2-v2.onnx"


def vocabulary() -> list[str]:
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    return [*SPECIAL, *dict.fromkeys([*WORDS, *letters, *(f"##{letter}" for letter in letters), ".", "?"])]


def make_tokenizer(more=()):
    """WordPiece over `vocabulary` and more words."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    words = {word: number for number, word in enumerate([*vocabulary(), *more])}
    tokenizer = Tokenizer(models.WordPiece(words, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", words["[CLS]"]), ("[SEP]", words["[SEP]"])],
    )
    return tokenizer


def make_bert(labels: int = 1, *, hidden: int = 32, layers: int = 2, heads: int = 4, seed: int = 0, spread=0.2):
    """A BERT classifier with random weights, large enough for scores to differ."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(vocabulary()),
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=4 * hidden,
        max_position_embeddings=512,
        num_labels=labels,
        attn_implementation="eager",
        initializer_range=spread,
        pad_token_id=0,
    )
    return BertForSequenceClassification(config).eval()


def save_cross_encoder(folder: Path, labels: int = 1, **shape: float) -> Path:
    """A folder as transformers and sentence-transformers save it."""

    make_bert(labels, **shape).save_pretrained(folder)
    save_tokenizer(folder)
    return folder


def save_tokenizer(folder: Path, more=()):
    from transformers import PreTrainedTokenizerFast

    PreTrainedTokenizerFast(
        tokenizer_object=make_tokenizer(more),
        model_max_length=512,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],  # as BERT's own
    ).save_pretrained(folder)


LATE_INTERACTION = {"query": "[unused0] ", "document": "[unused1] ", "query_length": 32, "document_length": 60}


def save_late_interaction(
    folder: Path, layout="sentence-transformers", *, dimensions=16, seed=0, similarity=None, expansion=True, **shape
) -> Path:
    """A model of the ColBERT family with random weights, as people's checkpoints come.

    Args:
        folder: Where to.
        layout: ``"sentence-transformers"``, ``"pylate"`` (before it used sentence-transformers' own encoder) or
            ``"stanford"`` (one network with the last layer in it).
        dimensions: Of a vector.
        seed: Of the weights.
        similarity: ``"meanmaxsim"`` for a model trained with means.
        expansion: Whether queries are filled up with ``[MASK]``.
        **shape: Of the encoder: hidden_size, num_hidden_layers, num_attention_heads, intermediate_size, and what else its
            configuration takes.
    """
    import torch
    from safetensors.torch import save_file
    from transformers import BertConfig, BertModel

    torch.manual_seed(seed)
    small = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    markers = ("[unused0]", "[unused1]", ",")
    words = len(vocabulary()) + len(markers)
    shape = {"initializer_range": 0.2, "vocab_size": words, "pad_token_id": 0} | small | shape
    bert = BertModel(BertConfig(**shape)).eval()
    linear = torch.nn.Linear(shape["hidden_size"], dimensions, bias=False)
    names = LATE_INTERACTION
    punctuation = [".", ",", "?"]
    if layout == "stanford":
        bert.save_pretrained(folder)
        weights = {f"bert.{name}": values.contiguous() for name, values in bert.state_dict().items()}
        save_file({**weights, "linear.weight": linear.weight.detach()}, folder / "model.safetensors", {"format": "pt"})
        config = json.loads((folder / "config.json").read_text()) | {"architectures": ["HF_ColBERT"]}
        (folder / "config.json").write_text(json.dumps(config))
        metadata = {
            "query_token_id": names["query"].strip(),
            "doc_token_id": names["document"].strip(),
            "query_maxlen": names["query_length"],
            "doc_maxlen": names["document_length"],
            "attend_to_mask_tokens": False,
            "mask_punctuation": True,
        }
        (folder / "artifact.metadata").write_text(json.dumps(metadata))
    elif layout == "pylate":
        bert.save_pretrained(folder)
        (folder / "1_Dense").mkdir()
        dense = {"in_features": shape["hidden_size"], "out_features": dimensions, "bias": False}
        dense["activation_function"] = "torch.nn.modules.linear.Identity"
        save_file({"linear.weight": linear.weight.detach()}, folder / "1_Dense" / "model.safetensors")
        settings = {
            "1_Dense/config.json": dense,
            "modules.json": [
                {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
                {"idx": 1, "name": "1", "path": "1_Dense", "type": "pylate.models.Dense.Dense"},
            ],
            "sentence_bert_config.json": {"max_seq_length": names["document_length"], "do_lower_case": False},
            "config_sentence_transformers.json": {
                "model_type": "ColBERT",
                "query_prefix": names["query"],
                "document_prefix": names["document"],
                "query_length": names["query_length"],
                "document_length": names["document_length"],
                "attend_to_expansion_tokens": False,
                "skiplist_words": punctuation,
                "do_query_expansion": expansion,
                "similarity_fn_name": "MaxSim",
            },
        }
        for name, content in settings.items():
            (folder / name).write_text(json.dumps(content))
    else:
        bert.save_pretrained(folder / "bert")
        save_tokenizer(folder / "bert", markers)
        _multi_vector_encoder(folder / "bert", linear, punctuation, similarity, expansion=expansion).save_pretrained(
            str(folder)
        )
    if layout != "sentence-transformers":
        save_tokenizer(folder, markers)
    return folder


def _multi_vector_encoder(bert: Path, linear, punctuation, similarity, *, expansion):
    import torch
    from sentence_transformers import MultiVectorEncoder
    from sentence_transformers.base.modules import Dense, Normalize, Transformer
    from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask

    names = LATE_INTERACTION
    lengths = (
        {"query_expansion": {"strategy": "fixed", "length": names["query_length"]}}
        if expansion
        else {"query_length": names["query_length"]}
    )
    dense = Dense(
        linear.in_features,
        linear.out_features,
        bias=False,
        activation_function=torch.nn.Identity(),
        init_weight=linear.weight.detach(),
        module_input_name="token_embeddings",
    )
    return MultiVectorEncoder(
        modules=[
            Transformer(str(bert), document_length=names["document_length"], **lengths),
            dense,
            MultiVectorMask(skiplist_words=punctuation),
            Normalize(module_input_name="token_embeddings"),
        ],
        # Plain words, so that they are tokens of a tokenizer that knows no markers.
        prompts={"query": "which ", "document": "the "},
        similarity_fn_name=similarity,
        device="cpu",
    )


def save_flashrank(folder: Path, labels: int = 1, file: str = FLASHRANK_FILE, **shape: float) -> Path:
    """A folder as FlashRank unpacks it: one ONNX file, a tokenizer and three small JSON files."""
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    names = ["input_ids", "attention_mask", "token_type_ids"]

    class Logits(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.bert = make_bert(labels, **shape)

        def forward(self, input_ids, attention_mask, token_type_ids):
            return self.bert(input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids).logits

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations
        torch.onnx.export(
            Logits(),
            tuple(torch.ones(2, 8, dtype=torch.long) for _ in names),
            str(folder / file),
            input_names=names,
            output_names=["logits"],
            dynamic_axes={name: {0: "rows", 1: "tokens"} for name in names} | {"logits": {0: "rows"}},
            opset_version=17,
            dynamo=False,
        )
    make_tokenizer().save(str(folder / "tokenizer.json"))
    settings = {
        "config.json": {"pad_token_id": 0},
        "tokenizer_config.json": {"model_max_length": 512, "pad_token": "[PAD]"},
        "special_tokens_map.json": {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"},
    }
    for name, content in settings.items():
        (folder / name).write_text(json.dumps(content))
    return folder


def passages(count: int = 100, seed: int = 0) -> list[str]:
    """Passages of mixed length: 8 to 380 words, median about 60."""
    choose = random.Random(seed)
    lengths = [int(min(380, max(8, choose.lognormvariate(4.1, 0.7)))) for _ in range(count)]
    return [" ".join(choose.choices(WORDS, k=length)) for length in lengths]


T5_WORDS = ("Query", "Document", "Relevant", "true", "false", "yes", "no", "sim", "The", "A", "Which", "Bread")


def make_t5_tokenizer():
    """Pieces as sentencepiece makes them: a word with its blank, or letter by letter."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    letters = [chr(code) for start in ("a", "A") for code in range(ord(start), ord(start) + 26)]
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -4.0)]
    pieces += [(f"▁{word}", -3.0) for word in dict.fromkeys([*WORDS, *T5_WORDS]) if len(word) > 1]
    pieces += [(piece, -6.0) for piece in [*letters, *".,:?!{}'", "er", "in", "th"]]
    pieces += [(f"<extra_id_{number}>", 0.0) for number in range(19, -1, -1)]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=2))
    tokenizer.add_special_tokens([piece for piece, _ in pieces if piece.startswith("<")])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)]
    )
    return tokenizer


def save_t5(folder: Path, kind: str = "T5ForConditionalGeneration", *, tokenizer=None, tied=True, seed=0, **config):
    """A folder of a T5 with random weights, as transformers saves it.

    Args:
        folder: Where to.
        kind: Name of the class in transformers; its beginning says which configuration.
        tokenizer: Another tokenizer than `make_t5_tokenizer`'s.
        tied: Whether the last layer is the table of embeddings.
        seed: Of the weights.
        **config: Of the configuration.
    """
    import torch
    import transformers

    torch.manual_seed(seed)
    tokenizer = tokenizer or make_t5_tokenizer()
    shape = {"d_model": 48, "d_kv": 8, "d_ff": 96, "num_layers": 2, "num_heads": 4}
    configuration = getattr(transformers, f"{kind.partition('For')[0]}Config")(
        vocab_size=tokenizer.get_vocab_size() + 5,  # tables are padded to round sizes
        decoder_start_token_id=0,
        **shape | config,
    )
    model = getattr(transformers, kind)(configuration).eval()
    if not tied:
        model.lm_head.weight = torch.nn.Parameter(torch.randn_like(model.lm_head.weight) / 4)
    model.save_pretrained(folder)
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        model_input_names=["input_ids", "attention_mask"],
    ).save_pretrained(folder)
    return folder
