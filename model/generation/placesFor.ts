import { cacheBytes } from '../architecture/cacheBytes.js';
import type { Model } from '../transformer/model.js';

/** Most texts that are written at the same time. */
const TOGETHER = 32;

/** Texts of `tokens` tokens that fit beside each other: their keys and values may take a quarter of what the memory limit leaves. */
export function placesFor({ device: { memory }, arch }: Model, tokens: number): number {
  const room = (memory.limit - memory.liveBytes) / 4;
  return Math.max(1, Math.min(TOGETHER, Math.floor(room / cacheBytes(arch, tokens))));
}
