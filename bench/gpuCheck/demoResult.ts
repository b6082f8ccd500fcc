/**
 * What pruning the demo model with `demoOptions` gave on lavapipe (Mesa 25.0) on an x64 machine: `gpu-check --steps prune`
 * prints the same values of another device.
 */
export const demoResult = { window: { layer: 3, count: 3 }, kl: 0.0155028 };

/** Fixed sizes: their defaults differ between devices. */
export const demoOptions = [
  ...['--layers', '3', '--select', 'cosine', '--method', 'refit', '--tokens', '1024'],
  ...['--sequence-length', '128', '--batch-tokens', '512', '--report', 'none'],
];

/** Held-out tokens on which the pruned model is compared with the original, in sequences of 128. */
export const DEMO_TOKENS = 512;
export const DEMO_SEQUENCE = 128;
/** Accepted difference of the KL divergence in nats. */
export const KL_TOLERANCE = 1e-3;
