import {
  checkArguments,
  ensure,
  flag,
  optional,
  programFamily,
  type Recorder,
  settings,
  type Tensor,
  whole,
} from '../../engine/index.js';
import { checkMatrix, checkOperands, checkTensor } from '../shared/checks.js';
import { flatProgram, runFlat } from '../shared/flat.js';

const program = programFamily((overAll: boolean) =>
  flatProgram({
    key: `topExperts${overAll ? ' over all' : ''}`,
    bindings: ['read', 'write'],
    fields: 'experts: u32, taken: u32',
    declarations: `@group(0) @binding(1) var<storage, read> logits: array<f32>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;`,
    body: `
  let row = i * p.experts;
  var most = logits[row];
  for (var e = 1u; e < p.experts; e++) { most = max(most, logits[row + e]); }
  var total = 0.0;
  // An expert is among the first if fewer than that have a larger value, or an equal one before it.
  for (var e = 0u; e < p.experts; e++) {
    let own = logits[row + e];
    var before = 0u;
    for (var other = 0u; other < p.experts; other++) {
      let value = logits[row + other];
      before += select(0u, 1u, value > own || (value == own && other < e));
    }
    let power = exp(own - most);
    let weight = select(0.0, power, before < p.taken);
    total += ${overAll ? 'power' : 'weight'};
    out[row + e] = weight;
  }
  for (var e = 0u; e < p.experts; e++) { out[row + e] = out[row + e] / total; }`,
  }),
);

/** Settings of `topExperts`. */
export interface TopExpertsOptions {
  /** The softmax is over all logits, so that a row's weights do not add up to 1. */
  overAll?: boolean;
}

const topSettings = settings<TopExpertsOptions>({ overAll: optional(flag) });

/**
 * Routes tokens to experts: out = softmax over the `count` largest logits of each row, 0 elsewhere; logits, out [T,E]
 * f32. @throws RmError INVALID_ARGUMENT.
 */
export function topExperts(
  rec: Recorder,
  logits: Tensor,
  count: number,
  out: Tensor,
  options: TopExpertsOptions = {},
): void {
  checkOperands('topExperts', rec, { logits, out });
  checkArguments('topExperts', { count, options }, { count: whole(1), options: topSettings });
  const [tokens, experts] = checkMatrix('topExperts', 'logits', logits);
  checkTensor('topExperts', 'out', out, [tokens, experts]);
  ensure(
    count <= experts,
    `topExperts: cannot choose ${count} of ${experts} experts`,
    'Choose at least one and at most all.',
  );
  runFlat(rec, program(options.overAll ?? false), [logits, out], tokens, [experts, count], {
    flops: 2 * experts * experts * tokens,
    bytes: 8 * logits.size,
  });
}
