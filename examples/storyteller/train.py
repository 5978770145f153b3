"""Train the storyteller: a small Llama-architecture model of King James English.

Development only: it needs torch, transformers, sentencepiece and safetensors.
README.md tells how the text file is made and how the script is called.
"""

from __future__ import annotations

import argparse
import io
import itertools
import json
import math
import random
import time
from pathlib import Path

import sentencepiece
import torch
from transformers import LlamaConfig, LlamaForCausalLM, LlamaTokenizer

VOCABULARY = 1024
CONTEXT = 512
BOS, EOS = 1, 2
WARM_UP = 100  # steps

# Plain continuation: the messages, whatever their role, are one text which the model goes on with.
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ message['content'] | trim }}{% if not loop.last %}{{ ' ' }}{% endif %}"
    "{% endfor %}"
)

TOKENIZER = {
    "tokenizer_class": "LlamaTokenizer",
    "unk_token": "<unk>",
    "bos_token": "<s>",
    "eos_token": "</s>",
    "add_bos_token": True,
    "add_eos_token": False,
    # A space goes before the text after <s> too, as llama.cpp does it.
    "legacy": True,
    "clean_up_tokenization_spaces": False,
    "model_max_length": CONTEXT,
    "chat_template": CHAT_TEMPLATE,
}

Chapter = list[list[int]]


def read_chapters(text: Path) -> list[list[str]]:
    """Read the lines "Ge1:1 In the beginning ..." as chapters of verses."""
    verses = (line.split(" ", 1) for line in text.read_text("ascii").splitlines())
    groups = itertools.groupby(verses, key=lambda verse: verse[0].split(":")[0])
    return [[verse for _, verse in group] for _, group in groups]


def train_tokenizer(chapters: list[list[str]], out: Path) -> sentencepiece.SentencePieceProcessor:
    """Train a SentencePiece BPE vocabulary, the only kind that llama.cpp calls "llama"."""
    writer = io.BytesIO()  # with model_prefix the file would hold the path it was written to
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=itertools.chain.from_iterable(chapters),
        model_writer=writer,
        model_type="bpe",
        vocab_size=VOCABULARY,
        # llama.cpp needs the 256 byte pieces for characters that the vocabulary lacks.
        byte_fallback=True,
        character_coverage=1.0,
        # Both ends must see the same text: llama.cpp applies no normalisation.
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        num_threads=1,
        minloglevel=1,
    )
    (out / "tokenizer.model").write_bytes(writer.getvalue())
    return sentencepiece.SentencePieceProcessor(model_proto=writer.getvalue())


def one_epoch(chapters: list[Chapter], rng: random.Random) -> list[int]:
    """Cut the chapters into passages of 3 to 8 verses, each <s> ... </s>, in a shuffled order."""
    passages = []
    for chapter in chapters:
        at = 0
        while at < len(chapter):
            verses = chapter[at : at + rng.randint(3, 8)]
            passages.append([BOS, *itertools.chain.from_iterable(verses), EOS])
            at += len(verses)
    rng.shuffle(passages)
    return list(itertools.chain.from_iterable(passages))


def rows(tokens: list[int]) -> torch.Tensor:
    """Fold a run of tokens into rows of the context length; the rest is dropped."""
    return torch.tensor(tokens[: len(tokens) // CONTEXT * CONTEXT]).view(-1, CONTEXT)


def make_model() -> LlamaForCausalLM:
    """Build the untrained model; every row is a multiple of 256, as K-quants want it."""
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=256,
        intermediate_size=256,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=64,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        initializer_range=0.04,
        rms_norm_eps=1e-5,
        bos_token_id=BOS,
        eos_token_id=EOS,
    )
    return LlamaForCausalLM(config)


def loss_of(model: LlamaForCausalLM, batch: torch.Tensor) -> torch.Tensor:
    """Give the mean cross-entropy per token, in nats."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return model(input_ids=batch, labels=batch).loss


def train(model: LlamaForCausalLM, chapters: list[Chapter], args: argparse.Namespace) -> float:
    """Run AdamW with warm-up and a cosine schedule; give the mean loss of the last 100 steps."""
    matrices = [p for p in model.parameters() if p.dim() > 1]
    vectors = [p for p in model.parameters() if p.dim() == 1]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=args.rate, betas=(0.9, 0.95))

    def schedule(step: int) -> float:
        done = max(0, step - WARM_UP) / max(1, args.steps - WARM_UP)
        return min(1, (step + 1) / WARM_UP) * 0.5 * (1 + math.cos(math.pi * done))

    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule)
    rng = random.Random(args.seed)
    epochs = (rows(one_epoch(chapters, rng)).split(args.batch) for _ in itertools.count())
    losses: list[float] = []
    begun = time.monotonic()
    for batch in itertools.islice(itertools.chain.from_iterable(epochs), args.steps):
        loss = loss_of(model, batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        if len(losses) % 100 == 0:
            mean = sum(losses[-100:]) / 100
            print(f"step {len(losses)}: loss {mean:.3f}, {time.monotonic() - begun:.0f} s", flush=True)
    return sum(losses[-100:]) / len(losses[-100:])


def save(model: LlamaForCausalLM, out: Path) -> None:
    """Write the model in bf16 and the tokenizer, with the chat template, in Hugging Face form."""
    model.generation_config.do_sample = True
    model.generation_config.temperature = 0.7
    model.to(torch.bfloat16).save_pretrained(out)
    (out / "model.safetensors").chmod(0o644)
    # A tokenizer.json of an earlier run would be read in place of the new tokenizer.model.
    (out / "tokenizer.json").unlink(missing_ok=True)
    LlamaTokenizer.from_pretrained(out, **TOKENIZER).save_pretrained(out, save_jinja_files=False)
    # Over what transformers wrote, for it leaves out add_bos_token and legacy.
    text = json.dumps(TOKENIZER, indent=2)
    (out / "tokenizer_config.json").write_text(text + "\n", "utf-8")


def main() -> None:
    """Read the command line and write the model files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("text", type=Path, help="output of: bible -f Gen1:1-Rev22:21")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    parser.add_argument("--steps", type=int, default=4500)
    parser.add_argument("--batch", type=int, default=4, help="rows of 512 tokens per step")
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=1611)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(args.seed)
    torch.use_deterministic_algorithms(mode=True)

    text = read_chapters(args.text)
    pieces = train_tokenizer(text, args.out)
    chapters: list[Chapter] = [pieces.encode(chapter) for chapter in text]
    # Every fortieth chapter is kept out of training, to measure the loss on unseen text.
    unseen = chapters[20::40]
    del chapters[20::40]
    model = make_model()
    facts: dict[str, float] = {"parameters": sum(p.numel() for p in model.parameters())}
    facts["tokens"] = sum(len(verse) for chapter in chapters for verse in chapter)
    print(json.dumps(facts), flush=True)
    facts["loss"] = round(train(model, chapters, args), 3)
    with torch.no_grad():
        batches = rows(one_epoch(unseen, random.Random(args.seed)))
        facts["loss on unseen text"] = round(loss_of(model.eval(), batches).item(), 3)
    save(model, args.out)
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
