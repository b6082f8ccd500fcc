import { f32Bits, flatGrid, type ProgramSpec, type Recorder, type Tensor } from '../engine/index.js';
import { flatBuiltins, flatGroup, lines } from '../kernels/index.js';

export const INVOCATIONS = 256;
/** vec4 multiply-adds per chain and iteration. */
const STEPS = 4;

const fmaProgram = (type: 'f32' | 'f16', chains: number): ProgramSpec => ({
  key: `probe fma ${type} x ${chains}`,
  bindings: ['write'],
  wgsl: () => /* wgsl */ `
${type === 'f16' ? 'enable f16;' : ''}
struct Params { iterations: u32, b: f32, c: f32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> out: array<f32>;
@compute @workgroup_size(${INVOCATIONS})
fn main(${flatBuiltins}) {
  let i = ${flatGroup} * ${INVOCATIONS}u + lane;
  let b = vec4<${type}>(${type}(p.b));
  let c = vec4<${type}>(${type}(p.c));
${lines(chains, k => `  var x${k} = vec4<${type}>(${type}(lane), ${type}(${k}), 1, 2);`)}
  for (var n = 0u; n < p.iterations; n++) {
${lines(STEPS, () => lines(chains, k => `    x${k} = fma(x${k}, b, c);`))}
  }
  let sum = ${Array.from({ length: chains }, (_, k) => `x${k}`).join(' + ')};
  out[i] = f32(sum.x + sum.y + sum.z + sum.w);
}`,
});

const readProgram: ProgramSpec = {
  key: 'probe read',
  bindings: ['read', 'write'],
  wgsl: () => /* wgsl */ `
struct Params { count: u32, perGroup: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> a: array<vec4f>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;
@compute @workgroup_size(${INVOCATIONS})
fn main(${flatBuiltins}) {
  let group = ${flatGroup};
  let end = min((group + 1u) * p.perGroup, p.count);
  var x = vec4f();
  var y = vec4f();
  var at = group * p.perGroup + lane;
  for (; at + ${INVOCATIONS}u < end; at += ${2 * INVOCATIONS}u) {
    x += a[at];
    y += a[at + ${INVOCATIONS}u];
  }
  if (at < end) { x += a[at]; }
  x += y;
  out[group * ${INVOCATIONS}u + lane] = x.x + x.y + x.z + x.w;
}`,
};

const copyProgram: ProgramSpec = {
  key: 'probe copy',
  bindings: ['read', 'write'],
  wgsl: () => /* wgsl */ `
struct Params { count: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> a: array<vec4f>;
@group(0) @binding(2) var<storage, read_write> out: array<vec4f>;
@compute @workgroup_size(${INVOCATIONS})
fn main(${flatBuiltins}) {
  let i = ${flatGroup} * ${INVOCATIONS}u + lane;
  if (i < p.count) { out[i] = a[i]; }
}`,
};

const nothingProgram: ProgramSpec = {
  key: 'probe nothing',
  bindings: ['write'],
  wgsl: () => /* wgsl */ `
struct Params { value: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> out: array<u32>;
@compute @workgroup_size(1)
fn main() { out[0] = p.value; }`,
};

/** Runs multiply-adds in `out.size` invocations and returns their flops (two each). */
export function probeFma(
  rec: Recorder,
  out: Tensor,
  { type, chains, iterations }: { type: 'f32' | 'f16'; chains: number; iterations: number },
): number {
  // Both exact in f16: with a factor that rounds to 1 a compiler could hoist the loop.
  const [b, c] = [0.75, 0.25];
  const flops = 2 * 4 * STEPS * chains * iterations * out.size;
  rec.dispatch({
    program: fmaProgram(type, chains),
    tensors: [out],
    params: [iterations, f32Bits(b), f32Bits(c)],
    grid: flatGrid(out.size / INVOCATIONS),
    flops,
  });
  return flops;
}

/** Each invocation sums its part of `a` into `out`. */
export function probeRead(rec: Recorder, a: Tensor, out: Tensor): void {
  const count = a.size / 4;
  const groups = out.size / INVOCATIONS;
  rec.dispatch({
    program: readProgram,
    tensors: [a, out],
    params: [count, Math.ceil(count / groups)],
    grid: flatGrid(groups),
    bytes: a.byteLength,
  });
}

