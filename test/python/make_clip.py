"""Writes test/data/clip: tiny random vision encoders and images, with what transformers and Pillow make of them.

    python test/python/make_clip.py [NAME ...]        (torch, transformers, Pillow, safetensors; seconds)

images/: photographs stand-ins of several shapes and kinds of file. projected/, plain/, whole/: a
CLIPVisionModelWithProjection, a CLIPVisionModel (bf16, GELU) and a CLIPModel with text tower, as transformers writes
them. siglip/, siglip-whole/, siglip-mean/, vit/: a SiglipVisionModel (bf16), a SiglipModel, a SiglipForImageClassification and a
ViTForImageClassification.
golden.safetensors of each, in f32 from the widened weights: `pixels` of the images in alphabetical order (of
the model's image processor on Pillow), `embeddings` and, for the layers `kept` alone, `kept_embeddings`.
"""
import math
import os
import sys

os.environ["TRANSFORMERS_VERBOSITY"] = "error"
import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import (
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPVisionConfig,
    CLIPVisionModel,
    CLIPVisionModelWithProjection,
    SiglipConfig,
    SiglipForImageClassification,
    SiglipImageProcessorPil,
    SiglipModel,
    SiglipVisionConfig,
    SiglipVisionModel,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessorPil,
)

HERE = os.path.dirname(os.path.abspath(__file__))
OUT = os.path.join(HERE, "..", "data", "clip")
KEPT = [0, 2, 3]
VISION = dict(hidden_size=32, intermediate_size=40, num_hidden_layers=4, num_attention_heads=4, image_size=24,
              patch_size=8, projection_dim=12)


def picture(width, height, seed):
    """Slow waves and some noise, so that JPEG keeps it and resampling shows."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(height, width, 3, generator=generator)
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    waves = torch.stack([torch.sin(x / (3 + c) + seed) * torch.cos(y / (4 + c)) for c in range(3)], dim=-1)
    return ((0.5 + 0.35 * waves + 0.15 * (noise - 0.5)) * 255).clamp(0, 255).to(torch.uint8)


def write_images(folder):
    os.makedirs(folder, exist_ok=True)
    wide = Image.fromarray(picture(61, 37, 1).numpy())
    wide.save(os.path.join(folder, "a-wide.png"))
    Image.fromarray(picture(40, 75, 2).numpy()).save(os.path.join(folder, "b-tall.jpg"), quality=90)
    # Smaller than the crop: enlarged.
    Image.fromarray(picture(13, 17, 3).numpy()).save(os.path.join(folder, "c-small.png"))
    Image.fromarray(picture(50, 30, 4)[:, :, 0].numpy()).save(os.path.join(folder, "d-grey.png"))
    alpha = torch.cat([picture(33, 33, 5), picture(33, 33, 6)[:, :, :1]], dim=-1)
    Image.fromarray(alpha.numpy(), "RGBA").save(os.path.join(folder, "e-alpha.png"))
    wide.quantize(16).save(os.path.join(folder, "f-palette.png"))


def uneven(model, seed):
    """Weights large enough that every part shows, gains and biases away from 1 and 0."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        values = torch.randn(parameter.shape, generator=generator)
        if parameter.dim() > 1:
            values = values / math.sqrt(parameter[0].numel())
        elif name.endswith("weight"):
            values = 1 + 0.2 * values
        else:
            values = 0.3 * values
        parameter.data.copy_(values)


def white(image):
    """What most processors make of transparency, grey and palettes; that of ViT would refuse them."""
    if image.mode != "RGBA":
        return image.convert("RGB")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def embeddings(model, pixels):
    with torch.no_grad():
        if isinstance(model, SiglipForImageClassification):
            return model.vision_model(pixel_values=pixels).last_hidden_state.mean(dim=1)
        if isinstance(model, ViTForImageClassification):
            return model.vit(pixel_values=pixels).last_hidden_state[:, 0]
        if isinstance(model, (CLIPModel, SiglipModel)):
            found = model.get_image_features(pixel_values=pixels)
            return found if torch.is_tensor(found) else found.pooler_output
        found = model(pixel_values=pixels)
    return found.image_embeds if hasattr(found, "image_embeds") else found.pooler_output


def write_model(name, model, dtype, processor, images):
    if sys.argv[1:] and name not in sys.argv[1:]:
        return
    uneven(model, len(name))
    folder = os.path.join(OUT, name)
    model.to(dtype).save_pretrained(folder)
    processor.save_pretrained(folder)
    model.float().eval()
    pixels = processor([white(Image.open(path)) for path in images], return_tensors="pt")["pixel_values"]
    golden = {"pixels": pixels, "embeddings": embeddings(model, pixels), "kept": torch.tensor(KEPT).float()}
    tower = getattr(model, "vision_model", getattr(model, "vit", model))
    encoder = getattr(tower, "encoder", tower)
    encoder.layers = torch.nn.ModuleList(encoder.layers[i] for i in KEPT)
    golden["kept_embeddings"] = embeddings(model, pixels)
    save_file({key: value.contiguous() for key, value in golden.items()}, os.path.join(folder, "golden.safetensors"))
    print(name, sorted(os.listdir(folder)), golden["embeddings"].std())


def main():
    torch.set_num_threads(1)
    folder = os.path.join(OUT, "images")
    if not sys.argv[1:]:
        write_images(folder)
    images = [os.path.join(folder, name) for name in sorted(os.listdir(folder))]
    processor = CLIPImageProcessorPil(size={"shortest_edge": 24}, crop_size={"height": 24, "width": 24})
    write_model("projected", CLIPVisionModelWithProjection(CLIPVisionConfig(**VISION)), torch.float32, processor, images)
    # Crop smaller than the resized edge, and a patch that does not divide the picture.
    other = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 26, "width": 26})
    plain = CLIPVisionConfig(**{**VISION, "image_size": 26, "hidden_act": "gelu", "layer_norm_eps": 1e-4})
    write_model("plain", CLIPVisionModel(plain), torch.bfloat16, other, images)
    text = dict(hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2, vocab_size=32,
                max_position_embeddings=8, eos_token_id=2, bos_token_id=1, pad_token_id=0)
    whole = CLIPModel(CLIPConfig(vision_config=VISION, text_config=text, projection_dim=12))
    write_model("whole", whole, torch.float32, processor, images)
    square = SiglipImageProcessorPil(size={"height": 26, "width": 26})
    # Heads of 6 columns, and a patch that does not divide the picture.
    sized = dict(hidden_size=24, intermediate_size=28, num_hidden_layers=4, num_attention_heads=4, image_size=26, patch_size=8)
    write_model("siglip", SiglipVisionModel(SiglipVisionConfig(**sized)), torch.bfloat16, square, images)
    both = SiglipConfig(vision_config=sized, text_config={**text, "projection_size": 24})
    write_model("siglip-whole", SiglipModel(both), torch.float32, square, images)
    headless = SiglipConfig(vision_config={**sized, "vision_use_head": False}, text_config=text)
    write_model("siglip-mean", SiglipForImageClassification(headless), torch.bfloat16, square, images)
    vit = ViTForImageClassification(ViTConfig(**{**sized, "qkv_bias": False}))
    write_model("vit", vit, torch.float32, ViTImageProcessorPil(size={"height": 26, "width": 26}), images)


if __name__ == "__main__":
    sys.exit(main())
