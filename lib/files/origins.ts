/** The Hub where HF_ENDPOINT names no other. */
export const HUB_ORIGIN = 'https://huggingface.co'
