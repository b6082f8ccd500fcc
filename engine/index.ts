export { exactArithmetic, pairDivision, RUNTIME_ZERO } from './exactArithmetic.js';
export { formatSeconds } from './format.js';
export { liveSums, noJournal } from './journal.js';
export { sizeClass } from './memory.js';
export * from './public.js';
export { seededRandom, shuffle } from './random.js';
export { requireExactArithmetic } from './selftest.js';
export { downloadPieces, PIECE, STAGING_BYTES, uploadPieces } from './transfer.js';
