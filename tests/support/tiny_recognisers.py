"""Speech recognisers with random weights, as small as transformers lets them be, saved as users have theirs."""

import json
from pathlib import Path

import torch
from transformers import (
    GenerationConfig,
    Wav2Vec2Config,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForCTC,
    Wav2Vec2Processor,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperProcessor,
    WhisperTokenizerFast,
)

_END, _START, _TRANSCRIBE, _TRANSLATE = "<|endoftext|>", "<|startoftranscript|>", "<|transcribe|>", "<|translate|>"
_NO_TIMESTAMPS = "<|notimestamps|>"
LANGUAGES = ("en", "pt")
"""Languages that the tiny Whisper knows."""


def write_ctc(folder: Path) -> Path:
    """A wav2vec 2.0 that hears some letters in any sound."""
    torch.manual_seed(0)
    folder.mkdir()
    letters = ["<pad>", "<s>", "</s>", "<unk>", "|", *"abcdefghijklmnopqrstuvwxyz"]
    (folder / "vocab.json").write_text(json.dumps({letter: index for index, letter in enumerate(letters)}))
    model = Wav2Vec2ForCTC(
        Wav2Vec2Config(
            vocab_size=len(letters), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
            conv_dim=(8,) * 7, num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2,
        )
    )  # fmt: skip
    model.save_pretrained(folder)
    tokenizer = Wav2Vec2CTCTokenizer(str(folder / "vocab.json"))
    Wav2Vec2Processor(Wav2Vec2FeatureExtractor(), tokenizer).save_pretrained(folder)
    return folder


def write_whisper(folder: Path, *, multilingual: bool = True) -> Path:
    """A Whisper that writes some bytes for any sound."""
    torch.manual_seed(0)
    from tokenizers.pre_tokenizers import ByteLevel

    bytes_of = {letter: index for index, letter in enumerate(sorted(ByteLevel.alphabet()))}
    tokenizer = WhisperTokenizerFast(vocab=bytes_of, merges=[], unk_token=_END, bos_token=_END, eos_token=_END)
    languages = [f"<|{language}|>" for language in LANGUAGES]
    times = [f"<|{index * 0.02:.2f}|>" for index in range(1501)]
    special = [_START, *languages, _TRANSLATE, _TRANSCRIBE, _NO_TIMESTAMPS]
    tokenizer.add_special_tokens({"additional_special_tokens": special})
    tokenizer.add_tokens(times)
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in (_END, *special)}
    ends = {"eos_token_id": ids[_END], "pad_token_id": ids[_END], "bos_token_id": ids[_END]}
    model = WhisperForConditionalGeneration(
        WhisperConfig(
            vocab_size=len(tokenizer), d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
            decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, max_target_positions=32,
            decoder_start_token_id=ids[_START], begin_suppress_tokens=None, suppress_tokens=None, **ends,
        )
    )  # fmt: skip
    by_language = {"lang_to_id": {token: ids[token] for token in languages}} if multilingual else {}
    model.generation_config = GenerationConfig(
        is_multilingual=multilingual, task_to_id={"transcribe": ids[_TRANSCRIBE], "translate": ids[_TRANSLATE]},
        no_timestamps_token_id=ids[_NO_TIMESTAMPS], decoder_start_token_id=ids[_START], max_length=12,
        max_initial_timestamp_index=50, **by_language, **ends,
    )  # fmt: skip
    model.save_pretrained(folder)
    WhisperProcessor(WhisperFeatureExtractor(), tokenizer).save_pretrained(folder)
    return folder
