// Reads what GPU compilers print of a program: the instructions of its hot block, the run without branch (NVK's: and barrier) that has
// the most matrix products or multiply-adds.

/** How RADV and NVK print it. */
const forms = {
  amd: {
    file: 'Assembly',
    block: /^BB\d+:/,
    instruction: /^\s+([a-z]\w+)/,
    // Products move behind a barrier, their operands' loads do not: nothing is counted apart there.
    barrier: undefined,
    // Hints for the scheduler of instructions.
    hint: /^s_delay_alu|^s_nop/,
    // Scalars, memory and branches are issued beside them.
    vector: /^v_/,
  },
  nvidia: {
    file: 'NAK_assembly',
    block: /^block\S* \d+ .*\[.*\] -> \{/,
    instruction: /^\s+(?:[\w.!]+(?: [\w.!]+)*\s+= )?\s*(?:@!?\w+ )?([a-z]\w*(?:\.\w+)*)/,
    barrier: 'bar.sync',
    hint: /^nop/,
    vector: /^/,
  },
};
const formOf = chip => forms[chip.split(':')[0]];

const isMatrix = name => /wmma|hmma/.test(name);
const isMultiplyAdd = name => /^ffma|^v_.*(fma|_mad_f|dot2)/.test(name);

/** The file of a program's instructions, by the number that the layer gives it. */
export const instructionsFile = (chip, number) => `${number}-${formOf(chip).file}.txt`;

/** Instructions of the hot block, vector instructions, multiply-adds and matrix products among them. */
export function hotBlock(chip, text) {
  const { block, instruction, barrier, hint, vector } = formOf(chip);
  const none = () => ({ instructions: 0, vector: 0, multiplyAdds: 0, matrices: 0 });
  const blocks = [none()];
  for (const line of text.split('\n')) {
    const name = block.test(line) ? undefined : instruction.exec(line)?.[1];
    if (block.test(line) || (barrier && name === barrier)) blocks.push(none());
    else if (name && !hint.test(name)) {
      const last = blocks.at(-1);
      last.instructions++;
      if (vector.test(name)) last.vector++;
      if (isMatrix(name)) last.matrices++;
      else if (isMultiplyAdd(name)) last.multiplyAdds++;
    }
  }
  const heat = ({ multiplyAdds, matrices }) => 1e6 * matrices + multiplyAdds;
  return blocks.reduce((most, one) => (heat(one) > heat(most) ? one : most));
}
