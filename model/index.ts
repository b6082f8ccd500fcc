export {
  expectedTensors,
  hasOutNorms,
  keepLayers,
  mlpSizes,
  mostFeatures,
  refKey,
  storedName,
} from './architecture/architecture.js';
export { cacheBytes } from './architecture/cacheBytes.js';
export { attendedColumns, mixedColumns, mixingColumns } from './architecture/mixer.js';
export { requireText, requireVision } from './architecture/modality.js';
export {
  aBatch,
  aChat,
  aModel,
  aPath,
  aTokenizer,
  manyThings,
  maybeFunction,
  runForms,
  settingsAmong,
} from './arguments/forms.js';
export { deviceBytes, writtenBytes } from './checkpoint/checkpoint.js';
export { inDtype, weightDtypes } from './checkpoint/inDtype.js';
export { jsonOf } from './checkpoint/modelSource.js';
export { openSafetensorsFile, type SafetensorsFile } from './checkpoint/safetensors.js';
export { safetensorsKind } from './checkpoint/safetensorsKind.js';
export {
  openSealedTensors,
  type SealedKind,
  type SealedSource,
  type SealedTensors,
  sealedFile,
  writeSealedTensors,
} from './checkpoint/sealedTensors.js';
export { depthStep, scoredGroups, sharedLayers } from './evaluation/referenceStates.js';
export { checkShapes } from './families/index.js';
export { isGgufPath } from './files/ggufPath.js';
export { isRecord, readJsonFileIfPresent } from './files/jsonFile.js';
export { checkKeptFolder } from './files/keptFolder.js';
export { outputError, writeOutputFile } from './files/outputError.js';
export { checkOutputFile, withOutputFile } from './files/outputFile.js';
export { checkOutputFolder, removeLeftBy } from './files/outputFolder.js';
export {
  entryAt,
  type FileKind,
  type FolderKind,
  headOf,
  listFolder,
  removeEntries,
  textKind,
} from './files/outputKind.js';
export { type CheckedOutput, type OutputOptions, whatIsAt, writableTarget } from './files/outputPlace.js';
export { refuseOverlap } from './files/overlap.js';
export { shippedPath } from './files/shippedPath.js';
export { companionPath, hasEnded, thisWriter, type Writer } from './files/unfinishedOutput.js';
export { generateTogether } from './generation/generateTogether.js';
export { healthPrompts, promptTokens } from './generation/generationHealth.js';
export { placesFor } from './generation/placesFor.js';
export { inputPaths } from './hub/inputPaths.js';
export { modelName } from './hub/locate.js';
export { isHubName } from './hub/reference.js';
export * from './public.js';
export { modelFingerprint, tokenizerFingerprint } from './source/fingerprint.js';
export { type ModelOrigin, modelOrigin } from './source/modelOrigin.js';
export { FIXED_DATE, isDate } from './text/date.js';
export { type EncodedDocument, type EncodingOptions, encodeDocuments } from './text/encodeDocuments.js';
export { type FileOptions, type FileSequences, fileSequences } from './text/fileSequences.js';
export { LeftOutCount, type LeftOutRows, leftOutWarnings } from './text/leftOut.js';
export { sameTokenizer } from './text/sameTokenizer.js';
export { firstTokens, SequencePacker } from './text/tokenSequences.js';
export { requireBackward } from './training/layerBackward.js';
export { totalTokens } from './transformer/batch.js';
export { BatchTensors } from './transformer/batchTensors.js';
export { type MlpFeatures, type RoutedFeatures, tensorsOf } from './transformer/expertSteps.js';
export { firstNonFinite } from './transformer/firstNonFinite.js';
export { predictionsOf } from './transformer/headLogits.js';
export { LayerSteps } from './transformer/layerSteps.js';
export { rotationRows } from './transformer/rotationTable.js';
export { nonFiniteIn, SpilledTensor } from './transformer/spilledWeights.js';
export { embedTokens, finalHidden } from './transformer/transformer.js';
export { WeightLoader } from './transformer/weightLoader.js';
export { besideModel } from './writing/besideModel.js';
export { checkModelOutput } from './writing/modelOutput.js';
export { addReplacement, type NewValues, type Replacement } from './writing/replacement.js';
export {
  checkReportsBeside,
  type ReportName,
  replaceReport,
  reportFiles,
} from './writing/reportFiles.js';
export { verifyWritten } from './writing/verifyWritten.js';
export { checkWritable, writeModel } from './writing/writeModel.js';
