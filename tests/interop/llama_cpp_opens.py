"""Opens exported GGUF files with llama.cpp: what it reads of a text, says to it, and sees on a picture.

Run by test_llama_cpp.py in an environment that has llama-cpp-python and numpy:
`python llama_cpp_opens.py FOLDER INPUTS.json OUTPUT.json`.
"""

import ctypes
import json
import sys
from pathlib import Path

import llama_cpp
import numpy as np
from llama_cpp import mtmd_cpp


def main(folder: str, inputs: str, output: str) -> None:
    """Write token ids, logits, a greedy answer and the tokens of a picture."""
    given = json.loads(Path(inputs).read_text())
    (projector,) = Path(folder).glob("mmproj-*.gguf")
    path = projector.with_name(projector.name.removeprefix("mmproj-"))
    model = llama_cpp.Llama(str(path), n_ctx=256, logits_all=True, verbose=False, n_threads=1, n_batch=256)
    ids = model.tokenize(given["text"].encode(), add_bos=False, special=True)
    model.eval(ids)
    logits = np.array(model.scores[: len(ids)])
    model.reset()
    said: list[int] = []
    for token in model.generate(ids, temp=0.0, top_k=1):
        said.append(token)
        if len(said) >= given["answer_tokens"]:
            break
    seen = look(model, projector, np.array(given["picture"], dtype=np.uint8))
    Path(output).write_text(json.dumps({"ids": ids, "logits": logits.tolist(), "said": said, "seen": seen.tolist()}))


def look(model: llama_cpp.Llama, projector: Path, picture: np.ndarray) -> np.ndarray:
    """The tokens that llama.cpp makes of a picture (height, width, 3), one row each."""
    settings = mtmd_cpp.mtmd_context_params_default()
    settings.use_gpu, settings.n_threads = False, 1
    context = mtmd_cpp.mtmd_init_from_file(str(projector).encode(), model.model, settings)
    height, width, _ = picture.shape
    pixels = np.ascontiguousarray(picture).tobytes()
    bitmap = mtmd_cpp.mtmd_bitmap_init(width, height, (ctypes.c_uint8 * len(pixels)).from_buffer_copy(pixels))
    text = mtmd_cpp.mtmd_input_text()
    text.text = b"look " + mtmd_cpp.mtmd_default_marker() + b" here"
    if hasattr(text, "text_len"):
        text.text_len = len(text.text)
    text.add_special, text.parse_special = False, True
    chunks = mtmd_cpp.mtmd_input_chunks_init()
    bitmaps = (mtmd_cpp.mtmd_bitmap_p_ctypes * 1)(bitmap)
    if mtmd_cpp.mtmd_tokenize(context, chunks, ctypes.byref(text), bitmaps, 1):
        raise RuntimeError("llama.cpp does not take the picture")
    for number in range(mtmd_cpp.mtmd_input_chunks_size(chunks)):
        chunk = mtmd_cpp.mtmd_input_chunks_get(chunks, number)
        if mtmd_cpp.mtmd_input_chunk_get_type(chunk) == mtmd_cpp.MTMD_INPUT_CHUNK_TYPE_IMAGE:
            tokens = mtmd_cpp.mtmd_input_chunk_get_n_tokens(chunk)
            if mtmd_cpp.mtmd_encode_chunk(context, chunk):
                raise RuntimeError("llama.cpp does not encode the picture")
            found = np.ctypeslib.as_array(mtmd_cpp.mtmd_get_output_embd(context), (tokens, model.n_embd()))
            return np.array(found)
    raise RuntimeError("llama.cpp sees no picture in the text")


if __name__ == "__main__":
    main(*sys.argv[1:])
