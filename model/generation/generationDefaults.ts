import { checkArguments, RmError } from '../../engine/index.js';
import { aPath, settingsAmong } from '../arguments/forms.js';
import { jsonOf } from '../checkpoint/modelSource.js';
import { isRecord } from '../files/jsonFile.js';
import { openModelSource } from '../source/openModelSource.js';
import { type SamplingOptions, samplingForms } from './sampler.js';

const FILE = 'generation_config.json';

/** What transformers takes where a model samples and its file does not say. */
const TRANSFORMERS_TOP_K = 50;

/** The fields that a sampler reads: our name, and what a value has to be. */
const fields = {
  temperature: ['temperature', 'a number of 0 or more', (value: number) => value >= 0],
  top_k: ['topK', 'a whole number of 0 or more', (value: number) => Number.isInteger(value) && value >= 0],
  top_p: ['topP', 'a number above 0 and at most 1', (value: number) => value > 0 && value <= 1],
  repetition_penalty: ['repeatPenalty', 'a number above 0', (value: number) => value > 0],
} as const;

/**
 * How the makers of a model want its tokens chosen, by its generation_config.json as transformers reads it: drawn at
 * random only where `do_sample` says so. Empty where the model has no such file, or it says nothing of this.
 *
 * @param given options that the caller sets himself, which the file then need not get right.
 * @throws RmError CONFIG_INVALID for a value out of range.
 */
export async function generationDefaults(
  model: string,
  given: SamplingOptions = {},
): Promise<Omit<SamplingOptions, 'seed'>> {
  checkArguments(
    'generationDefaults',
    { model, given },
    { model: aPath, given: settingsAmong<SamplingOptions>(samplingForms) },
  );
  const source = await openModelSource(model);
  const config = await jsonOf(source, FILE);
  if (!isRecord(config)) return {};
  const found: { -readonly [K in keyof SamplingOptions]?: number } = {};
  for (const [field, [name, needs, accepts]] of Object.entries(fields)) {
    const value = config[field];
    if (value === undefined || value === null || given[name] !== undefined) continue;
    if (typeof value !== 'number' || !Number.isFinite(value) || !accepts(value)) {
      throw new RmError(
        'CONFIG_INVALID',
        `${source.nameOf(FILE)}: "${field}" is ${JSON.stringify(value)}`,
        `It should be ${needs}. Correct the file, or give the value yourself.`,
      );
    }
    found[name] = value;
  }
  const samples = given.temperature === undefined ? config.do_sample === true : given.temperature > 0;
  const { repeatPenalty, ...drawing } = found;
  const penalty = repeatPenalty === undefined || repeatPenalty === 1 ? {} : { repeatPenalty };
  if (!samples) return penalty;
  return {
    ...(given.temperature === undefined && { temperature: 1 }),
    ...(config.do_sample === true && given.topK === undefined && { topK: TRANSFORMERS_TOP_K }),
    ...drawing,
    ...penalty,
  };
}
