import type { Device } from '../../engine/device.js';
import type { Verdicts } from '../../kernels/shared/trustedVariants.js';
import { describeFailure } from '../terminal/failure.js';
import type { Terminal } from '../terminal/terminal.js';
import { cacheKey, readUserCache, writeUserCache } from './userCache.js';

const NAME = 'variants';

/** The verdicts on kernel variants that earlier commands have kept for this device, driver and version. */
export async function storedVerdicts(
  device: Pick<Device, 'info'>,
  terminal: Pick<Terminal, 'warn'>,
): Promise<Verdicts | undefined> {
  const { verdictsForm } = await import('../../kernels/shared/trustedVariants.js');
  const warn = (text: string) => terminal.warn(`${text}; the kernel variants are checked again`);
  return readUserCache(NAME, cacheKey(device.info), { form: verdictsForm, warn });
}

/** Checks the variants that this device uses from now on, except those with a verdict, and warns of the wrong ones. */
export async function checkUsedVariants(
  device: Device,
  terminal: Pick<Terminal, 'warn' | 'detail'>,
): Promise<void> {
  const { checkVariants } = await import('../../kernels/shared/trustedVariants.js');
  const { variantChecks } = await import('../../kernels/cases/variantChecks.js');
  const known = await storedVerdicts(device, terminal);
  checkVariants(device, variantChecks, known);
  warnOfWrong(device, known?.wrong ?? {}, terminal);
}

/** Says which variants are not used on this device, and asks for a report. */
export function warnOfWrong(
  { info }: Pick<Device, 'info'>,
  wrong: Verdicts['wrong'],
  terminal: Pick<Terminal, 'warn'>,
): void {
  for (const [variant, found] of Object.entries(wrong)) {
    terminal.warn(
      `the kernel variant '${variant}' computes wrong results on ${info.description} and is not used ` +
        `(${found}); please report it with the output of: rm-engine doctor --json`,
    );
  }
}

/**
 * Keeps what this device has found out about its variants, beside what other commands have found meanwhile.
 *
 * @returns whether a variant was found wrong that was not known to be: the device has failed, another can do without it.
 */
export async function keepVerdicts(
  device: Device,
  terminal: Pick<Terminal, 'warn' | 'detail'>,
): Promise<boolean> {
  const { verdictsOf } = await import('../../kernels/shared/trustedVariants.js');
  const found = verdictsOf(device);
  if (!found) return false;
  const stored = (await storedVerdicts(device, { warn: () => {} })) ?? { right: [], wrong: {} };
  const known = new Set(stored.right);
  const isNew = Object.keys(found.wrong).some(variant => !Object.hasOwn(stored.wrong, variant));
  if (!isNew && found.right.every(program => known.has(program))) return false;
  const verdicts: Verdicts = {
    right: [...new Set([...stored.right, ...found.right])].sort(),
    wrong: { ...stored.wrong, ...found.wrong },
  };
  try {
    await writeUserCache(NAME, cacheKey(device.info), verdicts);
  } catch (error) {
    const { message } = describeFailure(error);
    terminal.detail(`the checks of kernel variants are not kept: ${message}`);
    // Without the file the next device would find the same again, and so on.
    return false;
  }
  return isNew;
}
