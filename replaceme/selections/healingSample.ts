import type { DeviceFacts } from '../../engine/index.js';
import type { MeasureSettings } from './selection.js';

/**
 * On how many of the calibration tokens both ways of healing are tried, and by how many others they are judged: half of
 * them, because healing down_proj gains more from more tokens.
 */
export const healingSample = (
  { info }: Pick<DeviceFacts, 'info'>,
  tokens: number,
): Pick<MeasureSettings, 'fitTokens' | 'heldOutTokens'> => ({
  fitTokens: tokens / 2,
  heldOutTokens: Math.max(info.kind === 'software' ? 1024 : 8192, Math.floor(tokens / 8)),
});

/** The same for plans: tokens that the models are judged by, and tokens that they are healed on. */
export function plannedHealingSample(device: Pick<DeviceFacts, 'info'>, tokens: number): HealingSample {
  const { fitTokens, heldOutTokens } = healingSample(device, tokens);
  // At most half of one half is held out.
  const judged = Math.min(heldOutTokens, Math.floor(tokens / 4));
  return { judged, healed: Math.min(tokens - judged, fitTokens) };
}

export interface HealingSample {
  readonly judged: number;
  readonly healed: number;
}
