export type { Architecture } from './architecture.js';
export { Batch, defaultBatchTokens, groupSequences } from './batch.js';
export { type ChatTemplate, encodeDocument, loadChatTemplate } from './chat.js';
export type { Checkpoint, TensorInfo } from './checkpoint/checkpoint.js';
export { openSafetensors } from './checkpoint/safetensors.js';
export { type TensorSource, writeSafetensors, writeSafetensorsFile } from './checkpoint/safetensorsWriter.js';
export { type ChatMessage, type Document, readDocuments } from './documents.js';
export { type EvaluateOptions, type Evaluation, evaluate } from './evaluate.js';
export {
  architectureFromConfig,
  pruneConfig,
  readArchitecture,
  supportedFamilies,
} from './families/index.js';
export { type GenerateOptions, generate } from './generate.js';
export { KvCache } from './kvCache.js';
export { type LogitsResult, logits } from './logits.js';
export { type LayerWeights, Model, type Weights } from './model.js';
export { type ReferenceOptions, ReferenceStates } from './referenceStates.js';
export type { SamplingOptions } from './sampler.js';
export { loadTokenizer, type Tokenizer } from './tokenizer.js';
export { tokenSequences } from './tokenSequences.js';
export { type ForwardOptions, finalNorm, forward, type LayerTensors, type Tap } from './transformer.js';
