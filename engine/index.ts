export { adapterAdvice, describeAdapter } from './adapter.js';
export {
  atLeastZero,
  callable,
  checkArguments,
  type FormsOf,
  instanceOf,
  numeric,
  objectWith,
  settings,
  shownKind,
} from './arguments.js';
export { describeLimit, limitOf } from './cardMemory.js';
export { asBytes, asF32, asU16, asU32, dtypes } from './dtype.js';
export { exactArithmetic, pairDivision, RUNTIME_ZERO } from './exactArithmetic.js';
export {
  also,
  anything,
  entryOf,
  type Form,
  type Formed,
  finite,
  flag,
  hashText,
  isRecord,
  listOf,
  oneOf,
  optional,
  orNull,
  readForm,
  record,
  tableOf,
  text,
  textLike,
  whole,
} from './form.js';
export { formatBytes, formatNumber, formatRate, formatSeconds, plural } from './format.js';
export { type HostMemory, hostMemory } from './hostMemory.js';
export { liveSums, noJournal } from './journal.js';
export { endOfString, MOST_LEVELS, parseJsonText } from './json.js';
export { LaterDownloads } from './laterDownloads.js';
export { exactSize, sizeClass } from './memory.js';
export { didYouMean } from './nearestWord.js';
export { OneAhead } from './oneAhead.js';
export * from './public.js';
export { seededRandom, shuffle } from './random.js';
export { reasonOf } from './reasons.js';
export { brokenSeal, sealed, sha256, sha256OfFile, sha256OfJson } from './seal.js';
export { requireExactArithmetic, selfTest } from './selftest.js';
export { type ReadInto, STAGING_BYTES } from './staging.js';
export { ensureTensor } from './tensor.js';
export {
  downloadPieces,
  downloadTogether,
  PIECE,
  readBack,
  smallTensor,
  uploadFrom,
  uploadPieces,
} from './transfer.js';
export { thisHost, vulkanDriverFiles } from './vulkanFiles.js';
export { withoutCredentials } from './withoutCredentials.js';
