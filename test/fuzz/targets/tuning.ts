import { writeFile } from 'node:fs/promises';
import { peakFields, peakForm } from '../../../bench/peakRates.js';
import { readUserCache, userCachePath } from '../../../cli/device/userCache.js';
import { sealed } from '../../../engine/index.js';
import { applyTuning, tuningForm } from '../../../kernels/shared/tunedVariants.js';
import { bytesOf, noDevice } from '../files.js';
import { jsonMutator } from '../mutators/json.js';
import { sealedJsonMutator } from '../mutators/sealed.js';
import type { Target } from '../target.js';

const key = { adapter: 'vendor device', driver: 'driver 1', version: '0.1.0' };
const tuning = { matmul: { '64x64': 'tile-4' }, attention: { '16': 'rows', '64': 'tiles' } };

/** What `tune` and `bench peak` keep in the user's cache. */
export const target: Target = {
  corpus: async () => [
    bytesOf(sealed({ key, value: tuning })),
    bytesOf(sealed({ key, value: Object.fromEntries(peakFields.map(([field], i) => [field, i + 0.5])) })),
  ],
  mutate: sealedJsonMutator(
    jsonMutator(['key', 'value', 'adapter', 'driver', 'version', 'matmul', 'tile-4']),
  ),
  open: async folder => async input => {
    await writeFile(userCachePath('fuzz', key, folder), input);
    const options = { warn: () => {}, folder };
    const found = await readUserCache('fuzz', key, { ...options, form: tuningForm });
    if (found) applyTuning(noDevice, found);
    await readUserCache('fuzz', key, { ...options, form: peakForm });
  },
};
