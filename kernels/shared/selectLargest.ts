import { ROW_LANES } from './rows.js';

/** Most elements that `selectLargest` finds. */
export const MOST_SELECTED = 1024;

/** WGSL that `selectLargest` needs: keys of the order of floats, and the list in workgroup memory. */
export const selectionWgsl = /* wgsl */ `
var<workgroup> histogram: array<atomic<u32>, 256>;
struct Digits { prefix: u32, remaining: u32, equal: u32 }
var<workgroup> digits: Digits;
var<workgroup> taken: atomic<u32>;
var<workgroup> taken_keys: array<u32, ${MOST_SELECTED}>;
var<workgroup> taken_ids: array<u32, ${MOST_SELECTED}>;
// Maps a float to a u32 of the same order.
fn ordered(x: f32) -> u32 {
  let bits = bitcast<u32>(x);
  return select(bits | 0x80000000u, ~bits, (bits >> 31u) == 1u);
}
fn unordered(key: u32) -> f32 { return bitcast<f32>(select(~key, key ^ 0x80000000u, (key >> 31u) == 1u)); }
fn take(key: u32, id: u32) {
  let slot = atomicAdd(&taken, 1u);
  taken_keys[slot] = key;
  taken_ids[slot] = id;
}`;

/** What `selectLargest` selects from, in WGSL; `j` is an element's place. */
export interface Selection {
  /** Places go from `begin` to `end`. */
  readonly begin: string;
  readonly end: string;
  /** The key of element `j`: the largest win, and of equal ones the first. */
  readonly key: string;
  /** What is written for it. */
  readonly id: string;
  /** Statement for every element that is not selected. */
  readonly rest?: string;
}

/**
 * WGSL that finds the `k` largest elements, in uniform control flow: taken_keys and taken_ids then hold them, in any order;
 * `rank` of an element `e` is its place among them. By radix selection: four passes find the smallest key, one takes.
 */
export const selectLargest = ({ begin, end, key, id, rest = '' }: Selection): string => /* wgsl */ `
  if (lane == 0u) {
    digits = Digits(0u, k, 0u);
    atomicStore(&taken, 0u);
  }
  for (var shift = 24i; shift >= 0i; shift -= 8i) {
    for (var b = lane; b < 256u; b += ${ROW_LANES}u) { atomicStore(&histogram[b], 0u); }
    let found = workgroupUniformLoad(&digits);
    for (var j = ${begin} + lane; j < ${end}; j += ${ROW_LANES}u) {
      let key = ${key};
      // Shifted twice: WGSL takes a shift of 32 as a shift of 0.
      if (((key >> u32(shift)) >> 8u) == found.prefix) { atomicAdd(&histogram[(key >> u32(shift)) & 255u], 1u); }
    }
    workgroupBarrier();
    if (lane == 0u) {
      var remaining = found.remaining;
      var digit = 255u;
      var count = atomicLoad(&histogram[digit]);
      while (count < remaining) {
        remaining -= count;
        digit--;
        count = atomicLoad(&histogram[digit]);
      }
      digits = Digits((found.prefix << 8u) | digit, remaining, count);
    }
    workgroupBarrier();
  }
  let threshold = workgroupUniformLoad(&digits);
  let all_equal = threshold.equal == threshold.remaining;
  for (var j = ${begin} + lane; j < ${end}; j += ${ROW_LANES}u) {
    let key = ${key};
    if (key > threshold.prefix || (all_equal && key == threshold.prefix)) {
      take(key, ${id});
    } else if (key < threshold.prefix) {
      ${rest}
    }
  }
  if (lane == 0u && !all_equal) {
    // If there are more equal elements than room, the first ones are taken.
    var room = threshold.remaining;
    for (var j = ${begin}; j < ${end}; j++) {
      let key = ${key};
      if (key != threshold.prefix) { continue; }
      if (room > 0u) {
        take(key, ${id});
        room--;
      } else {
        ${rest}
      }
    }
  }
  workgroupBarrier();`;

/** WGSL of the place of taken element `e` among the `k`, the largest first, equal ones in the order of their ids. */
export const rankOfTaken = /* wgsl */ `
    var rank = 0u;
    for (var other = 0u; other < k; other++) {
      let above = taken_keys[other];
      rank += select(0u, 1u, above > taken_keys[e] || (above == taken_keys[e] && taken_ids[other] < taken_ids[e]));
    }`;
