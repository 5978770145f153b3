"""The arguments of llama-server, as data: what each is called, and what its values are (b11549).

One line is one argument: its names, the one that stands for it first. `removed` are those that older versions took.
"""

from __future__ import annotations

from typing import Literal

Kind = Literal["switch", "int", "float", "text", "json", "file", "folder"]

_TABLE: dict[Kind, str] = {
    "switch": """
        --help -h --usage
        --version
        --cache-list -cl
        --completion-bash
        --swa-full
        --perf
        --no-perf
        --escape -e
        --no-escape
        --kv-offload -kvo
        --no-kv-offload -nkvo
        --repack
        --no-repack -nr
        --no-host
        --list-devices
        --cpu-moe -cmoe
        --check-tensors
        --op-offload
        --no-op-offload
        --log-disable
        --log-jsonl
        --no-log-jsonl
        --verbose -v --log-verbose
        --offline
        --log-prefix
        --no-log-prefix
        --log-timestamps
        --no-log-timestamps
        --ignore-eos
        --backend-sampling -bs
        --kv-unified -kvu
        --no-kv-unified -no-kvu
        --cache-idle-slots
        --no-cache-idle-slots
        --context-shift
        --no-context-shift
        --special -sp
        --warmup
        --no-warmup
        --spm-infill
        --cont-batching -cb
        --no-cont-batching -nocb
        --mmproj-auto
        --no-mmproj --no-mmproj-auto
        --mmproj-offload
        --no-mmproj-offload
        --reuse-port
        --cors-credentials
        --no-cors-credentials
        --ui-mcp-proxy --webui-mcp-proxy
        --no-ui-mcp-proxy --no-webui-mcp-proxy
        --agent -ag
        --no-agent -no-ag
        --ui --webui
        --no-ui --no-webui
        --embedding --embeddings
        --reranking --rerank
        --cache-prompt
        --no-cache-prompt
        --metrics
        --props
        --slots
        --no-slots
        --models-autoload
        --no-models-autoload
        --jinja
        --no-jinja
        --reasoning-preserve
        --no-reasoning-preserve
        --skip-chat-parsing
        --no-skip-chat-parsing
        --prefill-assistant
        --no-prefill-assistant
        --lora-init-without-apply
        --spec-draft-cpu-moe -cmoed --cpu-moe-draft
        --spec-draft-backend-sampling
        --no-spec-draft-backend-sampling
        --embd-gemma-default
        --fim-qwen-1.5b-default
        --fim-qwen-3b-default
        --fim-qwen-7b-default
        --fim-qwen-7b-spec
        --fim-qwen-14b-spec
        --fim-qwen-30b-default
        --gpt-oss-20b-default
        --gpt-oss-120b-default
        --vision-gemma-4b-default
        --vision-gemma-12b-default
        --spec-default
    """,
    "int": """
        --threads -t
        --threads-batch -tb
        --cpu-strict
        --prio
        --poll
        --cpu-strict-batch
        --prio-batch
        --poll-batch
        --ctx-size -c
        --predict -n --n-predict
        --batch-size -b
        --ubatch-size -ub
        --keep
        --yarn-orig-ctx
        --n-cpu-moe -ncmoe
        --moe-cache-mib
        --n-cpu-ffn -ncffn
        --main-gpu -mg
        --fit-ctx -fitc
        --verbosity -lv --log-verbosity
        --seed -s
        --top-k
        --repeat-last-n
        --dry-allowed-length
        --dry-penalty-last-n
        --mirostat
        --kv-unified-per-slot
        --ctx-checkpoints -ctxcp --swa-checkpoints
        --checkpoint-min-step -cms
        --cache-ram -cram
        --parallel -np
        --image-min-tokens
        --image-max-tokens
        --mtmd-batch-max-tokens
        --video-timestamp-interval
        --embd-normalize
        --port
        --timeout -to
        --sse-ping-interval
        --threads-http
        --cache-reuse
        --models-max
        --reasoning-budget
        --sleep-idle-seconds
        --spec-draft-threads -td --threads-draft
        --spec-draft-threads-batch -tbd --threads-batch-draft
        --spec-draft-cpu-strict --cpu-strict-draft
        --spec-draft-prio --prio-draft
        --spec-draft-poll --poll-draft
        --spec-draft-cpu-strict-batch --cpu-strict-batch-draft
        --spec-draft-prio-batch --prio-batch-draft
        --spec-draft-poll-batch --poll-batch-draft
        --spec-draft-n-cpu-moe --spec-draft-ncmoe -ncmoed --n-cpu-moe-draft
        --spec-draft-n-max
        --spec-draft-n-min
        --spec-ngram-mod-n-min
        --spec-ngram-mod-n-max
        --spec-ngram-mod-n-match
        --spec-ngram-simple-size-n
        --spec-ngram-simple-size-m
        --spec-ngram-simple-min-hits
        --spec-ngram-map-k-size-n
        --spec-ngram-map-k-size-m
        --spec-ngram-map-k-min-hits
        --spec-ngram-map-k4v-size-n
        --spec-ngram-map-k4v-size-m
        --spec-ngram-map-k4v-min-hits
    """,
    "float": """
        --defrag-thold -dt
        --rope-scale
        --rope-freq-base
        --rope-freq-scale
        --yarn-ext-factor
        --yarn-attn-factor
        --yarn-beta-slow
        --yarn-beta-fast
        --temp --temperature
        --top-p
        --min-p
        --top-n-sigma --top-nsigma
        --xtc-probability
        --xtc-threshold
        --typical-p --typical
        --repeat-penalty
        --presence-penalty
        --frequency-penalty
        --dry-multiplier
        --dry-base
        --adaptive-target
        --adaptive-decay
        --dynatemp-range
        --dynatemp-exp
        --mirostat-lr
        --mirostat-ent
        --slot-prompt-similarity -sps
        --video-fps
        --spec-synth-len
        --spec-draft-p-split --draft-p-split
        --spec-draft-p-min --draft-p-min
    """,
    "text": """
        --cpu-mask -C
        --cpu-range -Cr
        --cpu-mask-batch -Cb
        --cpu-range-batch -Crb
        --flash-attn -fa
        --rope-scaling
        --cache-type-k -ctk
        --cache-type-v -ctv
        --rpc
        --load-mode -lm
        --lazy-mode -lzm
        --numa
        --device -dev
        --override-tensor -ot
        --gpu-layers -ngl --n-gpu-layers
        --split-mode -sm
        --tensor-split -ts
        --fit -fit
        --fit-target -fitt
        --override-kv
        --model-url -mu
        --docker-repo -dr
        --hf-repo -hf -hfr
        --hf-file -hff
        --hf-token -hft
        --log-colors
        --samplers
        --sampler-seq --sampling-seq
        --dry-sequence-breaker
        --logit-bias -l
        --grammar
        --reverse-prompt -r
        --pooling
        --mmproj-url -mmu
        --mmproj-device -mmdev
        --alias -a
        --tags
        --host
        --cors-origins
        --cors-methods
        --cors-headers
        --api-prefix
        --tools
        --tools-runtime
        --api-key
        --reasoning-format
        --reasoning -rea
        --reasoning-effort
        --reasoning-budget-message
        --chat-template
        --spec-draft-hf -hfd -hfrd --hf-repo-draft
        --spec-draft-cpu-mask -Cd --cpu-mask-draft
        --spec-draft-cpu-range -Crd --cpu-range-draft
        --spec-draft-cpu-mask-batch -Cbd --cpu-mask-batch-draft
        --spec-draft-override-tensor -otd --override-tensor-draft
        --spec-draft-type-k -ctkd --cache-type-k-draft
        --spec-draft-type-v -ctvd --cache-type-v-draft
        --spec-synth-rates
        --spec-draft-sampling
        --spec-draft-device -devd --device-draft
        --spec-draft-ngl -ngld --gpu-layers-draft --n-gpu-layers-draft
        --spec-type
    """,
    "json": """
        --json-schema -j
        --chat-template-kwargs
        --ui-config --webui-config
        --mcp-servers-json
    """,
    "file": """
        --model -m
        --spec-draft-model -md --model-draft
        --mmproj -mm
        --lora
        --lora-scaled
        --control-vector
        --control-vector-scaled
        --chat-template-file
        --grammar-file
        --json-schema-file -jf
        --lookup-cache-static -lcs
        --lookup-cache-dynamic -lcd
        --ui-config-file --webui-config-file
        --mcp-servers-config
        --api-key-file
        --ssl-key-file
        --ssl-cert-file
        --log-file
        --models-preset
    """,
    "folder": """
        --path
        --slot-save-path
        --media-path
        --models-dir
        --video-ffmpeg-dir
        --log-prompts-dir
    """,
}

