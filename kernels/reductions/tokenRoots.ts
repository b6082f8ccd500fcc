import {
  ensure,
  f32Bits,
  type ProgramSpec,
  programFamily,
  type Recorder,
  type Tensor,
} from '../../engine/index.js';
import { checkMatrix, checkTensor } from '../shared/checks.js';
import { flatProgram, runFlat } from '../shared/flat.js';

/** A row with a norm above this many medians is a sink. */
export const MASSIVE = 10;

const program = programFamily(
  (sinks: boolean): ProgramSpec =>
    flatProgram({
      key: `tokenRoots${sinks ? ' with sinks' : ''}`,
      bindings: ['read', 'write', ...(sinks ? (['read'] as const) : [])],
      fields: 'layers: u32, weight: f32, sinkFactor: f32',
      declarations: `
@group(0) @binding(1) var<storage, read> norms: array<f32>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;
${sinks ? '@group(0) @binding(3) var<storage, read> positions: array<u32>;' : ''}`,
      body: `
  var largest = 0.0;
  for (var layer = 0u; layer < p.layers; layer++) { largest = max(largest, norms[layer * p.count + i]); }
  var weight = p.weight;
  ${
    sinks
      ? `
  // More than ${MASSIVE} medians: so is more than half of the norms, times ${MASSIVE}.
  var below = 0u;
  for (var t = 0u; t < p.count; t++) { below += select(0u, 1u, ${MASSIVE}.0 * norms[t] < largest); }
  if (positions[i] == 0u || below > p.count / 2u) { weight *= p.sinkFactor; }`
      : ''
  }
  out[i] = select(0.0, sqrt(weight / largest), largest > 0.0);`,
    }),
);

/** Settings of `tokenRoots`. */
export interface TokenRootsOptions {
  /** What every token counts (default 1). */
  readonly weight?: number;
  /** What attention sinks count beside others: tokens at position 0, u32 [T], or with a norm above 10 medians. For one layer. */
  readonly sinks?: { readonly positions: Tensor; readonly weight: number } | undefined;
}

/**
 * sqrt(w) of every token, w = weight over its largest norm in any layer, 0 where that is 0; norms [layers, T], out [T], f32.
 *
 * @throws RmError INVALID_ARGUMENT when shapes or dtypes do not fit.
 */
export function tokenRoots(
  rec: Recorder,
  norms: Tensor,
  out: Tensor,
  { weight = 1, sinks }: TokenRootsOptions = {},
): void {
  const [layers, tokens] = checkMatrix('tokenRoots', 'norms', norms);
  checkTensor('tokenRoots', 'out', out, [tokens]);
  if (sinks) {
    checkTensor('tokenRoots', 'positions', sinks.positions, [tokens], ['u32']);
    ensure(
      layers === 1,
      `tokenRoots: sinks by the norms of ${layers} layers`,
      'Give the norms of one layer.',
    );
  }
  const tensors = [norms, out, ...(sinks ? [sinks.positions] : [])];
  const params = [layers, f32Bits(weight), f32Bits(sinks?.weight ?? 1)];
  runFlat(rec, program(sinks !== undefined), tensors, tokens, params, {
    flops: (sinks ? tokens : layers) * tokens,
    bytes: 4 * (norms.size + tokens),
  });
}
