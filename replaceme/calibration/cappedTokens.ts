/** The end of the last document may leave a few tokens over. */
const NEARLY_ALL = 0.98;

/**
 * A sentence where the texts have fewer tokens than a caller has asked for; nothing where he has not asked.
 *
 * @param setting its library name.
 * @param texts in words, in the plural: "the calibration texts".
 */
export const cappedTokens = (
  setting: string,
  asked: number | undefined,
  texts: string,
  used: number,
): string[] =>
  asked === undefined || used >= NEARLY_ALL * asked
    ? []
    : [`\`${setting}\` is ${asked}, but ${texts} have no more than ${used} tokens: all of them were used`];

/** The same for sequences that the model's context is too short for. */
export const cappedSequences = (asked: number | undefined, contextLength: number): string[] =>
  asked === undefined || asked <= contextLength
    ? []
    : [
        `\`sequenceLength\` is ${asked}, but the model's context has ${contextLength} tokens: sequences have no more`,
      ];
