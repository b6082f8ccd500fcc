"""A picture for the tiny models of test/data/families that read images, as their processors would hand it over."""
import torch

SIDE = 8
IMAGE, START, END = 60, 62, 63
# Model type: tokens of the language model that the picture takes.
TOKENS = {"gemma3": 4, "mistral3": 2, "qwen2_5_vl": 1, "qwen3_vl": 1, "qwen3_5": 1, "smolvlm": 1, "idefics3": 1}


def image_inputs(kind):
    """The inputs of a model of this type: six words, the picture, eight words."""
    generator = torch.Generator().manual_seed(5)
    words = torch.randint(3, 60, (14,), generator=generator).tolist()
    ids = torch.tensor([words[:6] + [START] + [IMAGE] * TOKENS[kind] + [END] + words[6:]])
    # Of a single token's picture, transformers' Mistral 3 loses a dimension.
    width = 2 * SIDE if kind == "mistral3" else SIDE
    pixels = torch.randn((1, 3, SIDE, width), generator=generator)
    inputs = dict(input_ids=ids)
    if kind.startswith("qwen"):
        # Patches of 4 x 4 pixels, of two equal frames.
        patches = pixels.unfold(2, 4, 4).unfold(3, 4, 4).permute(0, 2, 3, 1, 4, 5).reshape(4, 3, 1, 16)
        inputs.update(pixel_values=patches.expand(4, 3, 2, 16).reshape(4, 96), image_grid_thw=torch.tensor([[1, 2, 2]]),
                      mm_token_type_ids=(ids == IMAGE).int())
    elif kind == "mistral3":
        inputs.update(pixel_values=pixels, image_sizes=torch.tensor([[SIDE, width]]))
    elif kind == "gemma3":
        inputs.update(pixel_values=pixels, token_type_ids=(ids == IMAGE).int())
    else:
        inputs.update(pixel_values=pixels[None])
    return inputs