_REMOVED: dict[Kind, str] = {
    "switch": """
        --mlock
        --mmap
        --no-mmap
        --direct-io -dio
        --no-direct-io -ndio
    """,
    "int": """
        --draft-max --draft --draft-n
        --draft-min --draft-n-min
        --spec-ngram-size-n
        --spec-ngram-size-m
        --spec-ngram-min-hits
        --grp-attn-n -gan
        --grp-attn-w -gaw
    """,
    "text": """
        --log-format
    """,
    "file": """
        --system-prompt-file -spf
    """,
}

TWO_VALUES = frozenset({"--control-vector-layer-range"})
"""Arguments that take two numbers."""

SCALED = frozenset({"--lora-scaled", "--control-vector-scaled"})
"""Arguments whose file has a scale: FILE:SCALE now, in older versions a value of its own."""


def _rows(table: dict[Kind, str]) -> dict[str, tuple[str, Kind]]:
    lines = [(kind, line.split()) for kind, text in table.items() for line in text.split("\n")]
    return {name: (names[0], kind) for kind, names in lines for name in names}


_GONE = _rows(_REMOVED)

ARGUMENTS: dict[str, tuple[str, Kind]] = {
    **_rows(_TABLE),
    **_GONE,
    "--control-vector-layer-range": ("--control-vector-layer-range", "int"),
}
"""Every name of an argument -> the name that stands for it, and what its value is."""

REMOVED = frozenset(name for name, _kind in _GONE.values())
"""Arguments that llama-server no longer takes."""
