// The public origins that this package itself needs. Plain JavaScript: set-up reads it before anything is compiled.

/** Hugging Face's Hub; HF_ENDPOINT names another. */
export const HUB_ORIGIN = 'https://huggingface.co'

/** The official archives of libtorch; POSTTRAIN_LIBTORCH_MIRROR names another place. */
export const LIBTORCH_ARCHIVES = 'https://download.pytorch.org/libtorch'
