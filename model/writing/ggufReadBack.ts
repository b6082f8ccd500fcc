import { RmError } from '../../engine/index.js';
import { type Architecture, expectedTensors } from '../architecture/architecture.js';
import { type Rope, ropeAttentionFactor, ropeInverseFrequencies } from '../architecture/rope.js';
import { architectureFromConfig } from '../families/index.js';
import { configOfGguf, familyOf } from '../gguf/config.js';
import type { GgufContents } from '../gguf/contents.js';
import { holdsRopeFactors } from '../gguf/familyParts.js';
import { huggingFaceNames } from '../gguf/names.js';

const near = (a: number, b: number): boolean => Math.abs(a - b) <= 1e-5 * Math.max(Math.abs(a), Math.abs(b));

const frequencies = (rope: Rope, long: boolean): number[] => [
  rope.rotaryDim,
  rope.interleaved ? 1 : 0,
  ropeAttentionFactor(rope),
  ...ropeInverseFrequencies(rope, long),
];

/** Whether two rotations agree for sequences of any length. */
function alike(a: Rope | undefined, b: Rope | undefined): boolean {
  if (!a || !b) return a === b;
  const same = (long: boolean) => {
    const [x, y] = [frequencies(a, long), frequencies(b, long)];
    return x.length === y.length && x.every((value, i) => near(value, y[i]!));
  };
  const lengths = [a, b].map(rope => (rope.kind === 'longrope' ? rope.originalContext : undefined));
  return same(false) && same(true) && (lengths[0] === lengths[1] || lengths.includes(undefined));
}

type Aspect = readonly [what: string, same: (a: Architecture, b: Architecture) => boolean];

const equal =
  (of: (arch: Architecture) => unknown): Aspect[1] =>
  (a, b) =>
    JSON.stringify(of(a)) === JSON.stringify(of(b));
const nearly =
  (of: (arch: Architecture) => number): Aspect[1] =>
  (a, b) =>
    near(of(a), of(b));

const ropeOf = ({ ropes, layerRope }: Architecture, layer: number): Rope | undefined => {
  const kind = layerRope[layer] ?? null;
  return kind === null ? undefined : ropes[kind];
};

/** Everything besides tensors that decides what a model computes, in words for messages. */
const aspects: readonly Aspect[] = [
  ['its sizes', equal(a => [a.layers, a.hidden, a.intermediate, a.heads, a.kvHeads, a.headDim, a.vocab])],
  ['its experts', equal(a => a.experts)],
  ['its layers without attention', equal(a => a.linear)],
  ['the kind of its norms', equal(a => [a.norm.kind, a.norm.offset, a.qkNorm])],
  ['the epsilon of its norms', nearly(a => a.norm.eps)],
  ['whether attention and MLP run in parallel', equal(a => a.parallel)],
  ['its activation', equal(a => a.activation)],
  ['the scale of its attention scores', nearly(a => a.attentionScale)],
  ['how its queries grow with their position', equal(a => a.queryGrowth)],
  ['the cap of its attention scores', nearly(a => a.attentionSoftcap ?? 0)],
  ['the scale of its embeddings', nearly(a => a.embeddingScale)],
  ['the scale of its residual branches', nearly(a => a.residualScale)],
  ['the scale of its logits', nearly(a => a.logitForm.factor ?? 1)],
  ['the cap of its logits', nearly(a => a.logitForm.softcap ?? 0)],
  [
    'which of its layers use a sliding window',
    equal(a =>
      a.attentionWindow.map(window => (window !== null && window < a.contextLength ? window : null)),
    ),
  ],
  [
    'which of its layers rotate, and how',
    (a, b) => a.layerRope.every((_, layer) => alike(ropeOf(a, layer), ropeOf(b, layer))),
  ],
];

/**
 * Checks that a GGUF file expresses a model completely: read back, it computes the same from the same tensors.
 *
 * @param arch architecture of the written model.
 * @param name name of the model in messages.
 * @throws RmError UNSUPPORTED_FAMILY naming what a GGUF file cannot express.
 */
export async function checkReadBack(file: GgufContents, arch: Architecture, name: string): Promise<void> {
  const family = familyOf(file);
  const refused = (what: string) =>
    new RmError(
      'UNSUPPORTED_FAMILY',
      `${name}: a GGUF file (${family.architecture}) cannot express ${what}`,
      'Write a model folder instead (an output path without .gguf). If only the pruned model is rejected, try other layers.',
    );
  const read = architectureFromConfig(await configOfGguf(file), file.path);
  for (const [what, same] of aspects) if (!same(arch, read)) throw refused(what);
  const there = new Set(
    file.tensors
      .filter(tensor => !holdsRopeFactors(tensor.name))
      .flatMap(tensor => huggingFaceNames(family, tensor.name, tensor.shape)),
  );
  const expected = new Set(expectedTensors(read).map(tensor => tensor.name));
  const [missing] = [...expected].filter(tensor => !there.has(tensor));
  const [unknown] = [...there].filter(tensor => !expected.has(tensor));
  if (missing !== undefined) throw refused(`the absence of tensor ${missing}`);
  if (unknown !== undefined) throw refused(`the tensor ${unknown}`);
}
