/** How others run a pruned language model; nothing of it is particular to pruned models. */
export const languageModelUsage = `## Use

Replace \`ORG/NAME\` by the model's name on the Hugging Face hub, or by its folder.

transformers:

\`\`\`python
from transformers import pipeline
generate = pipeline("text-generation", model="ORG/NAME")
print(generate("The moon is", max_new_tokens=40)[0]["generated_text"])
\`\`\`

vLLM:

\`\`\`sh
vllm serve ORG/NAME
\`\`\`

llama.cpp, from the model's folder:

\`\`\`sh
npx rm-engine convert ./NAME ./NAME.gguf
llama-cli -m ./NAME.gguf -p "The moon is" -n 40
\`\`\`
`;

/** The same for a pruned encoder of images. */
export const imageEncoderUsage = `## Use

Replace \`ORG/NAME\` by the model's name on the Hugging Face hub, or by its folder.

\`\`\`python
from PIL import Image
from transformers import AutoImageProcessor, AutoModel
processor = AutoImageProcessor.from_pretrained("ORG/NAME")
model = AutoModel.from_pretrained("ORG/NAME")
inputs = processor(images=Image.open("photo.jpg"), return_tensors="pt")
encode = getattr(model, "get_image_features", model)  # the first where it has a text tower too
print(encode(**inputs).pooler_output.shape)
\`\`\`
`;