/** out = a */
export function probeCopy(rec: Recorder, a: Tensor, out: Tensor): void {
  rec.dispatch({
    program: copyProgram,
    tensors: [a, out],
    params: [a.size / 4],
    grid: flatGrid(Math.ceil(a.size / 4 / INVOCATIONS)),
    bytes: 2 * a.byteLength,
  });
}

/** An empty dispatch, to measure its overhead; `out` has one element. */
export function probeNothing(rec: Recorder, out: Tensor): void {
  rec.dispatch({ program: nothingProgram, tensors: [out], params: [1], grid: [1] });
}

/** A matrix product of the subgroup-matrix units. */
export interface MatrixUnit {
  /** Element types of operands and sums. */
  readonly component: 'f16';
  readonly result: 'f16' | 'f32';
  readonly m: number;
  readonly n: number;
  readonly k: number;
}

/** Sums that each subgroup works on: too few do not hide latency. */
const MATRIX_SUMS = 4;

const matrixProgram = ({ result, m, n, k }: MatrixUnit): ProgramSpec => ({
  key: `probe matrix units f16 ${result} ${m}x${n}x${k}`,
  bindings: ['write'],
  wgsl: () => /* wgsl */ `
enable f16;
enable subgroups;
enable chromium_experimental_subgroup_matrix;
struct Params { iterations: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> out: array<f32>;
var<workgroup> a: array<f16, ${m * k}>;
var<workgroup> b: array<f16, ${n * k}>;
var<workgroup> c: array<${result}, ${m * n}>;
@compute @workgroup_size(${INVOCATIONS})
fn main(${flatBuiltins}, @builtin(subgroup_size) size: u32, @builtin(subgroup_id) subgroup: u32) {
  for (var i = lane; i < ${m * k}u; i += ${INVOCATIONS}u) { a[i] = f16(i % 3u) - 1.0h; }
  for (var i = lane; i < ${n * k}u; i += ${INVOCATIONS}u) { b[i] = f16(i % 5u) - 2.0h; }
  workgroupBarrier();
  let left = subgroupMatrixLoad<subgroup_matrix_left<f16, ${k}, ${m}>, row_major>(&a, 0u, ${k}u);
  let right = subgroupMatrixLoad<subgroup_matrix_right<f16, ${n}, ${k}>, row_major>(&b, 0u, ${n}u);
${lines(MATRIX_SUMS, i => `  var sums${i}: subgroup_matrix_result<${result}, ${n}, ${m}>;`)}
  for (var i = 0u; i < p.iterations; i++) {
${lines(STEPS, () => lines(MATRIX_SUMS, i => `    sums${i} = subgroupMatrixMultiplyAccumulate(left, right, sums${i});`))}
  }
${lines(
  MATRIX_SUMS,
  i => `  if (subgroup == 0u) { subgroupMatrixStore<row_major>(&c, 0u, sums${i}, ${n}u); }
  workgroupBarrier();
  if (lane == ${i}u) { out[${flatGroup} * ${INVOCATIONS}u + lane] = f32(c[lane]); }
  workgroupBarrier();`,
)}
  if (lane == ${MATRIX_SUMS}u) { out[${flatGroup} * ${INVOCATIONS}u + lane] = f32(size); }
}`,
});

/** Element of `out` that holds the size of the subgroups after `probeMatrix`. */
export const SUBGROUP_SIZE_AT = MATRIX_SUMS;

/** Runs products of matrices in out.size / INVOCATIONS workgroups and returns their flops for subgroups of this size. */
export function probeMatrix(
  rec: Recorder,
  out: Tensor,
  { unit, subgroup, iterations }: { unit: MatrixUnit; subgroup: number; iterations: number },
): number {
  const flops =
    (2 * unit.m * unit.n * unit.k * MATRIX_SUMS * STEPS * iterations * out.size) / Math.max(1, subgroup);
  rec.dispatch({
    program: matrixProgram(unit),
    tensors: [out],
    params: [iterations],
    grid: flatGrid(out.size / INVOCATIONS),
    flops,
  });
  return flops;
}
