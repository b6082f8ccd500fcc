/** Texts that the configurations of the original program read. */
export const FAITHFUL_TEXTS = 8000;

/**
 * What `faithful` does as the original ReplaceMe program (mts-ai/ReplaceMe at 5bb71d9), and where the code switches it.
 * Left out of that program: activations of a 4-bit model, the final norm in the states of the last layer, and a second
 * transform for touching windows that is folded into the wrong product.
 */
export const faithfulQuirks: readonly string[] = [
  // selections/angular.ts
  'windows are chosen by the angular distance of the last token of every text',
  // calibration/faithful.ts
  'conversations are tokenised with special tokens after the template has written them: BOS twice',
  'every text is one sequence, cut at `sequenceLength`; what follows is not read',
  'texts are padded by eights, and padding counts in the Gram matrix; a rest below 8 is left out',
  // calibrationSizes
  `texts of up to ${FAITHFUL_TEXTS} full sequences are read unless \`tokens\` says otherwise`,
  // settings.unprunedInputs, repairInOrder.ts
  'with several `windows` all transforms are fitted on the unpruned model',
];
