export type {
  Architecture,
  LayerTensorNames,
  Norm,
  TensorNames,
  TensorPart,
  TensorRef,
  TensorStack,
  VisionInput,
  VisionTensorNames,
} from './architecture.js';
export {
  createLayerGradients,
  lossAndGradients,
  type ModelGradients,
  type StartOptions,
} from './backward.js';
export { Batch, type BatchOptions, defaultBatchTokens, groupSequences } from './batch.js';
export type { StateHome } from './batchTensors.js';
export { type ChatTemplate, encodeDocument, loadChatTemplate, type TextReader } from './chat.js';
export type { Checkpoint, TensorInfo } from './checkpoint/checkpoint.js';
export type { WeightDtype } from './checkpoint/inDtype.js';
export { openSafetensors } from './checkpoint/safetensors.js';
export {
  type Metadata,
  type TensorSource,
  type WriteOptions,
  writeSafetensors,
  writeSafetensorsFile,
} from './checkpoint/safetensorsWriter.js';
export type { TensorBytes } from './checkpoint/tensorFile.js';
export { type Conversion, type ConvertOptions, convert } from './convert.js';
export { type ContinueOptions, DecodingSession } from './decodingSession.js';
export { type ChatMessage, type Document, type DocumentOptions, readDocuments } from './documents.js';
export { type EvaluateOptions, type Evaluation, evaluate } from './evaluate.js';
export type { HasTensor } from './families/decoder.js';
export {
  architectureFromConfig,
  pruneConfig,
  readArchitecture,
  supportedFamilies,
} from './families/index.js';
export { type GenerateOptions, generate } from './generate.js';
export {
  type GenerationHealth,
  generationHealth,
  type HealthOptions,
  type HealthSample,
  type Repetition,
} from './generationHealth.js';
export { type HeadGradients, headLoss, type Objective } from './headLoss.js';
export { type DownloadOptions, downloadModel } from './hub/download.js';
export type { Snapshot } from './hub/findSnapshot.js';
export { locateModel, type ModelLocation } from './hub/locate.js';
export type { HubReference } from './hub/reference.js';
export { type ImageProcessor, readImageProcessor, readPixels } from './images/imageProcessor.js';
export { KvCache } from './kvCache.js';
export {
  type LayerBackwardOptions,
  type LayerGradients,
  type LayerWeightName,
  layerBackward,
  requireBackward,
} from './layerBackward.js';
export { type LogitsResult, logits } from './logits.js';
export { type LoadOptions, Model, type WeightChanges } from './model.js';
export type { ModelSource } from './modelFiles.js';
export { openCheckpoint, openModelSource } from './modelSource.js';
export { type ReferenceOptions, ReferenceStates } from './referenceStates.js';
export type { Rope, RopeBase } from './rope.js';
export type { RotationTable } from './rotationTable.js';
export type { SamplingOptions } from './sampler.js';
export * from './tasks/index.js';
export { loadTokenizer, type TextStream, type Tokenizer } from './tokenizer.js';
export { type SequenceOptions, tokenSequences } from './tokenSequences.js';
export { type ForwardOptions, finalNorm, forward, type LayerTensors, type Tap } from './transformer.js';
export { imageEmbeddings, type ShownImages, type ShowOptions, showImages } from './vision.js';
export { WaitingFile, type WaitingTensor, type WaitingWeights } from './waitingWeights.js';
export type { ReuseTensor, TensorPlace } from './weightLoader.js';
export type { LayerWeights, RequiredWeights, VisionWeights, Weights } from './weights.js';
