import type { Architecture } from '../architecture/architecture.js';
import type { ConfigReader } from './configReader.js';
import type { HasTensor, OuterNames, StoredForms, TextFamily } from './decoder.js';
import { llama } from './llama.js';
import { ministral3, mistral } from './mistral.js';
import { qwen2_5VlText, qwen3VlText } from './qwen.js';
import { qwen3_5Text } from './qwen3_5.js';

/** Names of transformers 5, of transformers 4 and most published files, and of Qwen's. */
const inside: OuterNames = { prefix: 'model.language_model.', lmHead: 'lm_head.weight' };
const apart: OuterNames = { prefix: 'language_model.model.', lmHead: 'language_model.lm_head.weight' };
const flat: OuterNames = { prefix: 'model.', lmHead: 'lm_head.weight' };
const beside: OuterNames = { prefix: 'model.text_model.', lmHead: 'lm_head.weight' };

/** Models that read images: the language model is in `text_config`, of one of these families. */
interface Wrapper {
  readonly families: Readonly<Record<string, TextFamily>>;
  readonly forms: StoredForms;
  /** Whether embeddings are tied if config.json does not say. */
  readonly tied: boolean;
}

/**
 * The language model within a model that also reads images. Pruning leaves all other tensors as they are.
 * `text_config` may be missing if the fields are beside it, as in Qwen2.5-VL's published files.
 */
const wrapped =
  ({ families, forms, tied }: Wrapper) =>
  (config: ConfigReader, has: HasTensor): Architecture => {
    const nested = config.get('text_config') !== undefined;
    const inner = nested ? config.object('text_config') : config;
    const [usual] = Object.keys(families);
    const kind = nested ? inner.text('model_type', usual) : usual!;
    const family = Object.hasOwn(families, kind) ? families[kind] : undefined;
    if (!family) {
      throw inner.unsupported(
        'model_type',
        `is ${JSON.stringify(kind)}; supported within a ${config.text('model_type')} are ${Object.keys(families).join(', ')}`,
        'Choose a model with one of these language models.',
      );
    }
    const tie = config.flag('tie_word_embeddings', tied);
    const text = inner.withDefaults({ model_type: kind }).with({ tie_word_embeddings: tie });
    // SmolVLM's published files speak of its pictures here.
    text.knows('pixel_shuffle_factor', 'perceiver_config');
    const arch = family(text, has, forms);
    return { ...arch, family: config.text('model_type'), configPath: nested ? ['text_config'] : [] };
  };

/** Mistral Small 3.x and Ministral 3. Source: transformers/models/mistral3. */
export const mistral3 = wrapped({
  families: { mistral, ministral3 },
  forms: [apart, inside],
  tied: true,
});

/** SmolVLM and Idefics 3. Source: transformers/models/smolvlm, idefics3. */
export const smolvlm = wrapped({ families: { llama }, forms: [beside, inside], tied: false });

/** The language model of Qwen2.5-VL: positions of text rotate as a Qwen2's. Source: transformers/models/qwen2_5_vl. */
export const qwen2_5Vl = wrapped({
  families: { qwen2_5_vl_text: qwen2_5VlText, qwen2_5_vl: qwen2_5VlText },
  forms: [inside, flat],
  tied: false,
});

/** The language model of Qwen3-VL. Source: transformers/models/qwen3_vl. */
export const qwen3Vl = wrapped({
  families: { qwen3_vl_text: qwen3VlText },
  forms: [inside, flat],
  tied: false,
});

/** The language model of Qwen3.5, which also reads images. Source: transformers/models/qwen3_5. */
export const qwen3_5 = wrapped({
  families: { qwen3_5_text: qwen3_5Text },
  forms: [inside, flat],
  tied: false,
});
