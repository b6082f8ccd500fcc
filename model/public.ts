export type {
  Architecture,
  Experts,
  LayerTensorNames,
  Norm,
  PoolingHead,
  TensorNames,
  TensorPart,
  TensorRef,
  TensorStack,
  VisionInput,
  VisionTensorNames,
} from './architecture/architecture.js';
export type { LinearMixer, MixerTensorNames } from './architecture/mixer.js';
export type { Rope, RopeBase } from './architecture/rope.js';
export type { Checkpoint, OpaqueTensor, TensorInfo } from './checkpoint/checkpoint.js';
export type { WeightDtype } from './checkpoint/inDtype.js';
export type { ModelSource } from './checkpoint/modelSource.js';
export { openSafetensors } from './checkpoint/safetensors.js';
export {
  type Metadata,
  type TensorSource,
  type WriteOptions,
  writeSafetensors,
  writeSafetensorsFile,
} from './checkpoint/safetensorsWriter.js';
export type { TensorBytes } from './checkpoint/tensorFile.js';
export { type EvaluateOptions, type Evaluation, evaluate } from './evaluation/evaluate.js';
export { type ReferenceOptions, ReferenceStates } from './evaluation/referenceStates.js';
export type { HasTensor } from './families/decoder.js';
export {
  architectureFromConfig,
  supportedFamilies,
} from './families/index.js';
export type { CheckedOutput } from './files/outputPlace.js';
export type { Sample } from './generation/chooseTokens.js';
export type { Continuation, Ended } from './generation/continuation.js';
export { type ContinueOptions, DecodingSession, type SessionOptions } from './generation/decodingSession.js';
export { type GenerateOptions, generate } from './generation/generate.js';
export { generationDefaults } from './generation/generationDefaults.js';
export {
  type GenerationHealth,
  generationHealth,
  type HealthOptions,
  type HealthSample,
  type Repetition,
} from './generation/generationHealth.js';
export type { SamplingOptions } from './generation/sampler.js';
export { type WriteTextOptions, type WrittenText, writeText } from './generation/writtenText.js';
export type { WrittenType } from './gguf/encode.js';
export type { DatasetSplit } from './hub/datasetRows.js';
export { type DownloadOptions, downloadModel } from './hub/download.js';
export type { Snapshot } from './hub/findSnapshot.js';
export { locateModel, type ModelLocation } from './hub/locate.js';
export type { HubReference } from './hub/reference.js';
export { imageEmbeddings } from './images/imageEmbeddings.js';
export { type ImageProcessor, readImageProcessor } from './images/imageProcessor.js';
export { type ShownImages, type ShowOptions, showImages } from './images/imageTokens.js';
export { ModelServer, type ServedModel, type ServerOptions } from './serving/modelServer.js';
export { modelWarnings } from './source/modelWarnings.js';
export { openCheckpoint, openHeaders, openModelSource } from './source/openModelSource.js';
export { readArchitecture } from './source/readArchitecture.js';
export * from './tasks/index.js';
export {
  type ChatTemplate,
  type ChatTemplateOptions,
  encodeDocument,
  loadChatTemplate,
  type RenderOptions,
} from './text/chat.js';
export type { ChatMessage, Conversation } from './text/conversation.js';
export {
  type Document,
  type DocumentOptions,
  type DocumentPlace,
  type LeftOut,
  readDocuments,
} from './text/documents.js';
export type { LeftOutRows } from './text/leftOut.js';
export { openTextReader, type TextReader } from './text/textReader.js';
export type { TextStream } from './text/textStream.js';
export { type DecodeOptions, type EncodeOptions, loadTokenizer, type Tokenizer } from './text/tokenizer.js';
export { type SequenceOptions, tokenSequences } from './text/tokenSequences.js';
export {
  createLayerGradients,
  lossAndGradients,
  type ModelGradients,
  type StartOptions,
} from './training/backward.js';
export type { HeadGradients, Objective } from './training/headLoss.js';
export type { LayerGradients, LayerWeightName } from './training/layerBackward.js';
export {
  Batch,
  type BatchOptions,
  type CachePlace,
  defaultBatchTokens,
  groupSequences,
} from './transformer/batch.js';
export type { StatePlacement } from './transformer/batchTensors.js';
export type { Edits } from './transformer/edits.js';
export { tokenLogits } from './transformer/headLogits.js';
export { KvCache } from './transformer/kvCache.js';
export type { LinearStates } from './transformer/linearStates.js';
export { type LogitsOptions, type LogitsResult, logits } from './transformer/logits.js';
export { type LoadOptions, Model, type WeightChanges } from './transformer/model.js';
export type { RotationTable } from './transformer/rotationTable.js';
export { type SpilledTensor, type SpilledWeights, SpillFile } from './transformer/spilledWeights.js';
export {
  type ForwardOptions,
  finalNorm,
  forward,
  type LayerTensors,
  type Tap,
} from './transformer/transformer.js';
export type { WalkedRows } from './transformer/walkedRows.js';
export type { ReuseTensor, TensorPlace } from './transformer/weightLoader.js';
export type { LayerWeights, RequiredWeights, VisionWeights, Weights } from './transformer/weights.js';
export { type Conversion, type ConvertOptions, convert } from './writing/convert.js';
